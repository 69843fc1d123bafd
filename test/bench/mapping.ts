// What a large mapping costs: time, memory, and for how long at most the control thread is held up while it is read,
// read again and compared. Then a lookup in it, beside one in a mapping of ten entries. Then the same of a daemon under
// traffic (mapping-traffic.ts).
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';

import { compare } from '../../plugins/files/difference.js';
import { loadMapping } from '../../plugins/files/load.js';
import type { Mapping } from '../../plugins/files/mapping.js';
import { readWhole } from '../../plugins/files/read.js';
import { inSlices } from '../../plugins/files/slices.js';
import { parseIp } from '../../src/plugin/index.js';
import { bytesOf, writeLargeMapping } from '../helpers/mapping.js';
import { underTraffic } from './mapping-traffic.js';

const FIRST_MAC = 0x0200_0000_0000;
const LOOKUPS = 1_000_000;

const peakMib = (): number => Math.round(process.resourceUsage().maxRSS / 1024);

async function measured<T>(what: string, work: () => Promise<T>): Promise<T> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const startedMs = performance.now();
  const result = await work();
  const tookMs = Math.round(performance.now() - startedMs);
  delay.disable();
  const held = `held up for ${(delay.max / 1e6).toFixed(0)} ms at most`;
  console.log(`${what.padEnd(10)} ${tookMs} ms, ${held}, peak RSS ${peakMib()} MiB`);
  return result;
}

async function load(file: string): Promise<Mapping> {
  const { mapping, errors } = await loadMapping(readWhole(file));
  if (mapping === undefined) throw new Error(JSON.stringify(errors[0]));
  return mapping;
}

function lookUp(mapping: Mapping): void {
  const order = Uint32Array.from({ length: LOOKUPS }, () => Math.random() * mapping.size);
  const nsEach = (work: () => void, times: number): string => {
    const startedMs = performance.now();
    work();
    return (((performance.now() - startedMs) * 1e6) / times).toFixed(0);
  };
  const byMac = nsEach(() => {
    for (const index of order) mapping.destinationOf(FIRST_MAC + index);
  }, LOOKUPS);
  const few = [...order.subarray(0, 100_000)];
  const v4 = few.map((index) => parseIp(`10.${bytesOf(index).join('.')}`)!);
  const byV4 = nsEach(() => {
    for (const ip of v4) mapping.neighbor(ip);
  }, v4.length);
  console.log(`lookup     ${mapping.size} entries: ${byMac} ns by MAC, ${byV4} ns by IPv4, in random order`);
}

/** The plugin alone, in this process. */
async function alone(count: number): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-bench-'));
  try {
    const [small, large] = [path.join(directory, 'small.json'), path.join(directory, 'large.json')];
    writeLargeMapping(small, 10);
    writeLargeMapping(large, count);
    console.log(
      `${count} entries, ${(statSync(large).size / 1e6).toFixed(0)} MB, RSS before ${peakMib()} MiB`,
    );
    const old = await measured('read', () => load(large));
    const fresh = await measured('read again', () => load(large));
    await measured('compare', () => inSlices(compare(old, fresh)));
    const ten = await load(small);
    for (let round = 0; round < 2; round++) for (const mapping of [ten, fresh]) lookUp(mapping);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** False when packets were lost. */
export async function measureMapping(entries: number): Promise<boolean> {
  await alone(entries);
  return underTraffic(entries);
}
