/** The nats plugin at work for one overlay: it answers out of its network, which follows the bucket. */
import path from 'node:path';
import { hostname } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import {
  type Age,
  type Answer,
  type Destination,
  type Host,
  type Instance,
  ipFamily,
  type IpAddress,
  isMulticastMac,
  type Lookup,
  type MacAddress,
} from '../../src/plugin/index.js';
import { type Access, connect, loadPackages, NatsError, parseServers, requestError } from './client.js';
import { Feed } from './feed.js';
import { groupAnswer } from './group.js';
import { bucketOf } from './keys.js';
import { LookupNetwork } from './lookup-network.js';
import type { Network } from './network.js';
import { SnapshotNetwork } from './snapshot-network.js';
import { BucketState } from './state-file.js';
import { ipsOf } from './table.js';

/** varpd gives a start five seconds, loading of the packages included. A bucket that is not read by then goes on being read. */
const START_MS = 3500;
/** With a state on disk a start waits only so long: it can work at once. */
const START_WITH_STATE_MS = 1000;

/** Properties that say which servers are asked, and how this host proves itself to them. */
const ACCESS = ['servers', 'ca', 'cert', 'key', 'user', 'password', 'nkey', 'creds'] as const;

const UNKNOWN: Answer = { kind: 'drop', reason: 'the bucket has no such MAC' };

export interface NatsProperties {
  readonly servers: string;
  readonly bucket?: string;
  readonly mode: 'snapshot' | 'lookup';
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly user?: string;
  readonly password?: string;
  readonly nkey?: string;
  readonly creds?: string;
  readonly ttl_ms?: number;
  readonly stale_ms?: number;
  readonly flood: 'on' | 'off';
  readonly protect: 'on' | 'off';
}

export class NatsInstance implements Instance<NatsProperties> {
  readonly #host: Host;
  #properties: NatsProperties | undefined;
  #network: Network | undefined;
  #feed: Feed | undefined;
  #state: BucketState | undefined;
  #isProtectDue = false;
  #ports: readonly MacAddress[] = [];

  constructor(host: Host) {
    this.#host = host;
  }

  async start(properties: NatsProperties, signal: AbortSignal): Promise<void> {
    const host = this.#host;
    const endMs = performance.now() + START_MS;
    this.#properties = properties;
    await loadPackages();
    const bucket = this.#bucketOf(properties);
    const { mode } = properties;
    const age = ageOf(properties);
    const file = path.join(host.stateDir, `${encodeURIComponent(host.overlay)}.${mode}.state`);
    const state = new BucketState(file, sourceOf(properties.servers, bucket));
    const network =
      mode === 'snapshot'
        ? new SnapshotNetwork(host, { bucket, age }, state)
        : new LookupNetwork(host, { bucket, age }, state);
    const filter = mode === 'snapshot' ? 'mac.>' : '>';
    const feed = new Feed(
      () => this.#access(this.#properties ?? properties),
      bucket,
      filter,
      this.#name,
      network,
    );
    this.#network = network;
    this.#feed = feed;
    this.#state = state;
    network.join(feed);
    network.ports = this.#ports;
    network.changed = () => {
      this.#protectSoon();
    };
    const loading = network.load(host.signal).finally(() => {
      network.follow();
    });
    loading.catch(() => undefined);
    // With a million entries on disk the overlay starts before they are all read.
    const hasState = await within(endMs - performance.now(), loading);
    signal.throwIfAborted();
    if (hasState === undefined) network.wait();
    else
      await this.#untilFirst(
        network,
        hasState ? START_WITH_STATE_MS : endMs - performance.now(),
        hasState,
        signal,
      );
    network.serve();
    this.#protectSoon();
  }

  #bucketOf({ bucket }: NatsProperties): string {
    return bucket ?? bucketOf(this.#host.vnetid);
  }

  /** The name that the server shows of this client. */
  get #name(): string {
    return `varpd ${hostname()} ${this.#host.overlay}`;
  }

  /** Everything but nats/bucket and nats/mode may change. Servers that do not answer are not asked: those before stay. */
  async change(properties: NatsProperties, signal: AbortSignal): Promise<void> {
    const before = this.#properties;
    const network = this.#running();
    const bucket = this.#bucketOf(properties);
    if (ACCESS.some((name) => properties[name] !== before?.[name])) {
      await this.#tryOut(properties, bucket, signal);
      this.#properties = properties;
      this.#state?.moveTo(sourceOf(properties.servers, bucket));
      this.#feed?.reconnect();
    }
    this.#properties = properties;
    network.age = ageOf(properties);
    if (properties.protect === 'on') this.#protectSoon();
    else if (before?.protect === 'on') this.#host.setAllowedIps(undefined);
  }

  /** Rejects when the servers do not answer, or do not let this host read the bucket. */
  async #tryOut(properties: NatsProperties, bucket: string, signal: AbortSignal): Promise<void> {
    const client = await connect(await this.#access(properties), bucket, this.#name);
    try {
      await client.manager.streams.info(`KV_${bucket}`).catch((error: unknown) => {
        throw requestError(error, `look at the bucket ${bucket}`, client.packages);
      });
      signal.throwIfAborted();
    } finally {
      await client.connection.close().catch(() => undefined);
    }
  }

  /** Rejects when there is neither a store nor a state on disk. */
  async #untilFirst(
    network: Network,
    longestMs: number,
    hasState: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    let failure: NatsError | undefined;
    const first = network.first.catch((error: unknown) => {
      failure = error as NatsError;
    });
    await within(longestMs, first);
    signal.throwIfAborted();
    if (failure !== undefined && !hasState) throw failure;
    if (failure !== undefined) network.lost(failure);
    else if (!network.isCurrent) network.wait();
  }

  async stop(): Promise<void> {
    await this.#network?.stop();
    this.#network = undefined;
  }

  async #access(properties: NatsProperties): Promise<Access> {
    const { servers, ca, cert, key, user } = properties;
    const parsed = parseServers(servers);
    if (typeof parsed === 'string') throw new Error(`nats/servers: ${parsed}`);
    // Read at each connection, so that a new secret needs no restart.
    const secret = async (name: string | undefined) => {
      if (name === undefined) return undefined;
      return this.#host.secret(name).catch((error: unknown) => {
        throw new NatsError((error as Error).message, 'EINVAL', error);
      });
    };
    const [password, nkey, creds] = await Promise.all(
      [properties.password, properties.nkey, properties.creds].map(secret),
    );
    return { ...parsed, ca, cert, key, user, password, nkey, creds };
  }

  // -- Answers

  async resolve(lookup: Lookup, signal: AbortSignal): Promise<Answer> {
    const network = this.#running();
    const { destinationMac } = lookup;
    if (isMulticastMac(destinationMac))
      return groupAnswer(lookup, this.#properties?.flood === 'on' ? network.vteps() : undefined);
    const row = await network.entryOf(destinationMac, signal);
    if (row === null) return UNKNOWN;
    const { to } = row;
    if (ipFamily(to.ip as IpAddress) === ipFamily(this.#host.listen.ip))
      return { kind: 'target', to, ...network.age };
    return { kind: 'drop', reason: `${to.ip} is not of the family of the listen address` };
  }

  async neighbor(ip: IpAddress, signal: AbortSignal): Promise<MacAddress | null> {
    return this.#running().ownerOf(ip, signal);
  }

  async dhcpServer(client: MacAddress, signal: AbortSignal): Promise<MacAddress | null> {
    const row = await this.#running().entryOf(client, signal);
    return row === null || row.server === 0 ? null : row.server;
  }

  async placeOf(mac: MacAddress, signal: AbortSignal): Promise<Destination | null | undefined> {
    try {
      return (await this.#running().entryOf(mac, signal))?.to ?? null;
    } catch {
      return undefined; // the store is away, and the health says so
    }
  }

  #running(): Network {
    if (this.#network === undefined) throw new Error('the plugin has not been started');
    return this.#network;
  }

  // -- Protection

  ports(macs: readonly MacAddress[]): void {
    this.#ports = macs;
    if (this.#network === undefined) return;
    this.#network.ports = macs;
    this.#protectSoon();
  }

  get #isToProtect(): boolean {
    return this.#properties?.protect === 'on';
  }

  #protectSoon(): void {
    if (!this.#isToProtect || this.#isProtectDue) return;
    this.#isProtectDue = true;
    this.#protect()
      .catch((error: unknown) => {
        this.#host.log.warn(`the addresses of the VNICs are those before: ${(error as Error).message}`);
      })
      .finally(() => {
        this.#isProtectDue = false;
      });
  }

  /** A VNIC without an entry may use its link-local address alone. */
  async #protect(): Promise<void> {
    const network = this.#running();
    const rows = await Promise.all(
      this.#ports.map(async (mac) => {
        const row = await network.entryOf(mac);
        return { mac, ips: row === null ? [] : ipsOf(row) };
      }),
    );
    if (this.#isToProtect) this.#host.setAllowedIps(rows);
  }
}

const sourceOf = (servers: string, bucket: string): string => `${servers} ${bucket}`;

function ageOf({ ttl_ms: ttlMs, stale_ms: staleMs }: NatsProperties): Age {
  return { ...(ttlMs !== undefined && { ttlMs }), ...(staleMs !== undefined && { staleMs }) };
}

/** Resolves as the work does, or to undefined after `ms`. A timer of its own: in Node 20 one of AbortSignal.timeout inside of
 * AbortSignal.any may be collected as garbage, and never comes. */
async function within<T>(ms: number, work: Promise<T>): Promise<T | undefined> {
  const over = new AbortController();
  const late = pause(Math.max(0, ms), undefined, { signal: over.signal }).catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    over.abort();
  }
}
