/**
 * Sets of underlay addresses. The datapath looks up the sender of every frame it receives. An address is four
 * words (network byte order, IPv4 as v4-mapped), as in a descriptor, and never text. A slot (slots.ts) holds
 * one address. A free slot holds `::`, which is never the source of a packet.
 *
 * The words of a table are its whole state, in shared memory: a table that the control side makes is read by
 * all threads.
 */
import { type IpAddress, toBytes } from '../../wire/ip.js';
import { type HashAt, insert, MIN_SLOTS, refill, removeAt, SLOT_WORDS } from './slots.js';

/** A table made by `createTable`, or a copy of one. */
export type AddressTable = Int32Array;

const hashAt: HashAt = (words, at) => hash(words[at], words[at + 1], words[at + 2], words[at + 3]);

/** Returns an empty table with room for `count` addresses. */
export function createTable(count: number): AddressTable {
  let slots = count === 0 ? 1 : MIN_SLOTS;
  while (slots < 2 * count) slots *= 2;
  const bytes = slots * SLOT_WORDS * Int32Array.BYTES_PER_ELEMENT;
  return new Int32Array(new SharedArrayBuffer(bytes));
}

/** A table that holds no address. */
export const EMPTY_TABLE: AddressTable = createTable(0);

/** Returns how many addresses the table has room for. */
export function roomOf(table: AddressTable): number {
  return table.length / SLOT_WORDS / 2;
}

/** Returns whether the table has the address in the four words at `at`. */
export function has(table: AddressTable, words: Int32Array, at: number): boolean {
  return find(table, words, at) >= 0;
}

/** Adds an address unless the table has it already. The table must have room. */
export function put(table: AddressTable, ip: IpAddress): void {
  const words = wordsOf(ip);
  if (!has(table, words, 0)) insert(table, words, 0, hashAt);
}

/** Removes an address if the table has it. This is done in place, since a thousand hosts may go at once. */
export function remove(table: AddressTable, ip: IpAddress): void {
  const at = find(table, wordsOf(ip), 0);
  if (at >= 0) removeAt(table, at, hashAt);
}

/** Returns a table with the same addresses and room for twice as many. */
export function grow(table: AddressTable): AddressTable {
  const grown = createTable(2 * roomOf(table));
  refill(grown, table, hashAt);
  return grown;
}

/** Returns the offset of the slot that has the four words at `at`, or a negative number if there is none. */
function find(table: AddressTable, words: Int32Array, at: number): number {
  const a = words[at];
  const b = words[at + 1];
  const c = words[at + 2];
  const d = words[at + 3];
  const last = table.length - 1;
  for (let own = (hash(a, b, c, d) << 2) & last; ; own = (own + 4) & last) {
    if (table[own + 3] === d && table[own + 2] === c && table[own + 1] === b && table[own] === a)
      return (a | b | c | d) === 0 ? -1 : own;
    if ((table[own] | table[own + 1] | table[own + 2] | table[own + 3]) === 0) return -1;
  }
}

/** The four words of an address. */
export function wordsOf(ip: IpAddress): Int32Array {
  return new Int32Array(toBytes(ip).buffer);
}

/** The hash of an address. */
export function hash(a: number, b: number, c: number, d: number): number {
  const mixed = Math.imul(
    d ^ Math.imul(c ^ Math.imul(b ^ Math.imul(a, 0x9e3779b1), 0x85ebca6b), 0xc2b2ae35),
    0x27d4eb2f,
  );
  // Addresses of a network differ in their last byte, which is the highest of `d`: it must reach the low bits.
  const folded = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  return folded ^ (folded >>> 13);
}
