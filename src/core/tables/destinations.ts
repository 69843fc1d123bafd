/**
 * Destinations by slot. A slot is a small integer that names an {ip, port} on the hot path, in output lists
 * and target tables. One table serves all overlays of a thread. References are counted, and free slots are
 * used again.
 */
import { type Endpoint, formatEndpoint, isSameEndpoint, toBytes } from '../../wire/ip.js';
import { NONE } from './mac-index.js';
import { PathMtus } from './path-mtu.js';

/** Keeper of the socket addresses that output lists name by slot: the native layer, or a test. */
export interface AddressBook {
  setAddress(slot: number, address: Uint8Array, port: number): void;
  /** Whether messages of many frames were refused there. */
  refusesSegmentation?(slot: number): boolean;
  /** Superframes to this slot may leave as tunnel frames by the link with this index, 0 = they may not. Its route carries
   * packets of so many bytes. */
  setLink?(slot: number, link: number, mtuBytes: number): void;
  tunnelUse?(slot: number): TunnelUse | undefined;
}

/** Whether superframes leave as tunnel frames. `refused`: they would, but the kernel did not take one. */
export type TunnelUse = 'none' | 'sent' | 'refused';

const ADDRESS_WORDS = 4;

interface Entry {
  readonly key: string;
  readonly endpoint: Endpoint;
  references: number;
}

export class Destinations {
  /** Paths of the slots. */
  readonly paths = new PathMtus((slot, link) => {
    this.#book.setLink?.(slot, link?.index ?? 0, link?.mtuBytes ?? 0);
  });
  readonly #book: AddressBook;
  readonly #slotOf = new Map<string, number>();
  readonly #entries: (Entry | undefined)[] = [];
  readonly #free: number[] = [];
  /** ADDRESS_WORDS words per slot, in the form in which descriptors have the underlay source. */
  #addresses = new Int32Array(16 * ADDRESS_WORDS);

  constructor(book: AddressBook) {
    this.#book = book;
  }

  /** Returns the slot of a destination, which is held until `release`. `likely`: the slot that it had lately, or NONE; if
   * it still has that one, no text is made. */
  acquire(endpoint: Endpoint, likely = NONE): number {
    const entry = this.#entries[likely];
    if (entry !== undefined && isSameEndpoint(entry.endpoint, endpoint)) {
      entry.references++;
      return likely;
    }
    const key = formatEndpoint(endpoint);
    const known = this.#slotOf.get(key);
    if (known !== undefined) {
      this.#entry(known).references++;
      return known;
    }
    const slot = this.#free.pop() ?? this.#entries.length;
    this.#entries[slot] = { key, endpoint, references: 1 };
    this.#slotOf.set(key, slot);
    const address = toBytes(endpoint.ip);
    this.#setWords(slot, new Int32Array(address.buffer));
    this.#book.setAddress(slot, address, endpoint.port);
    this.paths.opened(slot, endpoint);
    return slot;
  }

  release(slot: number): void {
    const entry = this.#entry(slot);
    if (--entry.references > 0) return;
    this.#slotOf.delete(entry.key);
    this.#entries[slot] = undefined;
    this.paths.closed(slot);
    this.#free.push(slot);
  }

  /** Returns how often a slot is held. */
  references(slot: number): number {
    return this.#entry(slot).references;
  }

  /** Returns undefined if the destination is not held. */
  slotOf(endpoint: Endpoint): number | undefined {
    return this.#slotOf.get(formatEndpoint(endpoint));
  }

  /** All slots in use are below this one. */
  get end(): number {
    return this.#entries.length;
  }

  /** Returns undefined if the slot is not in use. */
  find(slot: number): Endpoint | undefined {
    return this.#entries[slot]?.endpoint;
  }

  endpoint(slot: number): Endpoint {
    return this.#entry(slot).endpoint;
  }

  /** Words that have the address of each slot. They are others once a slot was acquired. */
  get addresses(): Int32Array {
    return this.#addresses;
  }

  /** Returns the place of the four words of this slot. */
  addressAt(slot: number): number {
    return slot * ADDRESS_WORDS;
  }

  /** Returns whether its route or device refuses messages of many frames. */
  refusesSegmentation(slot: number): boolean {
    return this.#book.refusesSegmentation?.(slot) === true;
  }

  /** Returns whether superframes to this slot leave as tunnel frames. */
  tunnelUse(slot: number): TunnelUse {
    return this.#book.tunnelUse?.(slot) ?? 'none';
  }

  /** Writes the four words of the address of this slot to `at`. */
  copyAddress(slot: number, words: Int32Array, at: number): void {
    for (let word = 0; word < ADDRESS_WORDS; word++)
      words[at + word] = this.#addresses[slot * ADDRESS_WORDS + word];
  }

  /** Returns whether the four words at `at` are the address of this slot. */
  isAt(slot: number, words: Int32Array, at: number): boolean {
    const addresses = this.#addresses;
    const base = slot * ADDRESS_WORDS;
    return (
      addresses[base + 3] === words[at + 3] &&
      addresses[base + 2] === words[at + 2] &&
      addresses[base + 1] === words[at + 1] &&
      addresses[base] === words[at]
    );
  }

  #setWords(slot: number, words: Int32Array): void {
    const base = slot * ADDRESS_WORDS;
    if (base === this.#addresses.length) {
      const grown = new Int32Array(2 * base);
      grown.set(this.#addresses);
      this.#addresses = grown;
    }
    this.#addresses.set(words, base);
  }

  #entry(slot: number): Entry {
    const entry = this.#entries[slot];
    if (entry === undefined) throw new Error(`destination slot ${slot} is not in use`);
    return entry;
  }
}
