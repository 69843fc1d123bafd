/**
 * The metrics of varpd for Prometheus: all counters of overlays, ports and sockets, the state of their links,
 * and the process itself. All values are read at once for each request, and none is kept until the next one,
 * so a deleted overlay is gone from the metrics.
 *
 * A counter `NAME` of dladm is `varpd_overlay_NAME_total` (with one exception: see metricOf), and that of a
 * port is `varpd_port_NAME_total`; reasons for drops are labels.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { PeerTrouble } from '../../control/peer-messages.js';
import { PORT_TRAFFIC, TRAFFIC } from '../../core/counts/counters.js';
import type { Datapath } from '../../datapath/contract.js';
import { type DropReason, DROPS, PROTECTION_DROPS, SOCKET_DROPS } from '../../model/drops.js';
import { OFFLOADS } from '../../model/offloads.js';
import { formatEndpoint } from '../../wire/ip.js';
import { RANKS } from '../health.js';
import { VERSION } from '../version.js';
import type { AnswerTimes, Observed, ObservedOverlay } from './observed.js';

export interface MetricSources {
  readonly directory: Observed;
  readonly datapath: Pick<Datapath, 'features' | 'socketCounters' | 'ping'>;
  readonly peers: { troubles(overlay: number): ReadonlyMap<string, PeerTrouble> };
}

/** Time for the datapath to answer. It takes a fraction of this, or hangs. */
const ANSWER_MS = 1000;
/**
 * Time between two measurements of how late the control thread is; the library's own 10 ms would wake it a
 * hundred times a second.
 */
const LAG_PRECISION_MS = 100;

/** Gauges of the library that are named like counters. Their sums are there too, without `_total`. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

const PEER_STATES = ['unreachable', 'silent'] as const satisfies readonly PeerTrouble['state'][];
const UNDERLAY_STATES = ['up', 'partly', 'down'] as const;
const PORT_REASONS = Object.keys(PROTECTION_DROPS) as DropReason[];
const SOCKET_REASONS = Object.keys(SOCKET_DROPS) as DropReason[];
/**
 * Reasons of a socket belong to no overlay: summed over the overlays that share the socket they would count
 * several times.
 */
const OVERLAY_REASONS = (Object.keys(DROPS) as DropReason[]).filter(
  (reason) => !SOCKET_REASONS.includes(reason),
);
/** Kind of a reason: alerts are for one of the kinds. */
const kindOf = (reason: DropReason): string => DROPS[reason].kind;

const namesOf = <C extends string>(counters: Readonly<Record<C, string>>) => Object.keys(counters) as C[];
const OVERLAY_TRAFFIC_NAMES = namesOf(TRAFFIC);
const PORT_TRAFFIC_NAMES = namesOf(PORT_TRAFFIC);

/** One metric: its help text, and the labels of its values. */
type Family = readonly [help: string, ...labels: string[]];

const GAUGES = {
  build_info: ['1; the label has the version.', 'version'],
  kernel_feature: ['1 when this kernel has the feature.', 'feature'],
  datapath_answer_seconds: [
    'Time that the datapath threads took to answer varpd at this scrape; 1 when one of them did not answer within that.',
  ],
  overlays: [
    'Overlays by state: running, or offline (stored and not running). `stopped` equals `offline` and will be removed.',
    'state',
  ],
  vnics: ['VNICs that run (running), and those that are stored and do not (offline).', 'state'],
  overlay_info: ['1; the labels say what the overlay is.', 'overlay', 'vnetid', 'search', 'listen'],
  overlay_online: ['1 when nothing is wrong with the overlay, 0 when it is degraded.', 'overlay'],
  overlay_troubles: [
    `Troubles for which the overlay is degraded, by source: ${RANKS.join(', ')}.`,
    'overlay',
    'source',
  ],
  overlay_underlay_state: ['1 for the state of its underlay: up, partly or down.', 'overlay', 'state'],
  overlay_destinations: ['Underlay addresses that its frames go to.', 'overlay'],
  overlay_peers_in_trouble: [
    'Peers that ICMP calls unreachable, and those that send nothing back (silent).',
    'overlay',
    'state',
  ],
  overlay_targets: ['Entries of its target table, those that wait or say "nowhere" included.', 'overlay'],
  overlay_lookups_open: ['Questions that the lookup plugin has not answered yet.', 'overlay'],
  overlay_mapping_entries: ['Entries of the mapping that the plugin answers out of.', 'overlay'],
  overlay_mapping_timestamp_seconds: ['Time since which that mapping is in force (Unix time).', 'overlay'],
  overlay_offload: ['1 when an offload is in force.', 'overlay', 'offload'],
  port_up: [
    '1 when the device of the port exists, is up, and has its own name and an accepted MAC.',
    'overlay',
    'port',
  ],
  port_carrier: ['1 when a port has a carrier; it may lose it with link-state=follow.', 'overlay', 'port'],
} as const satisfies Record<string, Family>;

/**
 * Other name of a counter for Prometheus: a metric that ends in a unit has that unit, and Prometheus knows no
 * bits.
 */
type NameOf<C extends string> = C extends 'rx_reserved_bits' ? 'rx_reserved_flags' : C;

export function metricOf<C extends string>(counter: C): NameOf<C> {
  return (counter === 'rx_reserved_bits' ? 'rx_reserved_flags' : counter) as NameOf<C>;
}

type FamiliesOf<S extends string, C extends string> = Readonly<Record<`${S}_${NameOf<C>}_total`, Family>>;

function familiesOf<S extends string, C extends string>(
  subject: S,
  counters: Readonly<Record<C, string>>,
  ...labels: string[]
): FamiliesOf<S, C> {
  const families = Object.entries<string>(counters).map(([name, help]): [string, Family] => [
    `${subject}_${metricOf(name)}_total`,
    [help, ...labels],
  ]);
  return Object.fromEntries(families) as FamiliesOf<S, C>;
}

const COUNTERS = {
  ...familiesOf('overlay', TRAFFIC, 'overlay'),
  overlay_drops_total: [
    'Frames not delivered, by reason, without the drops of sockets. `kind` is by_design or trouble.',
    'overlay',
    'reason',
    'kind',
  ],
  overlay_plugin_exits_total: ['Number of times the process of its plugin has ended by itself.', 'overlay'],
  overlay_underlay_losses_total: ['Number of times the underlay stopped being up.', 'overlay'],
  ...familiesOf('port', PORT_TRAFFIC, 'overlay', 'port'),
  port_drops_total: [
    'Frames from a port that link protection did not let pass.',
    'overlay',
    'port',
    'reason',
    'kind',
  ],
  socket_drops_total: [
    'Datagrams dropped before their overlay was known, counted once however many overlays share the socket.',
    'listen',
    'reason',
  ],
} as const satisfies Record<string, Family>;

const HISTOGRAMS = {
  overlay_lookup_duration_seconds: [
    'Histogram of the time that the lookup plugin took to answer. A question without an answer is not in it.',
    'overlay',
  ],
} as const satisfies Record<string, Family>;

/** All metrics, under the names that Prometheus sees. */
export const METRICS = Object.entries<Family>({ ...COUNTERS, ...HISTOGRAMS, ...GAUGES }).map(
  ([name, [help, ...labels]]) => ({ name: `varpd_${name}`, help, labels }),
);

type Name = keyof typeof GAUGES | keyof typeof COUNTERS;
type Labels = Readonly<Record<string, string | number>>;

interface Metric {
  readonly all: Pick<Gauge, 'reset'>;
  put(labels: Labels, value: number): void;
}

/** A histogram of values that were counted elsewhere: that of prom-client takes them one by one. */
class CountedHistogram extends Histogram {
  readonly #about: { readonly name: string; readonly help: string };
  #values: object[] = [];

  constructor(options: ConstructorParameters<typeof Histogram>[0]) {
    super(options);
    this.#about = { name: options.name, help: options.help };
  }

  put(labels: Labels, { within, count, sumS }: AnswerTimes): void {
    const { name } = this.#about;
    for (const { boundS, count } of within)
      this.#values.push({ metricName: `${name}_bucket`, labels: { ...labels, le: boundS }, value: count });
    this.#values.push(
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
      { metricName: `${name}_sum`, labels, value: sumS },
      { metricName: `${name}_count`, labels, value: count },
    );
  }

  clear(): void {
    this.#values = [];
  }

  /** prom-client makes its text of this. */
  getForPromString(): Promise<object> {
    return Promise.resolve({ ...this.#about, type: 'histogram', values: this.#values });
  }
}

export class Metrics {
  readonly #sources: MetricSources;
  readonly #registry = new Registry();
  readonly #metrics = new Map<Name, Metric>();
  readonly #lookupTimes: CountedHistogram;

  constructor(sources: MetricSources) {
    this.#sources = sources;
    const optionsOf = (name: string, [help, ...labelNames]: Family) => ({
      name: `varpd_${name}`,
      help,
      labelNames,
      registers: [this.#registry],
    });
    for (const [name, family] of Object.entries<Family>(GAUGES)) {
      const all = new Gauge(optionsOf(name, family));
      this.#metrics.set(name as Name, {
        all,
        put: (labels, value) => {
          all.set(labels, value);
        },
      });
    }
    for (const [name, family] of Object.entries<Family>(COUNTERS)) {
      const all = new Counter(optionsOf(name, family));
      this.#metrics.set(name as Name, {
        all,
        put: (labels, value) => {
          all.inc(labels, value);
        },
      });
    }
    const times = HISTOGRAMS.overlay_lookup_duration_seconds;
    this.#lookupTimes = new CountedHistogram(optionsOf('overlay_lookup_duration_seconds', times));
    collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: LAG_PRECISION_MS });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** All values as they are now, in the text format of Prometheus. */
  async text(): Promise<string> {
    const late = delay(ANSWER_MS, undefined, { ref: false });
    const [answerMs, targets] = await Promise.all([
      Promise.race([this.#answerMs(), late]),
      Promise.race([this.#countTargets(), late]),
    ]);
    this.#fill(targets ?? new Map<ObservedOverlay, number>());
    this.#put('datapath_answer_seconds', {}, (answerMs ?? ANSWER_MS) / 1000);
    return this.#registry.metrics();
  }

  /** Resolves when every datapath thread has answered, to the milliseconds that it took; never while one hangs. */
  async #answerMs(): Promise<number> {
    const startedMs = performance.now();
    await this.#sources.datapath.ping();
    return performance.now() - startedMs;
  }

  async #countTargets(): Promise<ReadonlyMap<ObservedOverlay, number>> {
    const overlays = [...this.#sources.directory.overlays.values()];
    return new Map(
      await Promise.all(overlays.map(async (one) => [one, await one.datapath.targetCount()] as const)),
    );
  }

  #put(name: Name, labels: Labels, value: number | boolean): void {
    this.#metrics.get(name)?.put(labels, Number(value));
  }

  #fill(targets: ReadonlyMap<ObservedOverlay, number>): void {
    const { directory, datapath } = this.#sources;
    for (const { all } of this.#metrics.values()) all.reset();
    this.#lookupTimes.clear();
    this.#put('build_info', { version: VERSION }, 1);
    for (const [feature, isThere] of Object.entries(datapath.features))
      this.#put('kernel_feature', { feature }, isThere);
    const { counts, offline } = directory;
    for (const kind of ['overlays', 'vnics'] as const) {
      this.#put(kind, { state: 'running' }, counts[kind]);
      this.#put(kind, { state: 'offline' }, offline[kind]);
    }
    // Name of `offline` in 0.1, for alerts that still use it.
    this.#put('overlays', { state: 'stopped' }, offline.overlays);
    for (const overlay of directory.overlays.values()) {
      this.#fillOverlay(overlay, targets.get(overlay));
      this.#fillPorts(overlay);
    }
    for (const [listen, counters] of datapath.socketCounters())
      for (const reason of SOCKET_REASONS)
        this.#put('socket_drops_total', { listen, reason }, counters[reason]);
  }

  #fillOverlay(one: ObservedOverlay, targetCount: number | undefined): void {
    const { name: overlay, plan, listen, links } = one;
    const { health, underlay, offloads, counters, mode, mapping } = one.info();
    const { lookupTimes, counts } = one.plugin;
    const { vnetid, search } = plan;
    this.#put('overlay_info', { overlay, vnetid, search, listen: formatEndpoint(listen) }, 1);
    this.#put('overlay_online', { overlay }, health.status === 'ONLINE');
    for (const [source, count] of one.health.troubleCounts())
      this.#put('overlay_troubles', { overlay, source }, count);
    for (const state of UNDERLAY_STATES)
      this.#put('overlay_underlay_state', { overlay, state }, state === underlay.state);
    this.#put('overlay_underlay_losses_total', { overlay }, underlay.losses);
    this.#put('overlay_destinations', { overlay }, links.destinationCount);
    const troubles = [...this.#sources.peers.troubles(one.id).values()];
    for (const state of PEER_STATES)
      this.#put(
        'overlay_peers_in_trouble',
        { overlay, state },
        troubles.filter((each) => each.state === state).length,
      );
    if (mode === 'dynamic' && targetCount !== undefined)
      this.#put('overlay_targets', { overlay }, targetCount);
    this.#put('overlay_lookups_open', { overlay }, lookupTimes.open);
    this.#lookupTimes.put({ overlay }, counts.answers);
    this.#put('overlay_plugin_exits_total', { overlay }, counts.exits);
    if (mapping !== null && mapping !== undefined) {
      this.#put('overlay_mapping_entries', { overlay }, mapping.entries);
      this.#put('overlay_mapping_timestamp_seconds', { overlay }, Date.parse(mapping.at) / 1000);
    }
    for (const offload of OFFLOADS)
      this.#put('overlay_offload', { overlay, offload }, offloads.includes(offload));
    for (const name of OVERLAY_TRAFFIC_NAMES)
      this.#put(`overlay_${metricOf(name)}_total`, { overlay }, counters[name]);
    for (const reason of OVERLAY_REASONS)
      this.#put('overlay_drops_total', { overlay, reason, kind: kindOf(reason) }, counters[reason]);
  }

  /** A port without a device has no counters, and one that gets a new one counts from zero. */
  #fillPorts(one: ObservedOverlay): void {
    const { name: overlay } = one;
    const { carrier } = one.links;
    for (const { name: port, state, counters } of one.ports()) {
      this.#put('port_up', { overlay, port }, state === 'up');
      if (Object.keys(counters).length === 0) continue;
      this.#put('port_carrier', { overlay, port }, carrier);
      for (const name of PORT_TRAFFIC_NAMES)
        this.#put(`port_${name}_total`, { overlay, port }, counters[name]);
      for (const reason of PORT_REASONS)
        this.#put('port_drops_total', { overlay, port, reason, kind: kindOf(reason) }, counters[reason]);
    }
  }
}
