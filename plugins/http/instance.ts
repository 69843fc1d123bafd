/**
 * The http plugin at work for one overlay: what is the same in all modes. Broadcasts become proxies or are flooded, ports
 * are protected, and peers are told. on-demand.ts and whole.ts have the modes.
 */
import { setMaxListeners } from 'node:events';
import {
  type AllowedIps,
  type Answer,
  type Destination,
  type Host,
  type Instance,
  type IpAddress,
  ipFamily,
  isMulticastMac,
  type Lookup,
  type MacAddress,
  MAX_FLOOD_DESTINATIONS,
  proxyFor,
  spread,
} from '../../src/plugin/index.js';
import type { Client } from './client.js';
import { Gate } from './gate.js';
import { StoreHealth } from './health.js';
import { NetworkState } from './network-state.js';
import { openClient } from './material.js';
import { OnDemandView } from './on-demand.js';
import type { HttpProperties } from './specs.js';
import { Store } from './store.js';
import { inBackground, pause } from './timing.js';
import { StoreTrouble } from './trouble.js';
import { otherFamily, type View } from './view.js';
import { WholeView } from './whole.js';

/** A start that fails tries once more, within this time: one lost connection does not make create-overlay fail. */
const SECOND_TRY_MS = 500;
/** A token that is not accepted is read again at most this often: it may have been renewed. */
const RENEW_MS = 10_000;
/** Properties that say which store is asked, and how this host proves itself to it. */
const STORE = ['url', 'token', 'ca', 'cert', 'key'] as const satisfies readonly (keyof HttpProperties)[];
/** Ports are protected again this long after the store has not answered about one. */
const PROTECT_AGAIN_MS = 1000;

export class HttpInstance implements Instance<HttpProperties> {
  readonly #host: Host;
  readonly #family: 4 | 6;
  #properties: HttpProperties | undefined;
  #store: Store | undefined;
  #view: View | undefined;
  /** Every VTEP, and those that a frame is flooded to. */
  #allVteps: readonly Destination[] = [];
  #vteps: readonly Destination[] = [];
  #peers = '';
  #health: StoreHealth;
  /** MACs of the ports of this host; undefined until varpd has told them. */
  #ports: readonly MacAddress[] | undefined;
  /** The rows that are in force. */
  #allowed: ReadonlyMap<MacAddress, AllowedIps['ips']> | undefined;
  #isProtecting = false;
  #isProtectionDue = false;
  #isStopped = false;
  #renewedMs = -Infinity;

  constructor(host: Host) {
    this.#host = host;
    this.#health = new StoreHealth(host);
    this.#family = ipFamily(host.listen.ip);
  }

  async start(properties: HttpProperties, signal: AbortSignal): Promise<void> {
    this.#properties = properties;
    // Every open request listens to it, and Node takes more than ten listeners for a mistake.
    setMaxListeners(0, this.#host.signal);
    const host = this.#host;
    const health = this.#health;
    const defaults = { ttlMs: properties.ttl_ms, staleMs: properties.stale_ms };
    const client = await openClient(host, properties);
    signal.throwIfAborted();
    const store = new Store(client, host.vnetid, defaults, () => {
      this.#renew();
    });
    this.#store = store;
    const events = {
      vteps: (list: readonly Destination[]) => {
        this.#useVteps(list);
      },
      entries: () => {
        this.#protect();
      },
    };
    if (properties.mode === 'snapshot')
      this.#view = new WholeView(host, store, health, events, new NetworkState(host));
    else {
      const gate = new Gate(
        () => host.now(),
        health,
        () => {
          view.troubled();
        },
      );
      const isWatching = properties.mode === 'watch';
      const view = new OnDemandView(host, store, gate, health, events, { ...defaults, isWatching });
      this.#view = view;
    }
    await this.#begin(this.#view, signal);
  }

  async #begin(view: View, signal: AbortSignal): Promise<void> {
    try {
      await view.start(signal);
    } catch (error) {
      if (!(error instanceof StoreTrouble) || !error.isOutage) throw error;
      await pause(spread(Math.max(SECOND_TRY_MS, error.retryAfterMs)), signal);
      signal.throwIfAborted();
      await view.start(signal);
    }
  }

  /** Everything but http/mode may change. A store that does not answer is not asked from now on: the one before stays. */
  async change(properties: HttpProperties, signal: AbortSignal): Promise<void> {
    const [before, store, view] = [this.#properties, this.#store, this.#view];
    if (before === undefined || store === undefined || view === undefined) throw new Error('not started');
    const client = await openClient(this.#host, properties);
    if (STORE.some((name) => properties[name] !== before[name])) await this.#tryOut(client, signal);
    await store.use(client);
    this.#properties = properties;
    const age = { ttlMs: properties.ttl_ms, staleMs: properties.stale_ms };
    store.useAge(age);
    view.useAge(age);
    if (properties.url === before.url) view.renewed();
    else await this.#move(view, store, before, signal);
    this.#useVteps(this.#allVteps);
    if (properties.protect === 'on') this.#protect();
    else if (before.protect === 'on') {
      this.#allowed = undefined;
      this.#host.setAllowedIps(undefined);
    }
  }

  /** Rejects when the store does not answer about the network as it should. */
  async #tryOut(client: Client, signal: AbortSignal): Promise<void> {
    const { vnetid } = this.#host;
    const store = new Store(client, vnetid, { ttlMs: 0, staleMs: undefined }, () => undefined);
    try {
      await store.network(signal);
      signal.throwIfAborted();
    } catch (error) {
      await client.close();
      throw error;
    }
  }

  /** Gets everything in use from another store. */
  async #move(view: View, store: Store, before: HttpProperties, signal: AbortSignal): Promise<void> {
    try {
      await view.move(signal);
    } catch (error) {
      this.#properties = before;
      await store.use(await openClient(this.#host, before));
      view.moveBack();
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#view?.close();
    await this.#store?.close();
  }

  /** Reads certificates and secrets again, and asks the store about everything in use. */
  async reload(signal: AbortSignal): Promise<void> {
    await this.#openAgain();
    await this.#view?.reload(signal);
  }

  async #openAgain(): Promise<void> {
    if (this.#properties === undefined || this.#isStopped) return;
    const client = await openClient(this.#host, this.#properties);
    await this.#store?.use(client);
  }

  /** The token may have been replaced meanwhile. */
  #renew(): void {
    const nowMs = this.#host.now();
    if (this.#properties?.token === undefined || nowMs - this.#renewedMs < RENEW_MS) return;
    this.#renewedMs = nowMs;
    this.#openAgain()
      .then(() => {
        this.#view?.renewed();
      })
      .catch((error: unknown) => {
        this.#host.log.warn(`http/token: ${error instanceof Error ? error.message : String(error)}`);
      });
  }

  // -- Answers

  resolve({ destinationMac, etherType }: Lookup): Answer | Promise<Answer> {
    if (isMulticastMac(destinationMac)) return this.#group(destinationMac, etherType);
    return this.#started.resolve(destinationMac);
  }

  #group(mac: MacAddress, etherType: number): Answer {
    const isFlooding = this.#properties?.flood === 'on';
    const what = proxyFor(mac, etherType);
    if (what !== undefined) return { kind: 'proxy', what, ...(isFlooding && { otherwise: this.#vteps }) };
    if (isFlooding) return { kind: 'flood', to: this.#vteps };
    return { kind: 'drop', reason: 'other broadcast and multicast is dropped; http/flood=on floods it' };
  }

  neighbor(ip: IpAddress): MacAddress | null | Promise<MacAddress | null> {
    return this.#started.neighbor(ip);
  }

  dhcpServer(client: MacAddress): MacAddress | null | Promise<MacAddress | null> {
    return this.#started.dhcpServer(client);
  }

  placeOf(mac: MacAddress): Destination | null | undefined | Promise<Destination | null | undefined> {
    return this.#started.placeOf(mac);
  }

  get #started(): View {
    if (this.#view === undefined) throw new Error('not started');
    return this.#view;
  }

  // -- Peers

  #useVteps(list: readonly Destination[]): void {
    this.#allVteps = list;
    const ips = [...new Set(list.map(({ ip }) => ip))].sort();
    const peers = ips.join();
    if (peers !== this.#peers) this.#host.setPeers(ips);
    this.#peers = peers;
    const own = list.filter(({ ip }) => otherFamily(ip, this.#family) === undefined);
    this.#vteps = own.slice(0, MAX_FLOOD_DESTINATIONS);
    if (this.#properties?.flood === 'on' && own.length > MAX_FLOOD_DESTINATIONS)
      this.#health.degrade(
        'flood',
        `the network has ${own.length} VTEPs, and http/flood=on takes at most ${MAX_FLOOD_DESTINATIONS}`,
      );
    else this.#health.restore('flood');
  }

  // -- Protection

  ports(macs: readonly MacAddress[]): void {
    this.#ports = macs;
    this.#protect();
  }

  get #isToProtect(): boolean {
    return this.#properties?.protect === 'on';
  }

  /** One run at a time; a call during a run makes another one follow. */
  #protect(): void {
    if (!this.#isToProtect || this.#view === undefined || this.#ports === undefined) return;
    this.#isProtectionDue = true;
    if (this.#isProtecting) return;
    this.#isProtecting = true;
    const ending = this.#protectAll(this.#view).finally(() => {
      this.#isProtecting = false;
    });
    inBackground(this.#host, ending);
  }

  /**
   * A MAC about which the store does not answer keeps the row before. Without one it may use its link-local address alone,
   * and the store is asked again. Until the store has answered about one MAC at least, the list before stays in force: it
   * may be that of the previous process.
   */
  async #protectAll(view: View): Promise<void> {
    while (this.#isProtectionDue && !this.#isStopped) {
      this.#isProtectionDue = false;
      const rows = await Promise.all((this.#ports ?? []).map((mac) => this.#rowOf(view, mac)));
      if (!this.#isToProtect) return;
      const known = rows.filter((row) => row !== undefined);
      if (known.length > 0 || rows.length === 0) {
        this.#allowed = new Map(known.map(({ mac, ips }) => [mac, ips]));
        this.#host.setAllowedIps(known);
      }
      if (known.length === rows.length) continue;
      await pause(PROTECT_AGAIN_MS, this.#host.signal);
      this.#isProtectionDue = true;
    }
  }

  async #rowOf(view: View, mac: MacAddress): Promise<AllowedIps | undefined> {
    try {
      return { mac, ips: await view.ipsOf(mac) };
    } catch {
      const ips = this.#allowed?.get(mac);
      return ips === undefined ? undefined : { mac, ips };
    }
  }
}
