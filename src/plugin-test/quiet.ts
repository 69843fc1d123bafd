/**
 * Waits until everything has come to rest. The plugin may do real input and output, and varpd waits for virtual time: both go on
 * here, in turns.
 */
import { setImmediate as turn } from 'node:timers/promises';

import { threadNowMs } from './thread-time.js';
import { realSleep } from './virtual-clock.js';

/** Turns without any work after which nothing more comes. */
const QUIET_TURNS = 4;
/** Real time that the outside world has for an answer, as a server: after it, virtual time goes on without the answer. */
const PATIENCE_MS = 1000;
/** Real time for a connection that has brought nothing for PATIENCE_MS before, and for a call of the plugin that waits for
 * something unseen, as for a connection of a pool that another call has opened. */
const SHORT_PATIENCE_MS = 50;

export interface Quiet {
  /** Moves frames and messages. Returns whether any moved. */
  pump(): boolean;
  /** Told how long each turn of the event loop has taken, in milliseconds. */
  held(ms: number): void;
  /** Numbers of the requests and connections that may bring something. */
  work(): readonly number[];
  /** Number of calls of the plugin that have not returned. */
  calls(): number;
  /** The work that was waited for in vain. */
  readonly silent: Set<number>;
}

/** Resolves to true once `isDone`, and to false when nothing more happens without virtual time. */
export async function untilQuiet(quiet: Quiet, isDone: () => boolean): Promise<boolean> {
  const startedMs = threadNowMs();
  for (let turns = 0; turns < QUIET_TURNS;) {
    const hasMoved = quiet.pump();
    const beforeMs = threadNowMs();
    await turn();
    quiet.held(threadNowMs() - beforeMs);
    if (isDone()) return true;
    const work = quiet.work();
    const patienceMs = work.some((each) => !quiet.silent.has(each)) ? PATIENCE_MS : SHORT_PATIENCE_MS;
    if (hasMoved) turns = 0;
    else if ((work.length > 0 || quiet.calls() > 0) && threadNowMs() - startedMs < patienceMs) {
      turns = 0;
      await realSleep(1);
    } else {
      for (const each of work) quiet.silent.add(each);
      turns++;
    }
  }
  return isDone();
}
