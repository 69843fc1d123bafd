// npm run bench -- --files REF: what a mapping of a million entries costs this tree's varpd, beside another commit's: when the
// overlay is created, and when one entry of the file changes.
//
// It is CPU time that is compared, of varpd and of its reader process: the time on the clock depends on what else the
// machine does. Each round starts both anew, in turns.
import { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { Daemon, type DaemonOptions } from '../helpers/daemon.js';
import { LARGE_MAPPING_VTEPS, writeLargeMapping } from '../helpers/mapping.js';
import { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { cpuSeconds, readersOf } from '../helpers/procfs.js';
import { buildTree } from './against.js';
import { meanRatio } from './report/statistics.js';
import { table } from './report/tables.js';
import { writeResults } from './results.js';
import type { Settings } from './settings.js';

/** Longer than a million entries take, on a machine that is busy otherwise too. */
const DEADLINE_MS = 60_000;
const CHANGES = 3;
/** A daemon that spends less CPU time than this within the milliseconds has nothing to do. */
const [IDLE_SECONDS, IDLE_MS] = [0.1, 500];
const MAC = 'de:ad:be:ef:00:00';

/** In the order of the table. */
const TITLES = {
  loadCpuSeconds: 'overlay created, CPU seconds',
  loadSeconds: 'the same, seconds on the clock',
  changeCpuSeconds: 'one entry changes, CPU seconds',
  changeSeconds: 'the same, seconds on the clock',
} as const;
type Key = keyof typeof TITLES;
type Figures = Readonly<Record<Key, number>>;
const KEYS = Object.keys(TITLES) as Key[];

interface Pair {
  readonly mine: Figures;
  readonly theirs: Figures;
}

interface Cost {
  readonly cpuSeconds: number;
  readonly seconds: number;
}

const cpuOf = ({ pid }: Daemon): number =>
  [pid, ...readersOf(pid)].reduce((sum, each) => sum + cpuSeconds(each), 0);

/** Resolves when the daemon has nothing more to do. */
async function atRest(daemon: Daemon): Promise<void> {
  let last = 0;
  const isIdle = (): boolean => {
    const now = cpuOf(daemon);
    const grown = now - last;
    last = now;
    return grown < IDLE_SECONDS;
  };
  await waitUntil(isIdle, { timeoutMs: DEADLINE_MS, stepMs: IDLE_MS, what: 'varpd to be idle' });
}

/** What the work costs until the log of the daemon says so once more. */
async function costOf(daemon: Daemon, said: RegExp, work: () => unknown): Promise<Cost> {
  const times = (): number => readFileSync(daemon.logFile, 'utf8').match(said)?.length ?? 0;
  await atRest(daemon);
  const before = times();
  const cpuBefore = cpuOf(daemon);
  const startedMs = performance.now();
  await work();
  await waitUntil(() => times() > before, {
    timeoutMs: DEADLINE_MS,
    stepMs: 20,
    what: `the log to say ${said}`,
  });
  const seconds = (performance.now() - startedMs) / 1000;
  return { cpuSeconds: cpuOf(daemon) - cpuBefore, seconds };
}

/** Two files of so many entries: the first of them differs. */
function writeVersions(directory: string, entries: number): string[] {
  return [4789, 4790].map((port) => {
    const file = path.join(directory, `${port}.json`);
    writeLargeMapping(file, entries - 1, [[MAC, { arp: '10.88.88.1', ip: '192.0.0.1', port }]]);
    return file;
  });
}

async function figuresOf(
  options: DaemonOptions,
  versions: readonly string[],
  entries: number,
): Promise<Figures> {
  const bed = new Bed();
  try {
    const [host, other] = await bed.twoHosts({ v6: false });
    await host.ip(`route add ${LARGE_MAPPING_VTEPS} via ${other.underlay.v4}`);
    const config = { limits: { startDeadlineMs: DEADLINE_MS } };
    const daemon = await Daemon.start(bed, host, { ...options, config });
    const file = path.join(bed.directory(), 'hosts.json');
    copyFileSync(versions[0], file);
    const created = `-p vxlan/listen_ip=${host.underlay.v4} -p files/config=${file}`;
    const load = await costOf(daemon, new RegExp(`: ${entries} entries`, 'g'), () =>
      daemon.ok(`create-overlay -e vxlan -s files -v 23 ${created} overlay0`),
    );
    const changes: Cost[] = [];
    for (let version = 1; version <= CHANGES; version++) {
      const next = `${file}.next`;
      copyFileSync(versions[version % versions.length], next);
      changes.push(
        await costOf(daemon, /\+0 -0 ~1 entries/g, () => {
          renameSync(next, file);
        }),
      );
    }
    const mean = (key: keyof Cost): number => changes.reduce((sum, each) => sum + each[key], 0) / CHANGES;
    return {
      loadCpuSeconds: load.cpuSeconds,
      loadSeconds: load.seconds,
      changeCpuSeconds: mean('cpuSeconds'),
      changeSeconds: mean('seconds'),
    };
  } finally {
    await bed.cleanup();
  }
}

function reportOf(pairs: readonly Pair[], ref: string): string {
  const rows = KEYS.map((key) => {
    const { ratio, low, high } = meanRatio(pairs.map(({ mine, theirs }) => mine[key] / theirs[key]));
    const [mine, theirs] = (['mine', 'theirs'] as const).map((side) =>
      (pairs.reduce((sum, pair) => sum + pair[side][key], 0) / pairs.length).toFixed(2),
    );
    return [TITLES[key], mine, theirs, `${ratio.toFixed(3)} (${low.toFixed(3)}..${high.toFixed(3)})`];
  });
  return table([[`${pairs.length} pairs`, 'this tree', ref, 'ratio (95 %)'], ...rows]);
}

/** So many pairs as `rounds` says. */
export async function measureFiles({ against: ref, rounds, mappingEntries }: Settings): Promise<boolean> {
  console.log(`a mapping of ${mappingEntries} entries: this tree beside ${ref}, in ${rounds} pairs`);
  const theirs = await buildTree(ref);
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-bench-'));
  const pairs: Pair[] = [];
  try {
    const versions = writeVersions(directory, mappingEntries);
    for (let round = 0; round < rounds; round++) {
      const taken: Figures[] = [];
      const order = round % 2 === 0 ? [{}, theirs] : [theirs, {}];
      for (const options of order) taken.push(await figuresOf(options, versions, mappingEntries));
      const [mine, other] = round % 2 === 0 ? taken : taken.reverse();
      pairs.push({ mine, theirs: other });
      console.log(`\n${reportOf(pairs, ref)}`);
    }
  } finally {
    for (const made of [directory, theirs.tree])
      if (made !== undefined) rmSync(made, { recursive: true, force: true });
  }
  const text = reportOf(pairs, ref);
  await writeResults('files', {
    json: { against: ref, mappingEntries, pairs },
    md: `\`\`\`\n${text}\n\`\`\``,
  });
  return true;
}
