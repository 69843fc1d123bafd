// The nats plugin for one overlay.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import nats from '../../plugins/nats/index.js';
import type { Answer, Instance, MacAddress } from '../../src/plugin/index.js';
import type { NatsServer } from './nats-server.js';
import { waitUntil } from './process.js';
import { TableHost } from './table-host.js';

export const MAC = 0x0200_0000_0000;
export const mac = (index: number): MacAddress => MAC + index;
const digits = (index: number): string[] => index.toString(16).padStart(6, '0').match(/../g)!;
export const macText = (index: number): string => `02:00:00:${digits(index).join(':')}`;
export const key = (index: number): string => `mac.02-00-00-${digits(index).join('-')}`;

export interface Entry {
  readonly ip?: string;
  readonly port?: number;
  readonly arp?: string | string[];
  readonly ndp?: string | string[];
  readonly 'dhcp-proxy'?: string;
}
export const entry = (more: Entry = {}): string => JSON.stringify({ ip: '10.88.88.70', port: 4789, ...more });

export type NatsValues = Parameters<NonNullable<typeof nats.refuse>>[0];

export interface Scene {
  readonly host: TableHost;
  readonly instance: Instance<NatsValues>;
  readonly stop: () => Promise<void>;
}

export function stateDirectory(t: Pick<Test, 'teardown'>): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-nats-state-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

export interface SceneOptions extends Partial<NatsValues> {
  readonly stateDir?: string;
  readonly secrets?: Readonly<Record<string, string>>;
}

/** Starts an instance; rejects as `start` does. */
export async function startNats(
  t: Pick<Test, 'teardown'>,
  server: Pick<NatsServer, 'url'>,
  { stateDir, secrets = {}, ...values }: SceneOptions = {},
): Promise<Scene> {
  const host = new TableHost(stateDir ?? stateDirectory(t));
  for (const [name, secret] of Object.entries(secrets)) host.secrets.set(name, secret);
  const instance = nats.create(host, undefined);
  const properties: NatsValues = {
    servers: server.url,
    mode: 'snapshot',
    flood: 'off',
    protect: 'off',
    ...values,
  };
  const stop = async (): Promise<void> => {
    host.end();
    await instance.stop();
  };
  t.teardown(stop);
  const refused = await nats.refuse?.(properties);
  if (refused !== undefined) throw new Error(refused);
  await instance.start(properties, new AbortController().signal);
  return { host, instance, stop };
}

export async function ask(
  { instance }: Scene,
  destinationMac: MacAddress,
  etherType = 0x0800,
): Promise<Answer> {
  const lookup = { destinationMac, sourceMac: mac(0xffffff), etherType, vlan: 0 };
  return instance.resolve!(lookup, AbortSignal.timeout(1000));
}

/** Waits until the host is as it should be. */
export const until = (what: string, condition: () => unknown): Promise<void> =>
  waitUntil(() => Boolean(condition()), { what });
