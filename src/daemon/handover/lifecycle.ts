/**
 * The life of a varpd process between two handovers: how it takes over from the process before, and hands
 * over to the next. The time line and all its steps are here; each other file of this folder does one thing.
 *
 * A handover has three parts: descriptors of TAPs and listening sockets, which keep the links
 * (descriptors.ts); the snapshot, with the known facts of each overlay (state/snapshot.ts); and the orders of
 * a stand-in, which moves frames while no varpd does (stand-in.ts, stand-in-store.ts). The datapath makes the
 * orders, and only a datapath can read their content.
 *
 * 1. `dladm restart`, SIGUSR2: the process becomes the next one (execve). Process id, parent and descriptors
 * stay.
 *
 *      state      this process                                        the stand-in          frames are moved by
 *      running    is asked to restart                                                       varpd
 *      trying     a trial of all that the next process needs; if it
 *                 fails, running again, with every reason
 *      preparing  no new change begins, open ones end           -->   loads, has copies
 *      releasing  plugins and overlays end, the snapshot is saved
 *                 the datapath gives the orders                 -->   begins                both, each frame once
 *                 the datapath ends                                                         the stand-in
 *      becoming   descriptors are named in the environment, execve
 *      starting   loads, overlays come up on the descriptors
 *                 the datapath begins                                                       both
 *                 clients and metrics are answered              -->   ends
 *      running                                                                              varpd
 *      waiting    instead, when it cannot start: two seconds, then
 *                 becoming again, with all that was left                                    the stand-in
 *
 * 2. `systemctl restart`, and every end under a service manager that keeps descriptors. The manager has had a
 * copy of each descriptor since that was opened. It starts the next process when this one has ended.
 *
 *      ending     plugins and overlays end, the snapshot is saved                           varpd
 *                 the orders are left as one more descriptor                                none: frames wait
 *      starting   the threads of the stand-in, here, before the rest is loaded              the stand-in
 *                 then as above
 *
 * 3. A start after a varpd that was killed, without a snapshot of its end and without orders. Either the
 * service manager passes its descriptors, and frames wait until varpd has started. Or there are links without
 * carrier, with `persistTaps` (`stateDir/links`).
 *
 *      starting   overlays come up on what there is                                         none
 *      running                                                                              varpd
 *
 * Either everything is taken over, or the handover does not begin. A descriptor that could not be used stays
 * open for the next attempt, or for the next process. From `releasing` on there is no way back to `running`,
 * and a part that hangs is left behind.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { RestartInfo } from '../../control/messages.js';
import type { Handover, Retained } from '../../datapath/contract.js';
import { keepTaps, leaveNow, sdNotify } from '../../dgram-extra/index.js';
import { asOverlayError, errorText, OverlayError } from '../../model/errors.js';
import { complain, oneLine } from '../complaint.js';
import { leaveVariable, storeSize, takeVariable } from '../environment.js';
import { LogFile } from '../log-file.js';
import type { Log } from '../log.js';
import { stayDetached } from '../process/detach.js';
import { beginAgain } from '../process/privileges.js';
import type { StateDirectory } from '../state/state-directory.js';
import {
  InheritedDescriptors,
  keepInheritedOpen,
  leaveToManager,
  leaveToMyself,
  passedDescriptors,
} from './descriptors.js';
import type { Leased } from './orders.js';
import type { Rehearsal } from './rehearsal.js';
import { startStored, storedStandIn } from './stand-in-store.js';
import { type FrameMover, metStandIn, StandIn } from './stand-in.js';

/** The states of a varpd process, and the states that may follow each. */
export const NEXT = {
  starting: ['running', 'waiting', 'ending'],
  running: ['trying', 'ending'],
  trying: ['running', 'preparing', 'ending'],
  preparing: ['running', 'releasing', 'ending'],
  releasing: ['becoming'],
  waiting: ['becoming', 'ending'],
  /** This state ends in another process. */
  becoming: [],
  ending: [],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type State = keyof typeof NEXT;

/** Time between the answer to `dladm restart` and the end of all connections. */
const ANSWER_MS = 50;
/** A restart waits for the change under way, which may wait for a plugin's start. */
const SETTLE_DEADLINE_MS = 10_000;
/**
 * How long a restart waits for a part that hangs. Turns of the loop are counted instead of time: a process
 * that gets no processor does not hang. Frames move meanwhile.
 */
const RELEASE_TURN_MS = 100;
const RELEASE_TURNS = 150;
/** Pause between two attempts to become the next program. */
const BECOME_MS = 1000;
/** Pause between two attempts to start as the next program. */
const WAIT_MS = 2000;

/** Receiver of the descriptors of a daemon that ends. */
export interface Recipient {
  /** Called when all else has ended; the datapath moves frames until it resolves. */
  readonly before?: () => Promise<void>;
  readonly take: (handover: Handover) => void;
}

/** A varpd that runs, as far as a restart needs it. */
export interface Serving {
  readonly daemon: {
    freeze(deadlineMs: number): Promise<void>;
    retain(): Retained;
    stop(recipient: Recipient): Promise<void>;
  };
  readonly log: Log;
  /** Path of the log file; null = standard error. */
  readonly logFile: string | null;
  /** Arguments that this process was started with, valid in its present working directory. */
  readonly args: readonly string[];
  /** Tries whether the next process would run. */
  rehearse(): Promise<Rehearsal>;
  /**
   * Where the next process will listen and log. Throws an OverlayError when the configuration is not valid.
   */
  next(): Omit<RestartInfo, 'warnings'>;
}

export class Lifecycle {
  #state: State = 'starting';
  /**
   * Exit status of a signal that came too late for `ending`: the process ends with it instead of becoming the
   * next one.
   */
  #endsAs: number | undefined;
  #serving: Serving | undefined;
  #standIn: FrameMover | undefined;
  /** The reason why no stand-in has moved frames. */
  #withoutStandIn: string | undefined;
  /**
   * Log file of the process that became this one, empty for standard error. Undefined: this process is no
   * restart.
   */
  readonly #logFile = takeVariable('restarted');
  /** Whether the service manager holds descriptors of an earlier process, and has passed copies. */
  readonly isHeldByManager = passedDescriptors().length > 0;

  get state(): State {
    return this.#state;
  }

  /** Returns false when this state cannot follow; then nothing changes. */
  enter(state: State): boolean {
    const next: readonly State[] = NEXT[this.#state];
    if (!next.includes(state)) return false;
    this.#state = state;
    return true;
  }

  /**
   * Whether this process is a restart. A restart that cannot start must not end, since it holds the links of
   * the process before.
   */
  get isRestart(): boolean {
    return this.#logFile !== undefined;
  }

  // ---- starting

  /**
   * Called before this process restarts itself, to give up rights or for a next attempt: inherited
   * descriptors stay open for the next process.
   */
  keepOpen(): void {
    keepInheritedOpen();
  }

  /**
   * Called before anything else is loaded. If orders were left, resolves when frames move: loading beside the
   * threads of a stand-in would keep both from the processor. Never rejects: without a stand-in, frames wait
   * until all is loaded.
   */
  async begin(): Promise<void> {
    const left = takeVariable('standIn');
    // Links of an earlier process must not be deleted by a process that may fail to start.
    if (!this.isRestart) linksEndWithProcess();
    try {
      this.#standIn = left === undefined ? await startStored() : metStandIn(left);
    } catch (error) {
      this.#withoutStandIn = `orders of the stand-in: ${errorText(error)}`;
    }
  }

  /**
   * Called once this process has the state directory and the socket: from now on it owns the inherited
   * descriptors.
   */
  receive(): InheritedDescriptors {
    return InheritedDescriptors.receive();
  }

  /** Whether a stand-in moves frames until this varpd does. */
  get hasStandIn(): boolean {
    return this.#standIn !== undefined;
  }

  /** Resolves when the stand-in uses no descriptor any more. Does nothing when there is none. */
  async endStandIn(leased: Leased): Promise<void> {
    const standIn = this.#standIn;
    this.#standIn = undefined;
    await standIn?.end(leased);
  }

  /** Receiver for a daemon that fails to start: its inherited descriptors go to the next attempt. */
  get nextAttempt(): Recipient | undefined {
    if (!this.isRestart) return undefined;
    return {
      take: ({ descriptors }) => {
        leaveToMyself(descriptors);
      },
    };
  }

  /** The daemon has started. */
  run(serving: Serving): void {
    this.#serving = serving;
    this.enter('running');
    linksEndWithProcess();
    if (this.#withoutStandIn !== undefined)
      serving.log.warn('restart', `frames have waited until varpd was there: ${this.#withoutStandIn}`);
  }

  /**
   * Tries a failed restart again, after logging the reasons. Returns only when there can be no next attempt.
   * A signal ends it.
   */
  async tryAgain(lines: readonly string[]): Promise<void> {
    this.enter('waiting');
    try {
      const text = lines.map(
        (line) => `${new Date().toISOString()} error not restarted yet: ${oneLine(line)}\n`,
      );
      if (this.#logFile !== undefined && this.#logFile !== '')
        new LogFile(this.#logFile, () => '').write(text.join(''));
    } catch {
      // The log itself may be the reason.
    }
    await delay(WAIT_MS);
    if (!this.enter('becoming')) return;
    try {
      this.keepOpen();
      this.#standIn?.passOn();
      become(this.#logFile, process.argv.slice(1));
    } catch (error) {
      complain(`cannot start the next attempt: ${errorText(error)}`);
    }
  }

  // ---- dladm restart

  /**
   * Resolves when this process is about to become the next one. Rejects with an OverlayError, and changes
   * nothing, when the next process would not come up.
   */
  async restart(): Promise<RestartInfo> {
    const serving = this.#serving;
    if (serving === undefined || !this.enter('trying'))
      throw new OverlayError('BUSY', 'varpd is being started, is about to restart, or ends');
    try {
      const { reasons, warnings } = await serving.rehearse();
      if (reasons.length > 0) throw new OverlayError('INVALID', 'varpd goes on as it is', reasons);
      const next = serving.next();
      setTimeout(() => {
        this.#handOver(serving).catch((error: unknown) => {
          this.enter('running');
          serving.log.error('restart', `the restart failed: ${asOverlayError(error).message}`);
        });
      }, ANSWER_MS);
      return { ...next, warnings };
    } catch (error) {
      this.enter('running');
      throw error;
    }
  }

  async #handOver({ daemon, log, ...serving }: Serving): Promise<void> {
    if (!this.enter('preparing')) return;
    log.info('restart', 'varpd restarts');
    sdNotify('RELOADING=1');
    /** Resolves to no stand-in when the step fails; then frames wait. */
    const orNone = (step: Promise<StandIn> | undefined): Promise<StandIn | undefined> =>
      (step ?? Promise.resolve(undefined)).catch((error: unknown) => {
        log.warn('restart', `no stand-in: frames wait until the next varpd has started: ${errorText(error)}`);
        return undefined;
      });
    await daemon.freeze(SETTLE_DEADLINE_MS);
    const retained = daemon.retain();
    let standIn = await orNone(StandIn.start(retained));
    // A signal may have come.
    if (!this.enter('releasing')) {
      standIn?.drop();
      return;
    }
    keepTaps(true);
    let turns = 0;
    setInterval(() => {
      if (++turns !== RELEASE_TURNS || !this.enter('becoming')) return;
      // A part that hangs ends with this program. The next one has the descriptors all the same.
      log.error('restart', 'a part of varpd does not end: varpd restarts without waiting for it');
      leaveToMyself(retained.named());
      standIn?.leave();
      this.#become(log, serving);
    }, RELEASE_TURN_MS);
    await daemon.stop({
      before: async () => {
        standIn = await orNone(standIn?.carry());
      },
      take: ({ descriptors }) => {
        leaveToMyself(descriptors);
        standIn?.leave();
      },
    });
    if (this.enter('becoming')) this.#become(log, serving);
  }

  #become(log: Log, { logFile, args }: Pick<Serving, 'logFile' | 'args'>): void {
    if (this.#endsAs !== undefined) {
      linksEndWithProcess();
      leaveNow(this.#endsAs);
    }
    try {
      become(logFile ?? '', args);
    } catch (error) {
      // The links stay as long as this process does.
      log.error('fatal', `cannot start the next varpd: ${errorText(error)}: it is tried again`);
      setTimeout(() => {
        this.#become(log, { logFile, args });
      }, BECOME_MS);
    }
  }

  // ---- ending

  /**
   * Returns whether the caller shall end this process now, with this status. Otherwise the process is on its
   * way already: to its end, or to become the next process. In the second case it ends with this status
   * instead.
   */
  end(status: number): boolean {
    if (!this.enter('ending')) {
      this.#endsAs ??= status;
      return false;
    }
    linksEndWithProcess();
    return true;
  }

  /** Receiver for a daemon that ends; undefined where only `persistTaps` lets links outlive the process. */
  nextStart(directory: StateDirectory): Recipient | undefined {
    if (storeSize() === 0) return undefined;
    return {
      take: (handover) => {
        leaveToManager([...handover.descriptors, ...storedStandIn(handover, directory)]);
      },
    };
  }
}

/** Links end with the process, unless a service manager keeps them: it knows whether this is a restart. */
function linksEndWithProcess(): void {
  keepTaps(storeSize() > 0);
}

/** This process becomes the next one. Throws an error of the system. */
function become(logFile: string | undefined, args: readonly string[]): never {
  stayDetached();
  leaveVariable('restarted', logFile);
  return beginAgain(args);
}
