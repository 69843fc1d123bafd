/**
 * The underlay addresses that frames of an overlay may come from: what its plugin named, and the destinations of
 * its targets. Asked for every frame received, so addresses are compared as four words, never as text.
 */
import { toBytes, type IpAddress } from '../wire/ip.js';

const ADDRESS_WORDS = 4;
const MIN_SLOTS = 16;

export class Peers {
  readonly #changed: (ip: IpAddress, isPeer: boolean) => void;
  /** Address -> by how many targets and lists it is named. */
  readonly #references = new Map<IpAddress, number>();
  #named: readonly IpAddress[] = [];
  /** Open addressing, at most half full; all zero (`::` is nobody's source) = free. */
  #slots = new Int32Array(MIN_SLOTS * ADDRESS_WORDS);
  #mask = MIN_SLOTS - 1;

  /** `changed` is told of each address that becomes a peer or ceases to be one. */
  constructor(changed: (ip: IpAddress, isPeer: boolean) => void = () => undefined) {
    this.#changed = changed;
  }

  /** Whether the four words at `at` (network byte order, IPv4 as v4-mapped) are a peer. */
  has(words: Int32Array, at: number): boolean {
    const slots = this.#slots;
    const a = words[at];
    const b = words[at + 1];
    const c = words[at + 2];
    const d = words[at + 3];
    for (let slot = hash(a, b, c, d) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const base = slot * ADDRESS_WORDS;
      if (slots[base + 3] === d && slots[base + 2] === c && slots[base + 1] === b && slots[base] === a) {
        return (a | b | c | d) !== 0;
      }
      if ((slots[base] | slots[base + 1] | slots[base + 2] | slots[base + 3]) === 0) return false;
    }
  }

  /** What the plugin names, in place of what it named before. */
  name(peers: readonly IpAddress[]): void {
    for (const ip of peers) this.add(ip);
    for (const ip of this.#named) this.remove(ip);
    this.#named = peers;
  }

  add(ip: IpAddress): void {
    const references = this.#references.get(ip) ?? 0;
    this.#references.set(ip, references + 1);
    if (references > 0) return;
    this.#rebuildOrPut(ip);
    this.#changed(ip, true);
  }

  remove(ip: IpAddress): void {
    const references = this.#references.get(ip) ?? 0;
    if (references > 1) {
      this.#references.set(ip, references - 1);
    } else if (references === 1) {
      this.#references.delete(ip);
      this.#clear(ip);
      this.#changed(ip, false);
    }
  }

  #rebuildOrPut(ip: IpAddress): void {
    if (this.#references.size * 2 > this.#mask + 1) this.#rebuild();
    else this.#put(ip);
  }

  #rebuild(): void {
    const count = (this.#mask + 1) * 2;
    this.#slots = new Int32Array(count * ADDRESS_WORDS);
    this.#mask = count - 1;
    for (const ip of this.#references.keys()) this.#put(ip);
  }

  /** What probed past the hole moves back (as in mac-index.ts): a thousand hosts may go at once. */
  #clear(ip: IpAddress): void {
    const words = new Int32Array(toBytes(ip).buffer);
    const slots = this.#slots;
    const isAt = (base: number) => words.every((word, index) => slots[base + index] === word);
    let hole = this.#homeOf(words, 0);
    while (!isAt(hole * ADDRESS_WORDS)) hole = (hole + 1) & this.#mask;
    for (let slot = (hole + 1) & this.#mask; isTaken(slots, slot); slot = (slot + 1) & this.#mask) {
      const home = this.#homeOf(slots, slot * ADDRESS_WORDS);
      if (((slot - home) & this.#mask) < ((slot - hole) & this.#mask)) continue;
      slots.copyWithin(hole * ADDRESS_WORDS, slot * ADDRESS_WORDS, (slot + 1) * ADDRESS_WORDS);
      hole = slot;
    }
    slots.fill(0, hole * ADDRESS_WORDS, (hole + 1) * ADDRESS_WORDS);
  }

  #put(ip: IpAddress): void {
    const words = new Int32Array(toBytes(ip).buffer);
    const slots = this.#slots;
    let slot = this.#homeOf(words, 0);
    while (isTaken(slots, slot)) slot = (slot + 1) & this.#mask;
    slots.set(words, slot * ADDRESS_WORDS);
  }

  #homeOf(words: Int32Array, at: number): number {
    return hash(words[at], words[at + 1], words[at + 2], words[at + 3]) & this.#mask;
  }
}

function isTaken(slots: Int32Array, slot: number): boolean {
  const base = slot * ADDRESS_WORDS;
  return (slots[base] | slots[base + 1] | slots[base + 2] | slots[base + 3]) !== 0;
}

function hash(a: number, b: number, c: number, d: number): number {
  const mixed = Math.imul(
    d ^ Math.imul(c ^ Math.imul(b ^ Math.imul(a, 0x9e3779b1), 0x85ebca6b), 0xc2b2ae35),
    0x27d4eb2f,
  );
  return mixed ^ (mixed >>> 15);
}
