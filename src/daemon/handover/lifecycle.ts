/**
 * The life of a varpd process between two handovers: how it takes over from the one before it, and hands over to the next. The
 * time line is here, and every step of it; the other files of this folder do one thing each.
 *
 * Handed over are descriptors of TAPs and listening sockets, which keep the links (descriptors.ts); the snapshot, which says
 * what is known of each overlay (state/snapshot.ts); and the orders of a stand-in, which moves frames while no varpd does
 * (stand-in.ts, stand-in-store.ts). The orders are made by the datapath, which alone can read what they hold.
 *
 * 1. `dladm restart`, SIGUSR2: the process becomes the next one (execve). Number, parent and descriptors stay.
 *
 *      state      this process                                        the stand-in          frames are moved by
 *      running    is asked to restart                                                       varpd
 *      trying     a trial of all that the next one needs; should
 *                 it fail, running again, with every reason
 *      preparing  no change begins, those under way end         -->   loads, has copies
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
 * 2. `systemctl restart`, and every end under a service manager that keeps descriptors: it has had a copy of each since that
 *    was opened, and starts the next process when this one has ended.
 *
 *      ending     plugins and overlays end, the snapshot is saved                           varpd
 *                 the orders are left as one more descriptor                                nothing: they wait
 *      starting   the threads of the stand-in, here, before the rest is loaded              the stand-in
 *                 then as above
 *
 * 3. A start that finds what a killed varpd has left, with no snapshot of its end and no orders: from the service manager its
 *    descriptors, and frames wait until varpd has started; or links without carrier, with `persistTaps` (`stateDir/links`).
 *
 *      starting   overlays come up on what there is                                         nothing
 *      running                                                                              varpd
 *
 * Everything is taken over or the handover does not begin: what could not be brought up stays open for the next attempt, or
 * for the next process. From `releasing` on there is no way back to `running`, and whatever hangs is left behind.
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

/** The states of a varpd process, and those that may follow each. */
export const NEXT = {
  starting: ['running', 'waiting', 'ending'],
  running: ['trying', 'ending'],
  trying: ['running', 'preparing', 'ending'],
  preparing: ['running', 'releasing', 'ending'],
  releasing: ['becoming'],
  waiting: ['becoming', 'ending'],
  /** Ends in another process. */
  becoming: [],
  ending: [],
} as const satisfies Readonly<Record<string, readonly string[]>>;

export type State = keyof typeof NEXT;

/** Between the answer to `dladm restart` and the end of all connections. */
const ANSWER_MS = 50;
/** A restart waits for the change under way, which may wait for a plugin's start. */
const SETTLE_DEADLINE_MS = 10_000;
/** A restart waits that long for what hangs. Turns of the loop are counted, not time: a process that is kept
 * off the processor does not hang. Frames move meanwhile. */
const RELEASE_TURN_MS = 100;
const RELEASE_TURNS = 150;
/** Between two attempts to become the next program. */
const BECOME_MS = 1000;
/** Between two attempts to start as the next program. */
const WAIT_MS = 2000;

/** What a daemon that ends hands its descriptors to. */
export interface Recipient {
  /** The datapath moves frames until it resolves, when all else has ended. */
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
  /** Null = standard error. */
  readonly logFile: string | null;
  /** The same as this process was started with, wherever it is now. */
  readonly args: readonly string[];
  /** Whether the next process would run. */
  rehearse(): Promise<Rehearsal>;
  /** Where the next process will listen and log. Throws an OverlayError when the configuration is not valid. */
  next(): Omit<RestartInfo, 'warnings'>;
}

export class Lifecycle {
  #state: State = 'starting';
  /** This process was told to end when it could not any more: it does so instead of becoming the next one. */
  #endsAs: number | undefined;
  #serving: Serving | undefined;
  #standIn: FrameMover | undefined;
  /** Why frames have waited until now. */
  #withoutStandIn: string | undefined;
  /** The log file of the process that has become this one, empty for standard error. Undefined: this is no restart. */
  readonly #logFile = takeVariable('restarted');
  /** The service manager holds descriptors of an earlier process, and has passed copies. */
  readonly isHeldByManager = passedDescriptors().length > 0;

  get state(): State {
    return this.#state;
  }

  /** False when this state cannot follow: then nothing changes. */
  enter(state: State): boolean {
    const next: readonly State[] = NEXT[this.#state];
    if (!next.includes(state)) return false;
    this.#state = state;
    return true;
  }

  /** One that cannot start is not to end: it has the links of the process that it was. */
  get isRestart(): boolean {
    return this.#logFile !== undefined;
  }

  // ---- starting

  /** Before this process restarts to give up rights: what it was given is for the process that it becomes. */
  keepOpen(): void {
    keepInheritedOpen();
  }

  /** Before anything else is loaded. Resolves when frames move, if orders for that were left: loading beside the threads of a
   * stand-in would keep both from the processor. Never rejects: without it, frames wait until all is loaded. */
  async begin(): Promise<void> {
    const left = takeVariable('standIn');
    // What an earlier process has left is not to be deleted by one that may fail to start.
    if (!this.isRestart) linksEndWithProcess();
    try {
      this.#standIn = left === undefined ? await startStored() : metStandIn(left);
    } catch (error) {
      this.#withoutStandIn = `orders of the stand-in: ${errorText(error)}`;
    }
  }

  /** Once the state directory and the socket are those of this process: from now on it has what was left. */
  receive(): InheritedDescriptors {
    return InheritedDescriptors.receive();
  }

  /** Frames move, although this varpd does not move them yet. */
  get hasStandIn(): boolean {
    return this.#standIn !== undefined;
  }

  /** Resolves when the stand-in uses no descriptor any more. Does nothing when there is none. */
  async endStandIn(leased: Leased): Promise<void> {
    const standIn = this.#standIn;
    this.#standIn = undefined;
    await standIn?.end(leased);
  }

  /** Of a daemon that fails to start: what it has received already is for the next attempt. */
  get nextAttempt(): Recipient | undefined {
    if (!this.isRestart) return undefined;
    return {
      take: ({ descriptors }) => {
        leaveToMyself(descriptors);
      },
    };
  }

  /** It has started. */
  run(serving: Serving): void {
    this.#serving = serving;
    this.enter('running');
    linksEndWithProcess();
    if (this.#withoutStandIn !== undefined)
      serving.log.warn('restart', `frames have waited until varpd was there: ${this.#withoutStandIn}`);
  }

  /** A restart could not start, for these reasons. Returns only when there can be no next attempt. A signal ends it. */
  async tryAgain(lines: readonly string[]): Promise<void> {
    this.enter('waiting');
    try {
      const text = lines.map(
        (line) => `${new Date().toISOString()} error not restarted yet: ${oneLine(line)}\n`,
      );
      if (this.#logFile !== undefined && this.#logFile !== '')
        new LogFile(this.#logFile, () => '').write(text.join(''));
    } catch {
      // It may be the log that is wrong.
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

  /** Resolves when this process is about to become the next one. Rejects with an OverlayError when that would not come up; nothing has
   * changed then. */
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
    /** Without a stand-in frames wait. */
    const orNone = (step: Promise<StandIn> | undefined): Promise<StandIn | undefined> =>
      (step ?? Promise.resolve(undefined)).catch((error: unknown) => {
        log.warn('restart', `frames wait until varpd is there again: ${errorText(error)}`);
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
      // Whatever hangs ends with this program. The next one has the descriptors all the same.
      log.error('restart', 'varpd does not come to an end: it restarts as it is');
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

  /** Whether the caller is to end this process now, with this status. Otherwise it is on its way already: to an end, or, if it
   * was about to become the next process, to one with this status instead of that. */
  end(status: number): boolean {
    if (!this.enter('ending')) {
      this.#endsAs ??= status;
      return false;
    }
    linksEndWithProcess();
    return true;
  }

  /** What a daemon that ends hands over to; undefined where nothing outlives the process but by `persistTaps`. */
  nextStart(directory: StateDirectory): Recipient | undefined {
    if (storeSize() === 0) return undefined;
    return {
      take: (handover) => {
        leaveToManager([...handover.descriptors, ...storedStandIn(handover, directory)]);
      },
    };
  }
}

/** Unless a service manager keeps them: it knows whether this is a restart. */
function linksEndWithProcess(): void {
  keepTaps(storeSize() > 0);
}

/** This process becomes the next one. Throws an error of the system. */
function become(logFile: string | undefined, args: readonly string[]): never {
  stayDetached();
  leaveVariable('restarted', logFile);
  return beginAgain(args);
}
