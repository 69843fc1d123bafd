/**
 * The questions of one overlay about unicast MACs that are under way: one a target, each with who asked it. They are bounded,
 * and each port has its share of them (shares.ts): a scan of one guest keeps no other from asking. So many a second are asked
 * for each port (QUESTION_RATE), those about broadcasts included, since plugin and control thread have a processor to share with
 * those that move frames.
 *
 * A question that several ports wait for counts for the quietest of them, so that nobody loses it by what another does.
 */
import { Allowance, type Rate } from './allowance.js';
import type { Question } from './lookup.js';
import type { Port } from './port.js';
import { type Linked, Shares } from './shares.js';

/** A plugin that takes 100 ms still answers 10,000 a second. Few enough for what they are made of to be gone before the
 * collector takes it for something that stays: a scan would cost 80 MiB otherwise. */
const MAX_OPEN = 1024;
/** Of these, those that nothing waits for: where a source lives, or who may be behind a silent port. A peer that makes
 * MACs up does not keep the plugin from the questions of this host. */
const MAX_INQUIRIES = MAX_OPEN / 4;

/** Of one port, and of inquiries. A question takes the control thread some 40 us, with garbage collection 100. Linux has no more
 * than 1,024 neighbours unless it is told to (gc_thresh3): a router that has lost all of them knows them again at once. */
export const QUESTION_RATE: Rate = { perSecond: 1000, burst: MAX_OPEN };

/** Nothing waits for it. */
export const INQUIRY = 'inquiry';
/** About a target of before a restart, which is in use meanwhile. */
export const CONFIRMATION = 'confirmation';
export type Asker = Port | typeof INQUIRY | typeof CONFIRMATION;

interface Open extends Linked<Open> {
  readonly row: number;
  readonly question: Question;
  asker: Asker;
}

export class Questions {
  /** In the order in which they were asked. */
  readonly #byRow = new Map<number, Open>();
  /** By the number of the question. */
  readonly #rowOf = new Map<number, number>();
  readonly #shares = new Shares<Asker, Open>(MAX_OPEN);
  readonly #inquiries: Allowance;

  constructor(clock: { readonly nowTick: number }) {
    this.#inquiries = new Allowance(clock, QUESTION_RATE);
  }

  /** The number of a row whose question has to make room for one of `asker`; undefined where none has to. The asker is
   * one that may ask. */
  get inTheWay(): number | undefined {
    return this.#shares.hasRoom(1) ? undefined : this.#shares.oldest(this.#shares.largest())?.row;
  }

  /** Whether there is room for one more of `asker`, and it has asked for less than it may. It counts as asked then. */
  admits(asker: Asker): boolean {
    if (asker === INQUIRY && this.#shares.of(INQUIRY) >= MAX_INQUIRIES) return false;
    if (!this.#shares.mayTake(asker, 1)) return false;
    if (asker === CONFIRMATION) return true;
    return (asker === INQUIRY ? this.#inquiries : asker.questions).take();
  }

  /** Those that await an answer, as they are now. */
  get rows(): readonly number[] {
    return [...this.#byRow.keys()];
  }

  /** The question whose answer this row awaits. */
  of(row: number): Question | undefined {
    return this.#byRow.get(row)?.question;
  }

  askerOf(row: number): Asker | undefined {
    return this.#byRow.get(row)?.asker;
  }

  /** The row that awaits the answer to the question of this number. */
  rowOf(lookup: number): number | undefined {
    return this.#rowOf.get(lookup);
  }

  add(row: number, question: Question, asker: Asker): void {
    const open: Open = { row, question, asker, older: undefined, newer: undefined };
    this.#byRow.set(row, open);
    this.#rowOf.set(question.lookup, row);
    this.#shares.add(asker, open, 1);
  }

  /** `port` waits for the answer as well: of those that count for it, this is the newest then. */
  join(row: number, port: Port): void {
    const open = this.#byRow.get(row);
    if (open === undefined || this.#shares.of(port) >= this.#shares.of(open.asker)) return;
    this.#shares.remove(open.asker, open, 1);
    open.asker = port;
    this.#shares.add(port, open, 1);
  }

  remove(row: number): void {
    const open = this.#byRow.get(row);
    if (open === undefined) return;
    this.#byRow.delete(row);
    this.#rowOf.delete(open.question.lookup);
    this.#shares.remove(open.asker, open, 1);
  }
}
