/**
 * Entries of a mapping as objects, for plugins that get a mapping record by record out of a store. The rules are those of a
 * mapping file, since both have the same parser (entry-parser.ts).
 *
 * Rules between entries (no address twice, an entry for every DHCP server) are left to the caller: a store changes one
 * record after the other.
 */
import { ANY_V4, type Endpoint, type IpAddress } from '../../wire/ip.js';
import type { MacAddress } from '../../wire/mac.js';
import { macNumber, parsePeer, v4Text, v6Text } from './addresses.js';
import { EntryParser, type EntrySink } from './entry-parser.js';
import { notJson, Problems } from './problems.js';
import { END_OF_FILE, Scanner, Unreadable } from './scanner.js';

/** Limit of one entry, and of one object of entries. A real entry has some dozen addresses at most. */
export const MAX_ENTRY_BYTES = 1024 * 1024;

const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
/** The end of a path: a member of an entry, and the place in a list. Only names that the format itself has. */
const MEMBER = /\['(ip|port|arp|ndp|dhcp-proxy)'\](\[\d+\])?$/;

/** Stands for the destination of an entry with an error, until the entry is refused. */
const NOWHERE: Endpoint = { ip: ANY_V4, port: 0 };

/** The record of one MAC. */
export interface MappingEntry {
  /** VTEP that the MAC lives behind. */
  readonly to: Endpoint;
  /** IPv4 and IPv6 addresses of the MAC on the overlay. */
  readonly arp: readonly IpAddress[];
  readonly ndp: readonly IpAddress[];
  /** The MAC that gets the DHCP requests of this one. */
  readonly dhcpServer?: MacAddress;
}

/** A MAC with its new entry; null when it has none any more. */
export interface EntryChange {
  readonly mac: MacAddress;
  readonly entry: MappingEntry | null;
}

/** An entry that is invalid. `message` quotes nothing of it. */
export interface RefusedEntry {
  /** Undefined when the MAC itself is invalid. */
  readonly mac: MacAddress | undefined;
  readonly message: string;
}

export interface ParsedEntries {
  /** In the order of the bytes. A MAC may occur twice: the later one is in force. */
  readonly changes: readonly EntryChange[];
  readonly refused: readonly RefusedEntry[];
}

/** An entry is invalid, or bytes are not JSON. The message has the member, line, column and the kind of the mistake, and
 * quotes nothing. */
export class EntryError extends Error {
  override readonly name = 'EntryError';
  readonly code = 'EINVAL';
}

/** Reads the entry of one MAC: `{"ip": "192.0.2.1", "port": 4789, "arp": "10.0.0.2"}` in UTF-8. Throws an EntryError. */
export function parseEntry(bytes: Uint8Array): MappingEntry {
  const reading = new Reading(bytes);
  reading.run((parser, scanner) => {
    parser.value();
    if (!scanner.atEnd) throw scanner.unexpected(END_OF_FILE);
  });
  const message = reading.problem();
  if (message !== undefined) throw new EntryError(message);
  return reading.objects.entry;
}

/**
 * Reads an object of entries: `{"de:ad:be:ef:00:00": {"ip": "192.0.2.1", "port": 4789}, "de:ad:be:ef:00:01": null}` in
 * UTF-8. An invalid entry is refused, and the others are in force. Throws an EntryError when the bytes are not one JSON object.
 */
export function parseEntries(bytes: Uint8Array): ParsedEntries {
  const changes: EntryChange[] = [];
  const refused: RefusedEntry[] = [];
  const reading = new Reading(bytes);
  const { objects } = reading;
  reading.run((parser, scanner) => {
    scanner.need(OPEN_OBJECT, "'{'");
    if (!scanner.take(CLOSE_OBJECT))
      do {
        objects.clear();
        parser.entry();
        const { mac, isRemoved } = objects;
        const message = reading.problem();
        if (message !== undefined) refused.push({ mac, message });
        else if (mac !== undefined) changes.push({ mac, entry: isRemoved ? null : objects.entry });
      } while (scanner.more(CLOSE_OBJECT));
    if (!scanner.atEnd) throw scanner.unexpected(END_OF_FILE);
  });
  return { changes, refused };
}

class Reading {
  readonly #bytes: Buffer;
  readonly #errors = new Problems();
  readonly objects = new Objects();

  constructor(bytes: Uint8Array) {
    if (bytes.length > MAX_ENTRY_BYTES)
      throw new EntryError(`found ${bytes.length} bytes, expected at most ${MAX_ENTRY_BYTES}`);
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Throws an EntryError where the bytes are not JSON. */
  run(read: (parser: EntryParser, scanner: Scanner) => void): void {
    const scanner = new Scanner(this.#bytes);
    try {
      // Reserved members have no effect, and a store has no operator that reads warnings.
      read(new EntryParser(scanner, this.objects, this.#errors, new Problems()), scanner);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      const errors = new Problems();
      errors.add(error.offset, () => '$', error.found, notJson(error.expected));
      throw new EntryError(sentence(this.#bytes, errors));
    }
  }

  /** Returns a sentence about the errors since the last call; undefined without errors. */
  problem(): string | undefined {
    const errors = this.#errors;
    if (errors.count === 0) return undefined;
    const message = sentence(this.#bytes, errors);
    errors.clear();
    return message;
  }
}

/** Returns the first error, and the number of the others: `port at 1:25: found a string, expected ... (and 1 more)`. */
function sentence(bytes: Buffer, errors: Problems): string {
  const steps = errors.locate(bytes);
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  const { path, line, column, kind, expected } = step.value[0];
  const member = MEMBER.exec(path)?.[0].replaceAll(/[[\]']*([a-z-]+)'\]/g, '$1');
  const what = member === undefined ? '' : `${member} `;
  const more = errors.count > 1 ? ` (and ${errors.count - 1} more)` : '';
  return `${what}at ${line}:${column}: found ${kind}, expected ${expected}${more}`;
}

/** Makes the objects of one entry at a time. */
class Objects implements EntrySink {
  #ip: IpAddress = ANY_V4;
  #to: Endpoint = NOWHERE;
  #arp: IpAddress[] = [];
  #ndp: IpAddress[] = [];
  #server: MacAddress | undefined;
  /** Undefined when the entry has no valid MAC. */
  mac: MacAddress | undefined;
  isRemoved = false;

  clear(): void {
    this.mac = undefined;
    this.isRemoved = false;
  }

  /** The entry that was read last. */
  get entry(): MappingEntry {
    const server = this.#server;
    const common = { to: this.#to, arp: this.#arp, ndp: this.#ndp };
    return server === undefined ? common : { ...common, dhcpServer: server };
  }

  addEntry(mac: Uint32Array): void {
    this.mac = macNumber(mac, 0);
    this.#arp = [];
    this.#ndp = [];
  }

  removeEntry(mac: Uint32Array): void {
    this.mac = macNumber(mac, 0);
    this.isRemoved = true;
  }

  peer(text: string): number {
    const ip = parsePeer(text);
    if (ip === undefined) return 0;
    this.#ip = ip;
    return 1;
  }

  addV4(words: Uint32Array): void {
    this.#arp.push(v4Text(words[0]));
  }

  addV6(words: Uint32Array): void {
    this.#ndp.push(v6Text(words, 0));
  }

  endEntry(peer: number, port: number, server: Uint32Array, serverOffset: number): void {
    this.#to = peer === 0 ? NOWHERE : { ip: this.#ip, port };
    this.#server = serverOffset === 0 ? undefined : macNumber(server, 0);
  }
}
