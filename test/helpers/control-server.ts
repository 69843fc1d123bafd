// A control socket, and clients that do as they like with it.

import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { METHOD_NAMES } from '../../src/control/methods.js';
import type { Timing } from '../../src/daemon/control/connection.js';
import type { Handlers } from '../../src/daemon/control/rpc.js';
import { ControlServer, type Credentials } from '../../src/daemon/control/server.js';

export const ROOT: Credentials = { uid: 0, gid: 0, groups: [] };
/** No client of a test is too slow for these, on any host. */
const PATIENT: Timing = { halfRequestMs: 60_000, writeMs: 60_000, idleMs: 60_000, aliveMs: 5_000 };
export const QUICK: Timing = { halfRequestMs: 100, writeMs: 100, idleMs: 300, aliveMs: 5_000 };
export const TARGETS = { jsonrpc: '2.0', id: 7, method: 'overlay.targets', params: { name: 'overlay0' } };

export interface Options {
  readonly credentials?: Credentials | (() => Credentials);
  readonly gid?: number;
  readonly maxClients?: number;
  readonly timing?: Timing;
  readonly handlers?: Partial<Handlers>;
}

export type Context = { teardown(work: () => unknown): unknown };

/** Not testdir(): a socket's path has 107 bytes at most. */
export function shortDirectory(t: Context): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  return directory;
}

export async function serve(t: Context, options: Options = {}): Promise<{ socket: string; log: string[] }> {
  const socket = path.join(shortDirectory(t), 'varpd.sock');
  const log: string[] = [];
  const keep = (_kind: string, message: string): void => void log.push(message);
  const every = Object.fromEntries(METHOD_NAMES.map((name) => [name, () => null])) as unknown as Handlers;
  const server = await ControlServer.listen({
    socket,
    gid: options.gid,
    handlers: { ...every, ...options.handlers },
    credentials: () =>
      typeof options.credentials === 'function' ? options.credentials() : (options.credentials ?? ROOT),
    maxClients: () => options.maxClients ?? 64,
    log: { debug: keep, info: keep, warn: keep, error: keep },
    timing: options.timing ?? PATIENT,
  });
  t.teardown(() => server.close());
  return { socket, log };
}

/** A client that sends what it is told; `lines` are the answers so far. */
export class Raw {
  readonly lines: unknown[] = [];
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  #rest = '';

  constructor(file: string) {
    this.#socket = connect(file);
    this.#socket.on('error', () => undefined);
    this.#socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines.filter((text) => text !== '')) this.lines.push(JSON.parse(line));
    });
    this.closed = new Promise((resolve) => {
      this.#socket.on('close', () => {
        resolve();
      });
    });
  }

  send(text: string | Buffer): this {
    this.#socket.write(text);
    return this;
  }

  end(): this {
    this.#socket.end();
    return this;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  pause(): void {
    this.#socket.pause();
  }

  async answers(count: number): Promise<unknown[]> {
    for (let tries = 0; this.lines.length < count && tries < 500; tries++) await sleep(5);
    return this.lines;
  }
}
