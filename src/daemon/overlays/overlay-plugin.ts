/**
 * The plugin of one overlay, over all attempts to start it. An overlay with links from an earlier daemon goes
 * on without its plugin, on the known targets, DEGRADED with the reason, and so does an overlay when the process of its
 * plugin has ended. The plugin is started again and again until it works.
 */
import type { LookupStatistics, MappingInfo } from '../../control/messages.js';
import type { LookupAnswer, LookupRequest } from '../../datapath/contract.js';
import { inBackground } from '../../model/background.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import type { PropertySet } from '../../model/properties.js';
import { spread } from '../../plugin/back-off.js';
import type { LookupPlugin, MacAddress } from '../../plugin/contract.js';
import type { Destination, IpAddress } from '../../wire/ip.js';
import {
  AttemptPauses,
  type Move,
  SHORT_PAUSE_MS,
  startInstance,
  stopDrained,
  type Swap,
} from '../plugins/attempts.js';
import { PluginInstance, type PluginServices } from '../plugins/plugin-host.js';
import { type PluginDatapath, PluginKnowledge, type ServedOverlay } from '../plugins/knowledge.js';
import type { LookupHistogram } from '../plugins/lookup-times.js';
import { pauseOf, whenGone } from '../plugins/plugin-stub.js';
import { systemErrorText } from '../system-error.js';

/**
 * Prepares an attempt. Rejects with an OverlayError when there is no such plugin, or when its properties are
 * not valid.
 */
export type Prepare = () => Promise<{ readonly plugin: LookupPlugin; readonly properties: PropertySet }>;

/** Troubles that end with an instance. */
const TROUBLES = ['plugin', 'plugin timer', 'plugin call', 'lookup'] as const;

export interface OverlayPluginEvents {
  /** An attempt has succeeded after the overlay's start; `destination` is that of a point overlay. */
  readonly started: (properties: PropertySet, destination: Destination | undefined) => void;
}

export class OverlayPlugin {
  readonly #name: string;
  readonly #served: ServedOverlay;
  readonly #services: PluginServices;
  readonly #prepare: Prepare;
  readonly #events: OverlayPluginEvents;
  #knowledge: PluginKnowledge;
  /** Set while the overlay is on its way to another place: questions that wait. */
  #held: LookupRequest[] | undefined;
  #instance: PluginInstance | undefined;
  /** Set once the datapath knows the overlay. */
  #datapath: PluginDatapath | undefined;
  #ports: readonly MacAddress[] = [];
  #isStopped = false;
  readonly #pauses = new AttemptPauses();
  #timer: NodeJS.Timeout | undefined;
  /** Error of the last attempt; undefined after a success. */
  #failure: unknown;
  /** The first attempt of `startLater`. */
  #first: Promise<void> = Promise.resolve();
  /** The attempt that is under way. */
  #attempt: Promise<void> | undefined;
  /** The plugin of the last attempt. */
  #plugin: LookupPlugin | undefined;
  /** Ends the watch over the process of the plugin. */
  #unwatch: () => void = () => undefined;
  #exits = 0;

  constructor(
    name: string,
    served: ServedOverlay,
    services: PluginServices,
    prepare: Prepare,
    events: OverlayPluginEvents,
  ) {
    this.#name = name;
    this.#served = served;
    this.#services = services;
    this.#prepare = prepare;
    this.#events = events;
    this.#knowledge = new PluginKnowledge(served, services);
  }

  /**
   * Makes one attempt. Resolves to the destination of a point overlay. Rejects with an OverlayError; the
   * plugin has been stopped then.
   */
  async start(): Promise<Destination | undefined> {
    return (await this.#start()).destination;
  }

  /**
   * The overlay goes on without its plugin for now. `failure` is the error of the attempt at its start, if
   * there was one.
   */
  startLater(failure: unknown): void {
    if (failure === undefined) {
      this.#first = this.#restart();
      return;
    }
    this.#complain(failure);
    this.#again(this.#pauses.after(failure, 0));
  }

  /** Resolves when the plugin has been tried once. */
  get settled(): Promise<void> {
    return this.#first;
  }

  /** Called once the datapath knows the overlay. */
  attach(datapath: PluginDatapath): void {
    this.#datapath = datapath;
    this.#knowledge.datapath = datapath;
    this.#instance?.attach(datapath);
  }

  get isRunning(): boolean {
    return this.#instance !== undefined;
  }

  /**
   * Has the plugin take other values of its properties. Resolves to the destination of a point overlay. A plugin that does
   * not run is started with them. Rejects with an OverlayError; then a plugin that runs has the values of before.
   */
  async change(properties: PropertySet): Promise<Destination | undefined> {
    const instance = this.#instance;
    if (instance === undefined) {
      await this.mend();
      return undefined;
    }
    await instance.change(properties);
    return this.#plugin?.mode === 'point' ? await instance.destination() : undefined;
  }

  /** Underlay addresses that the plugin has named; undefined while it has not started. */
  get peers(): readonly IpAddress[] | undefined {
    return this.#instance?.peers;
  }

  /** The data that the plugin answers out of; null while it has not said so. */
  get mapping(): MappingInfo | null {
    return this.#knowledge.mapping;
  }

  get lookupTimes(): Omit<LookupStatistics, 'asked'> {
    return this.#instance?.lookupTimes ?? { open: 0, latencyMs: null };
  }

  /** Since the start of the overlay: the times of all answers, and how often the process of the plugin has ended by itself. */
  get counts(): { readonly answers: LookupHistogram; readonly exits: number } {
    return { answers: this.#knowledge.times.histogram, exits: this.#exits };
  }

  /** The answer to a lookup, as `PluginInstance.answerOf`. */
  async answerOf(request: LookupRequest): Promise<LookupAnswer> {
    return this.#instance?.answerOf(request) ?? this.#knowledge.answer(request);
  }

  /** The MAC that has an address, or null. Undefined: this plugin has no such facts. Rejects as the plugin does. */
  async neighbor(ip: IpAddress): Promise<MacAddress | null | undefined> {
    return this.#instance === undefined
      ? this.#knowledge.snapshots.ownerOf(ip)
      : await this.#instance.neighbor(ip);
  }

  /** Never throws; the datapath gets exactly one answer to each lookup, unless the overlay ends before. */
  readonly lookups = (requests: readonly LookupRequest[]): void => {
    for (const request of requests)
      if (this.#held !== undefined) this.#held.push(request);
      else if (this.#instance !== undefined) this.#instance.lookup(request);
      else if (!this.#isStopped) this.#datapath?.answer(request.lookup, this.#knowledge.answer(request));
  };

  /**
   * Addresses that a port with this MAC may send from. `before` is the answer until the plugin has given a list, or has
   * said that there is none: the list of the previous process stays in force.
   */
  allowedIps(mac: MacAddress, before: readonly IpAddress[] | undefined): readonly IpAddress[] | undefined {
    return this.#knowledge.allowedIps(mac, before);
  }

  /** Tells the plugin the MACs of all ports; again when it has been started again. */
  ports(macs: readonly MacAddress[]): void {
    this.#ports = macs;
    this.#instance?.ports(macs);
  }

  /** Where the plugin places the MAC of a port; undefined if it cannot tell. */
  placeOf(mac: MacAddress): Destination | null | undefined {
    return this.#instance?.placeOf(mac);
  }

  /** Rejects with an OverlayError when the plugin did not accept its new data, or still cannot be started. */
  async reload(): Promise<void> {
    if (this.#instance !== undefined) await this.#instance.reload();
    else await this.mend();
  }

  /** Makes an attempt at once, if the last one failed. Rejects with an OverlayError. */
  async mend(): Promise<void> {
    if (this.#instance !== undefined || this.#isStopped || this.#datapath === undefined) return;
    clearTimeout(this.#timer);
    await (this.#attempt ?? this.#restart());
    if (this.#failure !== undefined) throw asOverlayError(this.#failure);
  }

  /** Never rejects. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    this.#unwatch();
    const instance = this.#instance;
    this.#instance = undefined;
    this.#knowledge.snapshots.end();
    await instance?.stop();
  }

  /** The process of the plugin has ended: the overlay goes on with what it knows, and a new instance is started. */
  #gone(cause: string): void {
    const instance = this.#instance;
    this.#unwatch();
    this.#instance = undefined;
    if (instance === undefined || this.#isStopped) return;
    this.#exits++;
    inBackground('stopping a plugin without its process', instance.stop());
    this.#complain(new Error(cause));
    // These were of the instance that is gone.
    this.#restored(...TROUBLES);
    this.#again(spread(SHORT_PAUSE_MS));
  }

  /**
   * Starts an instance of a plugin's new code, or one that is told another name of the overlay, by `served`. Rejects with
   * an OverlayError; then nothing has changed.
   */
  async prepareSwap(plugin: LookupPlugin, properties: PropertySet, served?: ServedOverlay): Promise<Swap> {
    const knowledge = this.#knowledge;
    const { hasResolve } = knowledge;
    const isNeeded = served === undefined || this.isRunning;
    const beside = this.#make(plugin, knowledge, served);
    const { next, destination } = await startInstance(beside, plugin, properties, isNeeded);
    return {
      commit: async () => {
        if (!(await this.#settle(next))) return;
        const before = this.#replace(plugin, next, properties, destination);
        await stopDrained(before, this.#services.limits().lookupDeadlineMs);
      },
      abandon: async () => {
        knowledge.hasResolve = hasResolve;
        await next?.stop();
      },
    };
  }

  /**
   * Starts an instance for another place, which `ServedOverlay` has already. Nothing that is known of the place before
   * holds there: neither targets nor the snapshot, and no peers if it is another network. A plugin that does not run may
   * go on not to run. Questions wait until one of the functions of the result is called. Rejects with an
   * OverlayError; then nothing has changed.
   */
  async prepareMove(plugin: LookupPlugin, properties: PropertySet, isOtherNetwork: boolean): Promise<Move> {
    const knowledge = new PluginKnowledge(this.#served, this.#services, this.#knowledge.times);
    const beside = this.#make(plugin, knowledge);
    const { next, destination } = await startInstance(beside, plugin, properties, this.isRunning);
    this.#held = [];
    return {
      destination,
      peers: next?.peers,
      commit: async () => {
        if (!(await this.#settle(next))) return;
        const before = this.#instance;
        const stopped = before?.stop();
        this.#knowledge.snapshots.end();
        this.#knowledge = knowledge;
        knowledge.datapath = this.#datapath;
        // The questions that wait are asked again.
        this.#held = undefined;
        if (isOtherNetwork) this.#datapath?.setPeers(next?.peers ?? []);
        this.#datapath?.invalidate();
        this.#replace(plugin, next, properties, destination);
        await stopped;
      },
      abandon: async () => {
        const held = this.#held ?? [];
        this.#held = undefined;
        this.lookups(held);
        await next?.stop();
      },
    };
  }

  #make(plugin: LookupPlugin, knowledge: PluginKnowledge, served = this.#served): PluginInstance {
    return new PluginInstance(plugin, served, this.#services, knowledge);
  }

  /** Waits for an attempt that is under way, with the code or the place of before. Resolves to false if the overlay ends. */
  async #settle(next: PluginInstance | undefined): Promise<boolean> {
    clearTimeout(this.#timer);
    await this.#attempt;
    clearTimeout(this.#timer);
    if (this.#isStopped) await next?.stop();
    return !this.#isStopped;
  }

  /** Puts the instance in the place of the one in use, which it returns. Without one the plugin is started again. */
  #replace(
    plugin: LookupPlugin,
    next: PluginInstance | undefined,
    properties: PropertySet,
    destination: Destination | undefined,
  ): PluginInstance | undefined {
    const before = this.#instance;
    this.#unwatch();
    this.#instance = next;
    if (next === undefined) {
      this.#again(0);
      return before;
    }
    this.#plugin = plugin;
    this.#failure = undefined;
    this.#unwatch = whenGone(plugin, (cause) => {
      this.#gone(cause);
    });
    this.#restored('plugin start', ...TROUBLES);
    next.ports(this.#ports);
    if (this.#datapath !== undefined) next.attach(this.#datapath);
    this.#events.started(properties, destination);
    return before;
  }

  #restored(...sources: Parameters<PluginServices['health']['restore']>[0][]): void {
    for (const source of sources) this.#services.health.restore(source);
  }

  async #start(): Promise<{ instance: PluginInstance; properties: PropertySet; destination?: Destination }> {
    const { plugin, properties } = await this.#prepare();
    this.#plugin = plugin;
    const instance = this.#make(plugin, this.#knowledge);
    await instance.start(properties);
    let cause: string | undefined;
    this.#unwatch = whenGone(plugin, (why) => {
      cause = why;
      this.#gone(why);
    });
    try {
      const destination = plugin.mode === 'point' ? await instance.destination() : undefined;
      if (this.#isStopped) throw new OverlayError('AGAIN', 'the overlay was stopped meanwhile');
      if (cause !== undefined) throw new OverlayError('AGAIN', cause);
      this.#instance = instance;
      instance.ports(this.#ports);
      return { instance, properties, ...(destination !== undefined && { destination }) };
    } catch (error) {
      this.#unwatch();
      await instance.stop();
      throw error;
    }
  }

  #again(leastMs: number): void {
    if (this.#isStopped) return;
    clearTimeout(this.#timer);
    // An attempt before that only finds that the process is not started yet.
    const pauseMs = Math.max(leastMs, pauseOf(this.#plugin));
    this.#timer = setTimeout(() => {
      inBackground('starting a plugin again', this.#restart());
    }, pauseMs).unref();
  }

  /** Never rejects: a failure is reported, and the start tried again. */
  #restart(): Promise<void> {
    const startedMs = performance.now();
    this.#attempt = this.#start()
      .then(({ instance, properties, destination }) => {
        this.#failure = undefined;
        this.#pauses.reset();
        this.#services.health.restore('plugin start');
        if (this.#datapath !== undefined) instance.attach(this.#datapath);
        this.#events.started(properties, destination);
      })
      .catch((error: unknown) => {
        this.#complain(error);
        this.#again(this.#pauses.after(error, performance.now() - startedMs));
      })
      .finally(() => {
        this.#attempt = undefined;
      });
    return this.#attempt;
  }

  #complain(error: unknown): void {
    if (this.#isStopped) return;
    this.#failure = error;
    // The plugin's own message, without the words of create-overlay before it.
    const { message, cause } = asOverlayError(error);
    const said = cause instanceof Error ? systemErrorText(cause) : message;
    const { health } = this.#services;
    health.degrade('plugin start', `plugin ${this.#name}: ${said}; what was known before goes on`);
  }
}
