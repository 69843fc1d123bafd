/**
 * The open questions of an overlay about unicast MACs: at most one per target, each with its asker. Their
 * number is bounded, and each port has its share (shares.ts), so that a scan by one guest keeps no other port
 * from asking. Each port also has a rate (QUESTION_RATE), which includes its questions about broadcasts,
 * since the plugin and the control thread share the processors with the threads that move frames.
 *
 * If several ports wait for one answer, the question counts for the port with the fewest questions, so that
 * no port loses it because of another port's questions.
 */
import { Allowance, type Rate } from './allowance.js';
import type { Miss, Question } from '../lookup.js';
import type { Port } from '../port.js';
import { type Linked, Shares } from './shares.js';

/** With this bound a plugin that takes 100 ms still answers 10,000 questions a second. More questions would
 * live so long that the garbage collector moves them to its old generation: a scan would then cost 80 MiB. */
const MAX_OPEN = 1024;
/** Bound on inquiries: questions that no frame waits for, about the place of a source MAC, or of the station
 * of a silent port. So a peer that invents MACs leaves questions for the frames of this host. */
const MAX_INQUIRIES = MAX_OPEN / 4;

/** Rate of one port, and of all inquiries. A question takes the control thread some 40 us, 100 with garbage
 * collection. Linux has at most 1,024 neighbours by default (gc_thresh3), so a router that has lost them all
 * can look them all up at once. */
export const QUESTION_RATE: Rate = { perSecond: 1000, burst: MAX_OPEN };

/** Rate of confirmations. A burst of them need not be large, since no frame waits for an answer. */
const CONFIRMATION_RATE: Rate = { perSecond: 1000, burst: 256 };

/** Asker of a question that no frame waits for. */
export const INQUIRY = 'inquiry';
/** Asker of a question about a target in use: its answer gets old, or is from before a restart. */
export const CONFIRMATION = 'confirmation';
export type Asker = Port | typeof INQUIRY | typeof CONFIRMATION;

interface Open extends Linked<Open> {
  readonly row: number;
  question: Question;
  asker: Asker;
}

export class Questions {
  /** Row -> question, in the order in which they were asked. */
  readonly #byRow = new Map<number, Open>();
  /** Number of the question -> row. */
  readonly #rowOf = new Map<number, number>();
  readonly #shares = new Shares<Asker, Open>(MAX_OPEN);
  readonly #inquiries: Allowance;
  readonly #confirmations: Allowance;

  constructor(clock: { readonly nowTick: number }) {
    this.#inquiries = new Allowance(clock, QUESTION_RATE);
    this.#confirmations = new Allowance(clock, CONFIRMATION_RATE);
  }

  /** The row of the question that must make room for another; undefined if there is room. The asker of the
   * other question must have been admitted. */
  get inTheWay(): number | undefined {
    return this.#shares.hasRoom(1) ? undefined : this.#shares.oldest(this.#shares.largest())?.row;
  }

  /** Returns whether `asker` may ask one more question, by its share and its rate. If so, the question counts
   * as asked. */
  admits(asker: Asker): boolean {
    if (asker === INQUIRY && this.#shares.of(INQUIRY) >= MAX_INQUIRIES) return false;
    if (!this.#shares.mayTake(asker, 1)) return false;
    if (asker === CONFIRMATION) return this.#confirmations.take();
    return (asker === INQUIRY ? this.#inquiries : asker.questions).take();
  }

  /** Makes these refuse to `own` what `other` refuses to `port`, by its share. */
  imitate(other: Questions, port: Port, own: Port): void {
    this.#shares.leave(own, other.#shares.most(port));
    this.#confirmations.imitate(other.#confirmations);
  }

  /** The rows that await an answer, as a copy. */
  get rows(): readonly number[] {
    return [...this.#byRow.keys()];
  }

  /** Returns the question whose answer this row awaits. */
  of(row: number): Question | undefined {
    return this.#byRow.get(row)?.question;
  }

  askerOf(row: number): Asker | undefined {
    return this.#byRow.get(row)?.asker;
  }

  /** Returns the row that awaits the answer to the question with this number. */
  rowOf(lookup: number): number | undefined {
    return this.#rowOf.get(lookup);
  }

  add(row: number, question: Question, asker: Asker): void {
    const open: Open = { row, question, asker, older: undefined, newer: undefined };
    this.#byRow.set(row, open);
    this.#rowOf.set(question.lookup, row);
    this.#shares.add(asker, open, 1);
  }

  /** Notes the frame that waits for an answer that no frame has awaited until now. */
  describe(row: number, miss: Miss): void {
    const open = this.#byRow.get(row);
    if (open !== undefined) open.question = { ...open.question, ...miss };
  }

  /** Notes that `port` waits for the answer as well. If the question now counts for it, it is the port's
   * newest. */
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
