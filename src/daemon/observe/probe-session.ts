/** The frames of one probe that were sent, and what came back to each. */
import type { ProbeCount } from '../../control/messages.js';
import type { FrameProbe, ProbeListener } from '../../datapath/probe-contract.js';
import type { DropReason } from '../../model/drops.js';
import type { Endpoint, IpAddress } from '../../wire/ip.js';
import type { MacAddress } from '../../wire/mac.js';

/** A frame that was sent. */
export interface Sent {
  readonly id: number;
  readonly packetBytes: number;
  sentMs: number | undefined;
  answeredMs: number | undefined;
  dropped: DropReason | undefined;
}

const HALF = 0x10000;

export class ProbeSession implements ProbeListener {
  /** The upper half of each id. */
  readonly series = Math.floor(Math.random() * HALF);
  /** Address that answers came from. */
  peer: IpAddress | undefined;
  /** The station that has answered for the IP address. */
  neighborMac: MacAddress | undefined;
  readonly #byId = new Map<number, Sent>();
  #latest: Sent | undefined;
  #count = 0;
  #heard: () => void = () => undefined;

  /** An id that was not used yet. */
  nextId(): number {
    return (this.series << 16) | (this.#count++ % HALF);
  }

  send(probe: FrameProbe, port: string, id: number, packetBytes: number, frame: Uint8Array): Sent {
    const sent: Sent = { id, packetBytes, sentMs: undefined, answeredMs: undefined, dropped: undefined };
    this.#byId.set(id, sent);
    this.#latest = sent;
    probe.send(port, [{ id, frame }]);
    return sent;
  }

  /** Resolves when each of these was answered or dropped, or after this time. */
  settle(frames: readonly Sent[], waitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#heard = () => undefined;
        resolve();
      };
      const timer = setTimeout(end, waitMs);
      const look = (): void => {
        if (frames.every((one) => isAnswered(one) || one.dropped !== undefined)) end();
      };
      this.#heard = look;
      look();
    });
  }

  sent(id: number, atMs: number, dropped: DropReason | undefined): void {
    const one = this.#byId.get(id);
    if (one === undefined) return;
    one.sentMs = atMs;
    one.dropped = dropped;
    this.#heard();
  }

  replied(id: number, atMs: number, _mac: MacAddress, from: Endpoint): void {
    this.#answered(this.#byId.get(id), atMs, from);
  }

  /** An answer has no number, so it is to the latest question. */
  neighbor(atMs: number, mac: MacAddress, from: Endpoint): void {
    this.neighborMac ??= mac;
    if (mac === this.neighborMac) this.#answered(this.#latest, atMs, from);
  }

  #answered(one: Sent | undefined, atMs: number, { ip }: Endpoint): void {
    if (one === undefined) return;
    this.peer ??= ip;
    // A duplicate is no second answer.
    one.answeredMs ??= atMs;
    this.#heard();
  }
}

export function isAnswered({ sentMs, answeredMs }: Sent): boolean {
  return sentMs !== undefined && answeredMs !== undefined;
}

export function countOf(frames: readonly Sent[]): ProbeCount {
  const times = frames.filter(isAnswered).map(({ sentMs, answeredMs }) => Math.max(0, answeredMs! - sentMs!));
  const [sent, received] = [frames.length, times.length];
  if (received === 0) return { sent, received, roundTripMs: null };
  const avg = times.reduce((sum, time) => sum + time, 0) / received;
  return { sent, received, roundTripMs: { min: Math.min(...times), avg, max: Math.max(...times) } };
}
