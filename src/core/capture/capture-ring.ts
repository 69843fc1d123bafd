/**
 * The ring between a datapath thread and the control side: records of captured frames in shared memory, one writer, one
 * reader. A frame for which there is no room is lost to the capture, and counted; neither side waits.
 *
 *   | HEAD | TAIL | PLACES | ...      positions, in words, that only grow (and wrap at 2^32)
 *   | place: NAME (4 words) | LOST |   where frames are seen: place 0 is the tunnel, each other one a port
 *   | record | record | ...           a record does not wrap: the rest of the ring before its end is skipped
 *
 *   a record:  | SIZE | POINT | TIME (a double) | ... | DATA ... |
 *
 * The writer fills in records and publishes them later, all at once: until then it may still note why a frame was dropped.
 */
import { DESCRIPTOR_WORDS, OFFSET, SEGMENT } from '../../wire/descriptor.js';

/** Size for each thread and capture: a tenth of a second of 300,000 small frames a second, or 60 of the largest superframes. */
export const RING_BYTES = 4 << 20;

const HEAD = 0;
const TAIL = 1;
const PLACES = 2;
const PLACES_AT = 16;
const PLACE_WORDS = 8;
const NAME_WORDS = 4;
/** As a double; it is 8-aligned. */
const LOST = 4;
/** No host has as many ports in one overlay. Frames at further ports have the name of the last one. */
const MAX_PLACES = 4096;
const RECORDS_AT = PLACES_AT + MAX_PLACES * PLACE_WORDS;

/** Place of the tunnel. */
export const TUNNEL = 0;

// Words of a record. SIZE is even, so that TIME is 8-aligned; negative = that many words are skipped.
const SIZE = 0;
/** One of the points below. */
export const POINT = 1;
/** Milliseconds on the clock of the writer. */
const TIME = 2;
export const PLACE = 4;
/** Bytes of the frame, without the header of the tunnel before it. */
export const FRAME_BYTES = 5;
/** Bytes of DATA. */
export const CAPTURED = 6;
/** The part of CAPTURED that stands before the frame: the header of the tunnel. */
export const LEAD = 7;
/** 1 + the index of its counter; 0 = the frame was not dropped as far as is known. */
export const REASON = 8;
/** The socket that sends a frame into the tunnel. */
export const SENDER = 9;
/** The frame's descriptor, as in wire/descriptor.ts. ADDRESS and PORT are those of the peer. */
export const DESCRIPTOR = 10;
export const DATA = DESCRIPTOR + DESCRIPTOR_WORDS;

// Where a frame was seen.
/** Its port has sent it. */
export const FROM_PORT = 1;
/** It goes to a port. */
export const TO_PORT = 2;
export const TO_TUNNEL = 3;
export const FROM_TUNNEL = 4;
/** A datagram out of a socket, before its overlay or its frame is known: it begins with the header of the tunnel. */
export const FROM_SOCKET = 5;

export type RingMemory = SharedArrayBuffer;

export function createRing(bytes = RING_BYTES): RingMemory {
  return new SharedArrayBuffer(RECORDS_AT * 4 + bytes);
}

/** No record. */
export const LOST_RECORD = -1;

/** The datapath thread's end. */
export class RingWriter {
  readonly words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #capacityWords: number;
  /** Published up to there. */
  #published = 0;
  /** Written up to there. */
  #head = 0;
  /** Read up to there, as of the last look. */
  #tail = 0;
  readonly #places = new Map<string, number>();

  constructor(memory: RingMemory) {
    this.words = new Int32Array(memory);
    this.#doubles = new Float64Array(memory);
    this.#capacityWords = this.words.length - RECORDS_AT;
    this.placeOf('');
  }

  /** The place of this name. The first one is the tunnel. */
  placeOf(name: string): number {
    const known = this.#places.get(name);
    if (known !== undefined) return known;
    const place = Math.min(this.#places.size, MAX_PLACES - 1);
    this.#places.set(name, place);
    const at = PLACES_AT + place * PLACE_WORDS;
    const octets = new Uint8Array(this.words.buffer, at * 4, NAME_WORDS * 4);
    for (let index = 0; index < octets.length; index++) octets[index] = name.charCodeAt(index) || 0;
    Atomics.store(this.words, PLACES, place + 1);
    return place;
  }

  /** The first word of a record with room for so many bytes of data, all of them to be filled in, or LOST_RECORD. */
  begin(place: number, dataBytes: number, timeMs: number, packets: number): number {
    const size = (DATA + ((dataBytes + 3) >> 2) + 1) & ~1;
    const at = this.#head % this.#capacityWords;
    const skipped = at + size > this.#capacityWords ? this.#capacityWords - at : 0;
    if (!this.#hasRoom(skipped + size)) {
      this.#doubles[(PLACES_AT + place * PLACE_WORDS + LOST) >> 1] += packets;
      return LOST_RECORD;
    }
    if (skipped > 0) this.words[RECORDS_AT + at] = -skipped;
    const record = RECORDS_AT + (skipped > 0 ? 0 : at);
    this.#head += skipped + size;
    this.words[record + SIZE] = size;
    this.words[record + PLACE] = place;
    this.words[record + CAPTURED] = dataBytes;
    this.#doubles[(record + TIME) >> 1] = timeMs;
    return record;
  }

  /** Notes that the frame of an unpublished record was dropped, and with it the frames of the same run behind it. */
  mark(record: number, reason: number): void {
    const { words } = this;
    const descriptor = words[record + DESCRIPTOR + OFFSET];
    const end = RECORDS_AT + (this.#head % this.#capacityWords);
    const isRun = words[record + DESCRIPTOR + SEGMENT] !== 0;
    for (let at = record; ;) {
      words[at + REASON] = 1 + reason;
      at += words[at + SIZE];
      if (at === words.length || (at !== end && words[at + SIZE] < 0)) at = RECORDS_AT;
      if (!isRun || at === end || words[at + DESCRIPTOR + OFFSET] !== descriptor) return;
    }
  }

  /** Copies bytes to a word of a record. */
  copy(bytes: Uint8Array, from: number, length: number, to: number): void {
    const { words } = this;
    const end = from + length;
    // Past the end of the frame there are bytes of its slab, and none of them is read as data; past the slab there are zeros.
    for (let at = from, word = to; at < end; at += 4)
      words[word++] = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
  }

  /** Gives all records so far to the reader. */
  publish(): void {
    if (this.#published === this.#head) return;
    this.#published = this.#head;
    Atomics.store(this.words, HEAD, this.#head | 0);
  }

  #hasRoom(words: number): boolean {
    if (this.#head + words - this.#tail <= this.#capacityWords) return true;
    // The reader's position has 32 bits; it is never further behind than the ring is long.
    this.#tail = this.#head - ((this.#head - Atomics.load(this.words, TAIL)) | 0);
    return this.#head + words - this.#tail <= this.#capacityWords;
  }
}

/** The control side's end. */
export class RingReader {
  readonly words: Int32Array;
  readonly #octets: Uint8Array;
  readonly #doubles: Float64Array;
  readonly #capacityWords: number;
  #tail = 0;
  readonly #names: string[] = [];

  constructor(memory: RingMemory) {
    this.words = new Int32Array(memory);
    this.#octets = new Uint8Array(memory);
    this.#doubles = new Float64Array(memory);
    this.#capacityWords = this.words.length - RECORDS_AT;
  }

  /** The first word of the oldest record, which stays there until `next`; LOST_RECORD = there is none. */
  peek(): number {
    for (;;) {
      if (((Atomics.load(this.words, HEAD) - this.#tail) | 0) === 0) return LOST_RECORD;
      const at = RECORDS_AT + (this.#tail % this.#capacityWords);
      const size = this.words[at + SIZE];
      if (size > 0) return at;
      this.#advance(-size);
    }
  }

  timeMs(record: number): number {
    return this.#doubles[(record + TIME) >> 1];
  }

  /** A copy of its data. */
  data(record: number): Uint8Array {
    const from = (record + DATA) * 4;
    return this.#octets.slice(from, from + this.words[record + CAPTURED]);
  }

  /** The name of the port; empty for the tunnel. */
  nameOf(place: number): string {
    return (this.#names[place] ??= this.#readName(place));
  }

  /** The record that `peek` returned is done with. */
  next(record: number): void {
    this.#advance(this.words[record + SIZE]);
  }

  /** Packets that there was no room for, by name of the port; that of the tunnel is empty. */
  lost(): Map<string, number> {
    const count = Atomics.load(this.words, PLACES);
    const places = Array.from({ length: count }, (_, place) => place);
    return new Map(
      places.map((place) => [
        this.nameOf(place),
        this.#doubles[(PLACES_AT + place * PLACE_WORDS + LOST) >> 1],
      ]),
    );
  }

  #advance(words: number): void {
    this.#tail += words;
    Atomics.store(this.words, TAIL, this.#tail | 0);
  }

  #readName(place: number): string {
    const from = (PLACES_AT + place * PLACE_WORDS) * 4;
    const name = this.#octets.slice(from, from + NAME_WORDS * 4);
    const end = name.indexOf(0);
    return String.fromCharCode(...(end < 0 ? name : name.subarray(0, end)));
  }
}
