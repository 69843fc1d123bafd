// A mapping file, and the files plugin that reads it.

import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';

import type { FilesInstance } from '../../plugins/files/instance.js';
import { parseIp } from '../../src/plugin/index.js';
import { ask, startFiles } from './mapping.js';
import { waitUntil } from './process.js';
import { TableHost } from './table-host.js';

export const root = mkdtempSync(path.join(tmpdir(), 'varpd-files-'));
t.teardown(() => {
  rmSync(root, { recursive: true, force: true });
});

export interface Entry {
  readonly ip?: string;
  readonly port?: number;
  readonly arp?: string | readonly string[];
  readonly ndp?: string | readonly string[];
  readonly 'dhcp-proxy'?: string;
}

/** Keys are the last byte of the MAC. */
export function text(entries: Readonly<Record<string, Entry>>): string {
  const whole = Object.entries(entries).map(([last, entry]) => [
    `02:00:00:00:00:${last}`,
    { ip: '10.88.88.70', port: 4789, ...entry },
  ]);
  return JSON.stringify(Object.fromEntries(whole), undefined, 1);
}

export const mac = (last: number): number => 0x0200_0000_0000 + last;
/** All that any of these files says something about. */
export const MACS = [1, 2, 3, 4, 5, 6, 7, 8, 9].map(mac);
/** Last bytes of the MACs that the overlay was told to forget. */
export const forgotten = ({ targets }: TableHost): number[] =>
  MACS.filter((one) => !targets.has(one)).map((one) => one & 0xff);
export const ip = (text: string) => parseIp(text)!;

export interface Scene {
  readonly directory: string;
  readonly file: string;
  readonly host: TableHost;
  readonly instance: FilesInstance;
  /** Renamed over: the whole change at once. */
  readonly replace: (entries: Readonly<Record<string, Entry>>) => void;
}

export let scenes = 0;

export async function scene(
  t: Test,
  entries: Readonly<Record<string, Entry>>,
  properties: Readonly<Record<string, string>> = {},
): Promise<Scene> {
  const directory = path.join(root, `${++scenes}`);
  mkdirSync(directory);
  const file = path.join(directory, 'hosts.json');
  writeFileSync(file, text(entries));
  const host = new TableHost();
  const instance = await startFiles(host, file, properties);
  t.teardown(() => instance.stop());
  // As after a question about each.
  const to = { ip: ip('10.88.88.70'), port: 4789 };
  host.setTargets(MACS.map((one) => ({ mac: one, to, ttlMs: 60_000 })));
  host.told = 0;
  const replace = (changed: Readonly<Record<string, Entry>>): void => {
    writeFileSync(`${file}.new`, text(changed));
    renameSync(`${file}.new`, file);
  };
  return { directory, file, host, instance, replace };
}

/** Waits until it is so. */
export async function until(t: Test, what: string, isSo: () => boolean): Promise<void> {
  await waitUntil(isSo, { stepMs: 5, what }).catch(() => undefined);
  t.ok(isSo(), what);
}

export const portOf = (instance: FilesInstance, last: number): number | undefined => {
  const answer = ask(instance, mac(last));
  return answer.kind === 'target' ? answer.to.port : undefined;
};

// Each has a directory of its own, and waits for what happens there most of the time.
t.jobs = 4;
