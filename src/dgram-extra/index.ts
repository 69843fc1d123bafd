/**
 * dgram-extra: TAP devices, UDP sockets with the options of RFC 7348, batches of frames, and a few system calls that Node
 * lacks.
 *
 * The calls of `native` are the hot path. They take small integers and return a number; a negative one is a negated errno.
 * All other calls are the control path and throw a NativeError. README.md has the contract of each call.
 */
import { close, readlinkSync } from 'node:fs';
import { promisify } from 'node:util';

import { ERRNO } from '../wire/errno.js';
import { addon, checked, NativeError, type Addon } from './addon.js';
import * as kernel from './kernel-numbers.js';

export { errnoName, NativeError } from './addon.js';
export { CAP_NET_ADMIN } from './kernel-numbers.js';
export { hasOutgoingPolicy, PolicyEvents } from './ipsec.js';
export { openTunnelPort, tunnelSource, TUNNEL_SENT, type TunnelPort } from './tunnel-port.js';
export { probeFeatures, type Features } from './features.js';
export { allowBelow, createRuleset, LANDLOCK, landlockVersion } from './landlock.js';
export { LinkEvents, type EventBatch } from './link-events.js';
export {
  bridgePortOf,
  deleteLink,
  hostAddresses,
  linkInfo,
  neighbourMac,
  tunnelLinksOn,
  renameLink,
  setLink,
  type AddressInfo,
  type LinkChange,
  type LinkEvent,
  type LinkInfo,
  type TunInfo,
} from './rtnetlink.js';
export { inNetwork, isOwnNetwork, moveLink } from './network-namespace.js';
export { addAddress, addRoute, routesOf, type LinkRoute } from './link-routes.js';
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
  tapHeaderBytes,
  linkElsewhere,
  tapInfo,
  tapSettings,
  TUN_F,
  TUNNEL_HEADER_BYTES,
  unfilterTap,
  type LinkOffloads,
  type TapInfo,
  type TapOptions,
  type TapSettings,
} from './tap-device.js';
export { MAX_THREAD_NAME, nameThread } from './thread-name.js';
export { shortenSlice } from './thread-slice.js';
export { allowAutomaticAddress, isSilent, silenceLink } from './link-silence.js';

/** The hot path. These calls go straight to C: they never throw, and they make no object. */
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
  | 'addressRefused'
  | 'addressLink'
  | 'addressTunnel'
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

/** Makes a batch; a thread has at most 16. A page of the slab takes memory when it is first touched. A message from a
 * socket may be 64 frames or more, so a batch may need more descriptors than messages. */
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

/** An io_uring, by which a thread reads many frames of a TAP in one system call (ring.h). */
export interface Ring {
  readonly fd: number;
  /** RING_WORDS words in which the kernel describes the ring. */
  readonly params: Int32Array;
}

/** struct io_uring_params of linux/io_uring.h */
export const RING_WORDS = 30;

/** Makes a ring; undefined when this process has no right to, or the kernel lacks it. `closeDescriptor` closes it. */
export function openRing(): Ring | undefined {
  const params = new Int32Array(RING_WORDS);
  const fd = addon.ringOpen(params);
  return fd < 0 ? undefined : { fd, params };
}

/** Makes this thread read with the ring from now on; no other thread may use it meanwhile. False when that failed: then
 * the thread reads frames one by one. */
export const useRing = ({ fd, params }: Ring): boolean => addon.ringUse(fd, params) === 0;

/** Kinds of BPF programs: one that reads frames, and one for `openTunnelPort`. */
const PROGRAM_TYPES = {
  filter: kernel.BPF_PROG_TYPE_SOCKET_FILTER,
  ingress: kernel.BPF_PROG_TYPE_SCHED_CLS,
} as const;

/** Loads a BPF program; undefined when this process has no right to, or the kernel lacks it. */
export function loadProgram(
  instructions: Uint8Array,
  type: keyof typeof PROGRAM_TYPES = 'filter',
): number | undefined {
  const fd = addon.programLoad(instructions, PROGRAM_TYPES[type]);
  return fd < 0 ? undefined : fd;
}

export interface UdpOptions {
  /** 16 bytes, IPv4 as v4-mapped. */
  readonly address: Uint8Array;
  /** 0 = any. */
  readonly port: number;
  /** The kernel distributes datagrams by flow over all sockets bound with this option (SO_REUSEPORT). */
  readonly reusePort?: boolean;
  /** The bind fails if another socket is bound there. Afterwards sockets with `reusePort` may join. */
  readonly admitOthers?: boolean;
  /** Send without a checksum: SO_NO_CHECK (IPv4), UDP_NO_CHECK6_TX (IPv6). */
  readonly zeroChecksumSend?: boolean;
  /** Accept datagrams without a checksum on IPv6 too: UDP_NO_CHECK6_RX. */
  readonly zeroChecksumReceive?: boolean;
  /** The kernel drops all datagrams to this port, so the socket never receives. */
  readonly sendOnly?: boolean;
  /** Datagrams of one flow that arrived together are received as one (UDP_GRO). No effect if the kernel lacks it. */
  readonly coalesce?: boolean;
  /** The address need not be one of this host yet (IP_FREEBIND, IPV6_FREEBIND). */
  readonly freeBind?: boolean;
  /** ICMP messages about sent datagrams are kept for `udpErrors`. They need room in the receive buffer. */
  readonly pathNews?: boolean;
  readonly receiveBufferBytes?: number;
  readonly sendBufferBytes?: number;
  /** The operator's name of this address, for the error. */
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

/** Opens and binds a socket. It never fragments, and ignores path MTUs that the kernel has learned (IP_PMTUDISC_PROBE). It
 * reports the traffic class of each datagram. */
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
 * Returns the number of a header rule, for `udpReceive` of this thread; the same words give the same number. A thread
 * has at most 4 rules. The words describe the tunnel header that a datagram begins with:
 *   1. bytes of the shortest header,
 *   2. bits of the first byte that give the additional length, and 3. the bytes of its unit,
 *   4. some bits of the first four bytes, and 5. their value in a plain header.
 */
export const headerRule = (words: Int32Array): number =>
  checked(addon.headerRule(words), 'headerRule', 'this thread');

/** Sets whether datagrams that arrived together are received as one (UDP_GRO). */
export function setUdpCoalescing(fd: number, on: boolean): void {
  addon.udpCoalesce(fd, on ? 1 : 0);
}

/** Returns the number of messages that the kernel has dropped for this socket since it was opened, modulo 2^32. The
 * queue was full, or the UDP checksum was wrong. A message may be many datagrams (UDP_GRO). Undefined before Linux
 * 4.12. */
export function udpDropped(fd: number): number | undefined {
  const count = addon.udpDropped(fd);
  return count < 0 ? undefined : count;
}

/** Gives an inherited socket the path options of `openUdp`, `pathNews` among them. */
export function adoptUdp(fd: number, pathNews: boolean, label: string): void {
  checked(addon.udpAdopt(fd, pathNews ? 1 : 0), 'setsockopt', label);
}

export function closeDescriptor(fd: number): void {
  checked(addon.closeDescriptor(fd), 'close', `descriptor ${fd}`);
}

/**
 * Closes the descriptor of a TAP. The kernel waits until nothing uses the device any more (removal.c), 20 ms at rest and
 * half a second on a busy machine, so this is done by a thread of Node's pool. Rejects with the system's error.
 */
export const closeTap: (fd: number) => Promise<void> = promisify(close);

/** Takes a lock; false when another process holds it. The lock ends when the descriptor is closed or the process ends. */
export function lockFile(fd: number): boolean {
  const result = addon.lockFile(fd);
  if (result < 0 && result !== -ERRNO.EAGAIN) throw new NativeError(result, 'flock', 'lock file');
  return result >= 0;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; empty if the kernel does not report them. */
  readonly groups: readonly number[];
}

/** Returns process, user and groups at the other end of a connected Unix socket (SO_PEERCRED, SO_PEERGROUPS). */
export function peerCredentials(fd: number): PeerCredentials {
  const ids = new Int32Array(1024);
  const count = checked(addon.peerCredentials(fd, ids), 'SO_PEERCRED', `descriptor ${fd}`);
  return { pid: ids[0], uid: ids[1], gid: ids[2], groups: Array.from(ids.subarray(3, count)) };
}

/** Messages that are sent often or at the end, without a wait: a manager that does not read must hold up neither. */
const UNHURRIED = /^(WATCHDOG|STOPPING|STATUS)=/;

/**
 * Sends a message to the service manager, with a copy of the descriptor `passed`. Returns false when there is no
 * manager, or it cannot be reached. Never throws.
 */
export function sdNotify(state: string, passed = -1): boolean {
  return state !== '' && addon.sdNotify(state, passed, UNHURRIED.test(state) ? 0 : 1) === 1;
}

/** Opens the socket of `sdNotify`, so that later calls need no new descriptor. */
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
 * Makes the calling thread become `identity`, and keep at most these capabilities (all below 32). Neither the thread nor a
 * program that it starts can gain others. The other threads of the process keep their rights until `dropInOtherThreads` or
 * `startAnew`.
 */
export function dropPrivileges(keep: readonly number[], identity?: Identity): void {
  const bits = keep.reduce((sum, capability) => sum | (1 << capability), 0);
  const ids = identity === undefined ? [] : [identity.uid, identity.gid, ...identity.groups];
  const device = identity === undefined ? 'this process' : `user ${identity.uid}`;
  checked(addon.dropPrivileges(bits, Int32Array.from(ids)), 'capset', device);
}

/** The same as `dropPrivileges` before, for the other threads. False if one of them may have its rights still. */
export const dropInOtherThreads = (): boolean => addon.dropInOtherThreads() === 0;

/**
 * Forbids the system calls that lead to more rights (system-calls.c), for all threads and all programs that they start.
 * Such a call then fails with EPERM or ENOSYS. `no_new_privs` must be set before. False when the kernel refuses the
 * filter.
 */
export const limitSystemCalls = (): boolean => addon.limitSystemCalls() === 0;

/**
 * Unmaps code and constants of Node and its libraries, much of which a start alone uses: the snapshot, the compiler, tables of
 * Unicode. The kernel maps a page again when it is used.
 */
export const releaseProgram = (): void => void addon.releaseProgram();

/**
 * execve(2): this process becomes the program `file`, with these arguments (`args[0]` is its name) and this
 * environment. The descriptors that `setInheritable` has marked stay open. Never returns, and throws on failure.
 */
export function startAnew(file: string, args: readonly string[]): never {
  const result = addon.startAnew(file, Buffer.from(args.map((arg) => `${arg}\0`).join('')));
  throw new NativeError(result, 'execve', file);
}

/** Sets whether a descriptor stays open in programs that this process becomes or starts. */
export function setInheritable(fd: number, on: boolean): void {
  checked(addon.setInheritable(fd, on ? 1 : 0), 'fcntl', `descriptor ${fd}`);
}

/** Tells whether an inherited number is an open descriptor of this kind (`bpf-prog`, `[io_uring]`). */
export function isAnonymous(fd: number, kind: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === `anon_inode:${kind}`;
  } catch {
    return false;
  }
}

/** Makes two connected stream sockets. */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  checked(addon.socketPair(fds), 'socketpair', 'this process');
  return [fds[0], fds[1]];
}

/** Waits for a child that Node did not start, and returns at once; false while the child runs. */
export function reapChild(pid: number): boolean {
  return checked(addon.reapChild(pid), 'waitpid', `process ${pid}`) !== 0;
}

/** Closes descriptors of TAPs, and deletes the devices, all in the time of one. Another process with these devices
 * loses them too, unless they are kept (`keepTaps`). */
export function closeTaps(fds: readonly number[]): void {
  if (fds.length > 0) checked(addon.closeTaps(Int32Array.from(fds)), 'close', 'TAPs');
}

/** Ends the process at once. Node's own exit waits for every thread, for ever if one hangs. */
export function exitNow(status: number): never {
  return addon.exitNow(status);
}

/** Deletes the TAPs of this process in the time of one, unless they are kept (`keepTaps`), and ends the process at
 * once. */
export function leaveNow(status: number): never {
  return addon.leaveNow(status);
}

/**
 * From now on SIGTERM, SIGINT and SIGQUIT end the process with status 0 after `ms`, also when its threads hang. The signal
 * handlers of JavaScript run in that time. Call it once, after JavaScript has a handler for each of the three signals.
 */
export function guardEnd(ms: number): void {
  checked(addon.guardEnd(ms), 'pthread_create', 'this process');
}

/** Ends the process with this status after this time, with or without a signal, in place of an earlier limit. Needs
 * `guardEnd`. */
export function endAfter(ms: number, status: number): void {
  addon.endAfter(ms, status);
}

/** Sets whether the TAPs are kept: another process may have them too and go on with them. At the start they are kept. */
export function keepTaps(on: boolean): void {
  addon.keepTaps(on ? 1 : 0);
}

/** Sets the line that is written when `guardEnd` has to end the process: `before`, date and time, `after`. */
export function lastWords(fd: number, before: string, after: string): void {
  addon.lastWords(fd, before, after);
}
