/**
 * A map by underlay address that may have a million entries. When a Map grows, V8 copies all its entries, for a tenth of a second
 * with a million. A large one of these is many Maps, each of which grows for itself.
 */
import type { IpAddress } from '../wire/ip.js';

/** With more entries it is divided. A Map of so many grows in some tenths of a millisecond. */
const MAX_WHOLE = 4096;
/** A million entries are some thousand in each. A power of two. */
const PARTS = 1024;

export class AddressMap<V> {
  #parts: Map<IpAddress, V>[] = [new Map<IpAddress, V>()];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(ip: IpAddress): V | undefined {
    return this.#part(ip).get(ip);
  }

  has(ip: IpAddress): boolean {
    return this.#part(ip).has(ip);
  }

  set(ip: IpAddress, value: V): void {
    const part = this.#part(ip);
    const before = part.size;
    part.set(ip, value);
    this.#size += part.size - before;
    if (this.#parts.length === 1 && this.#size > MAX_WHOLE) this.#divide();
  }

  delete(ip: IpAddress): void {
    if (this.#part(ip).delete(ip)) this.#size--;
  }

  /** In their order, if there are few. The map may change meanwhile: each address that is in it all the time comes once. */
  *keys(): Generator<IpAddress, void> {
    for (const part of this.#parts) yield* part.keys();
  }

  /** An iteration that is under way goes on over the undivided map, as it was. */
  #divide(): void {
    const [whole] = this.#parts;
    this.#parts = Array.from({ length: PARTS }, () => new Map<IpAddress, V>());
    for (const [ip, value] of whole) this.#part(ip).set(ip, value);
  }

  #part(ip: IpAddress): Map<IpAddress, V> {
    return this.#parts.length === 1 ? this.#parts[0] : this.#parts[hash(ip) & (PARTS - 1)];
  }
}

/** FNV-1a without the last two characters: addresses of a subnet, which mostly come one after the other, share a part, and so
 * what the processor has in its cache. */
function hash(text: string): number {
  let sum = 0x811c9dc5;
  for (let at = 0; at < text.length - 2; at++) sum = Math.imul(sum ^ text.charCodeAt(at), 0x01000193);
  return sum;
}
