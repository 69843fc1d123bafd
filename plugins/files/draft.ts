/**
 * A mapping while its file is being read: rows of entries and of addresses, each with its offset in the file. At the
 * end the draft checks the rules between entries: no MAC and no address twice, and an entry for every DHCP server. A
 * draft without problems becomes a Mapping.
 */
import type { Endpoint, IpAddress } from '../../src/plugin/index.js';
import { MAC_WORDS, parsePeer, V4_WORDS, V6_WORDS } from '../../src/plugin/mapping/addresses.js';
import type { EntrySink } from '../../src/plugin/mapping/entry-parser.js';
import { macPath, memberPath, sourceText } from '../../src/plugin/mapping/paths.js';
import type { Problems, Rule } from '../../src/plugin/mapping/problems.js';
import { Column } from './columns.js';
import { KeyIndex, NONE } from './key-index.js';
import { AddressTable, Mapping } from './mapping.js';

const MAC_ONCE: Rule = { code: 'MAC_TWICE', expected: 'every MAC address once' };
const ADDRESS_ONCE: Rule = { code: 'ADDRESS_TWICE', expected: 'every address once' };
const SERVER_EXPECTED: Rule = {
  code: 'NO_ENTRY',
  expected: 'a MAC address that has an entry in this file',
};

/** Rows between two pauses. */
const STEP_ROWS = 256;

/** Bytes of a short entry with all members. The room for rows is an estimate from it. Unused room is never touched, and so
 * takes no memory. */
const SHORT_ENTRY_BYTES = 100;

/** Offset in the file at which a token begins. */
export type Offset = number;

export class Draft implements EntrySink {
  readonly #bytes: Buffer;
  readonly #problems: Problems;
  readonly #macs: Column<Uint32Array>;
  /** Offset of each entry's key. The messages about an entry are made from it. */
  readonly #keyOffsets: Column<Uint32Array>;
  readonly #destinationRows: Column<Uint32Array>;
  readonly #servers: Column<Uint32Array>;
  /** Offset of the value of `dhcp-proxy`; 0 = the entry has none, since no value can be at offset 0. */
  readonly #serverOffsets: Column<Uint32Array>;
  readonly #v4: AddressColumns;
  readonly #v6: AddressColumns;
  /** Keys are the text in the file and the canonical spelling. */
  readonly #ipRows = new Map<string, number>();
  readonly #ips: IpAddress[] = [];
  readonly #destinations: Endpoint[] = [];
  readonly #destinationRow = new Map<number, number>();

  constructor(bytes: Buffer, problems: Problems) {
    this.#bytes = bytes;
    this.#problems = problems;
    const room = Math.ceil(bytes.length / SHORT_ENTRY_BYTES);
    this.#macs = new Column(new Uint32Array(MAC_WORDS * room));
    this.#keyOffsets = new Column(new Uint32Array(room));
    this.#destinationRows = new Column(new Uint32Array(room));
    this.#servers = new Column(new Uint32Array(MAC_WORDS * room));
    this.#serverOffsets = new Column(new Uint32Array(room));
    this.#v4 = new AddressColumns(V4_WORDS, 'arp', room);
    this.#v6 = new AddressColumns(V6_WORDS, 'ndp', room);
  }

  /** Returns the place of an underlay address, which counts from 1; 0 when the text is not an address that a VTEP can
   * have. */
  peer(text: string): number {
    const known = this.#ipRows.get(text);
    if (known !== undefined) return known;
    const ip = parsePeer(text);
    if (ip === undefined) return 0;
    const row = this.#ipRows.get(ip) ?? this.#ips.push(ip);
    this.#ipRows.set(ip, row);
    this.#ipRows.set(text, row);
    return row;
  }

  #destinationRowOf(peer: number, port: number): number {
    const key = peer * 0x1_0000 + port;
    const known = this.#destinationRow.get(key);
    if (known !== undefined) return known;
    const row = this.#destinations.push({ ip: this.#ips[peer - 1], port }) - 1;
    this.#destinationRow.set(key, row);
    return row;
  }

  /** Begins an entry. The addresses that are added next belong to it. */
  addEntry(mac: Uint32Array, keyOffset: Offset): void {
    this.#macs.pushAll(mac, MAC_WORDS);
    this.#keyOffsets.push(keyOffset);
  }

  /** Ends the entry with the values that are known when all of it has been read. */
  endEntry(peer: number, port: number, server: Uint32Array, serverOffset: Offset): void {
    this.#destinationRows.push(this.#problems.count > 0 ? 0 : this.#destinationRowOf(peer, port));
    this.#servers.pushAll(server, MAC_WORDS);
    this.#serverOffsets.push(serverOffset);
  }

  addV4(words: Uint32Array, offset: Offset): void {
    this.#v4.add(words, this.#keyOffsets.length - 1, offset);
  }

  addV6(words: Uint32Array, offset: Offset): void {
    this.#v6.add(words, this.#keyOffsets.length - 1, offset);
  }

  /**
   * Adds the problems between entries, and returns the mapping; undefined when there is any problem, old or new. Yields
   * every STEP_ROWS rows. `isWhole` says that the file was read to its end: only then is an absent MAC a problem.
   */
  *finish(isWhole: boolean): Generator<undefined, Mapping | undefined> {
    const macs = new KeyIndex(this.#macs.compact(), MAC_WORDS);
    for (let row = 0; row < this.#keyOffsets.length; row++) {
      const earlier = macs.add(row);
      if (earlier !== NONE) this.#twice(row, this.#keyOffsets.at(row), this.#keyOffsets.at(earlier));
      if (row % STEP_ROWS === 0) yield;
    }
    const v4 = yield* this.#index(this.#v4);
    const v6 = yield* this.#index(this.#v6);
    const servers = isWhole ? yield* this.#serverRows(macs) : new Int32Array(0);
    if (this.#problems.count > 0) return undefined;
    return new Mapping(macs, this.#destinations, this.#destinationRows.compact(), servers, v4, v6);
  }

  #twice(row: number, offset: Offset, other: Offset): void {
    const path = (): string => macPath(this.#bytes, this.#keyOffsets.at(row));
    this.#problems.add(offset, path, sourceText(this.#bytes, offset), MAC_ONCE, other);
  }

  *#index({ words, member, keys, owners, offsets }: AddressColumns): Generator<undefined, AddressTable> {
    const index = new KeyIndex(keys.compact(), words);
    for (let row = 0; row < owners.length; row++) {
      const earlier = index.add(row);
      if (earlier !== NONE) {
        const path = (): string => memberPath(this.#bytes, this.#keyOffsets.at(owners.at(row)), member);
        const found = sourceText(this.#bytes, offsets.at(row));
        this.#problems.add(offsets.at(row), path, found, ADDRESS_ONCE, offsets.at(earlier));
      }
      if (row % STEP_ROWS === 0) yield;
    }
    return new AddressTable(index, owners.compact());
  }

  /** Returns for every entry the row of the entry that its `dhcp-proxy` names. */
  *#serverRows(macs: KeyIndex): Generator<undefined, Int32Array> {
    const rows = new Int32Array(this.#serverOffsets.length).fill(NONE);
    const named = this.#servers.compact();
    for (let row = 0; row < rows.length; row++) {
      const offset = this.#serverOffsets.at(row);
      if (row % STEP_ROWS === 0) yield;
      if (offset === 0) continue;
      rows[row] = macs.find(named, row * MAC_WORDS);
      if (rows[row] !== NONE) continue;
      const path = (): string => memberPath(this.#bytes, this.#keyOffsets.at(row), 'dhcp-proxy');
      const found = sourceText(this.#bytes, offset);
      this.#problems.add(offset, path, found, SERVER_EXPECTED);
    }
    return rows;
  }
}

/** Overlay addresses of one family, in the order of the file. */
class AddressColumns {
  readonly keys: Column<Uint32Array>;
  /** Row of the entry of each address. */
  readonly owners: Column<Uint32Array>;
  readonly offsets: Column<Uint32Array>;

  constructor(
    readonly words: number,
    readonly member: 'arp' | 'ndp',
    room: number,
  ) {
    this.keys = new Column(new Uint32Array(words * room));
    this.owners = new Column(new Uint32Array(room));
    this.offsets = new Column(new Uint32Array(room));
  }

  add(words: Uint32Array, owner: number, offset: Offset): void {
    this.keys.pushAll(words, this.words);
    this.owners.push(owner);
    this.offsets.push(offset);
  }
}
