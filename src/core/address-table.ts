/**
 * Sets of underlay addresses, asked for every frame received: an address is four words (network byte order, IPv4 as
 * v4-mapped), as descriptors have it, and never text. Open addressing, linear probing, at most half full; a free slot is
 * all zero, since `::` is nobody's source.
 *
 * The words of a table are all there is of it, so one that is made by the control side is shared by all threads.
 */
import { type IpAddress, toBytes } from '../wire/ip.js';

const ADDRESS_WORDS = 4;
const MIN_SLOTS = 16;

/** As made by `createTable`, or a copy. */
export type AddressTable = Int32Array;

/** Room for so many addresses. */
export function createTable(count: number): AddressTable {
  let slots = count === 0 ? 1 : MIN_SLOTS;
  while (slots < 2 * count) slots *= 2;
  const bytes = slots * ADDRESS_WORDS * Int32Array.BYTES_PER_ELEMENT;
  return new Int32Array(new SharedArrayBuffer(bytes));
}

/** Of no addresses. */
export const EMPTY_TABLE: AddressTable = createTable(0);

/** How many addresses it has room for. */
export function roomOf(table: AddressTable): number {
  return table.length / ADDRESS_WORDS / 2;
}

/** Whether the four words at `at` are in it. */
export function has(table: AddressTable, words: Int32Array, at: number): boolean {
  const mask = table.length / ADDRESS_WORDS - 1;
  const a = words[at];
  const b = words[at + 1];
  const c = words[at + 2];
  const d = words[at + 3];
  for (let slot = hash(a, b, c, d) & mask; ; slot = (slot + 1) & mask) {
    const base = slot * ADDRESS_WORDS;
    if (table[base + 3] === d && table[base + 2] === c && table[base + 1] === b && table[base] === a) {
      return (a | b | c | d) !== 0;
    }
    if ((table[base] | table[base + 1] | table[base + 2] | table[base + 3]) === 0) return false;
  }
}

/** Nothing changes where it is in it. There must be room. */
export function put(table: AddressTable, ip: IpAddress): void {
  const words = wordsOf(ip);
  if (!has(table, words, 0)) place(table, words, 0);
}

/** It is in it. What probed past the hole moves back (as in mac-index.ts): a thousand hosts may go at once. */
export function remove(table: AddressTable, ip: IpAddress): void {
  const words = wordsOf(ip);
  const mask = table.length / ADDRESS_WORDS - 1;
  const isAt = (base: number) => words.every((word, index) => table[base + index] === word);
  let hole = homeOf(table, words, 0);
  while (!isAt(hole * ADDRESS_WORDS)) hole = (hole + 1) & mask;
  for (let slot = (hole + 1) & mask; isTaken(table, slot); slot = (slot + 1) & mask) {
    const home = homeOf(table, table, slot * ADDRESS_WORDS);
    if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
    table.copyWithin(hole * ADDRESS_WORDS, slot * ADDRESS_WORDS, (slot + 1) * ADDRESS_WORDS);
    hole = slot;
  }
  table.fill(0, hole * ADDRESS_WORDS, (hole + 1) * ADDRESS_WORDS);
}

/** The same addresses, and room for twice as many. */
export function grow(table: AddressTable): AddressTable {
  const grown = createTable(2 * roomOf(table));
  for (let slot = 0; slot * ADDRESS_WORDS < table.length; slot++)
    if (isTaken(table, slot)) place(grown, table, slot * ADDRESS_WORDS);
  return grown;
}

/** The four words at `at`, which are not in it. */
function place(table: AddressTable, words: Int32Array, at: number): void {
  const mask = table.length / ADDRESS_WORDS - 1;
  let slot = homeOf(table, words, at);
  while (isTaken(table, slot)) slot = (slot + 1) & mask;
  const base = slot * ADDRESS_WORDS;
  for (let index = 0; index < ADDRESS_WORDS; index++) table[base + index] = words[at + index];
}

function homeOf(table: AddressTable, words: Int32Array, at: number): number {
  return hash(words[at], words[at + 1], words[at + 2], words[at + 3]) & (table.length / ADDRESS_WORDS - 1);
}

function wordsOf(ip: IpAddress): Int32Array {
  return new Int32Array(toBytes(ip).buffer);
}

function isTaken(table: AddressTable, slot: number): boolean {
  const base = slot * ADDRESS_WORDS;
  return (table[base] | table[base + 1] | table[base + 2] | table[base + 3]) !== 0;
}

function hash(a: number, b: number, c: number, d: number): number {
  const mixed = Math.imul(
    d ^ Math.imul(c ^ Math.imul(b ^ Math.imul(a, 0x9e3779b1), 0x85ebca6b), 0xc2b2ae35),
    0x27d4eb2f,
  );
  return mixed ^ (mixed >>> 15);
}
