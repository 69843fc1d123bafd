/**
 * Counters of overlays and their ports, with rates: the numbers of now against those of the last look. Looks are
 * LOOK_MS apart, so a rate is that of the last 2 to 4 seconds.
 */
import type { CounterRow, DropRow, OverlayStatistics } from '../../control/messages.js';
import type { DropReport } from '../../datapath/contract.js';
import { encapsulationNamed } from '../../encap/index.js';
import { DROPS } from '../../model/drops.js';
import { droppedFrameInfo } from './dropped-frame.js';
import type { ObservedOverlay } from './observed.js';

type Counts = Readonly<Record<string, number>>;

/** The counters of an overlay and of its ports at one moment. */
interface Look {
  readonly atMs: number;
  readonly counters: Counts;
  readonly ports: ReadonlyMap<string, Counts>;
}

export class Statistics {
  readonly #nowMs: () => number;
  /** By id of the overlay. */
  #last = new Map<number, Look>();
  #before = new Map<number, Look>();

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** Remembers the counters of now. */
  look(overlays: Iterable<ObservedOverlay>): void {
    this.#before = this.#last;
    this.#last = new Map([...overlays].map((overlay) => [overlay.id, this.#lookAt(overlay)]));
  }

  /** The counters of an overlay at the last look, which has seen it. */
  countersOf({ id }: ObservedOverlay): Counts {
    return this.#last.get(id)!.counters;
  }

  of(overlay: ObservedOverlay): OverlayStatistics {
    const now = this.#lookAt(overlay);
    const past = this.#before.get(overlay.id) ?? this.#last.get(overlay.id);
    const seconds = past === undefined ? 0 : (now.atMs - past.atMs) / 1000;
    const perSecond = (value: number, before: number | undefined): number | null =>
      seconds > 0 ? Math.max(0, value - (before ?? 0)) / seconds : null;
    const rows = (counts: Counts, before: Counts | undefined): CounterRow[] =>
      Object.entries(counts)
        .filter(([, value]) => value > 0)
        .map(([name, value]) => ({ name, value, perSecond: perSecond(value, before?.[name]) }));
    const { name, datapath } = overlay;
    const encap = encapsulationNamed(overlay.plan.encap)!;
    const dropRow = ({ reason, frames, last }: DropReport): DropRow => ({
      reason,
      ...DROPS[reason],
      frames,
      perSecond: perSecond(frames, past?.counters[reason]),
      last: last === undefined ? null : droppedFrameInfo(reason, last, encap),
    });
    return {
      name,
      health: overlay.health.report(),
      counters: rows(now.counters, past?.counters).filter((row) => !(row.name in DROPS)),
      lookups: { asked: now.counters['lookups'] ?? 0, ...overlay.plugin.lookupTimes },
      drops: datapath.drops(now.counters).map(dropRow),
      ports: [...now.ports].map(([port, counts]) => ({
        name: port,
        counters: rows(counts, past?.ports.get(port)),
      })),
    };
  }

  #lookAt(overlay: ObservedOverlay): Look {
    return {
      atMs: this.#nowMs(),
      counters: overlay.datapath.counters(),
      ports: new Map(overlay.ports().map(({ name, counters }) => [name, counters])),
    };
  }
}
