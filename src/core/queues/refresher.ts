/**
 * Keeps the targets in use of an overlay fresh: the plugin is asked about each shortly before its fresh end, so that no
 * frame waits for the answer (target-ages.ts has the times).
 *
 *   first use since the answer ---> alarm at the ask tick ---> question ---> answer: a new age begins
 *                                        ^                        |
 *                                        `---- pause, and use ----'  it failed: the target stays, stale
 *
 * A target is in use if a frame has used it since the last answer, or since the last attempt. Only then it has an alarm,
 * so a target that is not in use costs no question and ends. Targets of group MACs are not asked about ahead, since
 * such a question needs a frame.
 */
import type { Alarms, Sleeper } from './alarms.js';
import type { Questions } from './questions.js';
import { NONE } from '../tables/mac-index.js';
import { isUsable, type TargetTable } from '../tables/target-table.js';
import { TickHeap } from '../tables/tick-heap.js';

/** The parts of the overlay that are used here. */
interface Parts {
  readonly targets: TargetTable;
  readonly questions: Questions;
  readonly shared: { readonly nowTick: number; readonly alarms: Alarms };
  /** Asks about a target in use. Returns false if too many questions are open. */
  confirm(row: number): boolean;
}

export class Refresher implements Sleeper {
  readonly #overlay: Parts;
  readonly #due = new TickHeap();
  #alarm: number;

  constructor(overlay: Parts) {
    this.#overlay = overlay;
    this.#alarm = overlay.shared.alarms.add(this);
  }

  /** To be called for the first use of a target with a ttl since the last answer or attempt; further calls do no harm. */
  used(row: number): void {
    const { targets, questions, shared } = this.#overlay;
    if (this.#due.has(row) || targets.isGroup(row) || questions.of(row) !== undefined) return;
    const tick = targets.ages.askTick(row);
    if (((tick - shared.nowTick) | 0) > 0) this.#set(row, tick);
    else this.#ask(row);
  }

  /** Asks about the target that is due first. */
  wake(nowTick: number): void {
    const row = this.#due.first;
    if (row === NONE) return;
    this.#due.delete(row);
    if (isUsable(this.#overlay.targets.state(row, nowTick))) this.#ask(row);
    this.#setAlarm();
  }

  /** To be called when the question about a target in use was given up. */
  postpone(row: number): void {
    this.#set(row, this.#overlay.targets.ages.postponed(row, this.#overlay.shared.nowTick));
  }

  /** To be called when a row gets another answer, or none any more. */
  forget(row: number): void {
    if (!this.#due.has(row)) return;
    const wasFirst = this.#due.first === row;
    this.#due.delete(row);
    if (wasFirst) this.#setAlarm();
  }

  /** Asks about nothing any more. */
  close(): void {
    this.#overlay.shared.alarms.remove(this.#alarm);
    this.#alarm = NONE;
  }

  #ask(row: number): void {
    const { targets, shared } = this.#overlay;
    targets.ages.asked(row, shared.nowTick);
    if (!this.#overlay.confirm(row)) this.postpone(row);
  }

  #set(row: number, tick: number): void {
    this.#due.set(row, tick);
    if (this.#due.first === row) this.#setAlarm();
  }

  #setAlarm(): void {
    const { first } = this.#due;
    if (this.#alarm !== NONE)
      this.#overlay.shared.alarms.set(this.#alarm, first === NONE ? undefined : this.#due.tick(first));
  }
}
