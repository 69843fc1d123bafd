// The end of a varpd that has very many links, whatever else goes on: it is gone within its time, and the next may start.
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import type { Bed, Namespace } from '../../helpers/netns.js';
import { type Exit, waitUntil } from '../../helpers/process.js';
import { part } from '../../helpers/whole.js';
import { check, checkTime, devicesOf, type Row, tunnel } from '../row.js';

const END_MS = 2000;

/** Loaded into varpd: a signal hangs its control thread for ever. */
const ENDLESS = `
if (require('node:worker_threads').isMainThread) process.on('SIGUSR2', () => { for (;;); });
`;

interface Links {
  readonly count: number;
  /** Of them, in another namespace. */
  readonly elsewhere: number;
  readonly limitMs: number;
}

async function endOfMany(bed: Bed, { count, elsewhere, limitMs }: Links): Promise<string> {
  const endless = path.join(bed.directory(), 'endless.cjs');
  writeFileSync(endless, ENDLESS);
  const { a, b, daemon } = await tunnel(bed, { nodeArgs: ['--require', endless] });
  for (let index = 0; index < count; index++)
    await daemon.call('vnic.create', { name: `v${index}`, over: 'overlay0', temporary: index % 10 === 0 });
  const lasting = Array.from({ length: count }, (_, index) => index).filter((index) => index % 10 !== 0);
  const foreign = `x${count}`;
  await a.ip(`tuntap add dev ${foreign} mode tap`);
  const rest = (await devicesOf(a)).filter((name) => /^(lo|under|x)/.test(name));

  const end = async (status: number): Promise<number> => {
    const startedMs = performance.now();
    daemon.signal('SIGTERM');
    const exit = (await daemon.ended()) as Exit;
    const tookMs = Math.round(performance.now() - startedMs);
    check(exit.code === status, `status ${status}, not ${exit.signal ?? exit.code ?? '?'}`);
    check((await devicesOf(a)).join() === rest.join(), 'no link of its own is left, and no other is gone');
    return tookMs;
  };
  const plain = await end(0);

  const startedMs = performance.now();
  await daemon.start();
  const startMs = Math.round(performance.now() - startedMs);
  const moved = lasting.slice(0, elsewhere).map((index) => `link set v${index} netns ${b.name}\n`);
  await batch(bed, a, moved.join(''));
  const away = await end(0);
  check(!(await devicesOf(b)).some((name) => /^v\d/.test(name)), 'none is left in the other namespace');

  await daemon.start();
  daemon.signal('SIGUSR2');
  const before = daemon.cpuSeconds();
  await waitUntil(() => daemon.cpuSeconds() - before > 0.3, { what: 'its control thread to loop' });
  const hanging = await end(0);
  check(/error varpd has not ended in time/.test(daemon.log()), 'the log says that something hung');
  check(existsSync(daemon.stateDir), 'what is stored stays');
  const seen = `${count} VNICs: gone after ${plain} ms; ${elsewhere} of them in another namespace: ${away} ms; its control thread in an endless loop: ${hanging} ms; a start takes ${startMs} ms`;
  checkTime(Math.max(plain, away, hanging) <= limitMs, `it ends within ${limitMs} ms: ${seen}`);
  return seen;
}

async function batch(bed: Bed, host: Namespace, commands: string): Promise<void> {
  const file = path.join(bed.directory(), 'batch');
  writeFileSync(file, commands);
  await host.ip(`-batch ${file}`);
}

const thousand: Row = {
  name: 'E1',
  fault: 'SIGTERM with 1,000 VNICs: in one namespace, in two, with its control thread in an endless loop',
  run: (bed) => endOfMany(bed, { count: 1000, elsewhere: 200, limitMs: END_MS }),
};

/** The part of it that `npm test` has; how long it takes is for the other. */
export const manyEnd: Row = {
  ...thousand,
  fault: `SIGTERM with ${part(40)} VNICs: in one namespace, in two, with its control thread in an endless loop`,
  run: (bed) => endOfMany(bed, { count: part(40), elsewhere: part(10), limitMs: Infinity }),
};

export const endingRows: readonly Row[] = [thousand];
