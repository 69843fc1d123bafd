// The loop: an input that reaches something new is kept, and is what later ones are made of.
import { createHash } from 'node:crypto';
import { Worker } from 'node:worker_threads';

import { COUNTERS, DICTIONARY, MAX_COUNTERS } from './instrument.js';
import { Dice, MAX_BYTES, mutate, wordsOf } from './mutate.js';

export interface Target {
  readonly name: string;
  readonly seeds: () => Iterable<Uint8Array>;
  /** Throws where a law does not hold. */
  readonly run: (bytes: Uint8Array) => void;
}

export interface Report {
  readonly inputs: number;
  readonly corpus: readonly Uint8Array[];
  /** Counters that were ever above zero. */
  readonly reached: number;
  readonly crash?: { readonly input: Uint8Array; readonly error: unknown };
}

interface Globals {
  [COUNTERS]: Uint8Array;
  [DICTIONARY]: Set<string | number>;
}
const globals = globalThis as unknown as Globals;

/** Before any instrumented module is loaded. */
export function prepare(): void {
  globals[COUNTERS] = new Uint8Array(MAX_COUNTERS);
  globals[DICTIONARY] = new Set();
}

/** An input that takes longer hangs. Generous: the machine may be busy. */
const HANG_MS = 20_000;
const LOOK_EVERY = 4096;

/** As AFL does: 1, 2, 3, 4-7, 8-15, 16-31, 32-127 and 128-255 times are different things. */
const BUCKETS = Uint8Array.from({ length: 256 }, (_, times) => {
  if (times < 4) return [0, 1, 2, 4][times];
  return times < 8 ? 8 : times < 16 ? 16 : times < 32 ? 32 : times < 128 ? 64 : 128;
});

class Coverage {
  readonly #seen = new Uint8Array(MAX_COUNTERS);
  readonly #words = new BigUint64Array(globals[COUNTERS].buffer);
  reached = 0;

  /** Whether the last input reached something new. The counters are zero afterwards. */
  isNew(): boolean {
    const counters = globals[COUNTERS];
    let isNew = false;
    for (let word = 0; word < this.#words.length; word++) {
      if (this.#words[word] === 0n) continue;
      for (let at = word * 8; at < word * 8 + 8; at++) {
        const bucket = BUCKETS[counters[at]];
        counters[at] = 0;
        if ((bucket & ~this.#seen[at]) === 0) continue;
        if (this.#seen[at] === 0) this.reached++;
        this.#seen[at] |= bucket;
        isNew = true;
      }
    }
    return isNew;
  }
}

/** Runs until the time is over or a law is broken. */
export function fuzz(target: Target, corpus: readonly Uint8Array[], endMs: number, seed: number): Report {
  const dice = new Dice(seed);
  const words = wordsOf(globals[DICTIONARY]);
  const coverage = new Coverage();
  const kept: Uint8Array[] = [];
  const watchdog = new Watchdog(target.name);
  let inputs = 0;
  const attempt = (input: Uint8Array): Report | undefined => {
    inputs++;
    watchdog.note(input);
    try {
      target.run(input);
    } catch (error) {
      return { inputs, corpus: kept, reached: coverage.reached, crash: { input, error } };
    }
    if (coverage.isNew()) kept.push(input);
    return undefined;
  };
  try {
    globals[COUNTERS].fill(0);
    for (const input of [...target.seeds(), ...corpus]) {
      const crash = attempt(input);
      if (crash !== undefined) return crash;
    }
    while (inputs % LOOK_EVERY !== 0 || performance.now() < endMs) {
      // Half of the time one of the latest: what is new there has not been explored.
      const recent = dice.roll(2) === 0 && kept.length > 16;
      const parent = kept[recent ? kept.length - 1 - dice.roll(16) : dice.roll(kept.length)];
      const crash = attempt(mutate(parent, kept[dice.roll(kept.length)], words, dice));
      if (crash !== undefined) return crash;
    }
    return { inputs, corpus: kept, reached: coverage.reached };
  } finally {
    watchdog.stop();
  }
}

/** The smallest part of a corpus that reaches all that the whole does, greedily, short inputs first. */
export function minimised(target: Target, corpus: readonly Uint8Array[]): Uint8Array[] {
  const coverage = new Coverage();
  globals[COUNTERS].fill(0);
  return [...corpus]
    .sort((a, b) => a.length - b.length)
    .filter((input) => {
      target.run(input);
      return coverage.isNew();
    });
}

export const nameOf = (input: Uint8Array): string =>
  createHash('sha256').update(input).digest('hex').slice(0, 12);

/** A thread of its own that prints the input and ends the process when the same one runs for too long. */
const WATCH = `
const { workerData: { state, bytes, name, hangMs } } = require('node:worker_threads');
let last = -1;
setInterval(() => {
  const now = Atomics.load(state, 0);
  if (now === last) {
    console.error(name + ' hangs on ' + Buffer.from(bytes.subarray(0, state[1])).toString('hex'));
    process.kill(process.pid, 'SIGKILL');
  }
  last = now;
}, hangMs);
`;

class Watchdog {
  readonly #state = new Int32Array(new SharedArrayBuffer(8));
  readonly #bytes = new Uint8Array(new SharedArrayBuffer(MAX_BYTES * 16));
  readonly #worker: Worker;

  constructor(name: string) {
    const workerData = { state: this.#state, bytes: this.#bytes, name, hangMs: HANG_MS };
    this.#worker = new Worker(WATCH, { eval: true, workerData });
    this.#worker.unref();
  }

  note(input: Uint8Array): void {
    const length = Math.min(input.length, this.#bytes.length);
    this.#bytes.set(length === input.length ? input : input.subarray(0, length));
    this.#state[1] = length;
    Atomics.add(this.#state, 0, 1);
  }

  stop(): void {
    void this.#worker.terminate();
  }
}
