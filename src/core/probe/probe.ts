/**
 * One probe of an overlay, in each thread that carries it: recognises what comes back to the frames that the
 * control side has made. Loopback replies of this probe are taken out of the traffic. ARP replies and
 * neighbour advertisements are noted, and delivered as well: the station behind the port may have asked too.
 */
import * as arp from '../../wire/arp.js';
import { read16 } from '../../wire/bytes.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  type FrameBatch,
  LENGTH,
  OFFSET,
  PORT,
  SEGMENT,
} from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import * as icmpv6 from '../../wire/icmpv6.js';
import { type Endpoint, type IpAddress, readV6 } from '../../wire/ip.js';
import * as ipv6 from '../../wire/ipv6.js';
import * as loopback from '../../wire/loopback.js';
import { highOf, lowOf, type MacAddress } from '../../wire/mac.js';
import * as ndp from '../../wire/ndp.js';
import { Allowance, type Rate } from '../queues/allowance.js';

/** Plain data, since it is sent to threads. */
export interface ProbeRules {
  /** The MAC of the port that sends. */
  readonly mac: MacAddress;
  /** The upper half of all its transaction identifiers. */
  readonly series: number;
  /** The address that ARP or neighbour solicitation asks for. */
  readonly ip: IpAddress | undefined;
}

/** One frame of a probe. */
export interface ProbeFrame {
  readonly id: number;
  readonly frame: Uint8Array;
}

/** Times are on the monotonic clock of all threads. */
export type ProbeNews = { readonly overlay: number; readonly atMs: number } & (
  | {
      readonly kind: 'sent';
      readonly id: number;
      /** Index of the counter of the drop, if the frame was dropped here. */
      readonly dropped: number | undefined;
    }
  /** A loopback reply, with its transaction. */
  | { readonly kind: 'reply'; readonly id: number; readonly mac: MacAddress; readonly from: Endpoint }
  /** An ARP reply or a neighbour advertisement. */
  | { readonly kind: 'neighbor'; readonly mac: MacAddress; readonly from: Endpoint }
);

/** Rate of answers that are reported: a peer cannot flood the control side with them. varpd answers less
 * (LOOPBACK_RATE). */
export const REPORT_RATE: Rate = { perSecond: 2000, burst: 1024 };

interface ProbeContext {
  readonly overlay: number;
  readonly clock: { readonly nowTick: number };
  readonly nowMs: () => number;
  readonly probed: (news: ProbeNews) => void;
}

export class Probe {
  readonly #rules: ProbeRules;
  readonly #context: ProbeContext;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #reports: Allowance;

  constructor(rules: ProbeRules, context: ProbeContext) {
    this.#rules = rules;
    this.#context = context;
    this.#macHigh = highOf(rules.mac);
    this.#macLow = lowOf(rules.mac);
    this.#reports = new Allowance(context.clock, REPORT_RATE);
  }

  /** Takes a checked loopback reply, if it is one to this probe. */
  takeReply({ bytes, descriptors }: FrameBatch, index: number, header: number): boolean {
    const at = index * DESCRIPTOR_WORDS;
    const frame = descriptors[at + OFFSET];
    const id = loopback.transaction(bytes, frame + header);
    if (id >>> 16 !== this.#rules.series || !this.#isForPort(bytes, frame)) return false;
    if (!this.#reports.take()) return false;
    this.#report(descriptors, at, { kind: 'reply', id, mac: ethernet.source(bytes, frame) });
    return true;
  }

  /** Hears every frame out of the tunnel while the probe runs. */
  heard({ bytes, descriptors }: FrameBatch, index: number, header: number): void {
    const at = index * DESCRIPTOR_WORDS;
    const frame = descriptors[at + OFFSET];
    // The frames of a run are of another program than the one answer that is awaited.
    if (descriptors[at + SEGMENT] !== 0 || !this.#isForPort(bytes, frame)) return;
    const packet = frame + header;
    const length = descriptors[at + LENGTH] - header;
    const etherType = read16(bytes, packet - 2);
    const isAnswer =
      (etherType === ethernet.ARP && this.#isArpReply(bytes, packet, length)) ||
      (etherType === ethernet.IPV6 && this.#isAdvertisement(bytes, packet, length));
    if (!isAnswer || !this.#reports.take()) return;
    this.#report(descriptors, at, { kind: 'neighbor', mac: ethernet.source(bytes, frame) });
  }

  #isForPort(bytes: Uint8Array, frame: number): boolean {
    return (
      ethernet.destinationHigh(bytes, frame) === this.#macHigh &&
      ethernet.destinationLow(bytes, frame) === this.#macLow
    );
  }

  #isArpReply(bytes: Uint8Array, packet: number, length: number): boolean {
    return (
      arp.check(bytes, packet, length) > 0 &&
      arp.operation(bytes, packet) === arp.REPLY &&
      arp.senderIp(bytes, packet) === this.#rules.ip
    );
  }

  #isAdvertisement(bytes: Uint8Array, packet: number, length: number): boolean {
    if (ipv6.check(bytes, packet, length) < 0) return false;
    const found = ipv6.transport(bytes, packet);
    if (found < 0 || ipv6.isFragment(found) || ipv6.transportProtocol(found) !== ipv6.ICMPV6) return false;
    const message = packet + ipv6.transportOffset(found);
    const messageBytes = packet + ipv6.HEADER_BYTES + ipv6.payloadLength(bytes, packet) - message;
    return (
      ndp.check(bytes, message, messageBytes) > 0 &&
      icmpv6.type(bytes, message) === icmpv6.NEIGHBOR_ADVERTISEMENT &&
      ndp.target(bytes, message) === this.#rules.ip
    );
  }

  #report(
    descriptors: Int32Array,
    at: number,
    news:
      | { readonly kind: 'reply'; readonly id: number; readonly mac: MacAddress }
      | { readonly kind: 'neighbor'; readonly mac: MacAddress },
  ): void {
    const { overlay, nowMs, probed } = this.#context;
    const octets = new Uint8Array(descriptors.buffer, descriptors.byteOffset);
    const ip = readV6(octets, (at + ADDRESS) * Int32Array.BYTES_PER_ELEMENT);
    probed({ ...news, overlay, atMs: nowMs(), from: { ip, port: descriptors[at + PORT] } });
  }
}
