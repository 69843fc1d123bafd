/**
 * Reports the peers of an overlay, from the memory that its threads write (core/peers/peer-records.ts), and from the
 * threads' tables where stations live (core/peers/peer-places.ts).
 */
import { MAX_STATIONS, type PeerPlace, type PeerPlaces } from '../../../core/peers/peer-places.js';
import * as records from '../../../core/peers/peer-records.js';
import { TICK_MS } from '../../../core/tables/target-table.js';
import { routeMtuBytes } from '../../../dgram-extra/index.js';
import { ANY_V6, type IpAddress, readV6, toBytes } from '../../../wire/ip.js';
import type { PeerList, PeerReport, UnreachableReport } from '../../../model/peer-report.js';
import type { OverlayConfig } from '../../contract.js';
import { nowTick } from './drop-reports.js';
import type { Link } from './thread.js';

/** The memory of one thread. */
class ThreadRecords {
  readonly ints: Int32Array;
  readonly doubles: Float64Array;
  /** Address and version of each record: text is made once. */
  readonly #known: { version: number; ip: IpAddress }[] = [];

  constructor(memory: records.PeerMemory) {
    this.ints = records.intsOf(memory);
    this.doubles = records.doublesOf(memory);
  }

  /** Each record in use, OTHERS as `::`, which is no address of a packet. */
  *all(): Generator<readonly [IpAddress, number], void> {
    const count = this.ints.length / records.RECORD_WORDS;
    for (let record = 0; record < count; record++) {
      const version = this.#version(record);
      if (version === 0) return;
      const known = this.#known[record] as { version: number; ip: IpAddress } | undefined;
      // A record that changes at this moment is left out of one look.
      if (known?.version !== version && !this.#read(record, version)) continue;
      yield [this.#known[record].ip, record];
    }
  }

  int(record: number, word: number): number {
    return this.ints[records.intAt(record, word)];
  }

  double(record: number, double: number): number {
    return this.doubles[records.doubleAt(record, double)];
  }

  address(record: number, word: number): IpAddress {
    const at = records.intAt(record, word);
    // A copy, since text is not made of shared memory.
    return readV6(new Uint8Array(this.ints.slice(at, at + 4).buffer), 0);
  }

  #version(record: number): number {
    return Atomics.load(this.ints, records.intAt(record, records.VERSION));
  }

  #read(record: number, version: number): boolean {
    const ip = this.address(record, records.ADDRESS);
    if ((version & 1) !== 0 || this.#version(record) !== version) return false;
    this.#known[record] = { version, ip };
    return true;
  }
}

interface Addresses {
  has(ip: IpAddress): boolean;
  keys(): Iterable<IpAddress>;
}

export class PeerReports {
  /** By thread. */
  readonly #threads = new Map<number, ThreadRecords>();

  moved(thread: number, memory: records.PeerMemory): void {
    this.#threads.set(thread, new ThreadRecords(memory));
  }

  /** `peers`: the addresses that frames go to or that the plugin names. `isOpen`: others are reported too. */
  read(peers: Addresses, isOpen: boolean): PeerList {
    const sums = this.#recorded(peers, isOpen);
    const others = sums.get(ANY_V6);
    sums.delete(ANY_V6);
    for (const ip of peers.keys()) if (!sums.has(ip)) sums.set(ip, none(ip, true));
    const isUsed = others !== undefined && others.txFrames + others.rxFrames > 0;
    return { peers: [...sums.values()], others: isUsed ? others : undefined };
  }

  /** The same without the peers that no thread has a record of: a plugin may name a million. */
  readRecorded(peers: Addresses, isOpen: boolean): readonly PeerReport[] {
    const sums = this.#recorded(peers, isOpen);
    sums.delete(ANY_V6);
    return [...sums.values()];
  }

  #recorded(peers: Addresses, isOpen: boolean): Map<IpAddress, PeerReport> {
    const now = nowTick();
    const sums = new Map<IpAddress, PeerReport>();
    for (const thread of this.#threads.values())
      for (const [ip, record] of thread.all()) {
        const isPeer = peers.has(ip);
        if (!isPeer && !isOpen && ip !== ANY_V6) continue;
        sums.set(ip, add(sums.get(ip) ?? none(ip, isPeer), thread, record, now));
      }
    return sums;
  }
}

function none(ip: IpAddress, isPeer: boolean): PeerReport {
  return {
    ip,
    isPeer,
    txFrames: 0,
    txBytes: 0,
    rxFrames: 0,
    rxBytes: 0,
    rxReads: 0,
    uncoalescedReads: 0,
    sentAgoMs: undefined,
    heardAgoMs: undefined,
    asked: 0,
    unreachable: undefined,
  };
}

function add(sum: PeerReport, thread: ThreadRecords, record: number, now: number): PeerReport {
  const agoMs = (word: number): number | undefined => {
    const tick = thread.int(record, word);
    return tick === 0 ? undefined : Math.max(0, (now - tick) | 0) * TICK_MS;
  };
  return {
    ip: sum.ip,
    isPeer: sum.isPeer,
    txFrames: sum.txFrames + thread.double(record, records.TX_FRAMES),
    txBytes: sum.txBytes + thread.double(record, records.TX_BYTES),
    rxFrames: sum.rxFrames + thread.double(record, records.RX_FRAMES),
    rxBytes: sum.rxBytes + thread.double(record, records.RX_BYTES),
    rxReads: sum.rxReads + thread.double(record, records.RX_READS),
    uncoalescedReads: sum.uncoalescedReads + thread.int(record, records.UNCOALESCED),
    sentAgoMs: least(sum.sentAgoMs, agoMs(records.SENT)),
    heardAgoMs: least(sum.heardAgoMs, agoMs(records.HEARD)),
    asked: (sum.asked + thread.int(record, records.ASKED)) | 0,
    unreachable: addUnreachable(sum.unreachable, thread, record, agoMs),
  };
}

function addUnreachable(
  sum: UnreachableReport | undefined,
  thread: ThreadRecords,
  record: number,
  agoMs: (word: number) => number | undefined,
): UnreachableReport | undefined {
  const [firstAgoMs, lastAgoMs] = [agoMs(records.ICMP_FIRST), agoMs(records.ICMP_LAST)];
  if (firstAgoMs === undefined || lastAgoMs === undefined) return sum;
  const from = thread.address(record, records.ICMP_SENDER);
  const own = {
    kind: thread.int(record, records.ICMP_KIND),
    port: thread.int(record, records.ICMP_PORT),
    from: from === ANY_V6 ? undefined : from,
    messages: thread.int(record, records.ICMP_COUNT),
    firstAgoMs,
    lastAgoMs,
  };
  if (sum === undefined) return own;
  const last = sum.lastAgoMs <= own.lastAgoMs ? sum : own;
  const messages = sum.messages + own.messages;
  return { ...last, messages, firstAgoMs: Math.max(sum.firstAgoMs, own.firstAgoMs) };
}

function least(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return Math.min(one, other);
}

/** Asks all threads: each has a table and paths of its own. Their tables have the same targets, nearly. */
export async function describePeers(
  links: readonly Link[],
  { id, listen }: Pick<OverlayConfig, 'id' | 'listen'>,
  ips: readonly IpAddress[],
): Promise<PeerPlace[]> {
  const ofThreads = await Promise.all(links.map((link) => describeIn(link, id, ips)));
  return ips.map((ip, index) => {
    const place = ofThreads.map((places) => places[index]).reduce(joined, NOT_KNOWN);
    return { ...place, mtuBytes: place.mtuBytes ?? routeBytes(listen.ip, ip) };
  });
}

/** Undefined: there is no route. */
function routeBytes(listenIp: IpAddress, to: IpAddress): number | undefined {
  try {
    return routeMtuBytes(toBytes(listenIp), toBytes(to), to);
  } catch {
    return undefined;
  }
}

async function describeIn(link: Link, overlay: number, ips: readonly IpAddress[]): Promise<PeerPlace[]> {
  let places: PeerPlace[] = [];
  for (let from: number | undefined = 0; from !== undefined;) {
    const request = { kind: 'describe-peers', overlay, ips, from } as const;
    const part = (await link.inspect(request)) as PeerPlaces | undefined;
    if (part === undefined || part.places.length === 0) break;
    places = part.places.map((place, index) => continued(places.at(index), place));
    from = part.next;
  }
  return ips.map((_, index) => places.at(index) ?? NOT_KNOWN);
}

const NOT_KNOWN: PeerPlace = {
  port: undefined,
  mtuBytes: undefined,
  isMtuLearned: false,
  refusesSegmentation: false,
  tunnelUse: 'none',
  stationCount: 0,
  stations: [],
};

/** Adds what further rows say. */
function continued(before: PeerPlace | undefined, place: PeerPlace): PeerPlace {
  if (before === undefined) return place;
  const stations = [...before.stations, ...place.stations].slice(0, MAX_STATIONS);
  return { ...place, stationCount: before.stationCount + place.stationCount, stations };
}

/** Joins what two threads say. */
function joined(one: PeerPlace, other: PeerPlace): PeerPlace {
  const [narrow, wide] =
    (one.mtuBytes ?? Infinity) <= (other.mtuBytes ?? Infinity) ? [one, other] : [other, one];
  const { stationCount, stations } = one.stationCount >= other.stationCount ? one : other;
  return {
    ...narrow,
    port: narrow.port ?? wide.port,
    refusesSegmentation: one.refusesSegmentation || other.refusesSegmentation,
    tunnelUse: one.tunnelUse === 'none' ? other.tunnelUse : one.tunnelUse,
    stationCount,
    stations,
  };
}
