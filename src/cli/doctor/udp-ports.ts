/** Looks for programs and kernel links that have the UDP port of an overlay. */
import { tunnelLinksOn } from '../../dgram-extra/index.js';
import { type IpAddress, isUnspecified, parse as parseIp, readV6 } from '../../wire/ip.js';
import { fail, firstOf, ok, type Plain, warn } from './finding.js';
import { linkOf, namesIn, textOf, userText } from './system.js';

export interface UdpSocket {
  readonly ip: IpAddress;
  readonly uid: number;
  readonly inode: number;
  /** Undefined: dladm does not see which process has it. */
  readonly process?: { readonly pid: number; readonly name: string } | undefined;
}

export interface PortFacts {
  /** Undefined: of every address. */
  readonly listenIp: IpAddress | undefined;
  readonly port: number;
  /** Sockets that would keep varpd from this address and port, varpd's own included. */
  readonly sockets: readonly UdpSocket[];
  /** Links of the kernel that receive on this port. */
  readonly tunnels: readonly string[];
  readonly varpd: { readonly pid: number | undefined; readonly uid: number | undefined } | undefined;
  readonly isOnline: boolean;
}

export type PortQuestion = Pick<PortFacts, 'listenIp' | 'port' | 'varpd' | 'isOnline'>;

export function readPort(question: PortQuestion): PortFacts {
  const { listenIp, port } = question;
  const rows = ['udp', 'udp6'].flatMap((table) => parseUdp(textOf(`/proc/self/net/${table}`) ?? '', port));
  const sockets = rows.filter(({ ip }) => listenIp === undefined || ip === listenIp || isUnspecified(ip));
  const holders = sockets.length === 0 ? new Map<number, UdpSocket['process']>() : holdersOf(sockets);
  return {
    ...question,
    sockets: sockets.map((socket) => ({ ...socket, process: holders.get(socket.inode) })),
    tunnels: tunnelLinksOn(port),
  };
}

/** Rows of /proc/net/udp or udp6 (proc(5)) with this local port. */
export function parseUdp(table: string, port: number): UdpSocket[] {
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .flatMap((cells) => {
      const [address, local] = (cells.at(1) ?? '').split(':');
      if (cells.length < 10 || Number.parseInt(local, 16) !== port) return [];
      const ip = parseAddress(address);
      return ip === undefined ? [] : [{ ip, uid: Number(cells[7]), inode: Number(cells[9]) }];
    });
}

/** Words of 32 bits, each in host byte order. */
function parseAddress(hex: string): IpAddress | undefined {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = Uint8Array.from(words.flatMap((word) => [...Buffer.from(word, 'hex')].reverse()));
  if (bytes.length === 4) return parseIp(bytes.join('.'));
  return bytes.length === 16 ? readV6(bytes, 0) : undefined;
}

/** Process that has a socket open, by its inode. Only root sees those of other users. */
function holdersOf(sockets: readonly UdpSocket[]): Map<number, UdpSocket['process']> {
  const wanted = new Map(sockets.map(({ inode }) => [`socket:[${inode}]`, inode]));
  const found = new Map<number, UdpSocket['process']>();
  for (const pid of namesIn('/proc') ?? []) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of namesIn(`/proc/${pid}/fd`) ?? []) {
      const inode = wanted.get(linkOf(`/proc/${pid}/fd/${fd}`) ?? '');
      if (inode !== undefined && !found.has(inode))
        found.set(inode, { pid: Number(pid), name: (textOf(`/proc/${pid}/comm`) ?? '').trim() });
    }
    if (found.size === wanted.size) break;
  }
  return found;
}

export function checkPort(facts: PortFacts): Plain[] {
  return [socketFinding(facts), tunnelFinding(facts)];
}

function socketFinding({ listenIp, port, sockets, varpd }: PortFacts): Plain {
  const where = listenIp === undefined ? `UDP port ${port}` : `UDP port ${port} of ${listenIp}`;
  const isVarpds = ({ process: holder, uid }: UdpSocket): boolean =>
    varpd !== undefined && (holder === undefined ? uid === varpd.uid : holder.pid === varpd.pid);
  const foreign = sockets.find((socket) => !isVarpds(socket));
  if (foreign !== undefined) {
    const { process: holder, uid } = foreign;
    const by =
      holder === undefined ? `a program of ${userText(uid)}` : `${holder.name} (process ${holder.pid})`;
    const advice = `stop it, or choose another listen_port; as root, ss -ulnp sport = :${port} shows it`;
    return fail('UDP-PORT', `${where} is taken by ${by}`, advice);
  }
  return ok('UDP-PORT', sockets.length === 0 ? `${where} is free` : `varpd has ${where}`);
}

function tunnelFinding({ port, tunnels, isOnline }: PortFacts): Plain {
  if (tunnels.length === 0) return ok('KERNEL-TUNNEL', `no link of the kernel has UDP port ${port}`);
  const what = `the kernel's own link ${firstOf(tunnels)} is for UDP port ${port} of every address`;
  const advice = `ip link del ${tunnels[0]}, or choose another listen_port`;
  return isOnline
    ? warn('KERNEL-TUNNEL', `${what}: whichever of it and varpd comes first has the port`, advice)
    : fail('KERNEL-TUNNEL', what, advice);
}
