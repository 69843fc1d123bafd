/**
 * The control side of a capture: a ring for each thread that carries the overlay, read in the order of time. The threads
 * write (core/capture/capture.ts), and never wait for this side.
 */
import {
  createRing,
  DESCRIPTOR,
  FRAME_BYTES,
  FROM_PORT,
  FROM_SOCKET,
  FROM_TUNNEL,
  LEAD,
  LOST_RECORD,
  PLACE,
  POINT,
  REASON,
  RingReader,
  SENDER,
  TO_PORT,
  TO_TUNNEL,
} from '../../../core/capture/capture-ring.js';
import type { CaptureRules } from '../../../core/capture/capture-tap.js';
import { COUNTER_NAMES } from '../../../core/counts/counters.js';
import type { DropReason } from '../../../model/drops.js';
import { ADDRESS, DESCRIPTOR_WORDS, PORT, TOS } from '../../../wire/descriptor.js';
import { type Endpoint, readV6 } from '../../../wire/ip.js';
import type { CapturedFrame, CapturePoint, FrameCapture } from '../../contract.js';
import type { Link } from './thread.js';

const POINTS: Readonly<Record<number, CapturePoint>> = {
  [FROM_PORT]: 'from-port',
  [TO_PORT]: 'to-port',
  [TO_TUNNEL]: 'to-tunnel',
  [FROM_TUNNEL]: 'from-tunnel',
  [FROM_SOCKET]: 'from-socket',
};

/** Real and monotonic time may be read a moment apart; more than this, and the clock has been set since the start. */
const CLOCK_SLACK_MS = 2;

let lastCapture = 0;

/** The overlay with the captured frames. */
export interface CaptureSource {
  readonly overlay: number;
  readonly links: readonly Link[];
  readonly listen: Endpoint;
  /** UDP ports that it sends from, in the order of its sockets. */
  readonly senderPorts: readonly number[];
  readonly stopped: (capture: RingCapture) => void;
}

export class RingCapture implements FrameCapture {
  isOver = false;
  /** Resolves when every thread captures. */
  readonly begun: Promise<unknown>;
  readonly #id = ++lastCapture;
  readonly #source: CaptureSource;
  readonly #rings: readonly RingReader[];
  /** Difference of real time from the clock of the threads. */
  readonly #offsetNs = clockOffsetNs();

  constructor(source: CaptureSource, rules: CaptureRules) {
    this.#source = source;
    const { overlay, links } = source;
    this.#rings = links.map((link) => {
      const ring = createRing();
      link.post({ kind: 'start-capture', capture: this.#id, overlay, rules, ring });
      return new RingReader(ring);
    });
    this.begun = Promise.all(links.map((link) => link.request({ kind: 'ping' })));
  }

  next(): CapturedFrame | undefined {
    let oldest: RingReader | undefined;
    let record: number = LOST_RECORD;
    for (const ring of this.#rings) {
      const first = ring.peek();
      if (first === LOST_RECORD) continue;
      if (oldest !== undefined && oldest.timeMs(record) <= ring.timeMs(first)) continue;
      oldest = ring;
      record = first;
    }
    if (oldest === undefined) return undefined;
    const frame = this.#read(oldest, record);
    oldest.next(record);
    return frame;
  }

  lost(): ReadonlyMap<string, number> {
    const sum = new Map<string, number>();
    for (const ring of this.#rings)
      for (const [port, lost] of ring.lost()) sum.set(port, (sum.get(port) ?? 0) + lost);
    return sum;
  }

  async stop(): Promise<void> {
    const { links, stopped } = this.#source;
    stopped(this);
    // With the overlay, its threads have forgotten the capture.
    if (this.isOver) return;
    this.isOver = true;
    await Promise.all(links.map((link) => link.request({ kind: 'stop-capture', capture: this.#id })));
  }

  #read(ring: RingReader, record: number): CapturedFrame {
    const { words } = ring;
    const descriptor = words.slice(record + DESCRIPTOR, record + DESCRIPTOR + DESCRIPTOR_WORDS);
    const point = POINTS[words[record + POINT]];
    const reason = words[record + REASON];
    return {
      point,
      port: ring.nameOf(words[record + PLACE]),
      timeNs: this.#offsetNs + BigInt(Math.round(ring.timeMs(record) * 1e6)),
      frameBytes: words[record + FRAME_BYTES],
      data: ring.data(record),
      leadBytes: words[record + LEAD],
      descriptor,
      dropped: reason === 0 ? undefined : (COUNTER_NAMES[reason - 1] as DropReason),
      ...this.#route(point, descriptor, words[record + SENDER]),
    };
  }

  /** Returns the sockets that a frame goes between, and the outer traffic class. */
  #route(
    point: CapturePoint,
    descriptor: Int32Array,
    sender: number,
  ): Pick<CapturedFrame, 'from' | 'to' | 'trafficClass'> {
    if (point === 'from-port' || point === 'to-port')
      return { from: undefined, to: undefined, trafficClass: 0 };
    const { listen, senderPorts } = this.#source;
    const octets = new Uint8Array(descriptor.buffer);
    const peer = { ip: readV6(octets, ADDRESS * 4), port: descriptor[PORT] };
    const trafficClass = descriptor[TOS];
    if (point !== 'to-tunnel') return { from: peer, to: listen, trafficClass };
    return { from: { ip: listen.ip, port: senderPorts[sender] ?? listen.port }, to: peer, trafficClass };
  }
}

function clockOffsetNs(): bigint {
  const monotonicNs = process.hrtime.bigint();
  const sinceMs = performance.now();
  const preciseMs = performance.timeOrigin + sinceMs;
  const coarseMs = Date.now();
  const realMs = Math.abs(preciseMs - coarseMs) > CLOCK_SLACK_MS ? coarseMs : preciseMs;
  return BigInt(Math.round(realMs * 1e3)) * 1000n - monotonicNs;
}
