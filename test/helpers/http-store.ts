// Stores for the http plugin: the reference server as a process of its own, servers that answer as a test says, and
// instances that ask them.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';

import { HttpInstance } from '../../plugins/http/instance.js';
import type { HttpProperties } from '../../plugins/http/specs.js';
import type { Answer, MacAddress } from '../../src/plugin/index.js';
import { fromRoot } from './need.js';
import { Child } from './process.js';
import { TableHost } from './table-host.js';

export const SERVER = fromRoot('plugins/http/reference-server.py');
export const VNETID = 23;

export interface Entry {
  readonly ip?: string;
  readonly port?: unknown;
  readonly arp?: unknown;
  readonly ndp?: unknown;
  readonly 'dhcp-proxy'?: unknown;
}

/** The MAC 02:00:00:00:00:0N as text. */
export const macText = (last: number): string => `02:00:00:00:00:${last.toString(16).padStart(2, '0')}`;
export const mac = (last: number): MacAddress => 0x0200_0000_0000 + last;

/** A directory that goes with the test. */
export function scratch(t: Test): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-http-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

export class ReferenceStore {
  readonly directory: string;
  readonly #options: readonly string[];
  #child: Child | undefined;
  #port = 0;
  scheme = 'http';

  constructor(t: Test, options: readonly string[] = []) {
    this.directory = scratch(t);
    this.#options = options;
    t.teardown(() => this.kill());
  }

  static async start(t: Test, options: readonly string[] = []): Promise<ReferenceStore> {
    const store = new ReferenceStore(t, options);
    await store.start();
    return store;
  }

  /** Starts the server; again at the same port and with the same database. */
  async start(more: readonly string[] = []): Promise<void> {
    const database = path.join(this.directory, 'net.db');
    const port = ['--port', String(this.#port)];
    this.#child = new Child(['python3', SERVER, '--database', database, ...port, ...this.#options, ...more]);
    await this.#child.waitForOutput(/listening on port \d+/);
    this.#port = Number(/port (\d+)/.exec(this.#child.stdout)?.[1]);
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async kill(): Promise<void> {
    await this.#child?.stop('SIGKILL');
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.signal(name);
  }

  get url(): string {
    return `${this.scheme}://127.0.0.1:${this.#port}`;
  }

  get network(): string {
    return `${this.url}/v1/networks/${VNETID}`;
  }

  async put(text: string, entry: Entry): Promise<void> {
    const response = await fetch(`${this.network}/macs/${text}`, {
      method: 'PUT',
      body: JSON.stringify(entry),
    });
    if (!response.ok) throw new Error(`PUT ${text}: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  }

  async remove(text: string): Promise<void> {
    const response = await fetch(`${this.network}/macs/${text}`, { method: 'DELETE' });
    if (!response.ok) throw new Error(`DELETE ${text}: ${response.status} ${await response.text()}`);
    await response.arrayBuffer();
  }
}

const PROPERTIES = {
  mode: 'watch',
  ttl_ms: 30_000,
  timeout_ms: 5000,
  silence_ms: 45_000,
  flood: 'off',
  protect: 'off',
} as const;

/** An instance that has started, and ends with the test. */
export async function startHttp(
  t: Test,
  url: string,
  more: Partial<HttpProperties> = {},
  host = new TableHost(),
): Promise<{ host: TableHost; instance: HttpInstance }> {
  const instance = new HttpInstance(host);
  t.teardown(async () => {
    host.end();
    await instance.stop();
  });
  await instance.start({ ...PROPERTIES, url, ...more }, new AbortController().signal);
  return { host, instance };
}

/** The answer to an IPv4 frame, or to one with another EtherType. */
export async function ask(
  instance: HttpInstance,
  destinationMac: number,
  etherType = 0x0800,
): Promise<Answer> {
  return instance.resolve({ destinationMac, sourceMac: mac(0xee), etherType, vlan: 0 });
}

/** Returns false to leave a request without an answer. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => unknown;

/** The answers of a store of one network without entries, which a test replaces where it wants another. */
export function json(
  response: ServerResponse,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(200, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

/** A server of our own, that answers the network itself unless the handler has answered. Resolves to its URL. */
export async function serve(t: Test, handler: Handler): Promise<string> {
  const server = createServer((request, response) => {
    if (handler(request, response) === false) return;
    if (!response.headersSent && request.url === `/v1/networks/${VNETID}` && !response.writableEnded)
      json(response, { entries: 0, vteps: [] });
  });
  return listen(t, server);
}

/** Resolves to the URL of a server that ends, with its connections, when the test does. */
export async function listen(t: Test, server: Server | NetServer): Promise<string> {
  const sockets = new Set<{ destroy(): void }>();
  server.on('connection', (socket: { destroy(): void; on(event: 'close', listener: () => void): void }) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
