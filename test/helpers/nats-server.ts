// A real nats-server on the loopback address, in a temporary directory of its own, and a client of it that is not the plugin.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { type KV, Kvm } from '@nats-io/kv';
import { connect, type ConnectionOptions, type NatsConnection } from '@nats-io/transport-node';
import type { Test } from 'tap';
import { skipUnless } from './need.js';
import { Child, waitUntil } from './process.js';

export const skipWithoutNats = skipUnless({ programs: ['nats-server'] });

/** A UDP and TCP port of the loopback address that nothing has now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export interface ServerOptions {
  readonly name?: string;
  readonly port?: number;
  readonly address?: string;
  /** Further lines of its configuration. */
  readonly config?: string;
  /** The words before the program, for example those that enter a network namespace. */
  readonly prefix?: readonly string[];
}

export class NatsServer {
  readonly directory: string;
  readonly port: number;
  readonly address: string;
  readonly #options: ServerOptions;
  #child: Child | undefined;

  private constructor(directory: string, port: number, options: ServerOptions) {
    this.directory = directory;
    this.port = port;
    this.address = options.address ?? '127.0.0.1';
    this.#options = options;
  }

  static async start(t: Pick<Test, 'teardown'>, options: ServerOptions = {}): Promise<NatsServer> {
    const directory = mkdtempSync(path.join(tmpdir(), 'varpd-nats-'));
    const server = new NatsServer(directory, options.port ?? (await freePort()), options);
    t.teardown(async () => {
      await server.stop('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    });
    await server.start();
    return server;
  }

  get url(): string {
    return `nats://${this.address}:${this.port}`;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  file(name: string, text?: string): string {
    const file = path.join(this.directory, name);
    if (text !== undefined) writeFileSync(file, text, { mode: 0o600 });
    return file;
  }

  /** On the same port and the same data as before. */
  async start(): Promise<void> {
    const { name = 'one', config = '' } = this.#options;
    mkdirSync(this.file('data'), { recursive: true });
    const lines = [
      `listen: "${this.address}:${this.port}"`,
      `server_name: ${name}`,
      `jetstream { store_dir: "${this.file('data')}", max_mem: 1GB, max_file: 8GB }`,
      config,
    ];
    const file = this.file('nats.conf', `${lines.join('\n')}\n`);
    const log = this.file('nats.log');
    rmSync(log, { force: true });
    this.#child = new Child([...(this.#options.prefix ?? []), 'nats-server', '-c', file, '-l', log], {});
    await waitUntil(() => existsSync(log) && readFileSync(log, 'utf8').includes('Server is ready'), {
      what: `nats-server to be ready (${log})`,
    });
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#child?.stop(signal);
    this.#child = undefined;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.signal(signal);
  }

  /** A client beside the plugin. */
  async client(t: Pick<Test, 'teardown'>, options: ConnectionOptions = {}): Promise<NatsConnection> {
    const connection = await connect({ servers: `${this.address}:${this.port}`, ...options });
    t.teardown(() => connection.close());
    return connection;
  }

  /** Makes the bucket, if it is not there. */
  async bucket(t: Pick<Test, 'teardown'>, name: string, options: ConnectionOptions = {}): Promise<KV> {
    return new Kvm(jetstream(await this.client(t, options))).create(name);
  }
}

/** The way to a server, which can be cut: no connection is open then, and none can be made. */
export class Line {
  readonly #sockets = new Set<Socket>();
  #isCut = false;
  #port = 0;

  static async to(t: Pick<Test, 'teardown'>, serverPort: number): Promise<Line> {
    const line = new Line();
    const proxy = createServer((socket) => {
      const way = connectTo(serverPort, '127.0.0.1');
      for (const [one, other] of [
        [socket, way],
        [way, socket],
      ] as const) {
        line.#sockets.add(one);
        one.on('error', () => undefined);
        one.on('close', () => {
          line.#sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
      if (line.#isCut) line.cut();
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    line.#port = (proxy.address() as { port: number }).port;
    t.teardown(() => {
      line.cut();
      proxy.close();
    });
    return line;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#port}`;
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }
}

/** Puts many records, and waits until the server has them all. */
export async function putAll(
  connection: NatsConnection,
  bucket: string,
  records: Iterable<[key: string, value: string]>,
): Promise<void> {
  const manager = await jetstreamManager(connection);
  const last = async (): Promise<number> => (await manager.streams.info(`KV_${bucket}`)).state.last_seq;
  const before = await last();
  let count = 0;
  for (const [key, value] of records) {
    connection.publish(`$KV.${bucket}.${key}`, value);
    // Without acknowledgements it is ten times as fast; the server must not fall too far behind.
    if (++count % 5000 === 0)
      await waitUntil(async () => (await last()) > before + count - 5000, { what: 'the server to store' });
  }
  await waitUntil(async () => (await last()) === before + count, { what: `${count} records to be stored` });
}

/** Deletes every trace of a deleted key. */
export async function purgeTrace(connection: NatsConnection, bucket: string, key: string): Promise<void> {
  const manager = await jetstreamManager(connection);
  await manager.streams.purge(`KV_${bucket}`, { filter: `$KV.${bucket}.${key}` });
}
