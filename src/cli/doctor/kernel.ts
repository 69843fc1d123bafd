/** Looks at the kernel: the device node of TAPs, its version, what it can do for TAPs and sockets, buffers. */
import { release } from 'node:os';
import { probeFeatures } from '../../dgram-extra/index.js';
import { type Code, fail, ok, type Plain, skip, warn } from './finding.js';
import { runs, type Subject, type Varpd } from './subject.js';
import { namesIn, statOf, textOf, userText } from './system.js';

export interface NodeFacts {
  readonly isCharacterDevice: boolean;
  readonly major: number;
  readonly minor: number;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

export interface KernelFacts extends Pick<Subject, 'user'> {
  readonly release: string;
  /** Undefined: it is not there. `unseen`: varpd runs, and dladm may not look into its file system. */
  readonly tun: NodeFacts | 'unseen' | undefined;
  /** Undefined: nothing could find out. */
  readonly features: Readonly<Record<string, boolean>> | undefined;
  readonly maxReceiveBytes: number | undefined;
  readonly maxSendBytes: number | undefined;
  /** CAP_NET_ADMIN of varpd is that of the host, so it may go beyond the bounds above. */
  readonly mayForceBuffers: boolean;
}

/** admin-guide/devices.txt of the kernel */
const TUN_MAJOR = 10;
const TUN_MINOR = 200;
/** datapath/userland/main/underlay.ts asks for so much in either direction. */
const BUFFER_BYTES = 4 * 1024 * 1024;
/** The owner and the queues of a TAP can be asked for (IFLA_TUN_OWNER). */
const MIN_KERNEL: readonly [number, number] = [4, 17];
const LOAD_TUN = 'modprobe tun; in a container --device /dev/net/tun --cap-add NET_ADMIN';

const UNSEEN = 'only root sees the /dev of a varpd that runs';

export function readKernel({ dladm, varpd, user }: Subject): KernelFacts {
  const ofVarpd = runs(varpd) ? varpd.process : undefined;
  const sysctl = (name: string): number | undefined => {
    const text = textOf(`/proc/sys/net/core/${name}`);
    return text === undefined ? undefined : Number(text);
  };
  return {
    user,
    release: release(),
    tun: runs(varpd) ? nodeOf(varpd) : varpd.isDenied ? 'unseen' : nodeAt('/dev/net/tun'),
    // Trying makes a TAP for a moment, so it is only done where no varpd has done it.
    features: runs(varpd)
      ? varpd.status.features
      : dladm.hasNetAdmin && nodeAt('/dev/net/tun') !== undefined
        ? { ...probeFeatures() }
        : undefined,
    maxReceiveBytes: sysctl('rmem_max'),
    maxSendBytes: sysctl('wmem_max'),
    mayForceBuffers: (ofVarpd ?? dladm).isOfHost,
  };
}

/** A service may have a /dev of its own. */
function nodeOf({ status: { pid } }: Varpd): KernelFacts['tun'] {
  const root = `/proc/${pid}/root`;
  return namesIn(root) === undefined ? 'unseen' : nodeAt(`${root}/dev/net/tun`);
}

function nodeAt(file: string): NodeFacts | undefined {
  const stat = statOf(file);
  return (
    stat && {
      isCharacterDevice: stat.isCharacterDevice(),
      // dev_t as glibc has it: gnu_dev_major(3).
      major: (stat.rdev >>> 8) & 0xfff,
      minor: (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00),
      uid: stat.uid,
      gid: stat.gid,
      mode: stat.mode & 0o777,
    }
  );
}

export function checkKernel(facts: KernelFacts): Plain[] {
  return [device(facts), access(facts), version(facts), ...offloads(facts), buffers(facts)];
}

function device({ tun }: KernelFacts): Plain {
  if (tun === 'unseen') return skip('TUN-DEVICE', UNSEEN, 'run it as root');
  if (tun === undefined) return fail('TUN-DEVICE', 'there is no /dev/net/tun', LOAD_TUN);
  const { isCharacterDevice, major, minor } = tun;
  if (!isCharacterDevice)
    return fail('TUN-DEVICE', '/dev/net/tun is not a device', `rm /dev/net/tun; ${LOAD_TUN}`);
  return major === TUN_MAJOR && minor === TUN_MINOR
    ? ok('TUN-DEVICE', '/dev/net/tun is there')
    : fail(
        'TUN-DEVICE',
        `/dev/net/tun is the device ${major}:${minor}, not ${TUN_MAJOR}:${TUN_MINOR}`,
        `rm /dev/net/tun && mknod -m 666 /dev/net/tun c ${TUN_MAJOR} ${TUN_MINOR}`,
      );
}

function access({ tun, user }: KernelFacts): Plain {
  if (tun === 'unseen') return skip('TUN-ACCESS', UNSEEN, 'run it as root');
  if (tun === undefined) return skip('TUN-ACCESS', 'there is no /dev/net/tun');
  if (user === undefined || 'problem' in user) return skip('TUN-ACCESS', 'the user of varpd is not known');
  const { uid, gid, mode } = tun;
  const shift = user.uid === uid ? 6 : user.gids.includes(gid) ? 3 : 0;
  const READ_WRITE = 0o6;
  const who = userText(user.uid);
  return ((mode >> shift) & READ_WRITE) === READ_WRITE
    ? ok('TUN-ACCESS', `${who}, as which varpd runs, may open /dev/net/tun`)
    : fail(
        'TUN-ACCESS',
        `${who}, as which varpd runs, may not open /dev/net/tun: it belongs to ${userText(uid)} and has mode ${mode.toString(8)}`,
        'chmod 666 /dev/net/tun, and a udev rule for the next boot',
      );
}

function version({ release: text }: KernelFacts): Plain {
  const [major, minor] = text.split(/[.-]/).map(Number);
  const isOld = major < MIN_KERNEL[0] || (major === MIN_KERNEL[0] && minor < MIN_KERNEL[1]);
  return isOld
    ? warn(
        'KERNEL',
        `this is Linux ${text}; before ${MIN_KERNEL.join('.')} it does not say which user a TAP belongs to`,
        'take a newer kernel',
      )
    : ok('KERNEL', `this is Linux ${text}`);
}

/** Feature of the kernel by its name in daemon.status -> its check, and since when Linux has it. */
const FEATURES: readonly (readonly [feature: string, code: Code, what: string, since: string])[] = [
  ['tapChecksum', 'OFFLOAD-CHECKSUM', 'checksum offload of TAPs', ''],
  ['tapTcpSegmentation', 'OFFLOAD-TSO', 'superframes of TCP', ''],
  ['tapUdpSegmentation', 'OFFLOAD-USO', 'superframes of UDP', '6.2'],
  ['tapTunnelSegmentation', 'OFFLOAD-NESTED', 'superframes inside a UDP tunnel', '6.17'],
  ['udpSegmentation', 'OFFLOAD-TRAIN', 'messages of many datagrams to send', '4.18'],
  ['udpCoalescing', 'OFFLOAD-COALESCE', 'messages of many datagrams to receive', '5.0'],
  ['tapCarrier', 'TAP-CARRIER', 'a carrier of TAPs that a program may take away', '5.0'],
];

function offloads({ features }: KernelFacts): Plain[] {
  return FEATURES.map(([feature, code, what, since]) => {
    if (features === undefined)
      return skip(
        code,
        'only varpd, or a user with CAP_NET_ADMIN and /dev/net/tun, can try it',
        'run it as root',
      );
    if (features[feature]) return ok(code, `this kernel has ${what}`);
    const kernel = since === '' ? 'a kernel that has it' : `Linux ${since} or newer`;
    return warn(code, `this kernel lacks ${what}`, `${kernel}; docs/offloads.md`);
  });
}

function buffers({ maxReceiveBytes, maxSendBytes, mayForceBuffers }: KernelFacts): Plain {
  const bounds = [
    ['net.core.rmem_max', maxReceiveBytes],
    ['net.core.wmem_max', maxSendBytes],
  ] as const;
  const wanted = `${BUFFER_BYTES} bytes`;
  if (mayForceBuffers)
    return ok('SOCKET-BUFFERS', `varpd has the right to buffers of ${wanted}, whatever sysctl says`);
  if (bounds.some(([, bytes]) => bytes === undefined))
    return skip(
      'SOCKET-BUFFERS',
      'this network namespace does not show net.core.rmem_max and net.core.wmem_max',
    );
  const small = bounds.filter(([, bytes]) => bytes! < BUFFER_BYTES);
  return small.length === 0
    ? ok('SOCKET-BUFFERS', `a socket may have buffers of ${wanted}`)
    : warn(
        'SOCKET-BUFFERS',
        `${small.map(([name, bytes]) => `${name} is ${bytes}`).join(', ')}: a socket of varpd asks for ${wanted}, and this container cannot go beyond`,
        `on the host: sysctl -w ${small.map(([name]) => `${name}=${BUFFER_BYTES}`).join(' ')}`,
      );
}
