// Where the time of both daemons goes while one TCP stream takes all it can get, each way.
//
// With perf (Debian: linux-perf), by samples of all their threads, the kernel's part included; without it V8's own
// profiler says what JavaScript takes, and /proc how the rest is shared between the process and the kernel.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { Bed } from '../helpers/netns.js';
import { Child, exec, findProgram } from '../helpers/process.js';
import { cpuTimes } from '../helpers/procfs.js';
import { reaches } from '../helpers/traffic.js';
import { tcp } from './figures/tcp.js';
import { table } from './report/tables.js';
import type { Terms, Tunnel } from './subjects/tunnel.js';
import { buildVarpd } from './subjects/vxlan.js';

/** Prime to the clocks of what is measured; a thousand samples for each second of a daemon. */
const FREQUENCY = 997;
const WARM_UP_SECONDS = 2;
const SHOWN_SYMBOLS = 16;
const PERF_TIMEOUT_MS = 60_000;

const PLACES = [
  'JavaScript, compiled',
  'JavaScript: V8 and Node',
  'native: the addon',
  'native: libraries',
  'kernel',
] as const;
type Place = (typeof PLACES)[number];
/** Of one direction: parts that add up to 1. */
type Shares = Partial<Record<Place, number>>;

export interface ProfileSettings extends Terms {
  readonly seconds: number;
}

export interface ProfileReport {
  /** Of all CPU time of both daemons, both directions together. */
  readonly javaScriptShare: number;
  readonly by: 'perf' | 'V8';
  readonly text: string;
}

async function withTunnel<T>(
  terms: Terms,
  nodeArgs: (bed: Bed) => readonly string[],
  work: (tunnel: Tunnel, bed: Bed) => Promise<T>,
): Promise<T> {
  const bed = new Bed();
  try {
    const tunnel = await buildVarpd(bed, terms, {
      nodeArgs: nodeArgs(bed),
      // Who it is when it starts and later must be one: V8 writes over the file of symbols once varpd has become its user.
      config: { user: 'root' },
    });
    if (!(await reaches(tunnel.a, tunnel.target, 10_000))) throw new Error('no answer through the tunnel');
    for (const backward of [false, true]) await tcp(tunnel, { seconds: WARM_UP_SECONDS / 2, backward });
    return await work(tunnel, bed);
  } finally {
    await bed.cleanup();
  }
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
const isJavaScript = (place: Place): boolean => place.startsWith('JavaScript');

function report(by: ProfileReport['by'], shares: Shares, more: readonly string[]): ProfileReport {
  const javaScriptShare = PLACES.filter(isJavaScript).reduce((sum, place) => sum + (shares[place] ?? 0), 0);
  const rows = PLACES.filter((place) => shares[place] !== undefined).map((place) => [
    place,
    percent(shares[place]!),
  ]);
  const text = [
    `CPU time of both daemons in bulk TCP, both directions (by ${by})`,
    table(rows),
    `JavaScript's share of datapath CPU in bulk TCP: ${percent(javaScriptShare)}`,
    ...more,
  ].join('\n');
  return { javaScriptShare, by, text };
}

// ---------------------------------------------------------------- perf

interface SamplePlace {
  readonly place: Place;
  readonly symbol: string;
}

/** One line of `perf script -F ip,sym,dso`: `7f3a... symbol+0x10 (file)`. */
function placeOf(line: string): SamplePlace | undefined {
  const match = /^\s*([0-9a-f]+)\s+(.*?)\s+\((.*)\)\s*$/.exec(line);
  if (match === null) return undefined;
  const [, address, symbol, file] = match;
  // The upper half of the address space is the kernel's, symbols known or not.
  if (address.length === 16 && /^[89a-f]/.test(address)) return { place: 'kernel', symbol };
  if (/perf-\d+\.map$/.test(file)) return { place: 'JavaScript, compiled', symbol };
  if (file === process.execPath) return { place: 'JavaScript: V8 and Node', symbol };
  if (/dgram_extra(?:-\w+)?\.node$/.test(file)) return { place: 'native: the addon', symbol };
  // Code that V8 made a moment ago, and has not told of.
  if (file === '[unknown]' || file.startsWith('//anon')) return { place: 'JavaScript, compiled', symbol };
  return { place: 'native: libraries', symbol };
}

function hottest(counts: ReadonlyMap<string, number>, total: number): string {
  const rows = [...counts].sort(([, x], [, y]) => y - x).slice(0, SHOWN_SYMBOLS);
  return table([['', ''], ...rows.map(([name, count]) => [name, percent(count / total)])]).trimStart();
}

async function byPerf(settings: ProfileSettings): Promise<ProfileReport> {
  const nodeArgs = (): readonly string[] => ['--perf-basic-prof'];
  return withTunnel(settings, nodeArgs, async (tunnel, bed) => {
    const counts = new Map<Place, number>();
    const symbols = new Map<string, number>();
    let total = 0;
    for (const backward of [false, true]) {
      const file = path.join(bed.directory(), 'perf.data');
      const perf = new Child(
        `perf record -e cpu-clock -F ${FREQUENCY} -p ${tunnel.pids.join(',')} -o ${file} -- sleep ${settings.seconds}`,
      );
      await Promise.all([perf.exited, tcp(tunnel, { seconds: settings.seconds, backward })]);
      const text = await exec(`perf script -i ${file} -F ip,sym,dso`, { timeoutMs: PERF_TIMEOUT_MS });
      for (const line of text.split('\n')) {
        const sample = placeOf(line);
        if (sample === undefined) continue;
        const { place, symbol } = sample;
        const named = `${place.padEnd(24)} ${symbol}`;
        total++;
        counts.set(place, (counts.get(place) ?? 0) + 1);
        symbols.set(named, (symbols.get(named) ?? 0) + 1);
      }
    }
    if (total === 0) throw new Error('perf saw nothing');
    const shares = Object.fromEntries([...counts].map(([place, count]) => [place, count / total])) as Shares;
    return report('perf', shares, [`\nhottest of ${total} samples`, hottest(symbols, total)]);
  });
}

// ---------------------------------------------------------------- V8

/** The parts of a .cpuprofile that are used here. Times in us, on the clock of performance.now() and the kernel's. */
interface CpuProfile {
  readonly nodes: readonly { id: number; callFrame: { functionName: string; url: string } }[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** Seconds between two times in which JavaScript ran, or garbage was collected. */
function javaScriptSeconds(profile: CpuProfile, fromUs: number, toUs: number): number {
  const counts = new Set(
    profile.nodes
      .filter(({ callFrame }) => callFrame.url !== '' || callFrame.functionName === '(garbage collector)')
      .map(({ id }) => id),
  );
  let [atUs, seconds] = [profile.startTime, 0];
  profile.samples.forEach((id, index) => {
    const spentUs = profile.timeDeltas[index + 1] ?? 0;
    atUs += profile.timeDeltas[index];
    if (counts.has(id) && atUs >= fromUs && atUs < toUs) seconds += spentUs / 1e6;
  });
  return seconds;
}

const nowUs = (): number => Number(process.hrtime.bigint() / 1000n);

async function byV8(settings: ProfileSettings): Promise<ProfileReport> {
  const keeper = new Bed();
  const directory = keeper.directory();
  const times = { user: 0, system: 0 };
  const windows: [fromUs: number, toUs: number][] = [];
  const nodeArgs = (): readonly string[] => ['--cpu-prof', '--cpu-prof-dir', directory];
  try {
    await withTunnel(settings, nodeArgs, async (tunnel) => {
      for (const backward of [false, true]) {
        const before = tunnel.pids.map(cpuTimes);
        const fromUs = nowUs();
        await tcp(tunnel, { seconds: settings.seconds, backward });
        windows.push([fromUs, nowUs()]);
        tunnel.pids.map(cpuTimes).forEach(({ user, system }, index) => {
          times.user += user - before[index].user;
          times.system += system - before[index].system;
        });
      }
    });
    // The daemons have ended, and left a profile for each thread.
    const profiles = readdirSync(directory).map(
      (name) => JSON.parse(readFileSync(path.join(directory, name), 'utf8')) as CpuProfile,
    );
    if (profiles.length === 0) throw new Error('V8 left no profile');
    const seconds = profiles
      .flatMap((profile) => windows.map(([from, to]) => javaScriptSeconds(profile, from, to)))
      .reduce((sum, each) => sum + each, 0);
    const total = times.user + times.system;
    const shares: Shares = {
      'JavaScript, compiled': seconds / total,
      'native: the addon': Math.max(0, times.user - seconds) / total,
      kernel: times.system / total,
    };
    return report('V8', shares, ['with perf this would say more: apt-get install linux-perf']);
  } finally {
    await keeper.cleanup();
  }
}

export async function profile(settings: ProfileSettings): Promise<ProfileReport> {
  const made = await (findProgram('perf') === undefined ? byV8(settings) : byPerf(settings));
  console.log(`\n${made.text}`);
  return made;
}
