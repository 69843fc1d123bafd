/** Loads the C half, and has its errors. The other TypeScript files of this folder call it. */
import { createRequire } from 'node:module';
import { getSystemErrorName } from 'node:util';

import { ERRNO } from '../wire/errno.js';

/** A watch on a descriptor (watch.c). */
export type WatchHandle = object;

/** The functions of the C half; the comment above each function in C is its contract. Results below zero are negated
 * errnos. */
export interface Addon {
  batchCreate(
    messages: number,
    descriptors: number,
    slabBytes: number,
    views: { slab?: ArrayBuffer; words?: ArrayBuffer },
  ): number;
  ringOpen(params: Int32Array): number;
  ringUse(fd: number, params: Int32Array): number;
  /** `headerBytes`: of the virtio-net header, 10 by default. */
  tapRead(batch: number, fd: number, maxFrames: number, headerBytes?: number): number;
  tapWrite(batch: number, fd: number, list: Int32Array, entries: number, headerBytes?: number): number;
  addressSet(slot: number, address: Uint8Array, port: number): number;
  addressRefused(slot: number): number;
  addressLink(slot: number, link: number, mtuBytes: number): number;
  addressTunnel(slot: number): number;
  tunnelSource(source: Int32Array, tap: number, fd: number): number;
  headerRule(words: Int32Array): number;
  udpReceive(batch: number, fd: number, maxFrames: number, rule: number): number;
  udpRest(batch: number): number;
  udpCoalesce(fd: number, on: number): number;
  udpDropped(fd: number): number;
  udpSend(
    batch: number,
    fd: number,
    list: Int32Array,
    entries: number,
    headerBytes: number,
    segmentation: number,
    tunnel?: Int32Array,
  ): number;
  pollCreate(): number;
  pollAdd(epoll: number, fd: number, token: number): number;
  pollRemove(epoll: number, fd: number): number;
  pollWait(epoll: number, ready: Int32Array, timeoutMs: number): number;
  eventCreate(): number;
  eventSignal(fd: number): number;
  eventClear(fd: number): number;
  closeDescriptor(fd: number): number;
  lockFile(fd: number): number;
  threadSlice(microseconds: number): number;
  tapOpen(name: string, options: number): number;
  tapInfo(fd: number, text: Uint8Array): number;
  tapNetwork(fd: number): number;
  enterNetwork(fd: number): number;
  tapControl(fd: number, what: number, words: Int32Array): number;
  ethtool(name: string, command: Uint8Array): number;
  programLoad(instructions: Uint8Array, type: number): number;
  udpOpen(
    address: Uint8Array,
    port: number,
    options: number,
    receiveBytes: number,
    sendBytes: number,
  ): number;
  udpProbe(option: number): number;
  udpAdopt(fd: number, news: number): number;
  udpErrors(fd: number, news: Int32Array, quotes: Uint8Array, max: number): number;
  /** `protocol`: NETLINK_ROUTE by default. */
  netlinkOpen(groups: number, receiveBytes: number, protocol?: number): number;
  netlinkSend(fd: number, message: Uint8Array): number;
  netlinkReceive(fd: number, buffer: Uint8Array): number;
  peerCredentials(fd: number, ids: Int32Array): number;
  sdNotify(state: string, passed: number, waits: number): number;
  dropPrivileges(keep: number, ids: Int32Array): number;
  dropInOtherThreads(): number;
  landlock(ruleset: number, bytes?: Int32Array): number;
  startAnew(file: string, args: Uint8Array): number;
  limitSystemCalls(): number;
  releaseProgram(): number;
  setInheritable(fd: number, on: number): number;
  socketPair(fds: Int32Array): number;
  reapChild(pid: number): number;
  closeTaps(fds: Int32Array): number;
  guardEnd(ms: number): number;
  endAfter(ms: number, status: number): number;
  keepTaps(on: number): number;
  lastWords(fd: number, before: string, after: string): number;
  exitNow(status: number): never;
  leaveNow(status: number): never;
  watchStart(fd: number, callback: () => void): WatchHandle | number;
  watchAgain(watch: WatchHandle): number;
  watchStop(watch: WatchHandle): number;
}

/** The addon is there for each architecture that it was built for. */
function load(): Addon {
  const require = createRequire(import.meta.url);
  const file = `./dgram_extra-${process.arch}.node`;
  try {
    return require(file) as Addon;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'MODULE_NOT_FOUND'
        ? `this package of varpd has none for linux-${process.arch}`
        : `it needs the C library of Debian 12 or newer (glibc 2.34): ${message}`;
    throw new Error(`the native part of varpd cannot be loaded: ${why}; build varpd from its sources`, {
      cause: error,
    });
  }
}

export const addon = load();

const NAMES = new Map<number, string>(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** Returns the kernel's name of an errno. Node lacks some of the names and has another name for one. */
export function errnoName(negatedErrno: number): string {
  return NAMES.get(-negatedErrno) ?? getSystemErrorName(negatedErrno);
}

/** A system call failed. `code` is the name of the errno, `syscall` the call, and `device` the object of the call. */
export class NativeError extends Error {
  override readonly name = 'NativeError';
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly device: string;

  constructor(negatedErrno: number, syscall: string, device: string) {
    const code = errnoName(negatedErrno);
    super(`${code}: ${syscall} on ${device}`);
    this.code = code;
    this.errno = -negatedErrno;
    this.syscall = syscall;
    this.device = device;
  }
}

/** Returns the result of a call of the addon, and throws if it is an error. */
export function checked(result: number, syscall: string, device: string): number {
  if (result < 0) throw new NativeError(result, syscall, device);
  return result;
}
