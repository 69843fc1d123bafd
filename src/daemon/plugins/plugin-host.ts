/**
 * The plugin instance of one overlay: the questions to it, the calls that it may make, and the bounds of its
 * trouble.
 *
 * A plugin can fail in every way a program can: throw, reject, never answer, answer nonsense, throw later out of a timer.
 * Each of these degrades its overlay with a sentence. The frames that waited are dropped as `lookup_failed` or
 * `lookup_timeout`, resolved targets stay in use, and the next good answer ends the trouble. This file does not know
 * where the plugin runs: here, or in a process of its own (plugin-stub.ts).
 */
import type { LookupStatistics } from '../../control/messages.js';
import type { LookupAnswer, LookupRequest } from '../../datapath/contract.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import type { PropertySet } from '../../model/properties.js';
import type { Instance, LookupPlugin, MacAddress } from '../../plugin/contract.js';
import type { Properties } from '../../plugin/properties.js';
import { type Destination, formatEndpoint, type IpAddress, isSameEndpoint } from '../../wire/ip.js';
import type { Limits } from '../config.js';
import type { Health } from '../health.js';
import type { Log } from '../log.js';
import { sentenceWithCauses } from '../system-error.js';
import { type Ask, carryOut, factsOf, failure } from './carry-out.js';
import { registerEars } from './host/complaints.js';
import { andThen, DeadlineError, Deadlines, type Eventually, STOP_DEADLINE_MS } from './deadline.js';
import { HostCalls } from './host/host-calls.js';
import { PluginKnowledge, type PluginDatapath, type ServedOverlay } from './knowledge.js';
import { enter, leave } from './host/opened-plugins.js';
import { AnswerError, checkDestination } from './plugin-answer.js';
import {
  checkChange,
  checkMethods,
  type PluginFiles,
  refuseTogether,
  sharedContext,
  startError,
} from './plugin-start.js';
import { type PortPlace, PortPlaces } from './port-places.js';

/**
 * More lookups than the datapath has open (core/overlay.ts): a repeated lookup may still be under way from
 * the first time.
 */
const MAX_OPEN_LOOKUPS = 4096;

export interface PluginServices {
  readonly log: Log;
  readonly health: Health;
  readonly limits: () => Limits;
  readonly files: PluginFiles;
  /** Called when the answer of `allowedIps` may have changed. */
  readonly reprotect: () => void;
}

export class PluginInstance {
  readonly #plugin: LookupPlugin;
  readonly #served: ServedOverlay;
  readonly #services: PluginServices;
  readonly #kind: string;
  readonly #knowledge: PluginKnowledge;
  readonly #calls: HostCalls;
  #instance: Instance | undefined;
  /** The plugin has been opened for this instance. */
  #hasEntered = false;
  #isStopped = false;
  /** Set while the instance is attached. */
  #datapath: PluginDatapath | undefined;
  #openLookups = 0;
  readonly #places = new PortPlaces((error) => {
    this.complain(error);
  });
  readonly #deadlines = new Deadlines();

  /** `knowledge`: of the overlay, over all its instances. */
  constructor(
    plugin: LookupPlugin,
    served: ServedOverlay,
    services: PluginServices,
    knowledge = new PluginKnowledge(served, services),
  ) {
    this.#plugin = plugin;
    this.#served = served;
    this.#services = services;
    this.#knowledge = knowledge;
    this.#kind = `plugin ${served.overlay}`;
    const { health, files, reprotect } = services;
    this.#calls = new HostCalls({
      served,
      knowledge,
      health,
      stateDir: () => files.stateDir(plugin.name),
      secret: files.secret,
      reprotect,
      say: (level, message) => {
        this.#log(level, message);
      },
      sentence: (error) => this.#sentence(error),
    });
    registerEars(this.#calls.host, {
      complain: (error) => {
        this.complain(error);
      },
      waiting: () => this.#calls.waiting,
    });
  }

  /** Rejects with an OverlayError; the plugin has been stopped then. */
  async start(properties: PropertySet): Promise<void> {
    const plugin = this.#plugin;
    const values = properties.valuesOf(plugin.name);
    try {
      await this.#refuse(values);
      const shared = await enter(plugin, () => this.#open());
      this.#hasEntered = true;
      const instance = plugin.create(this.#calls.host, shared);
      checkMethods(plugin, instance);
      this.#instance = instance;
      const { startDeadlineMs } = this.#services.limits();
      await this.#ask(startDeadlineMs, (signal) => instance.start(values, signal));
      checkChange(plugin, instance);
      if (plugin.mode === 'dynamic') await this.#needAnswers(instance);
    } catch (error) {
      await this.stop();
      throw startError(error);
    }
  }

  #refuse(values: Properties): Promise<void> {
    const { startDeadlineMs } = this.#services.limits();
    return refuseTogether(this.#plugin, values, (call) => this.#ask(startDeadlineMs, call));
  }

  async #open(): Promise<unknown> {
    const plugin = this.#plugin;
    if (typeof plugin.open !== 'function') return undefined;
    const context = sharedContext(plugin.name, this.#services);
    const { startDeadlineMs } = this.#services.limits();
    return await this.#ask<unknown>(startDeadlineMs, () => plugin.open?.(context));
  }

  /** An instance without `resolve` answers by its snapshot alone. */
  async #needAnswers(instance: Instance): Promise<void> {
    const { snapshots } = this.#knowledge;
    const hasResolve = typeof instance.resolve === 'function';
    if (!hasResolve) await snapshots.settle();
    if (!hasResolve && !snapshots.isInForce)
      throw new AnswerError('has no resolve, and has not called replaceAll before start resolved');
    this.#knowledge.hasResolve = hasResolve;
  }

  /** The destination of all frames in mode `point`. Rejects with an OverlayError. */
  async destination(): Promise<Destination> {
    const { listen } = this.#served;
    const { lookupDeadlineMs } = this.#services.limits();
    try {
      const given: unknown = await this.#ask<unknown>(lookupDeadlineMs, () =>
        this.#instance?.defaultDestination?.(),
      );
      const to = checkDestination(given, listen);
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
    return this.#calls.peers;
  }

  /**
   * Called once the datapath knows the overlay: earlier calls of the plugin are passed on, and lookups are
   * accepted.
   */
  attach(datapath: PluginDatapath): void {
    this.#datapath = datapath;
    this.#knowledge.datapath = datapath;
    this.#calls.attach(datapath);
  }

  /** Tells the plugin the MACs of all ports. A plugin on this thread may have called `setAllowedIps` when this returns. */
  ports(macs: readonly MacAddress[]): void {
    const instance = this.#instance;
    this.#places.retain(macs);
    if (this.#isStopped || typeof instance?.ports !== 'function') return;
    const fail = (error: unknown): void => {
      this.complain(error);
    };
    try {
      const told: unknown = instance.ports(macs);
      if (told instanceof Promise) told.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  /** Undefined: this plugin has no such facts. Throws or rejects as the plugin does. */
  neighbor(ip: IpAddress): Eventually<MacAddress | null | undefined> {
    const instance = this.#instance;
    const { snapshots } = this.#knowledge;
    const owner = snapshots.ownerOf(ip);
    if (owner !== undefined) return owner;
    if (this.#isStopped || typeof instance?.neighbor !== 'function')
      return snapshots.isInForce ? null : undefined;
    const { lookupDeadlineMs } = this.#services.limits();
    return factsOf(instance, 'arp', (call) => this.#ask(lookupDeadlineMs, call)).neighbor(ip);
  }

  /**
   * Where the plugin places the MAC of a port; null if it does not know the MAC, undefined if it cannot tell, or has not
   * answered the first question yet.
   */
  placeOf(mac: MacAddress): PortPlace {
    const instance = this.#instance;
    if (this.#isStopped || instance === undefined) return undefined;
    if (typeof instance.placeOf !== 'function') return this.#knowledge.placeOf(mac);
    const { lookupDeadlineMs } = this.#services.limits();
    return this.#places.ask(mac, () =>
      this.#ask<unknown>(lookupDeadlineMs, (signal) => instance.placeOf?.(mac, signal)),
    );
  }

  get lookupTimes(): Omit<LookupStatistics, 'asked'> {
    return { open: this.#openLookups, latencyMs: this.#knowledge.times.latencyMs };
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
    const known = this.#knowledge.snapshots.answer(request, this.#warn);
    if (known !== undefined) {
      datapath.answer(lookup, known);
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
    const known = this.#knowledge.snapshots.answer(request, () => undefined);
    if (known !== undefined) return known;
    try {
      if (instance !== undefined) return await this.#resolve(instance, request);
    } catch (error) {
      return failure(error);
    }
    return failure(undefined);
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
    if (typeof instance.resolve !== 'function')
      return this.#knowledge.otherwise(request, { instance, ask, warn });
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
    this.#knowledge.times.add(performance.now() - startMs);
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
      throw new OverlayError(code, `not reloaded: ${sentenceWithCauses(error)}`, [], error);
    }
  }

  /** New values of changeable properties; `properties` has all values. Rejects with an OverlayError, and the values
   * before stay in force. */
  async change(properties: PropertySet): Promise<void> {
    const instance = this.#instance;
    const { name } = this.#plugin;
    if (this.#isStopped || instance === undefined)
      throw new OverlayError('AGAIN', `plugin ${name} does not run`);
    if (typeof instance.change !== 'function')
      throw new OverlayError('UNSUPPORTED', `plugin ${name} takes no new values while the overlay runs`);
    const values = properties.valuesOf(name);
    await this.#refuse(values);
    try {
      await this.#ask(this.#services.limits().startDeadlineMs, (signal) => instance.change?.(values, signal));
    } catch (error) {
      const { code } = asOverlayError(error);
      const line = `not changed: ${sentenceWithCauses(error)}`;
      throw new OverlayError(error instanceof DeadlineError ? 'AGAIN' : code, line, [line], error);
    }
  }

  /** Reports a failure of this plugin: the overlay is degraded until the next good answer. */
  complain(error: unknown): void {
    if (this.#isStopped) return;
    this.#services.health.degrade('lookup', this.#sentence(error));
  }

  /** Never rejects. Afterwards the plugin is not called, and its own calls have no effect. */
  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#datapath = undefined;
    this.#calls.stop();
    const instance = this.#instance;
    try {
      if (typeof instance?.stop === 'function') await this.#ask(STOP_DEADLINE_MS, () => instance.stop());
    } catch (error) {
      this.#log('warn', `did not stop: ${sentenceWithCauses(error)}`);
    }
    if (this.#hasEntered) await leave(this.#plugin, (shared) => this.#close(shared));
  }

  /** Never rejects. */
  async #close(shared: unknown): Promise<void> {
    const plugin = this.#plugin;
    try {
      if (typeof plugin.close === 'function') await this.#ask(STOP_DEADLINE_MS, () => plugin.close?.(shared));
    } catch (error) {
      this.#log('warn', `did not close: ${sentenceWithCauses(error)}`);
    }
  }

  #sentence(error: unknown): string {
    return `plugin ${this.#plugin.name}: ${sentenceWithCauses(error)}`;
  }

  #ask<T>(deadlineMs: number, call: (signal: AbortSignal) => T | Promise<T>): Eventually<T> {
    return this.#deadlines.within(deadlineMs, call);
  }

  #log(level: 'info' | 'warn' | 'error', message: string): void {
    this.#services.log[level](this.#kind, `${this.#served.overlay}: plugin ${this.#plugin.name}: ${message}`);
  }
}
