/**
 * Tells of drops that are trouble: within seconds the overlay has a note with the last frame of each reason, and the log has
 * one line. The datapath only counts; the counters are looked at here at an interval.
 */
import { droppedFrameText } from '../../control/drop-text.js';
import type { DropReport } from '../../datapath/contract.js';
import { type Encapsulation, encapsulationNamed } from '../../encap/index.js';
import { DROPS, type DropReason } from '../../model/drops.js';
import type { Log } from '../log.js';
import { droppedFrameInfo } from './dropped-frame.js';
import type { ObservedOverlay } from './observed.js';

/** In place of the sentence of the reason, where there is more to say. */
const ADVICE: Partial<Record<DropReason, string>> = {
  tx_firewall:
    'a firewall of this host drops what varpd sends (EPERM): let UDP to the listen port of the peers pass its output rules',
};

/** Trouble that an overlay already has a sentence for, of a better source. */
const TOLD_ELSEWHERE: readonly DropReason[] = ['lookup_failed', 'lookup_timeout'];

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

  look(overlays: Iterable<ObservedOverlay>): void {
    const troubles = new Map<string, Trouble>();
    for (const overlay of overlays) {
      const encap = encapsulationNamed(overlay.plan.encap)!;
      for (const drop of overlay.datapath.drops()) {
        if (DROPS[drop.reason].kind !== 'trouble' || TOLD_ELSEWHERE.includes(drop.reason)) continue;
        // An overlay that was deleted and created again counts from zero.
        const key = `${overlay.id} ${drop.reason}`;
        troubles.set(key, this.#follow(overlay, encap, drop, this.#troubles.get(key)));
      }
    }
    this.#troubles = troubles;
  }

  #follow(
    overlay: ObservedOverlay,
    encap: Encapsulation,
    drop: DropReport,
    before: Trouble = { count: 0, base: 0, lastMs: -Infinity, isTold: false },
  ): Trouble {
    const nowMs = this.#nowMs();
    const isQuiet = nowMs - before.lastMs >= QUIET_MS;
    if (drop.frames === before.count) {
      if (!isQuiet || !before.isTold) return before;
      overlay.health.endNote(`drops ${drop.reason}`);
      return { ...before, isTold: false };
    }
    const base = isQuiet ? before.count : before.base;
    const frames = drop.frames - base;
    const isTold = !isQuiet && before.isTold;
    const isEnough = frames >= MIN_FRAMES || ADVICE[drop.reason] !== undefined;
    const now = { count: drop.frames, base, lastMs: nowMs, isTold: isTold || isEnough };
    if (!now.isTold) return now;
    const text = this.#sentence(drop, encap, frames);
    overlay.health.note(`drops ${drop.reason}`, text);
    if (!isTold) this.#log.warn(`drops ${overlay.name} ${drop.reason}`, `${overlay.name}: ${text}`);
    return now;
  }

  #sentence({ reason, last }: DropReport, encap: Encapsulation, frames: number): string {
    const example = last === undefined ? '' : ` (${droppedFrameText(droppedFrameInfo(reason, last, encap))})`;
    const what = frames === 1 ? '1 frame' : `${frames} frames`;
    return `${what} dropped as ${reason}${example}: ${ADVICE[reason] ?? DROPS[reason].about}`;
  }
}
