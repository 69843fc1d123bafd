/**
 * TAPs and UDP sockets on Linux: the contract of contract.ts over dgram-extra. The control side opens and
 * closes the descriptors; this file only uses them.
 */
import { headerRule, native, TUNNEL_SENT, tunnelSource } from '../dgram-extra/index.js';
import { type Encapsulation, ruleWords } from '../encap/contract.js';
import type { FrameBatch } from '../wire/descriptor.js';
import type { PathNews } from '../wire/path-news.js';
import type { PortDevice, SendingWays, UnderlaySocket } from './contract.js';

export class LinuxPort implements PortDevice {
  readonly fd: number;
  readonly #headerBytes: number;
  /** Frames to ask for. A read of one frame too many costs a call that finds nothing, while the frames read
   * wait to be sent. So a device with few frames is asked for few, and one that had all that was asked for
   * is asked for twice as many. */
  #wanted = 1;

  /** `headerBytes`: of the virtio-net header. The control side has set it, and sets it again when another program changes it. */
  constructor(fd: number, headerBytes: number) {
    this.fd = fd;
    this.#headerBytes = headerBytes;
  }

  receive(batch: FrameBatch, mostFrames = batch.capacityFrames): number {
    const wanted = Math.min(this.#wanted, mostFrames);
    const count = native.tapRead(batch.handle, this.fd, wanted, this.#headerBytes);
    if (count >= wanted) this.#wanted = Math.min(2 * count, batch.capacityFrames);
    else this.#wanted = Math.max(1, count);
    return count;
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    return native.tapWrite(batch.handle, this.fd, entries, count, this.#headerBytes);
  }
}

/** Added to the number of descriptors: a message of many datagrams was dropped, since it may also have been a
 * single uncut inner superframe, and the two cannot be told apart (udp-receive.c). */
const AMBIGUOUS = 0x4000_0000;
/** Time for which the kernel then cuts. A sender of such messages costs other senders one message each time:
 * from a neighbour with 1,000 frames a second, fewer than one in 1,000. */
const CUT_MS = 60_000;
const IN_DOUBT = -1;

export class LinuxSocket implements UnderlaySocket {
  readonly fd: number;
  readonly #headerBytes: number;
  readonly #rule: number;
  readonly #segmentation: number;
  readonly #tunnel: Int32Array | undefined;
  readonly tunnelUse: Int32Array | undefined;
  /** Until this time the kernel cuts all messages that arrive, so that none is ambiguous. 0 = the kernel does
   * not cut. IN_DOUBT = the kernel refused to cut, and is asked again. */
  #cutUntilMs = 0;

  constructor(fd: number, encapsulation: Encapsulation, { segmentation, tunnelFd }: SendingWays) {
    this.fd = fd;
    this.#headerBytes = encapsulation.headerBytes;
    this.#rule = headerRule(ruleWords(encapsulation.rule));
    this.#segmentation = segmentation ? 1 : 0;
    this.#tunnel = tunnelFd === undefined ? undefined : tunnelSource(tunnelFd, fd);
    this.tunnelUse = this.#tunnel?.subarray(TUNNEL_SENT, TUNNEL_SENT + 2);
  }

  receive(batch: FrameBatch): number {
    if (this.#cutUntilMs > 0 && performance.now() > this.#cutUntilMs) {
      this.#cutUntilMs = 0;
      native.udpCoalesce(this.fd, 1);
    }
    return this.#certain(native.udpReceive(batch.handle, this.fd, batch.capacityFrames, this.#rule));
  }

  rest(batch: FrameBatch): number {
    return this.#certain(native.udpRest(batch.handle));
  }

  #certain(count: number): number {
    if (count < AMBIGUOUS && this.#cutUntilMs !== IN_DOUBT) return count;
    const isCut = native.udpCoalesce(this.fd, 0) === 0;
    this.#cutUntilMs = isCut ? performance.now() + CUT_MS : IN_DOUBT;
    return count < AMBIGUOUS ? count : count - AMBIGUOUS;
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    const { handle } = batch;
    return native.udpSend(
      handle,
      this.fd,
      entries,
      count,
      this.#headerBytes,
      this.#segmentation,
      this.#tunnel,
    );
  }
}

/** Reads ICMP messages about datagrams that this socket has sent, at most `max`. Returns how many; some may
 * be about other things than sizes. */
export function readPathNews(fd: number, { words, quotes }: PathNews, max: number): number {
  return native.udpErrors(fd, words, quotes, max);
}
