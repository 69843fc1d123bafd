/**
 * dgram-extra: TAP devices, UDP as RFC 7348 needs it, batched framed I/O, and the few system calls Node lacks.
 *
 * The calls of `native` are the hot path: small integers in, a number out, a negative one is a negated errno.
 * Everything else is the control path and throws a NativeError. README.md says what each call promises.
 */
import { readlinkSync } from 'node:fs';

import { ERRNO } from '../wire/errno.js';
import { addon, checked, NativeError, type Addon } from './addon.js';

export { errnoName, NativeError } from './addon.js';
export { CAP_NET_ADMIN } from './kernel-numbers.js';
export { probeFeatures, type Features } from './features.js';
export { LinkEvents, type EventBatch } from './link-events.js';
export {
  bridgePortOf,
  deleteLink,
  hostAddresses,
  linkInfo,
  neighbourMac,
  tunnelLinksOn,
  setLink,
  type AddressInfo,
  type LinkChange,
  type LinkEvent,
  type LinkInfo,
  type TunInfo,
} from './rtnetlink.js';
export { routeMtuBytes, routeTo, type RouteInfo } from './routes.js';
export { addToPoll, createEvent, createPoll, needDescriptors, removeFromPoll, signalEvent } from './poll.js';
export {
  isOwn,
  linkOffloads,
  openTap,
  resetTapSettings,
  setTapCarrier,
  setTapOffload,
  setTapOwner,
  setTapPersistent,
  setTapQueue,
  setTapSteering,
  TAP_DEFAULTS,
  linkElsewhere,
  tapInfo,
  tapSettings,
  TUN_F,
  unfilterTap,
  type LinkOffloads,
  type TapInfo,
  type TapOptions,
  type TapSettings,
} from './tap-device.js';
export { MAX_THREAD_NAME, nameThread } from './thread-name.js';
export { allowAutomaticAddress, isSilent, silenceLink } from './link-silence.js';

/** The hot path, as it is: nothing here throws, allocates or converts. */
export const native: Pick<
  Addon,
  | 'tapRead'
  | 'tapWrite'
  | 'udpReceive'
  | 'udpRest'
  | 'udpSend'
  | 'udpCoalesce'
  | 'udpErrors'
  | 'addressSet'
  | 'pollWait'
  | 'eventClear'
> = addon;

/** Memory for the frames of one read. The native side owns it until the thread ends. */
export interface Batch {
  readonly handle: number;
  readonly capacityFrames: number;
  readonly bytes: Uint8Array;
  /** The slab as 32-bit words in host byte order. */
  readonly words: Int32Array;
  /** 16 words a frame: ../wire/descriptor.ts names them. */
  readonly descriptors: Int32Array;
}

/** At most 16 a thread. Pages of the slab cost memory once they are touched, not before. A message out of a socket may
 * be 64 frames or more, hence more descriptors than messages. */
export function createBatch(messages: number, slabBytes: number, descriptors: number = messages): Batch {
  const views: { slab?: ArrayBuffer; words?: ArrayBuffer } = {};
  const handle = checked(
    addon.batchCreate(messages, descriptors, slabBytes, views),
    'batchCreate',
    `${slabBytes} bytes`,
  );
  const { slab, words } = views as Required<typeof views>;
  return {
    handle,
    capacityFrames: descriptors,
    bytes: new Uint8Array(slab),
    words: new Int32Array(slab),
    descriptors: new Int32Array(words),
  };
}

/** With which a thread reads many frames of a TAP in one system call (ring.h). */
export interface Ring {
  readonly fd: number;
  /** RING_WORDS that the kernel has said of it. */
  readonly params: Int32Array;
}

/** struct io_uring_params of linux/io_uring.h */
export const RING_WORDS = 30;

/** Undefined where this process may not make one, or the kernel cannot. It is closed by `closeDescriptor`. */
export function openRing(): Ring | undefined {
  const params = new Int32Array(RING_WORDS);
  const fd = addon.ringOpen(params);
  return fd < 0 ? undefined : { fd, params };
}

/** This thread reads with it from now on, and no other may meanwhile. False where it cannot be: frames are read one by one. */
export const useRing = ({ fd, params }: Ring): boolean => addon.ringUse(fd, params) === 0;

/** A BPF program that looks at packets; undefined where this process may not load one, or the kernel cannot. */
export function loadProgram(instructions: Uint8Array): number | undefined {
  const fd = addon.programLoad(instructions);
  return fd < 0 ? undefined : fd;
}

export interface UdpOptions {
  /** 16 bytes, IPv4 as v4-mapped. */
  readonly address: Uint8Array;
  /** 0 = any. */
  readonly port: number;
  /** Datagrams are shared out by flow among all that are bound there so (SO_REUSEPORT). */
  readonly reusePort?: boolean;
  /** Bound alone; afterwards others with `reusePort` may join it. */
  readonly admitOthers?: boolean;
  /** Send without a checksum: SO_NO_CHECK (IPv4), UDP_NO_CHECK6_TX (IPv6). */
  readonly zeroChecksumSend?: boolean;
  /** Take what comes without a checksum on IPv6 too: UDP_NO_CHECK6_RX. */
  readonly zeroChecksumReceive?: boolean;
  /** Never receives: the kernel drops what is sent to this port. */
  readonly sendOnly?: boolean;
  /** Datagrams of one flow that arrived together are received as one (UDP_GRO); without effect where the kernel cannot. */
  readonly coalesce?: boolean;
  /** The address need not be one of this host yet (IP_FREEBIND, IPV6_FREEBIND). */
  readonly freeBind?: boolean;
  /** What ICMP says of what it sends is kept for `udpErrors`; a receive buffer must have room for it. */
  readonly pathNews?: boolean;
  readonly receiveBufferBytes?: number;
  readonly sendBufferBytes?: number;
  /** For the error: what the operator calls this address. */
  readonly label: string;
}

/** Options of udpOpen; devices.c has the same. */
const UDP_OPTION = {
  REUSE_PORT: 1,
  ZERO_CHECKSUM_TX: 2,
  ZERO_CHECKSUM_RX: 4,
  SEND_ONLY: 8,
  COALESCE: 16,
  ADMIT_OTHERS: 32,
  FREE_BIND: 64,
  PATH_NEWS: 128,
} as const;

/** A bound socket that never fragments, whatever the kernel has heard of paths (IP_PMTUDISC_PROBE), and reports traffic classes. */
export function openUdp(options: UdpOptions): number {
  const flags =
    (options.reusePort ? UDP_OPTION.REUSE_PORT : 0) |
    (options.zeroChecksumSend ? UDP_OPTION.ZERO_CHECKSUM_TX : 0) |
    (options.zeroChecksumReceive ? UDP_OPTION.ZERO_CHECKSUM_RX : 0) |
    (options.sendOnly ? UDP_OPTION.SEND_ONLY : 0) |
    (options.coalesce ? UDP_OPTION.COALESCE : 0) |
    (options.admitOthers ? UDP_OPTION.ADMIT_OTHERS : 0) |
    (options.freeBind ? UDP_OPTION.FREE_BIND : 0) |
    (options.pathNews ? UDP_OPTION.PATH_NEWS : 0);
  const { address, port, receiveBufferBytes = 0, sendBufferBytes = 0 } = options;
  const fd = addon.udpOpen(address, port, flags, receiveBufferBytes, sendBufferBytes);
  return checked(fd, 'bind', options.label);
}

/**
 * The number by which `udpReceive` of this thread knows a rule about the headers that datagrams begin with, the same one for
 * the same words: bytes of the shortest header, bits of its first byte that say how much longer it is, in units of so many
 * bytes, bits of its first four bytes, and what those are in a header without oddities. At most 4 a thread.
 */
export const headerRule = (words: Int32Array): number =>
  checked(addon.headerRule(words), 'headerRule', 'this thread');

/** Whether datagrams that arrived together are received as one (UDP_GRO), from now on. */
export function setUdpCoalescing(fd: number, on: boolean): void {
  addon.udpCoalesce(fd, on ? 1 : 0);
}

/** Messages that the kernel has dropped for this socket since it was opened, modulo 2^32: its queue was full, or their UDP
 * checksum wrong. One may be many datagrams (UDP_GRO). Undefined where the kernel does not say (before 4.12). */
export function udpDropped(fd: number): number | undefined {
  const count = addon.udpDropped(fd);
  return count < 0 ? undefined : count;
}

/** A socket that somebody else has opened does as `openUdp` says of paths; with `pathNews` too. */
export function adoptUdp(fd: number, pathNews: boolean, label: string): void {
  checked(addon.udpAdopt(fd, pathNews ? 1 : 0), 'setsockopt', label);
}

export function closeDescriptor(fd: number): void {
  checked(addon.closeDescriptor(fd), 'close', `descriptor ${fd}`);
}

/** False when another process holds the lock. It is let go when the descriptor is closed or the process ends. */
export function lockFile(fd: number): boolean {
  const result = addon.lockFile(fd);
  if (result < 0 && result !== -ERRNO.EAGAIN) throw new NativeError(result, 'flock', 'lock file');
  return result >= 0;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; empty where the kernel cannot tell. */
  readonly groups: readonly number[];
}

/** Who is at the other end of a connected Unix socket (SO_PEERCRED, SO_PEERGROUPS). */
export function peerCredentials(fd: number): PeerCredentials {
  const ids = new Int32Array(1024);
  const count = checked(addon.peerCredentials(fd, ids), 'SO_PEERCRED', `descriptor ${fd}`);
  return { pid: ids[0], uid: ids[1], gid: ids[2], groups: Array.from(ids.subarray(3, count)) };
}

/** What is told often, or at the end: a manager that does not read must hold up neither. */
const UNHURRIED = /^(WATCHDOG|STOPPING|STATUS)=/;

/**
 * Tells the service manager, and hands it a copy of the descriptor `passed`. Whether it was told: not so when there is none,
 * or when it cannot be reached. Never throws.
 */
export function sdNotify(state: string, passed = -1): boolean {
  return state !== '' && addon.sdNotify(state, passed, UNHURRIED.test(state) ? 0 : 1) === 1;
}

/** The socket for `sdNotify` is there from now on, where there can be one, and needs no descriptor any more. */
export function prepareNotify(): void {
  addon.sdNotify('', -1, 0);
}

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups. */
  readonly groups: readonly number[];
}

/**
 * The calling thread keeps these capabilities at most (all below 32) and gains no other, whatever it starts; `identity`
 * is what it becomes before. The other threads of the process go on as they were: only `startAnew`, or a process that
 * this thread starts, makes it true of a whole process.
 */
export function dropPrivileges(keep: readonly number[], identity?: Identity): void {
  const bits = keep.reduce((sum, capability) => sum | (1 << capability), 0);
  const ids = identity === undefined ? [] : [identity.uid, identity.gid, ...identity.groups];
  const device = identity === undefined ? 'this process' : `user ${identity.uid}`;
  checked(addon.dropPrivileges(bits, Int32Array.from(ids)), 'capset', device);
}

/**
 * No thread of this process, nor anything that it starts, makes another of the system calls that lead to more rights
 * (system-calls.c): they fail with EPERM or ENOSYS. `no_new_privs` must be set. False where the system does not let it be.
 */
export const limitSystemCalls = (): boolean => addon.limitSystemCalls() === 0;

/**
 * execve(2): this process becomes `file` with these arguments, `args[0]` being its name, and this environment. Open are
 * descriptors that `setInheritable` left so. Returns never, and throws when it cannot be done.
 */
export function startAnew(file: string, args: readonly string[]): never {
  const result = addon.startAnew(file, Buffer.from(args.map((arg) => `${arg}\0`).join('')));
  throw new NativeError(result, 'execve', file);
}

/** Whether a descriptor stays open in programs that this one becomes or starts. */
export function setInheritable(fd: number, on: boolean): void {
  checked(addon.setInheritable(fd, on ? 1 : 0), 'fcntl', `descriptor ${fd}`);
}

/** Whether a number that an earlier process left is a descriptor of this kind (`bpf-prog`, `[io_uring]`), not another or none. */
export function isAnonymous(fd: number, kind: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === `anon_inode:${kind}`;
  } catch {
    return false;
  }
}

/** Two connected stream sockets. */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  checked(addon.socketPair(fds), 'socketpair', 'this process');
  return [fds[0], fds[1]];
}

/** Takes note of the end of a child that Node did not start; false while it runs. */
export function reapChild(pid: number): boolean {
  return checked(addon.reapChild(pid), 'waitpid', `process ${pid}`) !== 0;
}

/** Closes descriptors of TAPs. The devices go in the time of one, and whoever has them too, unless they are kept (`keepTaps`). */
export function closeTaps(fds: readonly number[]): void {
  if (fds.length > 0) checked(addon.closeTaps(Int32Array.from(fds)), 'close', 'TAPs');
}

/** Ends the process at once. What Node has for it waits for every thread, and one that hangs would keep it for ever. */
export function exitNow(status: number): never {
  return addon.exitNow(status);
}

/** The same, with the TAPs of this process gone before, in the time that one takes; unless they are kept (`keepTaps`). */
export function leaveNow(status: number): never {
  return addon.leaveNow(status);
}

/**
 * From now on SIGTERM, SIGINT and SIGQUIT end the process after `ms`, with status 0, whatever its threads do; what JavaScript
 * does at such a signal comes before. To be called once, after it listens to all three: a watching thread takes note.
 */
export function guardEnd(ms: number): void {
  checked(addon.guardEnd(ms), 'pthread_create', 'this process');
}

/** This much time from now on, and this status, whether there was a signal or not. Needs `guardEnd`. */
export function endAfter(ms: number, status: number): void {
  addon.endAfter(ms, status);
}

/** Whether somebody else may have the TAPs of this process too, and go on with them. Until told otherwise, it is so. */
export function keepTaps(on: boolean): void {
  addon.keepTaps(on ? 1 : 0);
}

/** A line that is written when `guardEnd` has to end the process, with the time between the two texts. */
export function lastWords(fd: number, before: string, after: string): void {
  addon.lastWords(fd, before, after);
}
