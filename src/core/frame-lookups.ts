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
  LENGTH,
  OFFSET,
  type FrameBatch,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { isMulticast, type MacAddress } from '../wire/mac.js';
import * as virtio from '../wire/virtio-net.js';
import * as vlan from '../wire/vlan.js';
import { COUNTER } from './counters.js';
import { redirect, sendTo } from './encap.js';
import { wireFrames } from './frame-count.js';
import { deliverTo } from './inject.js';
import { NONE } from './mac-index.js';
import type { LookupResult, Miss, Overlay, Port } from './overlay.js';
import { type Linked, Shares } from './shares.js';
import { MAX_TTL_MS } from './target-table.js';
import { accepts } from './to-ports.js';

/** Of one overlay: a storm holds no more. Each port has its share of them (shares.ts), and may have so many asked about a
 * second (questions.ts): a storm of one leaves the others their answers. */
const MAX_WAITING = 256;
/** Ethernet header, the tags that are looked behind, and a packet of 1500 bytes (RFC 894): each request that a proxy
 * answers fits. Of a longer frame the rest is cut off. */
const COPIED_BYTES = ethernet.HEADER_BYTES + vlan.MAX_TAGS * vlan.HEADER_BYTES + 1500;

interface Waiting extends Linked<Waiting> {
  /** The number of the question. */
  lookup: number;
  /** Of the pending queue: negative, which no row is. */
  readonly key: number;
  readonly port: Port;
  readonly miss: Miss;
  /** A copy. */
  readonly beginning: Uint8Array;
}

export class FrameLookups {
  readonly #overlay: Overlay;
  /** By the number of the question. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #byKey = new Map<number, Waiting>();
  readonly #shares = new Shares<Port, Waiting>(MAX_WAITING);

  constructor(overlay: Overlay) {
    this.#overlay = overlay;
  }

  /** Frame `index`, which `port` sent, waits for an answer about itself. */
  hold(port: Port, batch: FrameBatch, index: number, miss: Miss): void {
    const { pending, counters } = this.#overlay;
    const lookup = this.#overlay.nextLookup();
    const hasShare = this.#shares.mayTake(port, 1);
    const frames = wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
    if (hasShare && !port.questions.take()) counters[COUNTER.lookup_busy] += frames;
    else if (!hasShare || !pending.hold(-lookup, port, batch, index))
      counters[COUNTER.pending_full] += frames;
    else {
      if (!this.#shares.hasRoom(1)) this.#loseOldest();
      const beginning = copyOfBeginning(batch, index);
      const waiting = { lookup, key: -lookup, port, miss, beginning, older: undefined, newer: undefined };
      this.#shares.add(port, waiting, 1);
      this.#byKey.set(waiting.key, waiting);
      this.#ask(waiting);
    }
  }

  /** Whether the question was one of these, and its answer still awaited. */
  answer(lookup: number, result: LookupResult): boolean {
    const waiting = this.#waiting.get(lookup);
    if (waiting === undefined) return false;
    this.#forget(waiting);
    if (!this.#overlay.ports.includes(waiting.port)) this.#drop(waiting, COUNTER.pending_lost);
    else if (result.kind === 'target') this.#send(waiting, result);
    else if (result.kind === 'reply') this.#reply(waiting, result);
    else if (result.kind === 'redirect') this.#redirect(waiting, result.to);
    else this.#refuse(waiting, result);
    return true;
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
    this.#overlay.counters[counter] += this.#overlay.pending.discard(key);
  }

  #send(waiting: Waiting, { to, ttlMs }: Extract<LookupResult, { kind: 'target' }>): void {
    const overlay = this.#overlay;
    const { replay, outputs } = overlay.shared;
    if (to.length === 0) {
      this.#drop(waiting, COUNTER.tx_group);
      return;
    }
    if (ttlMs > 0) overlay.setTarget(waiting.miss.destinationMac, to, ttlMs);
    const slots = to.map((endpoint) => overlay.held.acquire(endpoint));
    overlay.pending.release(waiting.key, replay, () => {
      sendTo(overlay, replay, 0, slots);
      outputs.flush(replay);
    });
    for (const slot of slots) overlay.held.release(slot);
  }

  #refuse(waiting: Waiting, { reason, ttlMs = 0 }: Extract<LookupResult, { kind: 'drop' }>): void {
    if (ttlMs > 0) this.#overlay.setTarget(waiting.miss.destinationMac, [], Math.min(ttlMs, MAX_TTL_MS));
    this.#drop(waiting, reason === 'lookup_drop' ? COUNTER.tx_group : COUNTER[reason]);
  }

  #reply(waiting: Waiting, { frame, counter }: Extract<LookupResult, { kind: 'reply' }>): void {
    const { counters, pending } = this.#overlay;
    const high = ethernet.sourceHigh(frame, 0);
    const low = ethernet.sourceLow(frame, 0);
    if (this.#hasHeard(high, low, waiting.miss.vlan)) {
      this.#drop(waiting, COUNTER.proxy_local);
      return;
    }
    pending.discard(waiting.key);
    counters[COUNTER[counter]]++;
    deliverTo(this.#overlay, waiting.port, frame);
  }

  #redirect({ key, port }: Waiting, to: MacAddress): void {
    const overlay = this.#overlay;
    const { replay, outputs } = overlay.shared;
    overlay.pending.release(key, replay, () => {
      ethernet.setDestination(replay.bytes, replay.descriptors[OFFSET], to);
      redirect(overlay, port, replay, 0);
      outputs.flush(replay);
    });
  }

  /** Whether the station that has this MAC is a port of this host, which has had its copy and answers for itself. Of one
   * that has been silent for a while that is not known. */
  #hasHeard(high: number, low: number, vid: number): boolean {
    const { ports, portIndex, shared } = this.#overlay;
    const index = portIndex.get(high, low);
    return index !== NONE && accepts(ports[index], vid) && ports[index].presence.isAlive(shared.nowTick);
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
