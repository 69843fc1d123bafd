/**
 * The last frame that was dropped for each reason: its time, its origin and its beginning. The datapath
 * thread writes the record and the control side reads it, in shared memory. A record that is being written is
 * not read.
 *
 *   a record:  | SEQUENCE | TICK | ORIGIN | LENGTH | UDP_PORT | PLACE (4 words) | BEGINNING (16 words) | ...
 *
 * PLACE is the underlay address (IPv4 as v4-mapped) of a frame from the underlay, or the name of the port
 * that sent the frame.
 */
import { DROPS, type DropReason } from '../../model/drops.js';
import { ADDRESS, LENGTH as FRAME_LENGTH, OFFSET, PORT } from '../../wire/descriptor.js';
import { type Endpoint, readV6 } from '../../wire/ip.js';
import { COUNTER } from './counters.js';

/** Raised before and after a record is written, and odd in between. */
const SEQUENCE = 0;
const TICK = 1;
const ORIGIN = 2;
const LENGTH = 3;
const UDP_PORT = 4;
const PLACE = 5;
const BEGINNING = 9;
const RECORD_WORDS = 32;

/** Enough for the Ethernet header, a VLAN tag, an IPv6 header and the ports behind it. For a datagram without
 * a known overlay: enough for the tunnel's header and the inner Ethernet header. */
const BEGINNING_BYTES = 64;
/** Bytes of a name on Linux: 15 characters and a NUL (IFNAMSIZ). */
const NAME_BYTES = 16;

// Values of ORIGIN. 0 = nothing has been noted yet.
const FROM_PORT = 1;
const FROM_UNDERLAY = 2;
const UNKNOWN = 3;

/** The counters of drops are one after the other. */
const REASONS = Object.keys(DROPS) as DropReason[];
const FIRST = COUNTER[REASONS[0]];

/** Where the frames at hand come from. */
export interface Origin {
  /** The port that sent them. */
  port: { readonly name?: string } | undefined;
  /** The underlay: their descriptors have its address. */
  isUnderlay: boolean;
}

export type DropExamples = Int32Array<SharedArrayBuffer>;

export function createDropExamples(): DropExamples {
  return new Int32Array(new SharedArrayBuffer(REASONS.length * RECORD_WORDS * Int32Array.BYTES_PER_ELEMENT));
}

/** Returns whether the record of this reason is of this tick. */
export function isNoted(examples: DropExamples, reason: number, tick: number): boolean {
  const at = (reason - FIRST) * RECORD_WORDS;
  return examples[at + TICK] === tick && examples[at + ORIGIN] !== 0;
}

/** Notes the frame with the descriptor at `at`. `frame`: its first byte, if that is not the one of its
 * descriptor. */
export function note(
  examples: DropExamples,
  reason: number,
  tick: number,
  bytes: Uint8Array,
  descriptors: Int32Array,
  at: number,
  origin: Origin,
  frame = descriptors[at + OFFSET],
): void {
  const record = (reason - FIRST) * RECORD_WORDS;
  const sequence = examples[record + SEQUENCE] | 1;
  Atomics.store(examples, record + SEQUENCE, sequence);
  examples[record + TICK] = tick;
  examples[record + LENGTH] = descriptors[at + FRAME_LENGTH];
  examples[record + ORIGIN] = origin.isUnderlay
    ? FROM_UNDERLAY
    : origin.port === undefined
      ? UNKNOWN
      : FROM_PORT;
  if (origin.isUnderlay) {
    for (let word = 0; word < 4; word++) examples[record + PLACE + word] = descriptors[at + ADDRESS + word];
    examples[record + UDP_PORT] = descriptors[at + PORT];
  } else {
    writeName(examples, record + PLACE, origin.port?.name ?? '');
  }
  for (let word = 0; word < BEGINNING_BYTES / 4; word++) {
    const byte = frame + 4 * word;
    examples[record + BEGINNING + word] =
      bytes[byte] | (bytes[byte + 1] << 8) | (bytes[byte + 2] << 16) | (bytes[byte + 3] << 24);
  }
  Atomics.store(examples, record + SEQUENCE, (sequence + 1) | 0);
}

/** A frame that was dropped. */
export interface DropExample {
  /** Time of the datapath threads, in ticks of 10 ms. */
  readonly tick: number;
  /** Underlay source, for a frame from the underlay. */
  readonly from: Endpoint | undefined;
  /** Name of the port that sent it. */
  readonly port: string | undefined;
  readonly lengthBytes: number;
  /** Its first 64 bytes at most. For a datagram without a known overlay they begin with the tunnel's header. */
  readonly beginning: Uint8Array;
}

/** Returns the example of one reason; undefined if there is none, or if it changes too fast to be read. */
export function readDropExample(examples: DropExamples, reason: DropReason): DropExample | undefined {
  const at = (COUNTER[reason] - FIRST) * RECORD_WORDS;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const sequence = Atomics.load(examples, at + SEQUENCE);
    if (sequence === 0) return undefined;
    const record = examples.slice(at, at + RECORD_WORDS);
    if ((sequence & 1) === 0 && Atomics.load(examples, at + SEQUENCE) === sequence) return parse(record);
  }
  return undefined;
}

/** A record is written at most once a tick. */
const MAX_ATTEMPTS = 4;

function parse(record: Int32Array): DropExample {
  const octets = new Uint8Array(record.buffer);
  const octetsAt = (word: number): number => word * Int32Array.BYTES_PER_ELEMENT;
  const isUnderlay = record[ORIGIN] === FROM_UNDERLAY;
  const lengthBytes = record[LENGTH];
  const begin = octetsAt(BEGINNING);
  return {
    tick: record[TICK],
    from: isUnderlay ? { ip: readV6(octets, octetsAt(PLACE)), port: record[UDP_PORT] } : undefined,
    port: record[ORIGIN] === FROM_PORT ? readName(octets, octetsAt(PLACE)) : undefined,
    lengthBytes,
    beginning: octets.slice(begin, begin + Math.min(lengthBytes, BEGINNING_BYTES)),
  };
}

/** Writes four characters per word. The name of a link is any bytes except `/` and blanks. */
function writeName(words: Int32Array, at: number, name: string): void {
  for (let word = 0; word < NAME_BYTES / 4; word++) {
    let value = 0;
    for (let byte = 3; byte >= 0; byte--) {
      const index = 4 * word + byte;
      value = (value << 8) | (index < name.length ? name.charCodeAt(index) & 0xff : 0);
    }
    words[at + word] = value;
  }
}

function readName(octets: Uint8Array, at: number): string {
  const name = octets.subarray(at, at + NAME_BYTES);
  const end = name.indexOf(0);
  return String.fromCharCode(...(end < 0 ? name : name.subarray(0, end)));
}
