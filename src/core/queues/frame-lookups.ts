/**
 * Questions about single frames: frames to a group MAC that the target table has no entry for. An ARP request
 * and a DHCP discover go to the same MAC and need different answers, so each frame has a question of its own.
 *
 * The frame waits in the pending queue, with its offloads. The question has a copy of its beginning, for the
 * proxies to read. The answer decides about that frame alone:
 *
 *   target     the frame goes there; with a ttl, later frames to its MAC go there without a question
 *   drop       the frame is dropped and counted; with a ttl, later ones are dropped as well
 *   reply      another frame goes back to the port that asked, and to no other
 *   redirect   the frame goes on as if sent to another MAC, a unicast one, so it does not come back here
 *
 * A proxy does not act for a station behind a port of this host: that station has received the broadcast
 * itself. If the port has been silent, the proxy answers nevertheless: two equal answers do no harm.
 */
import { write16 } from '../../wire/bytes.js';
import * as checksum from '../../wire/checksum.js';
import {
  CSUM_OFFSET,
  CSUM_START,
  DESCRIPTOR_WORDS,
  FLAGS,
  type FrameBatch,
  LENGTH,
  OFFSET,
} from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import { isMulticast, type MacAddress } from '../../wire/mac.js';
import * as virtio from '../../wire/virtio-net.js';
import * as vlan from '../../wire/vlan.js';
import { COUNTER } from '../counts/counters.js';
import type { Drops } from '../counts/drops.js';
import { wireFrames } from '../counts/frame-count.js';
import type { Miss, Question } from '../lookup.js';
import type { PendingQueue } from './pending-queue.js';
import type { Port } from '../port.js';
import { type Linked, Shares } from './shares.js';

/** Bound on the frames of an overlay that wait, even in a storm. Each port has its share of it (shares.ts)
 * and its rate of questions (questions.ts), so a storm from one port leaves the others their answers. */
const MAX_WAITING = 256;
/** Bytes of a frame that are copied: Ethernet header, as many tags as are parsed, and a packet of 1500 bytes
 * (RFC 894). Each request that a proxy answers fits; a longer frame is cut off. */
const COPIED_BYTES = ethernet.HEADER_BYTES + vlan.MAX_TAGS * vlan.HEADER_BYTES + 1500;

export interface WaitingFrame {
  /** Key in the pending queue: negative, so that it differs from every row. */
  readonly key: number;
  readonly port: Port;
  readonly miss: Miss;
}

interface Waiting extends WaitingFrame, Linked<Waiting> {
  /** The number of the question. */
  lookup: number;
  /** A copy of the first bytes of the frame. */
  readonly beginning: Uint8Array;
}

/** The part of an overlay that is used here. */
interface Asking {
  readonly options: { readonly id: number };
  readonly drops: Drops;
  readonly pending: PendingQueue;
  nextLookup(): number;
  ask(question: Question): void;
}

export class FrameLookups {
  readonly #overlay: Asking;
  /** Number of the question -> the frame that waits. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #byKey = new Map<number, Waiting>();
  readonly #shares = new Shares<Port, Waiting>(MAX_WAITING);

  constructor(overlay: Asking) {
    this.#overlay = overlay;
  }

  /** Makes frame `index`, which `port` sent, wait for an answer of its own. */
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

  /** Makes these refuse to `own` what `other` refuses to `port`, by its share. */
  imitate(other: FrameLookups, port: Port, own: Port): void {
    this.#shares.leave(own, other.#shares.most(port));
  }

  /** Puts the frame into the pending queue, or returns the counter of the reason why not. */
  #queue(port: Port, batch: FrameBatch, index: number, key: number): number | undefined {
    if (!this.#shares.mayTake(port, 1)) return COUNTER.pending_full;
    if (!port.questions.take()) return COUNTER.lookup_busy;
    return this.#overlay.pending.hold(key, port, batch, index) ? undefined : COUNTER.pending_full;
  }

  /** Takes out the frame that waits for the answer to this question. Returns undefined if the question is
   * about a MAC, or if the frame no longer waits. */
  take(lookup: number): WaitingFrame | undefined {
    const waiting = this.#waiting.get(lookup);
    if (waiting !== undefined) this.#forget(waiting);
    return waiting;
  }

  /** Asks again about this MAC, or about all: answers under way are out of date. */
  invalidate(mac: MacAddress | undefined): void {
    if (mac !== undefined && !isMulticast(mac)) return; // a million of them, when a mapping is replaced
    for (const [lookup, waiting] of [...this.#waiting]) {
      if (mac !== undefined && waiting.miss.destinationMac !== mac) continue;
      this.#waiting.delete(lookup);
      waiting.lookup = this.#overlay.nextLookup();
      this.#ask(waiting);
    }
  }

  /** The pending queue has dropped and counted the frame of this key to make room. Its answer will be
   * ignored. */
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

  /** Drops the oldest frame of the port that has the most. */
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

/** Returns a copy of the beginning, with a checksum if that was left to the device and the frame is whole. */
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
