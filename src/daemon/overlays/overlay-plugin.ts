/**
 * The plugin of one overlay, over all attempts to start it. An overlay with links from an earlier daemon goes
 * on without its plugin, on the known targets, DEGRADED with the reason. The plugin is started again and
 * again until it works.
 */
import type { LookupStatistics } from '../../control/messages.js';
import type { LookupAnswer, LookupRequest } from '../../datapath/contract.js';
import { inBackground } from '../../model/background.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import type { PropertySet } from '../../model/properties.js';
import type { Destination, LookupPlugin, MacAddress } from '../../plugin/contract.js';
import type { IpAddress } from '../../wire/ip.js';
import {
  type PluginDatapath,
  PluginInstance,
  type PluginServices,
  type ServedOverlay,
} from '../plugins/plugin-host.js';
import { errnoName, systemErrorText } from '../system-error.js';

/** Least pause between two attempts: short, for an operator that has just mended something. */
const MIN_PAUSE_MS = 1000;
/**
 * Pause as a multiple of the time of an attempt, so that a large invalid file costs a tenth of a processor.
 */
const PAUSE_FACTOR = 9;

/**
 * Prepares an attempt. Rejects with an OverlayError when there is no such plugin, or when its properties are
 * not valid.
 */
export type Prepare = () => Promise<{ readonly plugin: LookupPlugin; readonly properties: PropertySet }>;

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
  #instance: PluginInstance | undefined;
  /** Set once the datapath knows the overlay. */
  #datapath: PluginDatapath | undefined;
  #isStopped = false;
  #timer: NodeJS.Timeout | undefined;
  /** Error of the last attempt; undefined after a success. */
  #failure: unknown;
  /** The first attempt of `startLater`. */
  #first: Promise<void> = Promise.resolve();
  /** The attempt that is under way. */
  #attempt: Promise<void> | undefined;

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
    this.#again(MIN_PAUSE_MS);
  }

  /** Resolves when the plugin has been tried once. */
  get settled(): Promise<void> {
    return this.#first;
  }

  /** Called once the datapath knows the overlay. */
  attach(datapath: PluginDatapath): void {
    this.#datapath = datapath;
    this.#instance?.attach(datapath);
  }

  /** Underlay addresses that the plugin has named; undefined while it has not started. */
  get peers(): readonly IpAddress[] | undefined {
    return this.#instance?.peers;
  }

  get lookupTimes(): Omit<LookupStatistics, 'asked'> {
    return this.#instance?.lookupTimes ?? { open: 0, latencyMs: null };
  }

  /** The answer to a lookup, as `PluginInstance.answerOf`. */
  async answerOf(request: LookupRequest): Promise<LookupAnswer> {
    return this.#instance?.answerOf(request) ?? { kind: 'drop', reason: 'lookup_failed' };
  }

  /** The MAC that has an address, or null. Undefined: this plugin has no such facts. Rejects as the plugin does. */
  async neighbor(ip: IpAddress): Promise<MacAddress | null | undefined> {
    return await this.#instance?.neighbor(ip);
  }

  /** Never throws; the datapath gets exactly one answer to each lookup, unless the overlay ends before. */
  readonly lookups = (requests: readonly LookupRequest[]): void => {
    for (const request of requests)
      if (this.#instance !== undefined) this.#instance.lookup(request);
      else if (!this.#isStopped)
        this.#datapath?.answer(request.lookup, { kind: 'drop', reason: 'lookup_failed' });
  };

  /**
   * Addresses that a port with this MAC may send from. `before` is the answer while the plugin has not
   * started.
   */
  allowedIps(mac: MacAddress, before: readonly IpAddress[] | undefined): readonly IpAddress[] | undefined {
    return this.#instance === undefined ? before : this.#instance.allowedIps(mac);
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
    const instance = this.#instance;
    this.#instance = undefined;
    await instance?.stop();
  }

  async #start(): Promise<{ instance: PluginInstance; properties: PropertySet; destination?: Destination }> {
    const { plugin, properties } = await this.#prepare();
    const instance = new PluginInstance(plugin, this.#served, this.#services);
    await instance.start(properties);
    try {
      const destination = plugin.mode === 'point' ? instance.destination() : undefined;
      if (this.#isStopped) throw new OverlayError('AGAIN', 'the overlay was stopped meanwhile');
      this.#instance = instance;
      return { instance, properties, ...(destination !== undefined && { destination }) };
    } catch (error) {
      await instance.stop();
      throw error;
    }
  }

  #again(pauseMs: number): void {
    if (this.#isStopped) return;
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
        this.#services.health.restore('plugin start');
        if (this.#datapath !== undefined) instance.attach(this.#datapath);
        this.#events.started(properties, destination);
      })
      .catch((error: unknown) => {
        this.#complain(error);
        const workedMs = hasWaited(error) ? 0 : performance.now() - startedMs;
        this.#again(Math.max(MIN_PAUSE_MS, PAUSE_FACTOR * workedMs));
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

/**
 * Whether the plugin reports that a service it needs does not answer: the attempt has taken time, and no
 * processor.
 */
function hasWaited(error: unknown): boolean {
  return error instanceof OverlayError && errnoName(error.cause) === 'EAGAIN';
}
