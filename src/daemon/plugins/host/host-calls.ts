/**
 * The host that an instance speaks to (`Host` of the contract): its calls are checked, and take effect in their order.
 *
 * A short call is checked in the plugin's own call, so that its stack shows its mistake. A list of any length is read
 * and handed over in slices (call-order.ts); a mistake in it degrades the overlay, and nothing of the list is used.
 */
import type { PushedTarget } from '../../../datapath/contract.js';
import { inBackground } from '../../../model/background.js';
import type { Host, MacAddress } from '../../../plugin/contract.js';
import type { IpAddress } from '../../../wire/ip.js';
import type { Health } from '../../health.js';
import { CallOrder } from './call-order.js';
import type { PluginDatapath, PluginKnowledge, ServedOverlay } from '../knowledge.js';
import { AnswerError, checkStation, checkStationIp, shown } from '../plugin-answer.js';
import { readAllowedIps, readMacs, readPeers, readTargets, type TargetColumns } from './lists.js';
import { SentRows } from '../mapping/sent-rows.js';
import { checkRevision } from '../mapping/snapshots.js';
import { announcement } from '../proxy.js';

/** A list of so many rows is read at once, in well under a millisecond. */
const SHORT_LIST = 64;
/** Targets that are handed over between two pauses: as many as a plugin process sends in one message. */
const BATCH_ROWS = 1024;
/** setTimeout takes no more. */
const MAX_INTERVAL_MS = 0x7fff_ffff;

export interface HostContext {
  readonly served: ServedOverlay;
  readonly knowledge: PluginKnowledge;
  readonly health: Health;
  /** Directory of the plugin. */
  readonly stateDir: () => string;
  readonly secret: (name: string) => Promise<string>;
  /** Called when the list of allowed addresses has changed. */
  readonly reprotect: () => void;
  readonly say: (level: 'info' | 'warn' | 'error', message: string) => void;
  /** Sentence about an error of the plugin. */
  readonly sentence: (error: unknown) => string;
}

/** The work of a call after its arguments have been read. Yields where it may pause. */
type Effect = (datapath: PluginDatapath) => Generator<undefined, void>;

/** A call, after its arguments have been read. */
interface Call {
  /** Keeps what was told. This does not wait for the datapath to know the overlay. */
  readonly keep?: () => void;
  readonly effect: Effect;
}

export class HostCalls {
  readonly #context: HostContext;
  readonly #ended = new AbortController();
  readonly #order = new CallOrder();
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Set while the instance is attached. */
  #datapath: PluginDatapath | undefined;
  /** Effects of calls from before the datapath knew the overlay. */
  #early: { readonly effect: Effect; readonly isLong: boolean }[] = [];
  #peers: readonly IpAddress[] = [];
  readonly host: Host;

  constructor(context: HostContext) {
    this.#context = context;
    this.host = this.#makeHost();
  }

  /** Underlay addresses that the plugin has named, of the family of the listen address. */
  get peers(): readonly IpAddress[] {
    return this.#peers;
  }

  /** Number of calls that are not carried out yet: a plugin with very many should not be heard meanwhile. */
  get waiting(): number {
    return this.#order.waiting;
  }

  /** The signal of the host. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Called once the datapath knows the overlay: the effects of earlier calls follow. */
  attach(datapath: PluginDatapath): void {
    this.#datapath = datapath;
    const early = this.#early;
    this.#early = [];
    for (const { effect, isLong } of early)
      if (isLong) this.#long(this.#carryOut(effect, true));
      else this.#short({ effect });
  }

  /** From now on the calls have no effect. */
  stop(): void {
    this.#datapath = undefined;
    this.#early = [];
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#ended.abort();
  }

  get #isStopped(): boolean {
    return this.#ended.signal.aborted;
  }

  // -- Calls in their order

  /** Reads a list and carries its effect out: at once if it is short, else in slices, as one call in its order. */
  #list(value: unknown, read: () => Generator<undefined, Call>): void {
    if (this.#isStopped) return;
    if (isShort(value)) this.#short(atOnce(read()));
    else this.#long(this.#readAndCarryOut(read()));
  }

  *#readAndCarryOut(read: Generator<undefined, Call>): Generator<undefined, void> {
    const { keep, effect } = yield* read;
    keep?.();
    yield* this.#carryOut(effect, true);
  }

  /** Has a short call carried out: now, behind the calls that wait, or when the datapath knows the overlay. */
  #short({ keep, effect }: Call): void {
    this.#order.short(() => {
      if (!this.#isStopped) keep?.();
      atOnce(this.#carryOut(effect, false));
    }, this.#fail);
  }

  #long(work: Generator<undefined, void>): void {
    this.#order.long(() => this.#whileRunning(work)).catch(this.#fail);
  }

  *#carryOut(effect: Effect, isLong: boolean): Generator<undefined, void> {
    const datapath = this.#datapath;
    if (this.#isStopped) return;
    if (datapath === undefined) this.#early.push({ effect, isLong });
    else yield* effect(datapath);
  }

  readonly #fail = (error: unknown): void => {
    if (!this.#isStopped) this.#context.health.degrade('plugin call', this.#context.sentence(error));
  };

  /** Ends the work early, and returns undefined, when the instance is stopped. */
  *#whileRunning<T>(work: Generator<undefined, T>): Generator<undefined, T | undefined> {
    while (!this.#isStopped) {
      const step = work.next();
      if (step.done === true) return step.value;
      yield;
    }
    return undefined;
  }

  // -- The calls

  #makeHost(): Host {
    const { served, knowledge, health, secret, stateDir, reprotect, say } = this.#context;
    const { overlay, vnetid, listen } = served;
    const keepPeers = (peers: readonly IpAddress[]): void => {
      this.#peers = peers;
    };
    return {
      overlay,
      vnetid,
      listen,
      log: {
        info: (message) => {
          say('info', message);
        },
        warn: (message) => {
          say('warn', message);
        },
        error: (message) => {
          say('error', message);
        },
      },
      now: () => performance.now(),
      signal: this.#ended.signal,
      get stateDir() {
        return stateDir();
      },
      every: (ms, fn) => {
        this.#every(ms, fn);
      },
      secret,
      setTargets: (targets) => {
        this.#list(targets, function* () {
          const rows = yield* readTargets(targets, listen);
          return { effect: (datapath) => pushTargets(datapath, rows) };
        });
      },
      invalidate: (macs) => {
        this.#list(macs, function* () {
          const checked = macs === undefined ? undefined : yield* readMacs(macs);
          return { effect: (datapath) => forget(datapath, checked) };
        });
      },
      replaceAll: (snapshot) => this.#snapshot(() => knowledge.snapshots.replaceAll(snapshot)),
      changeSnapshot: (change) => this.#snapshot(() => knowledge.snapshots.change(change)),
      announce: (ip, mac) => {
        const frame = announcement(checkStationIp(ip), checkStation(mac));
        this.#short({
          effect: (datapath) =>
            once(() => {
              datapath.announce(frame);
            }),
        });
      },
      setAllowedIps: (rows) => {
        this.#list(rows, function* () {
          const allowed = rows === undefined ? undefined : yield* readAllowedIps(rows);
          const keep = (): void => {
            knowledge.setAllowedIps(allowed);
          };
          return { keep, effect: () => once(reprotect) };
        });
      },
      setPeers: (peers) => {
        this.#list(peers, function* () {
          const own = yield* readPeers(peers, listen);
          const keep = (): void => {
            keepPeers(own);
          };
          return {
            keep,
            effect: (datapath) =>
              once(() => {
                datapath.setPeers(own);
              }),
          };
        });
      },
      degrade: (sentence) => {
        if (!this.#isStopped) health.degrade('plugin', checkSentence(sentence));
      },
      restore: () => {
        if (!this.#isStopped) health.restore('plugin');
      },
      inForce: (revision, entries) => {
        if (!this.#isStopped) knowledge.inForce(checkRevision(revision), checkCount(entries));
      },
      remark: (sentence) => {
        if (!this.#isStopped) health.remark(checkSentence(sentence));
      },
      note: (sentence) => {
        if (!this.#isStopped)
          health.tell('plugin', sentence === undefined ? undefined : checkSentence(sentence));
      },
    };
  }

  #snapshot<T>(call: () => Promise<T>): Promise<T> {
    if (this.#isStopped) return Promise.reject(new AnswerError('gave a snapshot after its end'));
    return this.#order.own(call);
  }

  /** Calls again and again until the plugin is stopped; an error degrades the overlay until the next good call. */
  #every(ms: number, fn: () => void | Promise<void>): void {
    if (typeof ms !== 'number' || !(ms > 0) || ms > MAX_INTERVAL_MS)
      throw new AnswerError(`gave ${shown(ms)} where an interval of 1 to ${MAX_INTERVAL_MS} ms was expected`);
    if (typeof fn !== 'function') throw new AnswerError(`gave ${shown(fn)} where a function was expected`);
    const { health, sentence } = this.#context;
    const turn = async (): Promise<void> => {
      try {
        await fn();
        if (!this.#isStopped) health.restore('plugin timer');
      } catch (error) {
        if (!this.#isStopped) health.degrade('plugin timer', sentence(error));
      }
      arm();
    };
    const arm = (): void => {
      if (this.#isStopped) return;
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        inBackground('a timer of a plugin', turn());
      }, ms).unref();
      this.#timers.add(timer);
    };
    arm();
  }
}

function* pushTargets(datapath: PluginDatapath, rows: TargetColumns): Generator<undefined, void> {
  const { macs, to, ttlMs, staleMs } = rows;
  for (let from = 0; from < macs.length; from += BATCH_ROWS) {
    if (from > 0) yield;
    // A group MAC without other hosts is at this host in any case, so only the earlier target is withdrawn.
    const row = (mac: MacAddress, index: number): PushedTarget => ({
      mac,
      to: to[from + index],
      ttlMs: ttlMs[from + index],
      staleMs: staleMs[from + index],
    });
    datapath.setTargets(macs.slice(from, from + BATCH_ROWS).map(row));
  }
}

function* forget(
  datapath: PluginDatapath,
  macs: readonly MacAddress[] | undefined,
): Generator<undefined, void> {
  if (macs === undefined) datapath.invalidate(undefined);
  for (let from = 0; from < (macs?.length ?? 0); from += BATCH_ROWS) {
    if (from > 0) yield;
    datapath.invalidate(macs?.slice(from, from + BATCH_ROWS));
  }
}

function checkSentence(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new AnswerError(`gave ${shown(value)} where a sentence was expected`);
}

/** A value that is no list is refused at once. */
function isShort(value: unknown): boolean {
  if (value instanceof SentRows) return value.isShort;
  return !Array.isArray(value) || value.length <= SHORT_LIST;
}

/** A work of one step. */
function* once(call: () => void): Generator<undefined, void> {
  call();
  yield;
}

/** Runs the work to its end without a pause. */
function atOnce<T>(work: Generator<undefined, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}

function checkCount(entries: unknown): number {
  if (typeof entries === 'number' && Number.isSafeInteger(entries) && entries >= 0) return entries;
  throw new AnswerError(`gave ${shown(entries)} where a number of entries was expected`);
}
