/**
 * One probe. Loopback messages go first. If none is answered, the station is asked itself: by ARP or neighbour
 * solicitation for its IP address, or for the link-local one that is made of its MAC. The search for the
 * largest packet and the test of each path follow if there was an answer.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ProbeInfo } from '../../control/messages.js';
import type { FrameProbe, ProbedDatapath } from '../../datapath/probe-contract.js';
import { encapsulationNamed, frameOverheadBytes } from '../../encap/index.js';
import { DROPS } from '../../model/drops.js';
import { type Endpoint, family, type IpAddress, isV4 } from '../../wire/ip.js';
import { BROADCAST, formatMac, type MacAddress } from '../../wire/mac.js';
import * as ndp from '../../wire/ndp.js';
import { headerBytes, loopbackFrame, neighborFrame, pathOf, type ProbeRoute } from './probe-frames.js';
import { countOf, isAnswered, ProbeSession, type Sent } from './probe-session.js';

const INTERVAL_MS = 100;
/** Time for an answer: no round trip between two hosts is longer, and a lookup takes part of it. */
const WAIT_MS = 1000;
/** Once a round trip is known, an answer may take several of it, no less than this, and no more than the time above. */
const MIN_WAIT_MS = 300;
const WAIT_ROUND_TRIPS = 4;
/** A size that was not answered so often does not arrive. */
const TRIES_PER_SIZE = 3;
/** A path that was not answered so often is broken. Answers come back on other paths, one half of which may be
 * broken too: by chance, one in 65,536 sound paths fails all. */
const TRIES_PER_PATH = 16;
/** If no path has answered by then, none will. */
const TRIES_OF_ALL = 4;
/** Between two tries of all paths, and for each message of a try: the other end answers 500 a second. */
const PATHS_PAUSE_MS = 200;
const PER_PATH_MS = 4;

export interface ProbedOverlay {
  readonly name: string;
  readonly mac: MacAddress;
  readonly plan: { readonly encap: string };
  readonly listen: Endpoint;
  readonly mtuBytes: number;
  readonly datapath: ProbedDatapath;
  readonly vnics: ReadonlyMap<string, { readonly mac: MacAddress; readonly vid: number }>;
  readonly links: { macOf(port: string): MacAddress | undefined };
  readonly plugin: {
    neighbor(ip: IpAddress): Promise<MacAddress | null | undefined>;
    /** Null: no other host finds the MAC. Undefined: the plugin cannot tell. */
    placeOf(mac: MacAddress): unknown;
  };
  hasMac(mac: MacAddress): boolean;
}

/** The port that sends, with the VLAN of its frames on the overlay. */
export interface ProbePort {
  readonly name: string;
  readonly mac: MacAddress;
  readonly vid: number;
}

/** Without a MAC, ARP or neighbour solicitation has to find it. */
export interface ProbeTarget {
  readonly mac: MacAddress | undefined;
  readonly ip: IpAddress | undefined;
}

export interface ProbeWishes {
  readonly packetBytes: number;
  readonly count: number;
  readonly isMtuSought: boolean;
  readonly isEachPath: boolean;
}

type Paths = NonNullable<ProbeInfo['paths']>;

export class ProbeRun {
  readonly #overlay: ProbedOverlay;
  readonly #port: ProbePort;
  readonly #target: ProbeTarget;
  readonly #wishes: ProbeWishes;
  readonly #session = new ProbeSession();
  /** The address that the station is asked for; undefined until its MAC is known. */
  readonly #ip: IpAddress | undefined;

  constructor(overlay: ProbedOverlay, port: ProbePort, target: ProbeTarget, wishes: ProbeWishes) {
    this.#overlay = overlay;
    this.#port = port;
    this.#target = target;
    this.#wishes = wishes;
    this.#ip = target.ip ?? (target.mac === undefined ? undefined : ndp.linkLocalOf(target.mac));
  }

  async run(): Promise<ProbeInfo> {
    const { mac } = this.#port;
    const rules = { mac, series: this.#session.series, ip: this.#ip };
    const probe = await this.#overlay.datapath.probe(rules, this.#session);
    try {
      return await this.#run(probe);
    } finally {
      await probe.stop();
    }
  }

  async #run(probe: FrameProbe): Promise<ProbeInfo> {
    const { count } = this.#wishes;
    let { mac } = this.#target;
    if (mac === undefined) {
      const asked = await this.#askMany(probe, BROADCAST, count);
      mac = this.#session.neighborMac;
      if (mac === undefined) return this.#info('neighbor', asked, 0, undefined);
    }
    const messages = await this.#sendMany(probe, mac);
    // Where some paths are broken, a few messages may all have taken those.
    let paths = this.#wishes.isEachPath ? await this.#testPaths(probe, mac) : null;
    const isPathFound = paths?.some(({ received }) => received > 0) === true;
    const asked = isPathFound || messages.some(isAnswered) ? [] : await this.#askMany(probe, mac, count);
    // Meanwhile the messages may have been answered after all: the first one may wait while a router resolves
    // the address of the next host, and asks again once a second (RFC 4861 7.2.2, RFC 1122 2.3.2.1).
    if (isPathFound || messages.some(isAnswered)) {
      // The messages of each path waited as well, and few of them fit the queue of a router.
      if (paths !== null && !isPathFound) paths = await this.#testPaths(probe, mac);
      const mtu = await this.#searchMtu('loopback', probe, mac, messages);
      return { ...this.#info('loopback', messages, 0, mac), mtu, paths };
    }
    // Nothing was answered: the loopback messages say as much, and may say why.
    if (!asked.some(isAnswered)) return this.#info('loopback', messages, messages.length, mac);
    const mtu = await this.#searchMtu('neighbor', probe, mac, asked);
    return { ...this.#info('neighbor', asked, messages.length, mac), mtu };
  }

  #info(
    method: 'loopback' | 'neighbor',
    frames: readonly Sent[],
    unanswered: number,
    mac: MacAddress | undefined,
  ): ProbeInfo {
    const { name, mac: source, vid } = this.#port;
    const reason = frames.find(({ dropped }) => dropped !== undefined)?.dropped;
    const dropped = frames.filter((one) => one.dropped === reason).length;
    return {
      overlay: this.#overlay.name,
      port: name,
      source: formatMac(source),
      mac: mac === undefined ? null : formatMac(mac),
      ip: this.#target.ip ?? null,
      vlan: vid,
      packetBytes: this.#wishes.packetBytes,
      method: method === 'loopback' ? method : isV4(this.#ip!) ? 'arp' : 'ndp',
      unanswered,
      peer: this.#session.peer ?? null,
      ...countOf(frames),
      dropped: reason === undefined ? null : { reason, about: DROPS[reason].about, frames: dropped },
      mtu: null,
      paths: null,
    };
  }

  // -- Round trips

  async #sendMany(probe: FrameProbe, mac: MacAddress): Promise<readonly Sent[]> {
    const { count, packetBytes } = this.#wishes;
    const sent: Sent[] = [];
    for (let number = 0; number < count; number++) {
      if (number > 0) await delay(INTERVAL_MS);
      sent.push(this.#send(probe, mac, packetBytes));
    }
    await this.#session.settle(sent, WAIT_MS);
    return sent;
  }

  /** One after the other: an answer does not say which question it is to. */
  async #askMany(probe: FrameProbe, mac: MacAddress, count: number): Promise<readonly Sent[]> {
    const asked: Sent[] = [];
    while (asked.length < count) {
      if (asked.length > 0) await delay(INTERVAL_MS);
      const one = this.#ask(probe, mac, this.#wishes.packetBytes);
      asked.push(one);
      await this.#session.settle([one], WAIT_MS);
    }
    return asked;
  }

  #send(probe: FrameProbe, mac: MacAddress, packetBytes: number, id = this.#session.nextId()): Sent {
    const frame = loopbackFrame(this.#routeTo(mac), id, packetBytes);
    return this.#session.send(probe, this.#port.name, id, packetBytes, frame);
  }

  #ask(probe: FrameProbe, mac: MacAddress, packetBytes: number): Sent {
    const frame = neighborFrame(this.#routeTo(mac), this.#ip!, packetBytes);
    return this.#session.send(probe, this.#port.name, this.#session.nextId(), packetBytes, frame);
  }

  #routeTo(to: MacAddress): ProbeRoute {
    return { from: this.#port.mac, to, vid: this.#port.vid };
  }

  // -- The largest packet

  async #searchMtu(
    method: 'loopback' | 'neighbor',
    probe: FrameProbe,
    mac: MacAddress,
    answered: readonly Sent[],
  ): Promise<ProbeInfo['mtu']> {
    if (!this.#wishes.isMtuSought) return null;
    const { name, plan, listen, mtuBytes } = this.#overlay;
    const roundTripsMs = WAIT_ROUND_TRIPS * (countOf(answered).roundTripMs?.max ?? 0);
    const waitMs = Math.min(WAIT_MS, Math.max(MIN_WAIT_MS, roundTripsMs));
    const tried: Sent[] = [];
    const arrives = async (packetBytes: number): Promise<boolean> => {
      for (let tries = 0; tries < TRIES_PER_SIZE; tries++) {
        const one =
          method === 'loopback' ? this.#send(probe, mac, packetBytes) : this.#ask(probe, mac, packetBytes);
        tried.push(one);
        await this.#session.settle([one], waitMs);
        if (isAnswered(one)) return true;
        if (one.dropped === 'tx_path_mtu') return false;
      }
      return false;
    };
    let [arrived, lost] = [this.#wishes.packetBytes, mtuBytes + 1];
    if (await arrives(mtuBytes)) arrived = mtuBytes;
    else lost = mtuBytes;
    while (lost - arrived > 1) {
      const middle = Math.floor((arrived + lost) / 2);
      if (await arrives(middle)) arrived = middle;
      else lost = middle;
    }
    // A loopback reply that came too late is an answer too.
    const late = tried.filter(isAnswered).map(({ packetBytes }) => packetBytes);
    const packetBytes = Math.max(arrived, ...late);
    const encapsulation = encapsulationNamed(plan.encap);
    if (encapsulation === undefined) throw new Error(`${name} has no encapsulation ${plan.encap}`);
    return {
      packetBytes,
      underlayBytes:
        packetBytes + headerBytes(this.#port) + frameOverheadBytes(encapsulation, family(listen.ip)),
      limitBytes: mtuBytes,
      isBothWays: method === 'loopback',
    };
  }

  // -- Each path

  async #testPaths(probe: FrameProbe, mac: MacAddress): Promise<Paths> {
    const { sourcePorts } = probe;
    const paths = sourcePorts.map((): Sent[] => []);
    for (let tries = 0; tries < TRIES_PER_PATH; tries++) {
      const open = [...paths.keys()].filter((path) => !paths[path].some(isAnswered));
      if (open.length === 0 || (open.length === paths.length && tries === TRIES_OF_ALL)) break;
      const ids = this.#idsFor(open, mac, paths.length);
      const sent = open.map((path) => this.#send(probe, mac, this.#wishes.packetBytes, ids.get(path)));
      open.forEach((path, index) => paths[path].push(sent[index]));
      const isLast = tries === TRIES_PER_PATH - 1;
      const pauseMs = Math.max(PATHS_PAUSE_MS, PER_PATH_MS * open.length);
      await this.#session.settle(sent, isLast ? WAIT_MS : pauseMs);
    }
    return sourcePorts.map((sourcePort, path) => ({ sourcePort, ...countOf(paths[path]) }));
  }

  /** A transaction for each of these paths, which goes that way. */
  #idsFor(open: readonly number[], mac: MacAddress, paths: number): ReadonlyMap<number, number> {
    const wanted = new Set(open);
    const ids = new Map<number, number>();
    while (wanted.size > 0) {
      const id = this.#session.nextId();
      const path = pathOf(this.#routeTo(mac), id, paths);
      if (wanted.delete(path)) ids.set(path, id);
    }
    return ids;
  }
}
