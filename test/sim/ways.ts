// The ways in which a host learns where a MAC is, each a lookup plugin that the real PluginInstance runs. They differ in what
// they ask the store, and in how they hear of a change.
//
//   files     every host has a file with all rows; a tool brings a new one to all hosts after a change
//   lookup    every MAC is asked about, and the answer holds for a ttl (http)
//   watch     every MAC is asked about, and a stream tells of changes (http with its stream, nats)
//   snapshot  every host has all rows, and a stream tells of changes (http, nats)
import {
  definePlugin,
  type Answer,
  type Host,
  type Instance,
  type LookupPlugin,
} from '../../src/plugin/index.js';
import { type Policy, StoreClient } from './client.js';
import { endpointOf, macOf, numberOf } from './names.js';
import { type Store, StoreError } from './store.js';

export const WAYS = ['files', 'lookup', 'watch', 'snapshot'] as const;
export type WayName = (typeof WAYS)[number];

export interface WayTerms {
  readonly way: WayName;
  readonly policy: Policy;
  /** `lookup`: how long an answer holds. */
  readonly ttlMs: number;
  /** Rows of the last session are on the disk of the host: `snapshot` asks for what has changed since. */
  readonly hasDisk: boolean;
}

/** What the simulation holds of a running plugin. */
export interface Client {
  /** `files`: the file that the host has is of this revision now. */
  fileArrived(revision: number): void;
  /** Its stream is open, or it needs none. */
  readonly isConnected: boolean;
}

/** The plugin of one host. `made` gets its instance, again after each start. */
export function createPlugin(store: Store, terms: WayTerms, made: (client: Client) => void): LookupPlugin {
  return definePlugin({
    apiVersion: 2,
    name: 'store',
    mode: 'dynamic',
    properties: [],
    create: (host) => {
      const instance = new WayInstance(host, store, terms);
      made(instance);
      return instance;
    },
  });
}

class WayInstance implements Instance, Client {
  readonly #host: Host;
  readonly #store: Store;
  readonly #terms: WayTerms;
  readonly #client: StoreClient;
  /** `files` and `snapshot`: the revision of the rows that the host has. */
  #revision: number | undefined;
  /** `snapshot`: rows are on their way. */
  #isLoading = false;
  /** `snapshot`: the host has all rows, and its stream tells of every change, a few ms after it was made. */
  #isCurrent = false;

  constructor(host: Host, store: Store, terms: WayTerms) {
    this.#host = host;
    this.#store = store;
    this.#terms = terms;
    this.#client = new StoreClient(store, terms.policy);
    if (terms.way === 'files' || terms.hasDisk) this.#revision = store.revision;
  }

  get isConnected(): boolean {
    const { way } = this.#terms;
    return way === 'files' || way === 'lookup' || this.#client.stream !== undefined;
  }

  async start(): Promise<void> {
    const { way } = this.#terms;
    if (way === 'files' || way === 'lookup') return;
    await this.#client.connect(
      (mac, host) => {
        this.#changed(mac, host);
      },
      (revision) => {
        this.#opened(revision);
      },
      () => {
        if (this.#isCurrent) this.#revision = this.#store.revision;
        this.#isCurrent = false;
        this.#host.degrade('the store does not answer');
      },
    );
  }

  async stop(): Promise<void> {
    this.#client.stop();
  }

  resolve({ destinationMac }: { destinationMac: number }, signal: AbortSignal): Answer | Promise<Answer> {
    const mac = numberOf(destinationMac);
    const { way } = this.#terms;
    if (way === 'lookup' || way === 'watch') return this.#ask(mac, signal);
    const revision = this.#isCurrent ? this.#store.revision : this.#revision;
    if (revision === undefined) throw new StoreError('there is no snapshot yet');
    this.#client.follow(mac);
    return { kind: 'target', to: endpointOf(this.#store.placeOf(mac, revision)) };
  }

  async #ask(mac: number, signal: AbortSignal): Promise<Answer> {
    // First, so that a change between the answer and its arrival is heard of.
    if (this.#terms.way === 'watch') this.#client.follow(mac);
    const to = endpointOf(await this.#client.lookup(mac, signal));
    return { kind: 'target', to, ...(this.#terms.way === 'lookup' && { ttlMs: this.#terms.ttlMs }) };
  }

  /** The file has come, and was read. As `files` does, only what has moved is forgotten. */
  fileArrived(revision: number): void {
    const before = this.#revision ?? 0;
    this.#revision = revision;
    this.#forgetMoved(before, revision);
  }

  #changed(mac: number, host: number): void {
    this.#host.setTargets([{ mac: macOf(mac), to: endpointOf(host) }]);
  }

  /** The stream tells of changes from `revision` on; what was missed before is asked for. */
  #opened(revision: number): void {
    this.#host.restore();
    const since = this.#revision;
    if (this.#terms.way === 'watch') {
      if (since !== undefined) this.#forgetMoved(since, revision);
      this.#revision = revision;
      return;
    }
    if (this.#isLoading) return;
    this.#isLoading = true;
    this.#store.snapshot(since, (error, loaded) => {
      this.#isLoading = false;
      if (error !== undefined || loaded === undefined) return;
      if (since !== undefined) this.#forgetMoved(since, loaded);
      this.#revision = loaded;
      this.#isCurrent = this.isConnected;
    });
  }

  #forgetMoved(since: number, revision: number): void {
    const moved = this.#store.movedSince(since, revision);
    for (const mac of moved) this.#client.follow(mac);
    if (moved.length > 0) this.#host.invalidate(moved.map(macOf));
  }
}
