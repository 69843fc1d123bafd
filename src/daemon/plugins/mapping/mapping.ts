/**
 * All that a plugin's snapshot says about one overlay: where each MAC lives, and which MAC has each address. The rows
 * are words in hash tables (word-table.ts); a row with one address of each family takes about 150 bytes.
 */
import {
  isStationV4,
  isStationV6,
  macNumber,
  MAC_WORDS,
  readV4,
  readV6,
  v4Text,
  V4_WORDS,
  V6_WORDS,
  v6Text,
} from '../../../plugin/mapping/addresses.js';
import type { Destination, IpAddress } from '../../../wire/ip.js';
import type { MacAddress } from '../../../wire/mac.js';
import { Places } from './places.js';
import { WordTable } from './word-table.js';

/** Longest text of an address (RFC 4291 2.2, with an IPv4 tail), and one more. */
const MAX_ADDRESS_CHARACTERS = 46;
const COLON = 0x3a;
/** The first word of a value is never 0: the high 16 bits of a MAC get this bit. */
const USED = 0x1_0000;

const macKey = new Uint32Array(MAC_WORDS);
const ipKey = new Uint32Array(V6_WORDS);
const place = new Uint32Array(1);
const owner = new Uint32Array(MAC_WORDS);
const before = new Uint32Array(MAC_WORDS);
const bytes = new Uint8Array(MAX_ADDRESS_CHARACTERS);

/** Result of a change of one row. */
export type RowChange = 'added' | 'changed' | 'same';

export class Mapping {
  readonly #targets = new WordTable(MAC_WORDS, 1);
  readonly #v4 = new WordTable(V4_WORDS, MAC_WORDS);
  readonly #v6 = new WordTable(V6_WORDS, MAC_WORDS);
  readonly #places = new Places();

  constructor(public revision: string) {}

  /** Number of MACs. */
  get size(): number {
    return this.#targets.size;
  }

  get addressCount(): number {
    return this.#v4.size + this.#v6.size;
  }

  /** Where a MAC lives; more than one = flood. Undefined if the mapping has no such MAC. */
  destinationsOf(mac: MacAddress): readonly Destination[] | undefined {
    putMac(macKey, mac);
    return this.#targets.get(macKey, place) ? this.#places.at(place[0] - 1) : undefined;
  }

  /** The MAC that has this address, in any spelling. */
  ownerOf(ip: string): MacAddress | undefined {
    return this.#tableOf(ip)?.get(ipKey, owner) === true ? macOf(owner) : undefined;
  }

  /** Sets a target. `key` names its destinations, the same for the same ones; `to` is called for a new place. */
  setTarget(mac: MacAddress, key: string, to: () => readonly Destination[]): RowChange {
    putMac(macKey, mac);
    const number = this.#places.take(key, to);
    place[0] = number + 1;
    if (this.#targets.set(macKey, place, before)) return 'added';
    const isSame = before[0] === number + 1;
    this.#places.release(before[0] - 1);
    return isSame ? 'same' : 'changed';
  }

  removeTarget(mac: MacAddress): boolean {
    putMac(macKey, mac);
    if (!this.#targets.remove(macKey, before)) return false;
    this.#places.release(before[0] - 1);
    return true;
  }

  /** The address has passed `canonicalIp`. Returns 'changed' when another MAC had it. */
  setAddress(ip: string, mac: MacAddress): RowChange {
    putMac(owner, mac);
    owner[0] |= USED;
    if (this.#tableOf(ip)!.set(ipKey, owner, before)) return 'added';
    return before[0] === owner[0] && before[1] === owner[1] ? 'same' : 'changed';
  }

  /** The address has passed `canonicalIp`. */
  removeAddress(ip: string): boolean {
    return this.#tableOf(ip)!.remove(ipKey, before);
  }

  /** Number of different places. */
  get placeCount(): number {
    return this.#places.size;
  }

  /** Calls `visit` for the MACs of one part of the table; parts are numbered from 0 to PARTS - 1. */
  visitMacs(part: number, visit: (mac: MacAddress, place: number) => void): void {
    this.#targets.visit(part, (words, at) => {
      visit(macNumber(words, at), words[at + MAC_WORDS] - 1);
    });
  }

  /** Returns the number of the MAC's place, or -1. */
  placeOf(mac: MacAddress): number {
    putMac(macKey, mac);
    return this.#targets.get(macKey, place) ? place[0] - 1 : -1;
  }

  placeKey(number: number): string {
    return this.#places.keyAt(number);
  }

  placeNumber(key: string): number {
    return this.#places.find(key) ?? -1;
  }

  /** Calls `visit` for the addresses of one part that another MAC has in `earlier`. */
  visitMoved(part: number, earlier: Mapping, visit: (ip: IpAddress, mac: MacAddress) => void): void {
    for (const [own, other, words] of [
      [this.#v4, earlier.#v4, V4_WORDS],
      [this.#v6, earlier.#v6, V6_WORDS],
    ] as const)
      own.visit(part, (rows, at) => {
        if (!other.get(rows, before, at)) return;
        if (before[0] === rows[at + words] && before[1] === rows[at + words + 1]) return;
        owner[0] = rows[at + words];
        owner[1] = rows[at + words + 1];
        visit(words === V4_WORDS ? v4Text(rows[at]) : v6Text(rows, at), macOf(owner));
      });
  }

  /** Returns the table of the address's family, with the address in `ipKey`; undefined if no station can have it. */
  #tableOf(ip: string): WordTable | undefined {
    const family = readIp(ip);
    return family === 4 ? this.#v4 : family === 6 ? this.#v6 : undefined;
  }
}

/** Returns the canonical spelling of an address that a station can have; undefined for any other text. */
export function canonicalIp(ip: string): IpAddress | undefined {
  const family = readIp(ip);
  return family === 0 ? undefined : family === 4 ? v4Text(ipKey[0]) : v6Text(ipKey, 0);
}

/** Puts an address that a station can have into `ipKey`, and returns its family; 0 for any other text. */
function readIp(ip: string): 4 | 6 | 0 {
  if (ip.length >= MAX_ADDRESS_CHARACTERS) return 0;
  let isV4 = true;
  for (let index = 0; index < ip.length; index++) {
    const code = ip.charCodeAt(index);
    bytes[index] = code < 0x80 ? code : 0;
    if (code === COLON) isV4 = false;
  }
  if (isV4) {
    const address = readV4(bytes, 0, ip.length);
    ipKey[0] = address;
    return address >= 0 && isStationV4(address) ? 4 : 0;
  }
  if (!readV6(bytes, 0, ip.length, ipKey)) return 0;
  if (ipKey[0] === 0 && ipKey[1] === 0 && ipKey[2] === 0xffff) {
    ipKey[0] = ipKey[3]; // v4-mapped, RFC 4291 2.5.5.2
    return isStationV4(ipKey[0]) ? 4 : 0;
  }
  return isStationV6(ipKey) ? 6 : 0;
}

function putMac(words: Uint32Array, mac: MacAddress): void {
  words[0] = Math.floor(mac / 2 ** 32);
  words[1] = mac;
}

function macOf(words: Uint32Array): MacAddress {
  return (words[0] & (USED - 1)) * 2 ** 32 + words[1];
}
