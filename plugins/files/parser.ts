/**
 * Reads a mapping, member by member. README.md has the grammar as a table.
 *
 * The parser collects all errors, so that an operator can correct them at once. It reads a file that is not JSON up to the
 * place where the JSON ends.
 */
import { parseIp } from '../../src/plugin/index.js';
import { isGroupMac, isStationV4, isStationV6, isZeroMac, readMac, readV4, readV6 } from './addresses.js';
import { Draft } from './draft.js';
import type { Mapping } from './mapping.js';
import { macPath, ROOT } from './paths.js';
import { type Located, Problems } from './problems.js';
import { END_OF_FILE, Quoted, Scanner, Unreadable } from './scanner.js';

/** Limit for an entry with the white space before it. A real entry has some dozen addresses at most. */
const MAX_ENTRY_BYTES = 1024 * 1024;
/** Entries between two pauses. */
const STEP_ENTRIES = 32;
const MAX_PORT = 65535; // RFC 768

const COLON = 0x3a;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const EVERY_MEMBER_ONCE = 'every member once';
const MAC_EXPECTED = 'a MAC address, six groups of one or two hexadecimal digits';
const STATION_MAC_EXPECTED = 'the MAC address of one station, not zero and not multicast';
const IP_EXPECTED = 'an IPv4 or IPv6 address';
const PEER_EXPECTED =
  'the unicast address of a host, neither unspecified, 6to4, v4-compatible, v4-mapped nor IPv6 link-local';
const PORT_EXPECTED = `a whole number from 1 to ${MAX_PORT}`;
const ARP_EXPECTED = 'an IPv4 address';
const NDP_EXPECTED = 'an IPv6 address';
const STATION_V4_EXPECTED =
  'the address of one station, neither unspecified, loopback, multicast nor broadcast';
const STATION_V6_EXPECTED =
  'the address of one station, neither unspecified, loopback, multicast, v4-compatible nor v4-mapped';

/** Names with a meaning in JavaScript. In a mapping they are an attack or a mistake. */
const FORBIDDEN = ['__proto__', 'constructor', 'prototype'];

const IP = 1;
const PORT = 2;
const ARP = 4;
const NDP = 8;
const DHCP_PROXY = 16;

export interface Parsed {
  /** Undefined if and only if there are errors. */
  readonly mapping: Mapping | undefined;
  readonly errors: readonly Located[];
  /** Number of all errors, including those that are not in `errors`. */
  readonly errorCount: number;
  readonly warnings: readonly Located[];
  readonly warningCount: number;
}

/** Yields at least once in a millisecond, or once in a megabyte. */
export function* parseMapping(bytes: Buffer): Generator<undefined, Parsed> {
  const errors = new Problems();
  const warnings = new Problems();
  const draft = new Draft(bytes, errors);
  const parser = new Parser(bytes, draft, errors, warnings);
  const isWhole = yield* parser.file();
  const mapping = yield* draft.finish(isWhole);
  return {
    mapping,
    errors: yield* errors.locate(bytes),
    errorCount: errors.count,
    warnings: yield* warnings.locate(bytes),
    warningCount: warnings.count,
  };
}

class Parser {
  readonly #scanner: Scanner;
  readonly #draft: Draft;
  readonly #errors: Problems;
  readonly #warnings: Problems;
  readonly #mac = new Uint32Array(2);
  readonly #server = new Uint32Array(2);
  readonly #address = new Uint32Array(4);
  /** Offset of the present entry's key; -1 outside an entry. */
  #keyOffset = -1;
  /** Members of the present entry so far: known ones as bits, reserved ones by name. */
  #seen = 0;
  #reserved: Map<string, number> | undefined;
  #ipRow = 0;
  #port = 0;
  #serverOffset = 0;

  constructor(bytes: Buffer, draft: Draft, errors: Problems, warnings: Problems) {
    this.#scanner = new Scanner(bytes);
    this.#draft = draft;
    this.#errors = errors;
    this.#warnings = warnings;
  }

  /** Reads the file. Returns whether it was JSON to its end. */
  *file(): Generator<undefined, boolean> {
    try {
      yield* this.#entries();
      return true;
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      this.#errors.add(error.offset, () => this.#path(), error.found, error.expected);
      return false;
    }
  }

  *#entries(): Generator<undefined, void> {
    const scanner = this.#scanner;
    scanner.allow(MAX_ENTRY_BYTES);
    scanner.need(OPEN_OBJECT, "'{'");
    if (!scanner.take(CLOSE_OBJECT)) {
      let count = 0;
      do {
        scanner.allow(MAX_ENTRY_BYTES);
        this.#entry();
        if (++count % STEP_ENTRIES === 0) yield;
      } while (scanner.more(CLOSE_OBJECT));
    }
    scanner.allow(MAX_ENTRY_BYTES);
    if (!scanner.atEnd) throw scanner.unexpected(END_OF_FILE);
  }

  #entry(): void {
    const scanner = this.#scanner;
    scanner.space();
    const keyOffset = scanner.at;
    scanner.string("a MAC address in '\"'");
    this.#keyOffset = keyOffset;
    const isMac = this.#stationMac(this.#mac, keyOffset, this.#here);
    scanner.need(COLON, "':'");
    const start = this.#valueStart();
    // An entry with an error is still in the file: a `dhcp-proxy` that names its MAC is not an error as well.
    if (isMac) this.#draft.addEntry(this.#mac, keyOffset);
    this.#seen = 0;
    this.#ipRow = 0;
    this.#port = 0;
    this.#serverOffset = 0;
    this.#server.fill(0);
    if (scanner.kind() === 'object') this.#members(isMac);
    else this.#wrong(start, this.#here, 'an object');
    if (isMac) {
      const destination = this.#errors.count > 0 ? 0 : this.#draft.destinationRow(this.#ipRow, this.#port);
      this.#draft.endEntry(destination, this.#server, this.#serverOffset);
    }
    this.#keyOffset = -1;
  }

  #members(isMac: boolean): void {
    const scanner = this.#scanner;
    this.#reserved = undefined;
    scanner.need(OPEN_OBJECT, "'{'");
    if (!scanner.take(CLOSE_OBJECT)) {
      do this.#member(isMac);
      while (scanner.more(CLOSE_OBJECT));
    }
    this.#demand(IP, 'ip', IP_EXPECTED);
    this.#demand(PORT, 'port', PORT_EXPECTED);
  }

  #demand(bit: number, name: string, expected: string): void {
    if ((this.#seen & bit) === 0)
      this.#errors.add(this.#keyOffset, this.#here, `no member '${name}'`, `${expected} under that name`);
  }

  #member(isMac: boolean): void {
    const scanner = this.#scanner;
    scanner.space();
    const offset = scanner.at;
    scanner.string("the name of a member in '\"'");
    const bit = this.#bitOfText();
    if (bit === 0) {
      this.#reservedMember(offset);
      return;
    }
    const isTwice = (this.#seen & bit) !== 0;
    if (isTwice) this.#errors.add(offset, this.#here, scanner.shown(offset, scanner.at), EVERY_MEMBER_ONCE);
    this.#seen |= bit;
    scanner.need(COLON, "':'");
    const start = this.#valueStart();
    if (isTwice) scanner.skip();
    else if (bit === IP) this.#ip(start);
    else if (bit === PORT) this.#portNumber(start);
    else if (bit === DHCP_PROXY) this.#dhcpProxy(start);
    else this.#addresses(start, bit, isMac);
  }

  #bitOfText(): number {
    const scanner = this.#scanner;
    if (scanner.textIs('ip')) return IP;
    if (scanner.textIs('port')) return PORT;
    if (scanner.textIs('arp')) return ARP;
    if (scanner.textIs('ndp')) return NDP;
    return scanner.textIs('dhcp-proxy') ? DHCP_PROXY : 0;
  }

  #reservedMember(offset: number): void {
    const scanner = this.#scanner;
    const name = scanner.textString();
    const shown = scanner.shown(offset, scanner.at);
    this.#reserved ??= new Map();
    const other = this.#reserved.get(name);
    if (FORBIDDEN.includes(name))
      this.#errors.add(offset, this.#here, shown, 'a name that is not special to JavaScript');
    else if (other !== undefined) this.#errors.add(offset, this.#here, shown, EVERY_MEMBER_ONCE, other);
    else
      this.#warnings.add(
        offset,
        this.#here,
        new Quoted(`${shown.text}, which is reserved and has no effect`, 'a name that has no effect'),
        'ip, port, arp, ndp or dhcp-proxy',
      );
    this.#reserved.set(name, offset);
    scanner.need(COLON, "':'");
    scanner.skip();
  }

  // -- Values. Each method reads past one value, whatever its kind.

  #ip(start: number): void {
    const scanner = this.#scanner;
    const path = this.#at('ip');
    if (scanner.kind() !== 'string') {
      this.#wrong(start, path, IP_EXPECTED);
      return;
    }
    scanner.string(IP_EXPECTED);
    const text = scanner.textString();
    const row = this.#draft.peerRow(text);
    if (row === undefined) {
      const expected = parseIp(text) === undefined ? IP_EXPECTED : PEER_EXPECTED;
      this.#errors.add(start, path, scanner.shown(start, scanner.at), expected);
    } else this.#ipRow = row;
  }

  #portNumber(start: number): void {
    const scanner = this.#scanner;
    if (scanner.kind() === 'word') {
      const word = scanner.word();
      this.#port = /^[1-9][0-9]{0,4}$/.test(word) ? Number(word) : 0;
      if (this.#port < 1 || this.#port > MAX_PORT)
        this.#errors.add(start, this.#at('port'), scanner.shown(start, scanner.at), PORT_EXPECTED);
    } else this.#wrong(start, this.#at('port'), PORT_EXPECTED);
  }

  #dhcpProxy(start: number): void {
    const scanner = this.#scanner;
    const path = this.#at('dhcp-proxy');
    if (scanner.kind() === 'string') {
      scanner.string(MAC_EXPECTED);
      if (this.#stationMac(this.#server, start, path)) this.#serverOffset = start;
    } else this.#wrong(start, path, MAC_EXPECTED);
  }

  #addresses(start: number, bit: number, isMac: boolean): void {
    const scanner = this.#scanner;
    const member = bit === ARP ? 'arp' : 'ndp';
    const expected = bit === ARP ? ARP_EXPECTED : NDP_EXPECTED;
    if (scanner.kind() === 'string') {
      this.#stationAddress(start, bit, isMac, this.#at(member));
      return;
    }
    if (scanner.kind() !== 'list') {
      this.#wrong(start, this.#at(member), `${expected}, or a list of them`);
      return;
    }
    scanner.at++;
    if (scanner.take(CLOSE_LIST)) return;
    let index = 0;
    do {
      const position = index++;
      const path = (): string => `${this.#at(member)()}[${position}]`;
      const elementStart = this.#valueStart();
      if (scanner.kind() === 'string') this.#stationAddress(elementStart, bit, isMac, path);
      else this.#wrong(elementStart, path, expected);
    } while (scanner.more(CLOSE_LIST));
  }

  /** Reads a string that must be the address of one station. */
  #stationAddress(start: number, bit: number, isMac: boolean, path: () => string): void {
    const scanner = this.#scanner;
    const expected = bit === ARP ? ARP_EXPECTED : NDP_EXPECTED;
    scanner.string(expected);
    const { text, from, to } = scanner;
    const address = this.#address;
    let isAddress;
    let isStation;
    if (bit === ARP) {
      const quad = readV4(text, from, to);
      address[0] = quad;
      isAddress = quad >= 0;
      isStation = isStationV4(quad);
    } else {
      isAddress = readV6(text, from, to, address);
      isStation = isStationV6(address);
    }
    if (!isAddress || !isStation) {
      const station = bit === ARP ? STATION_V4_EXPECTED : STATION_V6_EXPECTED;
      const wanted = isAddress ? station : expected;
      this.#errors.add(start, path, scanner.shown(start, scanner.at), wanted);
    } else if (isMac) {
      if (bit === ARP) this.#draft.addV4(address, start);
      else this.#draft.addV6(address, start);
    }
  }

  /** Reads the MAC of one station out of the string read last. */
  #stationMac(words: Uint32Array, start: number, path: () => string): boolean {
    const scanner = this.#scanner;
    const isMac = readMac(scanner.text, scanner.from, scanner.to, words);
    if (isMac && !isGroupMac(words) && !isZeroMac(words)) return true;
    const expected = isMac ? STATION_MAC_EXPECTED : MAC_EXPECTED;
    this.#errors.add(start, path, scanner.shown(start, scanner.at), expected);
    return false;
  }

  /** Adds the error for a value of the wrong kind. */
  #wrong(start: number, path: () => string, expected: string): void {
    const scanner = this.#scanner;
    const kind = scanner.kind();
    scanner.skip();
    const found =
      kind === 'object' ? 'an object' : kind === 'list' ? 'a list' : scanner.shown(start, scanner.at);
    this.#errors.add(start, path, found, expected);
  }

  #valueStart(): number {
    this.#scanner.space();
    return this.#scanner.at;
  }

  // -- Paths

  readonly #here = (): string => this.#path();

  #path(): string {
    return this.#keyOffset < 0 ? ROOT : macPath(this.#scanner.bytes, this.#keyOffset);
  }

  #at(member: string): () => string {
    return () => `${this.#path()}['${member}']`;
  }
}
