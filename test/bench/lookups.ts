// npm run bench -- --plugins: what a lookup costs in the process of a plugin. Beside it the same plugin on the thread that asks, and
// Node's own channel between two processes, with nothing done at its ends.
import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { parseConfig } from '../../src/daemon/config-file.js';
import { Health } from '../../src/daemon/health.js';
import type { Log } from '../../src/daemon/log.js';
import { PluginInstance } from '../../src/daemon/plugins/plugin-host.js';
import { describedPlugin } from '../../src/daemon/plugins/plugin-loader.js';
import { PluginRunner } from '../../src/daemon/plugins/plugin-runner.js';
import { ProcessPlugin } from '../../src/daemon/plugins/plugin-stub.js';
import { Spawner } from '../../src/daemon/plugins/spawner.js';
import { SPAWNER_SOCKET, startSpawner } from '../../src/daemon/process/spawner-start.js';
import type { LookupPlugin } from '../../src/plugin/contract.js';
import { parseIp } from '../../src/plugin/index.js';
import { propertiesOf } from '../../src/plugin-test/options.js';
import { fromRoot } from '../helpers/need.js';
import answers from './plugins/answers/index.js';
import { quantile, spread, type Spread } from './report/statistics.js';
import { cell, table } from './report/tables.js';
import { writeResults } from './results.js';

const FILE = fromRoot('dist/test/bench/plugins/answers/index.js');
/** Questions at a time, for the rate: a scan of the network asks more. */
const IN_FLIGHT = 256;
const FIRST_MAC = 0x0200_0000_0000;
const WARM_UP_QUESTIONS = 5000;

/** One question; resolves with its answer. */
type Ask = () => Promise<unknown>;

interface Subject {
  readonly name: string;
  readonly ask: Ask;
  readonly end: () => Promise<void> | void;
}

interface Figures {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly perSecond: number;
}

const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** A lookup as the daemon has it put and its answer checked. */
async function instanceOf(
  plugin: LookupPlugin,
): Promise<{ readonly ask: Ask; readonly end: () => Promise<void> }> {
  const { limits } = parseConfig('', '');
  const ip = parseIp('192.0.2.9')!;
  const instance = new PluginInstance(
    plugin,
    { overlay: 'bench', vnetid: 1, listen: { ip, port: 4789 } },
    {
      log: silent,
      health: new Health('bench', silent),
      limits: () => limits,
      reprotect: () => undefined,
      files: { stateDir: () => tmpdir(), secret: () => Promise.reject(new Error('there is no secret')) },
    },
  );
  await instance.start(propertiesOf(plugin, {}, ip));
  const waiting = new Map<number, (answer: unknown) => void>();
  instance.attach({
    answer: (lookup, answer) => {
      if (answer.kind !== 'target') throw new Error(`the plugin answered ${JSON.stringify(answer)}`);
      waiting.get(lookup)?.(answer);
      waiting.delete(lookup);
    },
    announce: () => undefined,
    invalidate: () => undefined,
    setPeers: () => undefined,
    setTargets: () => undefined,
  });
  let last = 0;
  const ask = (): Promise<unknown> =>
    new Promise((resolve) => {
      const lookup = ++last;
      waiting.set(lookup, resolve);
      instance.lookup({
        lookup,
        destinationMac: FIRST_MAC + (lookup % 1_000_000),
        sourceMac: FIRST_MAC,
        etherType: 0x0800,
        vlan: 0,
      });
    });
  return { ask, end: () => instance.stop() };
}

async function inProcess(directory: string): Promise<Subject> {
  const { limits } = parseConfig('', '');
  const socket = path.join(directory, SPAWNER_SOCKET);
  const stateRoot = path.join(directory, 'plugins');
  const spawner = new Spawner({ socket, begin: () => startSpawner({ socket, stateRoot }) });
  const runner = new PluginRunner(FILE, { spawner, limits: () => limits, log: silent });
  const plugin = new ProcessPlugin(runner, describedPlugin(FILE, await runner.describe()));
  const { ask, end } = await instanceOf(plugin);
  return {
    name: 'its process',
    ask,
    end: async () => {
      await end();
      runner.close();
      spawner.close();
    },
  };
}

async function onThread(): Promise<Subject> {
  return { name: 'this thread', ...(await instanceOf(answers)) };
}

function bareChannel(): Subject {
  const child = fork(fromRoot('dist/test/bench/echo.js'));
  const waiting = new Map<number, (answer: unknown) => void>();
  child.on('message', ([number]: [number]) => {
    waiting.get(number)?.(number);
    waiting.delete(number);
  });
  let last = 0;
  return {
    name: `Node's channel`,
    ask: () =>
      new Promise((resolve) => {
        const number = ++last;
        waiting.set(number, resolve);
        child.send([number, 'resolve', FIRST_MAC]);
      }),
    end: () => {
      child.disconnect();
    },
  };
}

async function oneByOne(ask: Ask, seconds: number): Promise<number[]> {
  const tookMs: number[] = [];
  const endMs = performance.now() + seconds * 1000;
  for (let nowMs = performance.now(); nowMs < endMs;) {
    await ask();
    const doneMs = performance.now();
    tookMs.push(doneMs - nowMs);
    nowMs = doneMs;
  }
  return tookMs;
}

/** Answers a second, with so many questions open at any time. */
async function rate(ask: Ask, seconds: number): Promise<number> {
  const startedMs = performance.now();
  const endMs = startedMs + seconds * 1000;
  let answered = 0;
  const asker = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await ask();
      answered++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, asker));
  return answered / ((performance.now() - startedMs) / 1000);
}

async function figuresOf({ ask }: Subject, seconds: number): Promise<Figures> {
  const tookMs = await oneByOne(ask, seconds);
  return {
    p50Ms: quantile(tookMs, 0.5),
    p99Ms: quantile(tookMs, 0.99),
    perSecond: await rate(ask, seconds),
  };
}

const ROWS = [
  ['one at a time, p50 ms', 'p50Ms', 3],
  ['one at a time, p99 ms', 'p99Ms', 3],
  [`answers a second, ${IN_FLIGHT} at a time`, 'perSecond', 0],
] as const;

export async function measureLookups(rounds: number, seconds: number): Promise<boolean> {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-bench-'));
  const subjects = [await inProcess(directory), await onThread(), bareChannel()];
  const measured = new Map<string, Figures[]>(subjects.map(({ name }) => [name, []]));
  try {
    for (const { ask } of subjects) for (let n = 0; n < WARM_UP_QUESTIONS; n++) await ask();
    for (let round = 0; round < rounds; round++)
      for (const subject of subjects) measured.get(subject.name)?.push(await figuresOf(subject, seconds));
  } finally {
    for (const { end } of subjects) await end();
    rmSync(directory, { recursive: true, force: true });
  }
  const spreadOf = (name: string, key: keyof Figures): Spread | undefined =>
    spread((measured.get(name) ?? []).map((figures) => figures[key]));
  const names = subjects.map(({ name }) => name);
  const text = table([
    ['a lookup in', ...names],
    ...ROWS.map(([title, key, digits]) => [title, ...names.map((name) => cell(spreadOf(name, key), digits))]),
  ]);
  console.log(text);
  await writeResults('plugins', { json: Object.fromEntries(measured), md: `\`\`\`\n${text}\n\`\`\`` });
  return true;
}
