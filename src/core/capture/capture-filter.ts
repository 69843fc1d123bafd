/** The rules that choose the frames of a capture: plain data from the control side, and the test of a frame. */
import { read16 } from '../../wire/bytes.js';
import * as arp from '../../wire/arp.js';
import * as ethernet from '../../wire/ethernet.js';
import * as ipv4 from '../../wire/ipv4.js';
import * as ipv6 from '../../wire/ipv6.js';
import { isMapped } from '../../wire/ip.js';
import { highOf, lowOf, type MacAddress } from '../../wire/mac.js';
import * as vlan from '../../wire/vlan.js';

/** All rules that are present must hold. Addresses are 16 bytes, IPv4 as v4-mapped. */
export interface FilterRules {
  /** Source or destination. */
  readonly mac?: MacAddress;
  /** Source or destination of an inner IP packet, or one that ARP is about. */
  readonly ip?: Uint8Array;
  /** Behind the tags. */
  readonly etherType?: number;
  /** VLAN of the outermost tag; 0 = no tag. A frame of an access port is in the VLAN of its port. */
  readonly vlan?: number;
  /** The underlay address that the frame comes from or goes to. It is known in the tunnel alone. */
  readonly peer?: Uint8Array;
}

const ANY = -1;
/** RFC 4291 2.5.5.2: the first bytes of a v4-mapped address are ten zeros and two of these. */
const MAPPED_AT = 12;

export class FrameFilter {
  readonly #hasMac: boolean;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #ip: Uint8Array | undefined;
  readonly #isV4: boolean;
  readonly #etherType: number;
  readonly #vlan: number;
  /** Words of the underlay address that the rules name. */
  readonly peer: Int32Array | undefined;
  readonly #isAny: boolean;

  constructor(rules: FilterRules) {
    const { mac = 0, ip, etherType = ANY, vlan: vid = ANY, peer } = rules;
    this.#hasMac = rules.mac !== undefined;
    this.#macHigh = highOf(mac);
    this.#macLow = lowOf(mac);
    this.#ip = ip;
    this.#isV4 = ip !== undefined && isMapped(ip, 0);
    this.#etherType = etherType;
    this.#vlan = vid;
    this.peer = peer && new Int32Array(peer.slice().buffer);
    this.#isAny = !this.#hasMac && ip === undefined && etherType === ANY && vid === ANY;
  }

  /** Whether a datagram can match before its frame is known; its peer is known. */
  get takesUnknown(): boolean {
    return this.#isAny;
  }

  /** Whether the other rules hold. `vid` is that of the access port that the frame comes from or goes to; else 0. */
  matches(bytes: Uint8Array, frame: number, length: number, vid: number): boolean {
    if (this.#isAny) return true;
    const header = vlan.headerLength(bytes, frame, length);
    if (header < 0) return false;
    if (this.#hasMac && !this.#hasItsMac(bytes, frame)) return false;
    if (this.#vlan !== ANY && this.#vlan !== (vid !== 0 ? vid : tagOf(bytes, frame, header))) return false;
    const type = read16(bytes, frame + header - 2);
    if (this.#etherType !== ANY && this.#etherType !== type) return false;
    return this.#ip === undefined || this.#hasItsIp(bytes, frame + header, length - header, type);
  }

  #hasItsMac(bytes: Uint8Array, frame: number): boolean {
    const [high, low] = [this.#macHigh, this.#macLow];
    return (
      (ethernet.sourceHigh(bytes, frame) === high && ethernet.sourceLow(bytes, frame) === low) ||
      (ethernet.destinationHigh(bytes, frame) === high && ethernet.destinationLow(bytes, frame) === low)
    );
  }

  #hasItsIp(bytes: Uint8Array, at: number, length: number, type: number): boolean {
    if (type === ethernet.IPV6)
      return (
        !this.#isV4 &&
        length >= ipv6.HEADER_BYTES &&
        this.#isAt(bytes, at + ipv6.SOURCE, at + ipv6.DESTINATION, 0)
      );
    if (!this.#isV4) return false;
    if (type === ethernet.IPV4)
      return (
        length >= ipv4.HEADER_BYTES && this.#isAt(bytes, at + ipv4.SOURCE, at + ipv4.DESTINATION, MAPPED_AT)
      );
    return (
      type === ethernet.ARP &&
      length >= arp.HEADER_BYTES &&
      this.#isAt(bytes, at + arp.SENDER_IP, at + arp.TARGET_IP, MAPPED_AT)
    );
  }

  /** Whether the address, from its byte `from` on, is at one of two places. */
  #isAt(bytes: Uint8Array, one: number, other: number, from: number): boolean {
    const ip = this.#ip!;
    let isOne = true;
    let isOther = true;
    for (let index = from; index < ip.length; index++) {
      isOne &&= bytes[one + index - from] === ip[index];
      isOther &&= bytes[other + index - from] === ip[index];
    }
    return isOne || isOther;
  }
}

function tagOf(bytes: Uint8Array, frame: number, header: number): number {
  return header === ethernet.HEADER_BYTES ? 0 : vlan.vlanId(bytes, frame + ethernet.HEADER_BYTES);
}
