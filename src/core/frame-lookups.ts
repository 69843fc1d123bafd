/**
 * Questions about one frame each: frames to a group MAC for which the target table has no answer. An ARP request and
 * a DHCP discover go to the same MAC and need different answers, so each frame waits for one of its own.
 *
 * The frame waits in the pending queue, offloads and all; a copy of its beginning goes along with the question, for
 * the proxies to read. The answer decides about that very frame:
 *
 *   target     it goes there; with a ttl, so does every later frame to its MAC, without a question
 *   drop       it is counted; with a ttl, later ones are dropped as well
 *   reply      another frame goes back to the port that asked, and to no other
 *   redirect   it goes on as if it had been sent to another MAC: a unicast one, so it does not come back here
 *
 * What a proxy would do for a station behind a port of this host is left undone: that one has heard the broadcast itself.
 * A port that has been silent is answered for: two answers that say the same harm nobody.
 */
import { write16 } from '../wire/bytes.js';
import * as checksum from '../wire/checksum.js';
import {
  CSUM_OFFSET,
  CSUM_START,
  DESCRIPTOR_WORDS,
  FLAGS,
  type FrameBatch,
  LENGTH,
  OFFSET,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { isMulticast, type MacAddress } from '../wire/mac.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';
import { COUNTER } from './counters.js';
import type { Drops } from './drops.js';
import { wireFrames } from './frame-count.js';
import type { Miss, Question } from './lookup.js';
import type { PendingQueue } from './pending-queue.js';
import type { Port } from './port.js';
import { type Linked, Shares } from './shares.js';

/** Of one overlay: a storm holds no more. Each port has its share of them (shares.ts), and may have so many asked about a
 * second (questions.ts): a storm of one leaves the others their answers. */
const MAX_WAITING = 256;
/** Ethernet header, the tags that are looked behind, and a packet of 1500 bytes (RFC 894): each request that a proxy
 * answers fits. Of a longer frame the rest is cut off. */
const COPIED_BYTES = ethernet.HEADER_BYTES + vlan.MAX_TAGS * vlan.HEADER_BYTES + 1500;

export interface WaitingFrame {
  /** Of the pending queue: negative, which no row is. */
  readonly key: number;
  readonly port: Port;
  readonly miss: Miss;
}

interface Waiting extends WaitingFrame, Linked<Waiting> {
  /** The number of the question. */
  lookup: number;
  /** A copy. */
  readonly beginning: Uint8Array;
}

/** What of an overlay is used here. */
interface Asking {
  readonly options: { readonly id: number };
  readonly drops: Drops;
  readonly pending: PendingQueue;
  nextLookup(): number;
  ask(question: Question): void;
}

export class FrameLookups {
  readonly #overlay: Asking;
  /** By the number of the question. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #byKey = new Map<number, Waiting>();
  readonly #shares = new Shares<Port, Waiting>(MAX_WAITING);

  constructor(overlay: Asking) {
    this.#overlay = overlay;
  }

  /** Frame `index`, which `port` sent, waits for an answer about itself. */
  hold(port: Port, batch: FrameBatch, index: number, miss: Miss): void {
    const lookup = this.#overlay.nextLookup();
    const refusal = this.#queue(port, batch, index, -lookup);
    if (refusal !== undefined) {
      const frames = wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
      this.#overlay.drops.add(refusal, frames, batch, index);
      return;
    }
    if (!this.#shares.hasRoom(1)) this.#loseOldest();
    const beginning = copyOfBeginning(batch, index);
    const waiting = { lookup, key: -lookup, port, miss, beginning, older: undefined, newer: undefined };
    this.#shares.add(port, waiting, 1);
    this.#byKey.set(waiting.key, waiting);
    this.#ask(waiting);
  }

  /** Into the pending queue; or the counter of why not. */
  #queue(port: Port, batch: FrameBatch, index: number, key: number): number | undefined {
    if (!this.#shares.mayTake(port, 1)) return COUNTER.pending_full;
    if (!port.questions.take()) return COUNTER.lookup_busy;
    return this.#overlay.pending.hold(key, port, batch, index) ? undefined : COUNTER.pending_full;
  }

  /** What waits for the answer to this question, which does no longer. Undefined where it was none of these, or nothing does. */
  take(lookup: number): WaitingFrame | undefined {
    const waiting = this.#waiting.get(lookup);
    if (waiting !== undefined) this.#forget(waiting);
    return waiting;
  }

  /** The answers under way to questions about this MAC, or all, are too old: they are asked again. */
  invalidate(mac: MacAddress | undefined): void {
    if (mac !== undefined && !isMulticast(mac)) return; // a million of them, when a mapping is replaced
    for (const [lookup, waiting] of [...this.#waiting]) {
      if (mac !== undefined && waiting.miss.destinationMac !== mac) continue;
      this.#waiting.delete(lookup);
      waiting.lookup = this.#overlay.nextLookup();
      this.#ask(waiting);
    }
  }

  /** The frame of this key has made room in the pending queue, and is counted: its answer is for nobody. */
  lost(key: number): void {
    const waiting = this.#byKey.get(key);
    if (waiting !== undefined) this.#forget(waiting);
  }

  close(): void {
    for (const waiting of this.#waiting.values()) {
      this.#forget(waiting);
      this.#drop(waiting, COUNTER.pending_lost);
    }
  }

  /** Of the port that has most of them. */
  #loseOldest(): void {
    const oldest = this.#shares.oldest(this.#shares.largest())!;
    this.#forget(oldest);
    this.#drop(oldest, COUNTER.pending_full);
  }

  #forget(waiting: Waiting): void {
    const { lookup, key, port } = waiting;
    this.#waiting.delete(lookup);
    this.#byKey.delete(key);
    this.#shares.remove(port, waiting, 1);
  }

  #ask(waiting: Waiting): void {
    const { lookup, miss, beginning } = waiting;
    this.#waiting.set(lookup, waiting);
    this.#overlay.ask({ ...miss, overlay: this.#overlay.options.id, lookup, frame: beginning });
  }

  #drop({ key }: Waiting, counter: number): void {
    this.#overlay.pending.drop(key, counter);
  }
}

/** With its checksum, if that was left to the device and the frame is whole. */
function copyOfBeginning({ bytes, descriptors }: FrameBatch, index: number): Uint8Array {
  const at = index * DESCRIPTOR_WORDS;
  const offset = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  const copy = bytes.slice(offset, offset + Math.min(length, COPIED_BYTES));
  const start = descriptors[at + CSUM_START];
  const field = start + descriptors[at + CSUM_OFFSET];
  if (descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM && copy.length === length && field + 2 <= length)
    write16(copy, field, checksum.finish(checksum.sum(copy, start, length - start, 0)));
  return copy;
}
