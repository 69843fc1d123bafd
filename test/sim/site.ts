// The hosts of one site: the real engine of the datapath, the real plugin host and its retries on each, on a network in memory
// without delay. Hosts are made when they are needed, since most questions need a few.
import { createCounters, readCounters } from '../../src/core/counts/counters.js';
import { MemoryNetwork } from '../../src/io/memory.js';
import { read32, write32 } from '../../src/wire/bytes.js';
import * as ethernet from '../../src/wire/ethernet.js';
import { frame } from '../helpers/lab.js';
import { Clock } from './clock.js';
import { SimulatedHost } from './host.js';
import { hostOf, interfaceMacOf, macOf } from './names.js';
import { randomFrom, wholeBelow } from './random.js';
import { Store, type StoreTerms } from './store.js';
import type { WayTerms } from './ways.js';

export interface SiteTerms {
  readonly hosts: number;
  readonly macs: number;
  readonly seed: number;
  readonly store: StoreTerms;
  readonly way: WayTerms;
}

const FLOW_AT = 14;
const FRAME_BYTES = 60;
/** Share of a host's peers that are popular stations, such as gateways and name servers, and the number of those. */
const [POPULAR_SHARE, POPULAR] = [0.2, 1000];
/** Stations that speak to each other most: those of as many hosts. */
const NEIGHBOURHOOD = 10;

/** Frames from one host to one MAC. */
export interface Flow {
  readonly id: number;
  readonly from: number;
  readonly mac: number;
  /** A frame has arrived at this host. */
  arrived: ((host: number) => void) | undefined;
}

export class Site {
  readonly clock = new Clock();
  readonly network = new MemoryNetwork();
  readonly store: Store;
  readonly terms: SiteTerms;
  /** One set for all hosts: nothing here asks a single host for its counts. */
  readonly counters = createCounters();
  readonly random: () => number;
  readonly hosts: (SimulatedHost | undefined)[] = [];
  /** MAC -> the host that has it now, whatever the store says. */
  readonly places: Int32Array;
  /** Frames that were sent, and that came out at any host. */
  sent = 0;
  received = 0;
  readonly #flows: Flow[] = [];
  readonly #frame = frame(macOf(0), interfaceMacOf(0), FRAME_BYTES);
  readonly #ready: number[] = [];
  readonly #uninstall: () => void;
  #isPumping = false;

  constructor(terms: SiteTerms) {
    const { hosts, macs, seed } = terms;
    this.terms = terms;
    this.random = randomFrom(seed);
    const perHost = macs / hosts;
    this.places = Int32Array.from({ length: macs }, (_, mac) => Math.floor(mac / perHost));
    this.store = new Store(this.clock, randomFrom(seed + 1), this.places.slice(), terms.store);
    this.network.onDatagram = ({ to }) => {
      this.#ready.push(hostOf(to));
    };
    this.#uninstall = this.clock.install(seed + 2);
  }

  /** The time of the process is its own again. */
  close(): void {
    this.#uninstall();
  }

  host(index: number): SimulatedHost {
    return (this.hosts[index] ??= new SimulatedHost(this, index));
  }

  flow(from: number, mac: number): Flow {
    const flow: Flow = { id: this.#flows.length, from, mac, arrived: undefined };
    this.#flows.push(flow);
    return flow;
  }

  /** The MACs that a host speaks to: most are near, some are popular, none is its own. */
  peersOf(host: number, count: number): number[] {
    const { macs, hosts } = this.terms;
    const perHost = macs / hosts;
    const near = perHost * Math.min(NEIGHBOURHOOD, hosts);
    const first = Math.floor((host * perHost) / near) * near;
    const chosen = new Set<number>();
    while (chosen.size < Math.min(count, macs / 2)) {
      // The most popular one is used by most: the square root law makes few of many.
      const mac =
        this.random() < POPULAR_SHARE
          ? Math.floor(this.random() ** 2 * Math.min(POPULAR, macs)) *
            Math.floor(macs / Math.min(POPULAR, macs))
          : (first + wholeBelow(this.random, near)) % macs;
      if (this.places[mac] !== host) chosen.add(mac);
    }
    return [...chosen];
  }

  send(flow: Flow): void {
    const host = this.hosts[flow.from];
    if (host?.isUp !== true) return;
    const bytes = this.#frame;
    ethernet.setDestination(bytes, 0, macOf(flow.mac));
    ethernet.setSource(bytes, 0, interfaceMacOf(flow.from));
    write32(bytes, FLOW_AT, flow.id);
    this.sent++;
    host.send(bytes);
    this.pump();
  }

  /** Everything that was sent arrives. */
  pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    for (let index = this.#ready.pop(); index !== undefined; index = this.#ready.pop()) {
      const host = this.hosts[index];
      if (host?.isUp !== true) continue;
      for (const bytes of host.receive()) {
        this.received++;
        this.#flows[read32(bytes, FLOW_AT)].arrived?.(index);
      }
    }
    this.#isPumping = false;
  }

  /** The count of all hosts together. */
  count(name: keyof ReturnType<typeof readCounters>): number {
    return readCounters(this.counters)[name];
  }
}
