/**
 * The counts of an overlay for each of its peers: a record for each underlay address that its frames go to or
 * come from. `dladm show-peers` shows them, and the notes about unreachable and silent peers are made of
 * them (daemon/underlay/peer-news.ts).
 *
 * A thread writes its records in shared memory, and the control side reads them there, so that a look costs
 * the thread nothing. A record is 32 words; its last ten are five doubles:
 *
 *   | ADDRESS 4 | NEXT | VERSION | HELD | NAMED | HEARD | SENT | ASKED | SLOT | ICMP_... 9 | UNCOALESCED | five doubles |
 *
 * A record is found by its address, by way of chains (NEXT). It keeps its number until another address gets
 * it, or the table grows, which makes a larger memory. VERSION is odd while the address or the ICMP words
 * change, and 0 for a record that was never used.
 *
 * The table is bounded, since with `accept=any` a stranger may make up any number of addresses. When it is
 * full, a destination takes the record of an address that is none. A stranger takes one that was not heard
 * for a minute, and at most one in 10 ms. All others are counted together in the record OTHERS.
 */
import { hash } from '../tables/address-table.js';
import { NONE } from '../tables/mac-index.js';
import { TICK_MS } from '../tables/target-table.js';

export const RECORD_WORDS = 32;
const RECORD_DOUBLES = RECORD_WORDS / 2;
const ADDRESS_WORDS = 4;

/** Underlay address in the words of a descriptor. */
export const ADDRESS = 0;
const NEXT = 4;
export const VERSION = 5;
/** Targets that have the address as a destination. */
export const HELD = 6;
/** Number of the list of named peers that has the address, as far as was found out; 0 = none. */
export const NAMED = 7;
/** Tick of the last frame from there, and of the last one to it. Bit 0 is always set; 0 = never. */
export const HEARD = 8;
export const SENT = 9;
/** Frames to it that ask for an answer, sent while nothing was heard for a second (tunnel.ts). */
export const ASKED = 10;
/** Slot of its destination; NONE = nothing is sent there. */
const SLOT = 11;
/** The ICMP messages since it was last heard: the last one's kind (wire/path-news.ts), the UDP port that it
 * was about, how many came, ticks of the first and the last, and four words: the sender of the last. */
export const ICMP_KIND = 12;
export const ICMP_PORT = 13;
export const ICMP_COUNT = 14;
export const ICMP_FIRST = 15;
export const ICMP_LAST = 16;
export const ICMP_SENDER = 17;
/** Signs that the kernel does not put its datagrams together (coalescing.ts). */
export const UNCOALESCED = 21;

/** Doubles: frames and bytes each way, and the reads that they came in: a read may bring many (UDP_GRO). */
export const TX_FRAMES = 11;
export const TX_BYTES = 12;
export const RX_FRAMES = 13;
export const RX_BYTES = 14;
export const RX_READS = 15;

/** The record of all addresses that have none of their own. */
export const OTHERS = 0;

/** 1 MiB. */
export const MAX_RECORDS = 8192;
const FIRST_RECORDS = 16;
/** Records that are looked at for one that another address may have. */
const HAND_STEPS = 64;
const STRANGER_IDLE_TICKS = 60_000 / TICK_MS;
/** Times of longer ago are kept at this distance: ticks wrap around. */
const LONG_AGO_TICKS = 0x3fff_fffe;
/** Messages that are further apart belong to different troubles. */
const RUN_TICKS = 60_000 / TICK_MS;

export type PeerMemory = SharedArrayBuffer;

export const intsOf = (memory: PeerMemory): Int32Array => new Int32Array(memory);
export const doublesOf = (memory: PeerMemory): Float64Array => new Float64Array(memory);

export const intAt = (record: number, word: number): number => record * RECORD_WORDS + word;
export const doubleAt = (record: number, double: number): number => record * RECORD_DOUBLES + double;

/** An ICMP message about a destination that cannot be reached. */
export interface Unreachable {
  readonly kind: number;
  /** UDP port of the destination. */
  readonly port: number;
  /** Four words at `senderAt`: the host that sent the message. */
  readonly words: Int32Array;
  readonly senderAt: number;
}

export class PeerRecords {
  /** Both are the memory; another one when the table has grown. The hot path reads and writes them itself. */
  ints!: Int32Array;
  doubles!: Float64Array;
  /** Hash -> first record of its chain, OTHERS = end. */
  #heads!: Int32Array;
  /** Records in use, OTHERS included; they are the first ones. */
  #count = 1;
  /** Where the search for a record that may be taken goes on. */
  #hand = 1;
  #strangerTick = NaN;
  readonly #moved: (memory: PeerMemory) => void;

  /** `moved` is called with the memory, at first and whenever the table has grown. */
  constructor(moved: (memory: PeerMemory) => void) {
    this.#moved = moved;
    this.#allocate(FIRST_RECORDS);
    this.ints[VERSION] = 2;
  }

  /** Returns the record of the address in the four words at `at`, or OTHERS. */
  find(words: Int32Array, at: number): number {
    const ints = this.ints;
    const a = words[at];
    const b = words[at + 1];
    const c = words[at + 2];
    const d = words[at + 3];
    let record = this.#heads[hash(a, b, c, d) & (this.#heads.length - 1)];
    while (record !== OTHERS) {
      const own = record << 5;
      if (ints[own + 3] === d && ints[own + 2] === c && ints[own + 1] === b && ints[own] === a) return record;
      record = ints[own + NEXT];
    }
    return OTHERS;
  }

  /** Adds a record for an address that has none. Returns OTHERS if there is no room. */
  add(words: Int32Array, at: number, isDestination: boolean, nowTick: number): number {
    // `::` is the address of no host.
    if ((words[at] | words[at + 1] | words[at + 2] | words[at + 3]) === 0) return OTHERS;
    const record = this.#count < MAX_RECORDS ? this.#next() : this.#take(isDestination, nowTick);
    if (record === OTHERS) return OTHERS;
    const ints = this.ints;
    const own = intAt(record, 0);
    this.#begin(own);
    ints.fill(0, own, own + VERSION);
    ints.fill(0, own + VERSION + 1, own + RECORD_WORDS);
    for (let word = 0; word < ADDRESS_WORDS; word++) ints[own + word] = words[at + word];
    ints[own + SLOT] = NONE;
    this.#link(record);
    this.#end(own);
    return record;
  }

  // ---- Hot path

  received(record: number, frames: number, bytes: number): void {
    const at = record << 4;
    this.doubles[at + RX_FRAMES] += frames;
    this.doubles[at + RX_BYTES] += bytes;
    this.doubles[at + RX_READS]++;
  }

  sent(record: number, frames: number, bytes: number, nowTick: number): void {
    this.ints[(record << 5) + SENT] = nowTick | 1;
    const at = record << 4;
    this.doubles[at + TX_FRAMES] += frames;
    this.doubles[at + TX_BYTES] += bytes;
  }

  /** Returns whether nothing came from there for this time. */
  isQuiet(record: number, nowTick: number, ticks: number): boolean {
    const heard = this.ints[(record << 5) + HEARD];
    return heard === 0 || ((nowTick - heard) | 0) > ticks;
  }

  /** Notes that a frame was sent that asks for an answer. */
  asked(record: number): void {
    this.ints[(record << 5) + ASKED]++;
  }

  // ---- Changes

  /** Notes how many targets have it as a destination, and the slot of that. */
  hold(record: number, references: number, slot: number): void {
    if (record === OTHERS) return;
    this.ints[intAt(record, HELD)] = references;
    this.ints[intAt(record, SLOT)] = references === 0 ? NONE : slot;
  }

  slot(record: number): number {
    return this.ints[intAt(record, SLOT)];
  }

  unreachable(record: number, { kind, port, words, senderAt }: Unreachable, nowTick: number): void {
    const ints = this.ints;
    const own = intAt(record, 0);
    const last = ints[own + ICMP_LAST];
    const heard = ints[own + HEARD];
    const isNew =
      last === 0 || ((nowTick - last) | 0) > RUN_TICKS || (heard !== 0 && ((heard - last) | 0) > 0);
    this.#begin(own);
    if (isNew) ints[own + ICMP_FIRST] = nowTick | 1;
    ints[own + ICMP_COUNT] = isNew ? 1 : ints[own + ICMP_COUNT] + 1;
    ints[own + ICMP_LAST] = nowTick | 1;
    ints[own + ICMP_KIND] = kind;
    ints[own + ICMP_PORT] = port;
    for (let word = 0; word < ADDRESS_WORDS; word++) ints[own + ICMP_SENDER + word] = words[senderAt + word];
    this.#end(own);
  }

  #begin(own: number): void {
    Atomics.or(this.ints, own + VERSION, 1);
  }

  #end(own: number): void {
    Atomics.add(this.ints, own + VERSION, 1);
  }

  /** Keeps times of long ago from seeming recent when ticks wrap around; see TargetTable.age. */
  age(nowTick: number): void {
    const isOver = (tick: number): boolean => tick !== 0 && (nowTick - tick) >>> 0 > LONG_AGO_TICKS;
    for (let record = 0; record < this.#count; record++)
      for (const word of [HEARD, SENT, ICMP_FIRST, ICMP_LAST])
        if (isOver(this.ints[intAt(record, word)]))
          this.ints[intAt(record, word)] = (nowTick - LONG_AGO_TICKS) | 1;
  }

  // ---- Places

  #next(): number {
    if (intAt(this.#count, 0) === this.ints.length) this.#grow();
    return this.#count++;
  }

  /** Takes the record of an address that may lose it. */
  #take(isDestination: boolean, nowTick: number): number {
    if (!isDestination && this.#strangerTick === nowTick) return OTHERS;
    if (!isDestination) this.#strangerTick = nowTick;
    for (let step = 0; step < HAND_STEPS; step++) {
      const record = this.#hand;
      this.#hand = record + 1 === this.#count ? 1 : record + 1;
      const isFree = this.ints[intAt(record, HELD)] === 0;
      if (!isFree || !(isDestination || this.isQuiet(record, nowTick, STRANGER_IDLE_TICKS))) continue;
      this.#unlink(record);
      return record;
    }
    return OTHERS;
  }

  #headOf(record: number): number {
    const ints = this.ints;
    const own = intAt(record, 0);
    return hash(ints[own], ints[own + 1], ints[own + 2], ints[own + 3]) & (this.#heads.length - 1);
  }

  #link(record: number): void {
    const head = this.#headOf(record);
    this.ints[intAt(record, NEXT)] = this.#heads[head];
    this.#heads[head] = record;
  }

  #unlink(record: number): void {
    const head = this.#headOf(record);
    const after = this.ints[intAt(record, NEXT)];
    if (this.#heads[head] === record) {
      this.#heads[head] = after;
      return;
    }
    let before = this.#heads[head];
    while (this.ints[intAt(before, NEXT)] !== record) before = this.ints[intAt(before, NEXT)];
    this.ints[intAt(before, NEXT)] = after;
  }

  #grow(): void {
    const before = this.ints;
    this.#allocate(2 * (before.length / RECORD_WORDS), before);
    for (let record = 1; record < this.#count; record++) this.#link(record);
  }

  #allocate(records: number, before?: Int32Array): void {
    const memory = new SharedArrayBuffer(records * RECORD_WORDS * Int32Array.BYTES_PER_ELEMENT);
    this.ints = intsOf(memory);
    this.doubles = doublesOf(memory);
    if (before !== undefined) this.ints.set(before);
    this.#heads = new Int32Array(2 * records);
    this.#moved(memory);
  }
}
