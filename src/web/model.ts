/** The contents of the live page, kept up to date by the events of a watch. */
import { droppedFrameText } from '../control/drop-text.js';
import type { CounterRow } from '../control/messages.js';
import type { PeerRow } from '../control/peer-messages.js';
import type {
  CountersEvent,
  MissedEvent,
  StateEvent,
  WatchEvent,
  WatchInfo,
} from '../control/watch-messages.js';
import {
  type About,
  type History,
  HISTORY_POINTS,
  LOG_LINES,
  type LogLine,
  type OverlayView,
  type PeerView,
  type Rates,
  type Snapshot,
  type Update,
} from './messages.js';

/** MACs of a peer that the page names. */
const MAX_STATIONS = 4;

type Series = Record<keyof History, (number | null)[]>;

export class Model {
  #about: About;
  readonly #overlays = new Map<string, OverlayView>();
  readonly #history = new Map<string, Series>();
  #peers: readonly PeerView[] = [];
  /** Undefined: the pages do not show the log. */
  readonly #log: LogLine[] | undefined;
  #newLines: LogLine[] = [];
  #changed = new Set<string>();
  #points = new Set<string>();
  #hasNews = false;

  constructor(host: string, hasLog: boolean) {
    this.#log = hasLog ? [] : undefined;
    this.#about = { host, version: null, pid: null, startedAt: null, problem: 'not reached yet' };
  }

  get names(): readonly string[] {
    return [...this.#overlays.keys()];
  }

  /** Overlays that do not come again with the states of this watch are gone. */
  begin({ version, pid, startedAt }: WatchInfo): void {
    this.#about = { ...this.#about, version, pid, startedAt, problem: null };
    for (const name of this.#overlays.keys()) this.#changed.add(name);
    this.#overlays.clear();
    this.#hasNews = true;
  }

  lose(problem: string): void {
    if (this.#about.problem === problem) return;
    this.#about = { ...this.#about, problem };
    this.#hasNews = true;
  }

  take(event: WatchEvent): void {
    if (event.kind === 'state') this.#state(event);
    else if (event.kind === 'counters') this.#counters(event);
    else if (event.kind === 'log') this.#line(event);
    else if (event.kind === 'missed') this.#missed(event);
  }

  #line({ at, level, message }: LogLine): void {
    for (const lines of [this.#log, this.#newLines]) {
      lines?.push({ at, level, message });
      if ((lines?.length ?? 0) > LOG_LINES) lines?.shift();
    }
    this.#hasNews = true;
  }

  #missed({ at, lines: { log = 0 } }: MissedEvent): void {
    if (log > 0)
      this.#line({ at, level: 'warn', message: `${log} lines of the log came too fast for this page` });
  }

  #state(event: StateEvent): void {
    const { overlay: name, isGone, status, details, notes, underlay, peers, ports } = event;
    this.#changed.add(name);
    if (isGone) {
      this.#overlays.delete(name);
      this.#history.delete(name);
      return;
    }
    const before = this.#overlays.get(name);
    const isOffline = status === 'OFFLINE';
    this.#overlays.set(name, {
      rates: (isOffline ? undefined : before?.rates) ?? null,
      drops: (isOffline ? undefined : before?.drops) ?? [],
      lookups: (isOffline ? undefined : before?.lookups) ?? null,
      ...{ name, status, details, notes, underlay, peers, ports },
    });
  }

  #counters({ overlay: name, counters, lookups, drops }: CountersEvent): void {
    const before = this.#overlays.get(name);
    // Its state comes first.
    if (before === undefined) return;
    const rates = ratesOf(counters, drops);
    this.#overlays.set(name, {
      ...before,
      rates,
      drops: drops.map(({ last, ...drop }) => ({
        ...drop,
        last: last === null ? null : droppedFrameText(last),
      })),
      lookups: {
        open: lookups.open,
        p50Ms: lookups.latencyMs?.p50 ?? null,
        p99Ms: lookups.latencyMs?.p99 ?? null,
      },
    });
    const series = this.#history.get(name) ?? { txBits: [], rxBits: [], drops: [] };
    for (const key of ['txBits', 'rxBits', 'drops'] as const) {
      series[key].push(rates[key]);
      if (series[key].length > HISTORY_POINTS) series[key].shift();
    }
    this.#history.set(name, series);
    this.#changed.add(name);
    this.#points.add(name);
  }

  setPeers(rows: readonly PeerView[]): void {
    this.#peers = rows;
  }

  snapshot(): Snapshot {
    const nothing: History = { txBits: [], rxBits: [], drops: [] };
    return {
      about: this.#about,
      overlays: [...this.#overlays.values()].map((overlay) => ({
        ...overlay,
        history: this.#history.get(overlay.name) ?? nothing,
      })),
      peers: this.#peers,
      log: this.#log ?? null,
    };
  }

  /** Changes since the last call; undefined = nothing. */
  update(): Update | undefined {
    if (this.#changed.size === 0 && !this.#hasNews) return undefined;
    const names = [...this.#changed];
    const update: Update = {
      about: this.#about,
      overlays: names.flatMap((name) => this.#overlays.get(name) ?? []),
      gone: names.filter((name) => !this.#overlays.has(name)),
      points: [...this.#points].filter((name) => this.#overlays.has(name)),
      log: this.#newLines,
    };
    this.#newLines = [];
    this.#changed = new Set();
    this.#points = new Set();
    this.#hasNews = false;
    return update;
  }
}

function ratesOf(counters: readonly CounterRow[], drops: CountersEvent['drops']): Rates {
  // A counter that is zero has no row.
  const rate = (name: string): number | null => {
    const row = counters.find((one) => one.name === name);
    return row === undefined ? 0 : row.perSecond;
  };
  const bits = (name: string): number | null => {
    const bytes = rate(name);
    return bytes === null ? null : bytes * 8;
  };
  const trouble = drops.filter(({ kind }) => kind === 'trouble').map(({ perSecond }) => perSecond);
  return {
    txBits: bits('tx_bytes'),
    rxBits: bits('rx_bytes'),
    txFrames: rate('tx_frames'),
    rxFrames: rate('rx_frames'),
    drops: trouble.includes(null) ? null : trouble.reduce<number>((sum, one) => sum + (one ?? 0), 0),
  };
}

/** The peers of one overlay, with the rates since the rows before. */
export function peerViews(
  overlay: string,
  rows: readonly PeerRow[],
  before: ReadonlyMap<string, PeerRow>,
  seconds: number,
): PeerView[] {
  return rows.map(({ ip, state, reason, stationCount, stations, ...counts }) => {
    const past = before.get(`${overlay} ${ip}`);
    const bits = (key: 'txBytes' | 'rxBytes'): number | null =>
      past === undefined || counts[key] < past[key] ? null : ((counts[key] - past[key]) * 8) / seconds;
    return {
      ...{ overlay, ip, state, reason, stationCount },
      stations: stations.slice(0, MAX_STATIONS),
      txBits: bits('txBytes'),
      rxBits: bits('rxBytes'),
    };
  });
}
