// What one fault is, and the ground that most of them happen on: two hosts, varpd on the first, the kernel's own vxlan on
// the second.
import { performance } from 'node:perf_hooks';

import { Daemon, type DaemonOptions, directOverlay } from '../helpers/daemon.js';
import { fromRoot } from '../helpers/need.js';
import { addKernelVxlan, type Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';

export interface Row {
  readonly name: string;
  readonly fault: string;
  /** `npm test` has it too: it takes a few seconds, no figure of it is spoilt by a busy machine, and no other test shows the same. */
  readonly quick?: boolean;
  readonly programs?: readonly string[];
  /** Resolves with what was seen, in a few words; rejects when varpd did not live up to it. The bed is cleaned up after it. */
  run(bed: Bed): Promise<string>;
}

/** Fails the row. */
export function check(isSo: boolean, expected: string): asserts isSo {
  if (!isSo) throw new Error(`not so: ${expected}`);
}

/** Whether times are checked: only `npm run faults` does, since a busy machine spoils them. */
export const times = { areChecked: false };

/** Fails the row if a time is too long. */
export function checkTime(isSo: boolean, expected: string): void {
  if (times.areChecked) check(isSo, expected);
}

export interface Tunnel {
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
}

/** overlay0 from a to b, plumbed, and b answers. */
export async function tunnel(bed: Bed, options: DaemonOptions = {}): Promise<Tunnel> {
  const [a, b] = await bed.twoHosts();
  const daemon = await Daemon.start(bed, a, { withoutRoot: true, ...options });
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  await a.plumb('overlay0');
  check(await reaches(a, b.overlay.v4), 'the tunnel works before anything happens to it');
  return { a, b, daemon };
}

/** Milliseconds until there is an answer. Fails after `limitMs`. */
export async function answersWithin(from: Namespace, target: string, limitMs: number): Promise<number> {
  const startedMs = performance.now();
  check(await reaches(from, target, limitMs), `${target} answers within ${limitMs} ms`);
  return Math.round(performance.now() - startedMs);
}

export async function answersNow(from: Namespace, target: string): Promise<void> {
  const { received } = await ping(from, target);
  check(received === 3, `3 of 3 echo requests to ${target} are answered, not ${received}`);
}

export const devicesOf = async (host: Namespace): Promise<string[]> =>
  (JSON.parse(await host.ip('-j link show')) as { ifname: string }[]).map(({ ifname }) => ifname).sort();

/** CPU seconds in one second in which nothing happens. */
export async function idleCpuSeconds(daemon: Daemon): Promise<number> {
  const before = daemon.cpuSeconds();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  return daemon.cpuSeconds() - before;
}

export async function untilHealth(
  daemon: Daemon,
  status: 'ONLINE' | 'DEGRADED',
  { name = 'overlay0', timeoutMs = 10_000 } = {},
): Promise<number> {
  const startedMs = performance.now();
  const isSo = async (): Promise<boolean> => (await daemon.overlays(name))[0].health.status === status;
  await waitUntil(isSo, { timeoutMs, what: `${name} to be ${status}` });
  return Math.round(performance.now() - startedMs);
}

/** The library of mishap.c. */
export const MISHAP = fromRoot('dist/test/faults/mishap');
