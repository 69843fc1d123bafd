// Restarts: many of them under traffic, and some that are cut short.
import { setTimeout as sleep } from 'node:timers/promises';

import type { Bed } from '../../helpers/netns.js';
import { waitUntil } from '../../helpers/process.js';
import { childrenOf, commandOf } from '../../helpers/procfs.js';
import { part } from '../../helpers/whole.js';
import { SteadyPing } from '../../helpers/zlan.js';
import { answersWithin, check, devicesOf, type Row, tunnel } from '../row.js';

/** The process that moves frames during a restart. */
const standInsOf = (pid: number): number[] =>
  childrenOf(pid).filter((child) => commandOf(child).includes('stand-in-process'));

async function manyTimes(bed: Bed, times: number): Promise<string> {
  const { a, b, daemon } = await tunnel(bed);
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('restart');
  const before = { descriptors: await daemon.descriptorsAtRest(), devices: (await devicesOf(a)).join() };
  const flow = await SteadyPing.start(a, b.overlay.v4, 0.01);
  for (let round = 0; round < times; round++) await daemon.ok('restart');
  const { sent, lost, duplicates } = await flow.stop();
  check(
    lost === 0 && duplicates === 0,
    `of ${sent} packets none is lost or doubled, not ${lost} and ${duplicates}`,
  );
  const descriptors = await daemon.descriptorsAtRest(before.descriptors);
  check(
    descriptors === before.descriptors,
    `${before.descriptors} descriptors as before, not ${descriptors}`,
  );
  check((await devicesOf(a)).join() === before.devices, 'so are the links');
  const children = childrenOf(daemon.pid);
  check(children.length === 0, `no process is left over: ${children.join()}`);
  return `${times} restarts: 0 of ${sent} packets lost or doubled, descriptors ${before.descriptors} (+0)`;
}

/** `kills` at moments spread over the time that a restart takes, and one of the process that moves frames meanwhile. */
async function cutShort(bed: Bed, kills: number): Promise<string> {
  const { a, b, daemon } = await tunnel(bed);
  await daemon.ok('create-vnic -l overlay0 -m 2:0:0:0:0:c1 foo0');
  const startedMs = performance.now();
  await daemon.ok('restart');
  const takesMs = performance.now() - startedMs;
  const isGood = async (when: string): Promise<void> => {
    const vnics = (await daemon.vnics()).map(({ name, mac, state }) => `${name} ${mac} ${state}`);
    check(vnics.join() === 'foo0 02:00:00:00:00:c1 up', `${when}: what was stored is there: ${vnics.join()}`);
    await a.plumb('overlay0');
    await answersWithin(a, b.overlay.v4, 5000);
  };
  for (let round = 0; round < kills; round++) {
    const afterMs = Math.round((round * takesMs) / kills);
    daemon.signal('SIGUSR2');
    await sleep(afterMs);
    await daemon.kill();
    const isGone = async (): Promise<boolean> => (await devicesOf(a)).join() === 'lo,under0';
    await waitUntil(isGone, { timeoutMs: 5000, what: `everything to be gone, killed after ${afterMs} ms` });
    await daemon.start();
    await isGood(`killed after ${afterMs} ms`);
  }
  const { startedAt } = await daemon.call('daemon.status', {});
  daemon.signal('SIGUSR2');
  await waitUntil(() => standInsOf(daemon.pid).length > 0, { stepMs: 1, what: 'the stand-in' });
  for (const pid of standInsOf(daemon.pid)) process.kill(pid, 'SIGKILL');
  const isNew = async (): Promise<boolean> => {
    const status = await daemon.call('daemon.status', {}).catch(() => undefined);
    return status !== undefined && status.startedAt !== startedAt;
  };
  await waitUntil(isNew, { timeoutMs: 20_000, what: 'varpd to be back without its stand-in' });
  await isGood('the stand-in killed');
  check(childrenOf(daemon.pid).length === 0, 'no process is left over');
  return `${kills} kills within ${Math.round(takesMs)} ms and one of the stand-in: nothing left over, all there again`;
}

const cut: Row = {
  name: 'R3',
  fault: 'kill -9 in the middle of a restart',
  run: (bed) => cutShort(bed, 20),
};

export const cutShortly: Row = { ...cut, run: (bed) => cutShort(bed, part(5)) };

export const restartRows: readonly Row[] = [
  { name: 'R2', fault: '50 restarts under traffic', run: (bed) => manyTimes(bed, 50) },
  cut,
];
