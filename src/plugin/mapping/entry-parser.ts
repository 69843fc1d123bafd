/**
 * Reads entries of a mapping: what a network has to say of a MAC. plugins/files/README.md has the grammar as a table. A
 * mapping file is an object of entries; a store that holds a mapping record by record holds them one by one (entry.ts).
 *
 * The parser makes no object for an entry. It hands addresses over as numbers to a sink. It collects all errors, so that
 * an operator can correct them at once; bytes that are not JSON end it with an Unreadable.
 */
import { parse as parseIp } from '../../wire/ip.js';
import {
  isGroupMac,
  isStationV4,
  isStationV6,
  isZeroMac,
  MAC_WORDS,
  readMac,
  readV4,
  readV6,
  V6_WORDS,
} from './addresses.js';
import { macPath, ROOT } from './paths.js';
import type { Problems, Rule } from './problems.js';
import { Quoted, Scanner } from './scanner.js';

const MAX_PORT = 65535; // RFC 768

const COLON = 0x3a;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

const rule = (code: string, expected: string): Rule => ({ code, expected });
const EVERY_MEMBER_ONCE = rule('MEMBER_TWICE', 'every member once');
const MAC_EXPECTED = rule('BAD_MAC', 'a MAC address, six groups of one or two hexadecimal digits');
const STATION_MAC_EXPECTED = rule('BAD_MAC', 'the MAC address of one station, not zero and not multicast');
const IP_EXPECTED = rule('BAD_IP', 'an IPv4 or IPv6 address');
const PEER_EXPECTED = rule(
  'BAD_IP',
  'the unicast address of a host, neither unspecified, 6to4, v4-compatible, v4-mapped nor IPv6 link-local',
);
const PORT_EXPECTED = rule('BAD_PORT', `a whole number from 1 to ${MAX_PORT}`);
const ARP_EXPECTED = rule('BAD_ARP', 'an IPv4 address');
const NDP_EXPECTED = rule('BAD_NDP', 'an IPv6 address');
const STATION_V4_EXPECTED = rule(
  'BAD_ARP',
  'the address of one station, neither unspecified, loopback, multicast nor broadcast',
);
const STATION_V6_EXPECTED = rule(
  'BAD_NDP',
  'the address of one station, neither unspecified, loopback, multicast, v4-compatible nor v4-mapped',
);
const OBJECT_EXPECTED = rule('NOT_OBJECT', 'an object');
const NAME_EXPECTED = rule('BAD_NAME', 'a name that is not special to JavaScript');
const KNOWN_EXPECTED = rule('RESERVED_MEMBER', 'ip, port, arp, ndp or dhcp-proxy');

/** Names with a meaning in JavaScript. In a mapping they are an attack or a mistake. */
const FORBIDDEN = ['__proto__', 'constructor', 'prototype'];

const IP = 1;
const PORT = 2;
const ARP = 4;
const NDP = 8;
const DHCP_PROXY = 16;

/** Takes what the parser reads. Offsets are those in the bytes of the scanner. */
export interface EntrySink {
  /** Begins an entry. The addresses that are added next belong to it. `mac` is valid only during the call. */
  addEntry(mac: Uint32Array, keyOffset: number): void;
  /** Returns a number above 0 for an underlay address; 0 when the text is not an address that a VTEP can have. */
  peer(text: string): number;
  addV4(words: Uint32Array, offset: number): void;
  addV6(words: Uint32Array, offset: number): void;
  /**
   * Ends the entry. `peer` is 0 and `port` is 0 when the entry has none that is valid. `server` is the MAC under
   * `dhcp-proxy`; it has a meaning only if `serverOffset`, the offset of that value, is not 0.
   */
  endEntry(peer: number, port: number, server: Uint32Array, serverOffset: number): void;
  /** The value of the MAC is null: the entry is removed. Without this method null is an error. */
  removeEntry?(mac: Uint32Array): void;
}

export class EntryParser {
  readonly #scanner: Scanner;
  readonly #sink: EntrySink;
  readonly #errors: Problems;
  readonly #warnings: Problems;
  readonly #mac = new Uint32Array(MAC_WORDS);
  readonly #server = new Uint32Array(MAC_WORDS);
  readonly #address = new Uint32Array(V6_WORDS);
  /** Offset of the present entry's key; -1 outside an entry, and for a value alone. */
  #keyOffset = -1;
  /** Members of the present entry so far: known ones as bits, reserved ones by name. */
  #seen = 0;
  #reserved: Map<string, number> | undefined;
  #peer = 0;
  #port = 0;
  #serverOffset = 0;

  constructor(scanner: Scanner, sink: EntrySink, errors: Problems, warnings: Problems) {
    this.#scanner = scanner;
    this.#sink = sink;
    this.#errors = errors;
    this.#warnings = warnings;
  }

  /** Reads a MAC, a colon and the entry of the MAC. */
  entry(): void {
    const scanner = this.#scanner;
    scanner.space();
    const keyOffset = scanner.at;
    scanner.string("a MAC address in '\"'");
    this.#keyOffset = keyOffset;
    const isMac = this.#stationMac(this.#mac, keyOffset, this.#here);
    scanner.need(COLON, "':'");
    if (!this.#removal(isMac)) this.#value(isMac);
    this.#keyOffset = -1;
  }

  /** Reads the value alone: the MAC is known by other means. The sink gets a MAC that has no meaning. */
  value(): void {
    this.#keyOffset = -1;
    this.#value(true);
  }

  #removal(isMac: boolean): boolean {
    const scanner = this.#scanner;
    if (this.#sink.removeEntry === undefined || scanner.kind() !== 'word') return false;
    const start = scanner.at;
    if (scanner.word() !== 'null') {
      scanner.at = start;
      return false;
    }
    if (isMac) this.#sink.removeEntry(this.#mac);
    return true;
  }

  #value(isMac: boolean): void {
    const scanner = this.#scanner;
    const start = this.#valueStart();
    // An entry with an error is still there: a `dhcp-proxy` that names its MAC is not an error as well.
    if (isMac) this.#sink.addEntry(this.#mac, Math.max(0, this.#keyOffset));
    this.#seen = 0;
    this.#peer = 0;
    this.#port = 0;
    this.#serverOffset = 0;
    this.#server.fill(0);
    if (scanner.kind() === 'object') this.#members(isMac);
    else this.#wrong(start, this.#here, OBJECT_EXPECTED);
    if (isMac) this.#sink.endEntry(this.#peer, this.#port, this.#server, this.#serverOffset);
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

  #demand(bit: number, name: string, { expected }: Rule): void {
    if ((this.#seen & bit) !== 0) return;
    const missing = rule('MISSING_MEMBER', `${expected} under that name`);
    this.#errors.add(this.#keyOffset, this.#here, `no member '${name}'`, missing);
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
    if (FORBIDDEN.includes(name)) this.#errors.add(offset, this.#here, shown, NAME_EXPECTED);
    else if (other !== undefined) this.#errors.add(offset, this.#here, shown, EVERY_MEMBER_ONCE, other);
    else
      this.#warnings.add(
        offset,
        this.#here,
        new Quoted(`${shown.text}, which is reserved and has no effect`, 'a name that has no effect'),
        KNOWN_EXPECTED,
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
    scanner.string(IP_EXPECTED.expected);
    const text = scanner.textString();
    this.#peer = this.#sink.peer(text);
    if (this.#peer > 0) return;
    const expected = parseIp(text) === undefined ? IP_EXPECTED : PEER_EXPECTED;
    this.#errors.add(start, path, scanner.shown(start, scanner.at), expected);
  }

  #portNumber(start: number): void {
    const scanner = this.#scanner;
    if (scanner.kind() === 'word') {
      this.#port = scanner.wholeNumber(MAX_PORT);
      if (this.#port > 0) return;
      scanner.word();
      this.#errors.add(start, this.#at('port'), scanner.shown(start, scanner.at), PORT_EXPECTED);
    } else this.#wrong(start, this.#at('port'), PORT_EXPECTED);
  }

  #dhcpProxy(start: number): void {
    const scanner = this.#scanner;
    const path = this.#at('dhcp-proxy');
    if (scanner.kind() === 'string') {
      scanner.string(MAC_EXPECTED.expected);
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
      this.#wrong(start, this.#at(member), rule(expected.code, `${expected.expected}, or a list of them`));
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
    scanner.string(expected.expected);
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
      if (bit === ARP) this.#sink.addV4(address, start);
      else this.#sink.addV6(address, start);
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
  #wrong(start: number, path: () => string, expected: Rule): void {
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

  readonly #here = (): string => this.path();

  /** Returns the path of the present entry; `$` outside an entry. */
  path(): string {
    return this.#keyOffset < 0 ? ROOT : macPath(this.#scanner.bytes, this.#keyOffset);
  }

  #at(member: string): () => string {
    return () => `${this.path()}['${member}']`;
  }
}
