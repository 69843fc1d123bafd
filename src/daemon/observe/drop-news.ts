/**
 * Tells of drops that are trouble: within seconds the overlay has a note with the last frame of each reason, and the log has
 * one line. The datapath only counts; the counters are looked at here at an interval.
 */
import { droppedFrameText } from '../../control/drop-text.js';
import type { DropReport } from '../../datapath/contract.js';
import { type Encapsulation, encapsulationNamed } from '../../encap/index.js';
import { DROPS, type DropReason, PROTECTION_DROPS } from '../../model/drops.js';
import { counted } from '../../model/sentences.js';
import type { Log } from '../log.js';
import { droppedFrameInfo } from './dropped-frame.js';
import type { ObservedOverlay } from './observed.js';
import type { Statistics } from './statistics.js';

/** A rule that drops one frame drops all. */
const TOLD_AT_ONCE: DropReason = 'tx_firewall';

/**
 * Trouble that health has a better sentence for, of its plugin, its underlay, its paths, its ports or its sources; and frames
 * that a guest may not send, which are the guest's trouble.
 */
const TOLD_ELSEWHERE: ReadonlySet<string> = new Set([
  'lookup_failed',
  'lookup_timeout',
  'tx_loop',
  'tx_path_mtu',
  'tx_unreachable',
  'rx_bad_source',
  'port_down',
  ...Object.keys(PROTECTION_DROPS),
]);

const REASONS = (Object.keys(DROPS) as DropReason[]).filter(
  (reason) => DROPS[reason].kind === 'trouble' && !TOLD_ELSEWHERE.has(reason),
);

/** A trouble is logged once while it goes on, and again when it begins after this time without a drop. The note ends then. */
const QUIET_MS = 60_000;
/** A single frame may go astray when an overlay starts, moves or ends. */
const MIN_FRAMES = 2;

interface Trouble {
  /** Frames dropped so far. */
  count: number;
  /** Frames of those that came before the trouble began. */
  base: number;
  /** Time of the last drop. */
  lastMs: number;
  isTold: boolean;
}

export class DropNews {
  readonly #log: Log;
  readonly #nowMs: () => number;
  /** By overlay and reason. */
  #troubles = new Map<string, Trouble>();

  constructor(log: Log, nowMs: () => number = () => performance.now()) {
    this.#log = log;
    this.#nowMs = nowMs;
  }

  look(overlays: Iterable<ObservedOverlay>, statistics: Pick<Statistics, 'countersOf'>): void {
    const troubles = new Map<string, Trouble>();
    for (const overlay of overlays) {
      const counters = statistics.countersOf(overlay);
      // Most looks find the same drops as before, and need no example.
      let reports: readonly DropReport[] | undefined;
      for (const reason of REASONS) {
        const frames = counters[reason] ?? 0;
        if (frames === 0) continue;
        // An overlay that was deleted and created again counts from zero.
        const key = `${overlay.id} ${reason}`;
        const after = this.#follow(overlay, reason, frames, this.#troubles.get(key));
        troubles.set(key, after.trouble);
        if (after.news === undefined) continue;
        reports ??= overlay.datapath.drops(counters);
        const report = reports.find((one) => one.reason === reason)!;
        this.#tell(overlay, report, after.trouble, after.news);
      }
    }
    this.#troubles = troubles;
  }

  /** `news`: the trouble begins or goes on, so that there is something to say. */
  #follow(
    overlay: ObservedOverlay,
    reason: DropReason,
    count: number,
    before: Trouble = { count: 0, base: 0, lastMs: -Infinity, isTold: false },
  ): { trouble: Trouble; news?: 'begins' | 'goes on' } {
    const nowMs = this.#nowMs();
    const isQuiet = nowMs - before.lastMs >= QUIET_MS;
    if (count === before.count) {
      if (!isQuiet || !before.isTold) return { trouble: before };
      overlay.health.endNote(`drops ${reason}`);
      return { trouble: { ...before, isTold: false } };
    }
    const base = isQuiet ? before.count : before.base;
    const isTold = !isQuiet && before.isTold;
    const isEnough = count - base >= MIN_FRAMES || reason === TOLD_AT_ONCE;
    const trouble = { count, base, lastMs: nowMs, isTold: isTold || isEnough };
    return trouble.isTold ? { trouble, news: isTold ? 'goes on' : 'begins' } : { trouble };
  }

  #tell({ name, plan, health }: ObservedOverlay, drop: DropReport, { base }: Trouble, news: string): void {
    const { reason } = drop;
    const text = this.#sentence(drop, encapsulationNamed(plan.encap)!, drop.frames - base);
    health.note(`drops ${reason}`, text);
    if (news === 'begins') this.#log.warn(`drops ${name} ${reason}`, `${name}: ${text}`);
  }

  #sentence({ reason, last }: DropReport, encap: Encapsulation, frames: number): string {
    const example = last === undefined ? '' : ` (${droppedFrameText(droppedFrameInfo(reason, last, encap))})`;
    return `${counted(frames, 'frame')} dropped as ${reason}${example}: ${DROPS[reason].about}`;
  }
}
