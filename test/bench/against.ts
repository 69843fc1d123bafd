// npm run bench -- --against REF: this tree's varpd beside another commit's, in pairs; or its VXLAN beside its Geneve; or it with a
// capture that no frame passes, beside it without one.
//
// A shared machine's speed drifts by more than two versions differ, but little within the half minute of a pair. Each
// round builds both anew, since what V8 makes of the same code differs from process to process, and measures them in
// turns, ABBA. Rounds are added until the 95 % interval of the ratios is narrow enough.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { encapsulationNamed, type EncapsulationName } from '../../src/encap/index.js';
import type { Daemon, DaemonOptions } from '../helpers/daemon.js';
import { DladmCapture } from '../helpers/dladm-capture.js';
import { fromRoot } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { exec } from '../helpers/process.js';
import { reaches } from '../helpers/traffic.js';
import { tcp } from './figures/tcp.js';
import { udp } from './figures/udp.js';
import { cpuOf } from './figures/usage.js';
import { type Interval, meanRatio } from './report/statistics.js';
import { table } from './report/tables.js';
import { writeResults } from './results.js';
import type { Settings } from './settings.js';
import type { Share } from './share.js';
import type { Tunnel } from './subjects/tunnel.js';
import { buildVarpd } from './subjects/vxlan.js';

/** Half of an interval, relative to the ratio, that ends the run. */
const NARROW = 0.01;
const FEWEST_ROUNDS = 5;
const BUILD_TIMEOUT_MS = 300_000;
const WARM_UP_SECONDS = 1;
/** Less than what varpd carries on any machine that is worth it: the cost of a packet, not the point where it breaks. */
const STEADY_PPS = 150_000;
const UDP_SECONDS = 1.5;
const FLOWS = 4;
const CAPTURE = 'capture';
/** A MAC that is in no frame. */
const NOBODY = '02:ff:ff:ff:ff:fe';

/** In the order of the table. */
const KEYS = ['cpuSecondsPerGib', 'tcpGbps', 'cpuUsPerPacket', 'floodPps'] as const;
type Key = (typeof KEYS)[number];
type Figures = Readonly<Record<Key, number>>;
/** Those that decide when it is enough. */
const DECIDING: readonly Key[] = ['cpuSecondsPerGib', 'cpuUsPerPacket', 'floodPps'];
const TITLES: Readonly<Record<Key, string>> = {
  cpuSecondsPerGib: 'CPU seconds a GiB of TCP (less is better)',
  tcpGbps: 'TCP, Gbit/s, both ways (more is better)',
  cpuUsPerPacket: `CPU us a packet, UDP of 64 bytes at ${STEADY_PPS / 1000} kpps (less is better)`,
  floodPps: 'UDP of 64 bytes delivered of all that can be sent, pps (more is better)',
};

interface Pair {
  readonly mine: readonly Figures[];
  readonly theirs: readonly Figures[];
}

interface Other {
  readonly options: DaemonOptions;
  readonly encap: EncapsulationName;
  /** This tree has a capture meanwhile. */
  readonly isCaptured: boolean;
}

/** Another commit, built; or this one by another encapsulation; or without a capture. */
async function otherOf(ref: string): Promise<Other> {
  const isCaptured = ref === CAPTURE;
  const encap = encapsulationNamed(ref)?.name ?? 'vxlan';
  const isOwn = isCaptured || encap === ref;
  return { options: isOwn ? {} : await buildTree(ref), encap, isCaptured };
}

/** Another commit, built in a directory of its own that the caller removes. */
export async function buildTree(ref: string): Promise<DaemonOptions> {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-against-'));
  const git = `git -C ${fromRoot('.')}`;
  await exec(['sh', '-c', `${git} archive ${ref} | tar -x -C ${directory} && chmod 755 ${directory}`]);
  await exec([process.execPath, path.join(directory, 'src/setup.mjs'), 'build'], {
    timeoutMs: BUILD_TIMEOUT_MS,
  });
  const staysRoot = !readFileSync(path.join(directory, 'src/setup.mjs'), 'utf8').includes('useradd');
  return { tree: directory, staysRoot };
}

async function figuresOf(tunnel: Tunnel, seconds: number): Promise<Figures> {
  const forward = await tcp(tunnel, { seconds });
  const backward = await tcp(tunnel, { seconds, backward: true });
  const before = cpuOf(tunnel);
  const steady = await udp(tunnel, { seconds: UDP_SECONDS, flows: FLOWS, offeredPps: STEADY_PPS });
  const cpuUs = (cpuOf(tunnel) - before) * 1e6;
  const flood = await udp(tunnel, { seconds: UDP_SECONDS, flows: FLOWS, offeredPps: 0 });
  return {
    cpuSecondsPerGib: (forward.cpuSeconds + backward.cpuSeconds) / (forward.gib + backward.gib),
    tcpGbps: (forward.gbps + backward.gbps) / 2,
    cpuUsPerPacket: cpuUs / (steady.deliveredPps * UDP_SECONDS),
    floodPps: flood.deliveredPps,
  };
}

async function takePair(
  settings: Settings,
  { options, encap, isCaptured }: Other,
  isMineFirst: boolean,
): Promise<Pair> {
  const bed = new Bed();
  const other = new Bed();
  try {
    type How = [DaemonOptions?, EncapsulationName?, ((daemon: Daemon) => Promise<unknown>)?];
    const build = async (of: Bed, ...how: How): Promise<Tunnel> => {
      const tunnel = await buildVarpd(of, settings, ...how);
      if (!(await reaches(tunnel.a, tunnel.target, 10_000))) throw new Error('no answer through the tunnel');
      for (const backward of [false, true]) await tcp(tunnel, { seconds: WARM_UP_SECONDS, backward });
      return tunnel;
    };
    const capture = (daemon: Daemon): Promise<unknown> =>
      isCaptured ? DladmCapture.start(bed, daemon, '--mac', NOBODY, 'overlay0') : Promise.resolve();
    const mine = { tunnel: await build(bed, {}, 'vxlan', capture), figures: [] as Figures[] };
    const theirs = { tunnel: await build(other, options, encap), figures: [] as Figures[] };
    const [first, second] = isMineFirst ? [mine, theirs] : [theirs, mine];
    for (const turn of [first, second, second, first])
      turn.figures.push(await figuresOf(turn.tunnel, settings.seconds));
    return { mine: mine.figures, theirs: theirs.figures };
  } finally {
    await Promise.all([bed.cleanup(), other.cleanup()]);
  }
}

const mean = (figures: readonly Figures[], key: Key): number =>
  figures.reduce((sum, each) => sum + each[key], 0) / figures.length;

const ratiosOf = (pairs: readonly Pair[], key: Key): number[] =>
  pairs.map(({ mine, theirs }) => mean(mine, key) / mean(theirs, key));

const isNarrow = ({ ratio, low, high }: Interval): boolean => high - low <= 2 * NARROW * ratio;

function reportOf(pairs: readonly Pair[], ref: string): string {
  const rows = KEYS.map((key) => {
    const { ratio, low, high } = meanRatio(ratiosOf(pairs, key));
    const [mine, theirs] = (['mine', 'theirs'] as const).map((side) =>
      mean(
        pairs.flatMap((pair) => pair[side]),
        key,
      ).toPrecision(4),
    );
    return [TITLES[key], mine, theirs, `${ratio.toFixed(3)} (${low.toFixed(3)}..${high.toFixed(3)})`];
  });
  return table([[`${pairs.length} pairs`, 'this tree', ref, 'ratio (95 %)'], ...rows]);
}

/** False when a pair could not be measured. */
export async function measureAgainst(settings: Settings, share: Share): Promise<boolean> {
  const { against: ref, rounds, seconds } = settings;
  console.log(`this tree beside ${ref}, in at most ${rounds} pairs; TCP ${seconds} s\n${share.how}`);
  const contender = await otherOf(ref);
  const pairs: Pair[] = [];
  try {
    while (pairs.length < rounds) {
      pairs.push(await takePair(settings, contender, pairs.length % 2 === 0));
      console.log(`\n${reportOf(pairs, ref)}`);
      if (pairs.length >= FEWEST_ROUNDS && DECIDING.every((key) => isNarrow(meanRatio(ratiosOf(pairs, key)))))
        break;
    }
  } finally {
    const { tree } = contender.options;
    if (tree !== undefined) rmSync(tree, { recursive: true, force: true });
  }
  const text = reportOf(pairs, ref);
  await writeResults('against', { json: { against: ref, seconds, pairs }, md: `\`\`\`\n${text}\n\`\`\`` });
  return true;
}
