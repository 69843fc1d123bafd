/**
 * One client of a watch: a bounded queue of lines, and the count of those that did not fit.
 *
 * The client is written to while its socket takes more, and never waited for. A client that does not read costs its queue, and a
 * number for each kind.
 */
import type { Duplex } from 'node:stream';
import { encodeMessage } from '../../control/framing.js';
import type { MissedEvent, WatchKind } from '../../control/watch-messages.js';

/** A client that reads once a second misses nothing of a hundred busy overlays. */
const MAX_LINES = 1024;
/** A line may be longer: it then has the queue for itself. */
const MAX_CHARACTERS = 256 * 1024;
/** As for an answer that takes long (control/connection.ts). */
const ALIVE_MS = 5_000;

export interface Wish {
  readonly kinds: ReadonlySet<WatchKind>;
  /** Undefined = all. */
  readonly overlays: ReadonlySet<string> | undefined;
}

export class WatchClient {
  readonly wish: Wish;
  readonly #socket: Duplex;
  readonly #nowMs: () => number;
  /** The present state of all overlays, line by line. */
  readonly #states: () => Iterator<string>;
  #queue: string[] = [];
  #characters = 0;
  #backlog: Iterator<string> | undefined;
  #missed = new Map<WatchKind, number>();
  #isBlocked = false;
  #writtenMs: number;

  /** `states` are sent at the beginning, if the client wants them. */
  constructor(
    socket: Duplex,
    wish: Wish,
    states: () => Iterator<string>,
    nowMs: () => number = () => performance.now(),
  ) {
    this.#socket = socket;
    this.wish = wish;
    this.#states = states;
    this.#nowMs = nowMs;
    this.#writtenMs = nowMs();
  }

  /** Resolves when the client has ended its side or is gone. The stream has ended then. */
  async run(): Promise<void> {
    const socket = this.#socket;
    socket.on('drain', () => {
      this.#isBlocked = false;
      this.#pump();
    });
    const over = new Promise<void>((resolve) => {
      for (const event of ['end', 'close'])
        socket.once(event, () => {
          resolve();
        });
      if (socket.destroyed) resolve();
    });
    socket.resume();
    if (this.wish.kinds.has('state')) this.#backlog = this.#states();
    this.#pump();
    await over;
    this.#queue = [];
    this.#backlog = undefined;
    this.#isBlocked = true;
    socket.end();
  }

  wants(kind: WatchKind, overlay: string | undefined): boolean {
    const { kinds, overlays } = this.wish;
    return kinds.has(kind) && (overlay === undefined || overlays === undefined || overlays.has(overlay));
  }

  /** `line` with its newline. */
  offer(kind: WatchKind, line: string): void {
    const isFull =
      this.#queue.length >= MAX_LINES ||
      (this.#queue.length > 0 && this.#characters + line.length > MAX_CHARACTERS);
    // The line about what was missed comes first.
    if (this.#missed.size > 0 || isFull) {
      this.#missed.set(kind, (this.#missed.get(kind) ?? 0) + 1);
      return;
    }
    this.#queue.push(line);
    this.#characters += line.length;
    this.#pump();
  }

  /** Writes a sign of life if there was none for some time. */
  beAlive(): void {
    if (!this.#isBlocked && this.#nowMs() - this.#writtenMs >= ALIVE_MS) this.#write('\n');
  }

  #pump(): void {
    for (let line = this.#next(); line !== undefined; line = this.#next()) this.#write(line);
  }

  #next(): string | undefined {
    if (this.#isBlocked) return undefined;
    const line = this.#queue.shift();
    if (line !== undefined) {
      this.#characters -= line.length;
      return line;
    }
    if (this.#missed.size > 0) return this.#missedLine();
    const next = this.#backlog?.next();
    if (next?.done === false) return next.value;
    this.#backlog = undefined;
    return undefined;
  }

  #missedLine(): string {
    if (this.#missed.has('state')) this.#backlog = this.#states();
    const lines = Object.fromEntries(this.#missed);
    this.#missed = new Map();
    return encodeMessage({ kind: 'missed', at: new Date().toISOString(), lines } satisfies MissedEvent);
  }

  #write(line: string): void {
    this.#writtenMs = this.#nowMs();
    if (!this.#socket.write(line)) this.#isBlocked = true;
  }
}
