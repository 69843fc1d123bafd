/**
 * The plugin instance of one overlay: the questions to it, the calls that it may make, and the bounds of its
 * trouble.
 *
 * A plugin runs on the control thread and can fail in every way a program can: throw, reject, never answer,
 * answer nonsense, throw later out of a timer. Each of these degrades its overlay with a sentence. The frames
 * that waited are dropped as `lookup_failed` or `lookup_timeout`, resolved targets stay in use, and the next
 * good answer ends the trouble. Only a plugin that blocks the thread affects other overlays, and there only
 * frames without a target: the datapath has threads of its own.
 */
import type { LookupStatistics } from '../../control/messages.js';
import type { LookupAnswer, LookupRequest, OverlayDatapath } from '../../datapath/contract.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import type { PropertySet } from '../../model/properties.js';
import type { Destination, Host, Instance, LookupPlugin, MacAddress } from '../../plugin/contract.js';
import {
  type Endpoint,
  family,
  formatEndpoint,
  type IpAddress,
  isSameEndpoint,
  isV4,
} from '../../wire/ip.js';
import { isMulticast } from '../../wire/mac.js';
import type { Limits } from '../config.js';
import type { Health } from '../health.js';
import type { Log } from '../log.js';
import { hiddenPathHint, systemErrorText } from '../system-error.js';
import { andThen, DeadlineError, Deadlines, type Eventually } from './deadline.js';
import {
  AnswerError,
  checkDestination,
  checkMac,
  checkPeers,
  checkPlace,
  checkStation,
  checkStationIp,
  checkStationIps,
  checkTtlMs,
} from './plugin-answer.js';
import { type Ask, carryOut, factsOf, failure } from './carry-out.js';
import { LookupTimes } from './lookup-times.js';
import { runningPlugin } from './plugin-context.js';
import { announcement } from './proxy.js';

/**
 * More lookups than the datapath has open (core/overlay.ts): a repeated lookup may still be under way from
 * the first time.
 */
const MAX_OPEN_LOOKUPS = 4096;
/** varpd has 2 s to end, and all plugins share them. */
const STOP_DEADLINE_MS = 500;

/** The overlay that an instance serves. */
export interface ServedOverlay {
  readonly overlay: string;
  readonly vnetid: number;
  readonly listen: Endpoint;
}

export interface PluginServices {
  readonly log: Log;
  readonly health: Health;
  readonly limits: () => Limits;
  /** Called when the answer of `allowedIps` may have changed. */
  readonly reprotect: () => void;
}

/** The part of an overlay that its plugin speaks to. */
export type PluginDatapath = Pick<
  OverlayDatapath,
  'answer' | 'setTarget' | 'invalidate' | 'setPeers' | 'announce'
>;

export class PluginInstance {
  readonly #plugin: LookupPlugin;
  readonly #served: ServedOverlay;
  readonly #services: PluginServices;
  readonly #kind: string;
  #instance: Instance | undefined;
  #isStopped = false;
  /** Set while the instance is attached. */
  #datapath: PluginDatapath | undefined;
  /** Calls of the plugin from before the datapath knew the overlay. */
  #early: ((datapath: PluginDatapath) => void)[] = [];
  #openLookups = 0;
  readonly #times = new LookupTimes();
  #peers: readonly IpAddress[] = [];
  readonly #deadlines = new Deadlines();

  constructor(plugin: LookupPlugin, served: ServedOverlay, services: PluginServices) {
    this.#plugin = plugin;
    this.#served = served;
    this.#services = services;
    this.#kind = `plugin ${served.overlay}`;
  }

  /** Rejects with an OverlayError; the plugin has been stopped then. */
  async start(properties: PropertySet): Promise<void> {
    try {
      const instance = this.#inside(() => this.#plugin.create(this.#host()));
      const needed = [
        'start',
        'stop',
        this.#plugin.mode === 'point' ? 'defaultDestination' : 'resolve',
      ] as const;
      const absent = needed.filter((name) => typeof instance[name] !== 'function');
      if (absent.length > 0) throw new AnswerError(`has no ${absent.join(', ')}`);
      this.#instance = instance;
      const { startDeadlineMs } = this.#services.limits();
      await this.#ask(startDeadlineMs, (signal) => instance.start(properties, signal));
    } catch (error) {
      await this.stop();
      throw startError(error);
    }
  }

  /** The destination of all frames in mode `point`. Throws an OverlayError. */
  destination(): Destination {
    const { listen } = this.#served;
    try {
      const to = checkDestination(
        this.#inside(() => this.#instance?.defaultDestination?.()),
        listen,
      );
      if (isSameEndpoint(to, listen))
        throw new AnswerError(`sends to ${formatEndpoint(to)}, which is this overlay's own listen address`);
      return to;
    } catch (error) {
      if (!(error instanceof AnswerError)) throw startError(error);
      const line = `${this.#plugin.name} ${error.message}`;
      throw new OverlayError('INVALID', line, [line], error);
    }
  }

  /** Underlay addresses that the plugin has named, of the family of the listen address. */
  get peers(): readonly IpAddress[] {
    return this.#peers;
  }

  /**
   * Called once the datapath knows the overlay: earlier calls of the plugin are passed on, and lookups are
   * accepted.
   */
  attach(datapath: PluginDatapath): void {
    this.#datapath = datapath;
    const early = this.#early;
    this.#early = [];
    for (const call of early) call(datapath);
  }

  /**
   * Addresses that a port with this MAC may send from; undefined when the plugin does not decide about it.
   * Empty when the plugin fails to answer.
   */
  allowedIps(mac: MacAddress): readonly IpAddress[] | undefined {
    const instance = this.#instance;
    if (this.#isStopped || typeof instance?.allowedIps !== 'function') return undefined;
    try {
      const value: unknown = this.#inside(() => instance.allowedIps?.(mac));
      return value === undefined ? undefined : checkStationIps(value);
    } catch (error) {
      this.complain(error);
      return [];
    }
  }

  /** Where the plugin places the MAC of a port; null if it does not know the MAC, undefined if it cannot tell. */
  placeOf(mac: MacAddress): Destination | null | undefined {
    const instance = this.#instance;
    if (this.#isStopped || typeof instance?.placeOf !== 'function') return undefined;
    try {
      const value: unknown = this.#inside(() => instance.placeOf?.(mac));
      return value === undefined || value === null ? value : checkPlace(value);
    } catch (error) {
      this.complain(error);
      return undefined;
    }
  }

  get lookupTimes(): Omit<LookupStatistics, 'asked'> {
    return { open: this.#openLookups, latencyMs: this.#times.latencyMs };
  }

  /**
   * Never throws, never rejects. The datapath gets exactly one answer, unless the plugin is stopped before;
   * it gets it at once when the plugin answers at once. A lookup and the question of a proxy that follows it
   * share one deadline.
   */
  lookup(request: LookupRequest): void {
    const instance = this.#instance;
    const datapath = this.#datapath;
    if (instance === undefined || datapath === undefined) return;
    const { lookup } = request;
    if (this.#openLookups >= MAX_OPEN_LOOKUPS) {
      datapath.answer(lookup, { kind: 'drop', reason: 'lookup_failed' });
      return;
    }
    this.#openLookups++;
    const startMs = performance.now();
    try {
      const answer = this.#resolve(instance, request, this.#warn);
      if (answer instanceof Promise) {
        answer.then(
          (later) => {
            this.#succeed(lookup, startMs, later);
          },
          (error: unknown) => {
            this.#fail(lookup, error);
          },
        );
      } else this.#succeed(lookup, startMs, answer);
    } catch (error) {
      this.#fail(lookup, error);
    }
  }

  /**
   * The answer to a lookup that the datapath has not asked for and does not get (explain): nothing is counted
   * or degraded. Never rejects.
   */
  async answerOf(request: LookupRequest): Promise<LookupAnswer> {
    const instance = this.#instance;
    try {
      if (instance !== undefined) return await this.#resolve(instance, request);
    } catch (error) {
      return failure(error);
    }
    return failure(undefined);
  }

  /** The MAC that has an address, as a proxy would give it, or null; undefined if the plugin has no such facts. Rejects
   * with its error. */
  async neighbor(ip: IpAddress): Promise<MacAddress | null | undefined> {
    const instance = this.#instance;
    if (this.#isStopped || typeof instance?.neighbor !== 'function') return undefined;
    const ask: Ask = (call) => this.#ask(this.#services.limits().lookupDeadlineMs, call);
    return factsOf(instance, isV4(ip) ? 'arp' : 'ndp', ask).neighbor(ip);
  }

  #resolve(
    instance: Instance,
    request: LookupRequest,
    warn?: (message: string) => void,
  ): Eventually<LookupAnswer> {
    const { destinationMac, sourceMac, etherType, vlan, frame } = request;
    const { lookupDeadlineMs } = this.#services.limits();
    const endMs = performance.now() + lookupDeadlineMs;
    const question = { destinationMac, sourceMac, etherType, vlan };
    const ask: Ask = (call) => this.#ask(Math.max(1, Math.ceil(endMs - performance.now())), call);
    return andThen(
      this.#ask<unknown>(lookupDeadlineMs, (signal) => instance.resolve?.(question, signal)),
      (value) => carryOut({ instance, ask, listen: this.#served.listen, warn }, frame, value),
    );
  }

  readonly #warn = (message: string): void => {
    const { overlay } = this.#served;
    this.#services.log.warn(`proxy ${overlay}`, `${overlay}: ${message}`);
  };

  #succeed(lookup: number, startMs: number, answer: LookupAnswer): void {
    this.#openLookups--;
    this.#times.add(performance.now() - startMs);
    this.#services.health.restore('lookup');
    this.#datapath?.answer(lookup, answer);
  }

  #fail(lookup: number, error: unknown): void {
    this.#openLookups--;
    this.complain(error);
    this.#datapath?.answer(lookup, failure(error));
  }

  /** Rejects with an OverlayError when the plugin did not accept its new data. */
  async reload(): Promise<void> {
    const instance = this.#instance;
    if (this.#datapath === undefined || typeof instance?.reload !== 'function') return;
    try {
      await this.#ask(this.#services.limits().startDeadlineMs, (signal) => instance.reload?.(signal));
    } catch (error) {
      const { code } = asOverlayError(error);
      throw new OverlayError(code, `not reloaded: ${systemErrorText(error)}`, [], error);
    }
  }

  /** Reports a failure of this plugin: the overlay is degraded until the next good answer. */
  complain(error: unknown): void {
    if (this.#isStopped) return;
    const said = `plugin ${this.#plugin.name}: ${systemErrorText(error)}`;
    this.#services.health.degrade('lookup', said);
  }

  /** Never rejects. Afterwards the plugin is not called, and its own calls have no effect. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#datapath = undefined;
    this.#early = [];
    const instance = this.#instance;
    if (typeof instance?.stop !== 'function') return;
    try {
      await this.#ask(STOP_DEADLINE_MS, () => instance.stop());
    } catch (error) {
      this.#log('warn', `did not stop: ${systemErrorText(error)}`);
    }
  }

  #inside<T>(call: () => T): T {
    return runningPlugin.run(this, call);
  }

  #ask<T>(deadlineMs: number, call: (signal: AbortSignal) => T | Promise<T>): Eventually<T> {
    return this.#deadlines.within(deadlineMs, (signal) => runningPlugin.run(this, call, signal));
  }

  #log(level: 'info' | 'warn' | 'error', message: string): void {
    this.#services.log[level](this.#kind, `${this.#served.overlay}: plugin ${this.#plugin.name}: ${message}`);
  }

  /** Calls now, or as soon as the datapath knows the overlay; never after `stop`. */
  #whenAttached(call: (datapath: PluginDatapath) => void): void {
    if (this.#datapath !== undefined) call(this.#datapath);
    else if (!this.#isStopped) this.#early.push(call);
  }

  /** Arguments are checked in the plugin's own call, so that its stack shows its mistake. */
  #host(): Host {
    const { overlay, vnetid, listen } = this.#served;
    const { health, reprotect } = this.#services;
    const say = (level: 'info' | 'warn' | 'error') => (message: string) => {
      this.#log(level, message);
    };
    return {
      overlay,
      vnetid,
      listen,
      log: { info: say('info'), warn: say('warn'), error: say('error') },
      now: () => performance.now(),
      setTarget: (mac, to, ttlMs) => {
        const target = [checkMac(mac), checkDestination(to, listen), checkTtlMs(ttlMs)] as const;
        this.#whenAttached((datapath) => {
          // A group MAC is at this host in any case, so only the earlier target is withdrawn.
          if (isMulticast(target[0]) && isSameEndpoint(target[1], listen)) datapath.invalidate(target[0]);
          else datapath.setTarget(target[0], [target[1]], target[2], 'pushed');
        });
      },
      invalidate: (mac) => {
        const checked = mac === undefined ? undefined : checkMac(mac);
        this.#whenAttached((datapath) => {
          datapath.invalidate(checked);
        });
      },
      announce: (ip, mac) => {
        const frame = announcement(checkStationIp(ip), checkStation(mac));
        this.#whenAttached((datapath) => {
          datapath.announce(frame);
        });
      },
      allowedIpsChanged: () => {
        this.#whenAttached(reprotect);
      },
      setPeers: (peers) => {
        const own = checkPeers(peers).filter(
          (peer) => family(peer) === family(listen.ip) && peer !== listen.ip,
        );
        this.#peers = own;
        this.#whenAttached((datapath) => {
          datapath.setPeers(own);
        });
      },
      degrade: (sentence) => {
        if (!this.#isStopped) health.degrade('plugin', sentence);
      },
      restore: () => {
        if (!this.#isStopped) health.restore('plugin');
      },
      remark: (sentence) => {
        if (!this.#isStopped) health.remark(sentence);
      },
      note: (sentence) => {
        if (!this.#isStopped) health.tell('plugin', sentence);
      },
    };
  }
}

function startError(error: unknown): OverlayError {
  const plain = asOverlayError(error);
  const code = error instanceof DeadlineError ? 'AGAIN' : plain.code;
  const line = `failed to activate varpd instance: ${systemErrorText(error)}${hiddenPathHint(plain)}`;
  return new OverlayError(code, line, [line], error);
}
