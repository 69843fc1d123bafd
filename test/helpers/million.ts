// A bundled plugin in its process under varpd, with a million entries: what it takes of memory and of turns, and what is in force.
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import type { Test } from 'tap';

import type { MappingInfo } from '../../src/control/messages.js';
import type { Daemon } from './daemon.js';
import { fromRoot } from './need.js';
import { waitUntil } from './process.js';
import { peakResidentKib } from './procfs.js';

export const ENTRIES = 1_000_000;
export const timeoutMs = 300_000;
/** The defaults of `limits.pluginMemoryMib` and `limits.lookupDeadlineMs`. */
const MEMORY_MIB = 512;
const DEADLINE_MS = 1000;

/**
 * The plugin by the name `timed`, which logs its process and its longest turn so far. A turn is measured in processor time,
 * since the process waits for a processor on a busy host.
 */
const timed = (name: string): string => `
import plugin from '${pathToFileURL(fromRoot(`dist/plugins/${name}/index.js`)).href}';
let longestUs = 0;
let before = process.cpuUsage();
setInterval(() => {
  const { user, system } = process.cpuUsage(before);
  before = process.cpuUsage();
  longestUs = Math.max(longestUs, user + system);
}, 2);
export default {
  ...plugin,
  name: 'timed',
  refuse: undefined,
  properties: plugin.properties.map((spec) => ({ ...spec, name: spec.name.replace('${name}/', 'timed/') })),
  create: (host) => {
    host.log.info('process ' + process.pid + ' in ' + host.stateDir);
    const timer = setInterval(() => host.log.info('longest turn ' + Math.round(longestUs / 1000) + ' ms'), 1000);
    host.signal.addEventListener('abort', () => clearInterval(timer));
    return plugin.create(host);
  },
};
`;

/** Makes the plugin in a directory of plugins. */
export function makeTimed(directory: string, name: 'http' | 'nats'): void {
  const own = path.join(directory, 'timed');
  mkdirSync(own);
  writeFileSync(path.join(own, 'index.mjs'), timed(name));
  writeFileSync(path.join(own, 'package.json'), '{"name": "timed", "main": "./index.mjs"}');
}

export const seconds = (sinceMs: number): string => ((performance.now() - sinceMs) / 1000).toFixed(1);

/** The mapping that the overlay answers out of. */
export async function mapping(daemon: Daemon): Promise<MappingInfo | null | undefined> {
  return (await daemon.overlays('overlay0'))[0].mapping;
}

export async function untilInForce(daemon: Daemon, revision: number, entries: number): Promise<void> {
  const isInForce = async (): Promise<boolean> => {
    const now = await mapping(daemon).catch(() => undefined);
    return now?.revision === `${revision}` && now.entries === entries;
  };
  await waitUntil(isInForce, { what: `revision ${revision} in force`, timeoutMs });
}

/** The present process of the plugin, by its log. */
function processOf(daemon: Daemon): { readonly pid: number; readonly stateDir: string } {
  const all = [...daemon.log().matchAll(/process (\d+) in (\S+)/g)];
  const [, pid, stateDir] = all[all.length - 1];
  return { pid: Number(pid), stateDir };
}

/** Waits until the whole state is on disk. */
export async function untilSaved(daemon: Daemon): Promise<void> {
  const { stateDir } = processOf(daemon);
  const isSaved = (): boolean =>
    readdirSync(stateDir).some(
      (name) => name.endsWith('.state') && statSync(path.join(stateDir, name)).size > 40 * ENTRIES,
    );
  await waitUntil(isSaved, { what: 'the state on disk', timeoutMs });
}

export function checkProcess(t: Test, daemon: Daemon, when: string): void {
  const { pid } = processOf(daemon);
  const peakMib = peakResidentKib(pid) >> 10;
  const turns = [...daemon.log().matchAll(/longest turn (\d+) ms/g)].map(([, ms]) => Number(ms));
  t.comment(
    `${when}: peak of the plugin process ${peakMib} MiB, longest turn ${Math.max(...turns)} ms of processor time; ` +
      `peak of varpd ${peakResidentKib(daemon.pid) >> 10} MiB`,
  );
  t.ok(peakMib > 0 && peakMib < MEMORY_MIB, `${peakMib} MiB at most, ${when}`);
  t.ok(Math.max(...turns) < DEADLINE_MS, `no turn takes as long as a deadline, ${when}`);
  t.notMatch(daemon.log(), /plugin timed: its process/, 'it is not ended');
}
