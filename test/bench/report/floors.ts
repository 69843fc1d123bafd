// What varpd is to reach: for each figure what it must, and what it should, and whether it does.
import { KERNEL, OURS, PLAIN } from '../subjects/index.js';
import { markdownRows } from './markdown.js';
import { pairedRatio, type Sample, spreadOf } from './samples.js';
import { type Spread, spread } from './statistics.js';
import { cell, table } from './tables.js';

/** Of one run; what was not measured is left out. */
export interface Evidence {
  readonly samples: readonly Sample[];
  readonly javaScriptShare?: number | undefined;
  /** Packets a second with a million targets to those with ten. */
  readonly growthWithTargets?: Spread | undefined;
}

interface Floor {
  readonly title: string;
  readonly better: 'more' | 'less';
  readonly floor: number;
  readonly aim: number;
  readonly digits: number;
  find(evidence: Evidence): Spread | undefined;
}

const toKernel =
  (key: 'tcpForwardGbps' | 'tcpBackwardGbps' | 'udpKpps') =>
  ({ samples }: Evidence): Spread | undefined =>
    pairedRatio(samples, OURS, KERNEL, key);
const toPlain =
  (key: 'tcpForwardGbps' | 'tcpBackwardGbps' | 'pingP50Us') =>
  ({ samples }: Evidence): Spread | undefined =>
    pairedRatio(samples, OURS, PLAIN, key);
const own =
  (key: 'cpuSecondsPerGib' | 'rssLoadMib' | 'pingP999Us') =>
  ({ samples }: Evidence): Spread | undefined =>
    spreadOf(samples, OURS, key);

const FLOORS: readonly Floor[] = [
  {
    title: "TCP 1 stream, to the kernel's vxlan",
    better: 'more',
    floor: 0.6,
    aim: 1,
    digits: 2,
    find: toKernel('tcpForwardGbps'),
  },
  {
    title: 'the same, the other way',
    better: 'more',
    floor: 0.6,
    aim: 1,
    digits: 2,
    find: toKernel('tcpBackwardGbps'),
  },
  {
    title: 'TCP 1 stream, to the plain C forwarder',
    better: 'more',
    floor: 12,
    aim: 20,
    digits: 1,
    find: toPlain('tcpForwardGbps'),
  },
  {
    title: 'the same, the other way',
    better: 'more',
    floor: 12,
    aim: 20,
    digits: 1,
    find: toPlain('tcpBackwardGbps'),
  },
  {
    title: "small UDP packets a second, to the kernel's vxlan, one flow",
    better: 'more',
    floor: 2,
    aim: 3,
    digits: 2,
    find: toKernel('udpKpps'),
  },
  {
    title: 'ping p50, to the plain C forwarder',
    better: 'less',
    floor: 1.2,
    aim: 1,
    digits: 2,
    find: toPlain('pingP50Us'),
  },
  {
    title: 'ping p99.9, us: one each ms, nothing else running',
    better: 'less',
    floor: 1000,
    aim: 500,
    digits: 0,
    find: own('pingP999Us'),
  },
  {
    title: 'CPU seconds a GiB of TCP, both daemons',
    better: 'less',
    floor: 1.5,
    aim: 1,
    digits: 2,
    find: own('cpuSecondsPerGib'),
  },
  {
    title: "JavaScript's share of datapath CPU in bulk TCP, %",
    better: 'less',
    floor: 10,
    aim: 5,
    digits: 1,
    find: ({ javaScriptShare }) =>
      javaScriptShare === undefined ? undefined : spread([100 * javaScriptShare]),
  },
  {
    title: 'packets a second at 1,000,000 targets, to those at 10',
    better: 'more',
    floor: 0.9,
    aim: 1,
    digits: 2,
    find: ({ growthWithTargets }) => growthWithTargets,
  },
  {
    title: 'RSS under full load, MiB',
    better: 'less',
    floor: 150,
    aim: 100,
    digits: 0,
    find: own('rssLoadMib'),
  },
];

/** By the median; unsure where some rounds say otherwise. */
function verdict({ better, floor, aim }: Floor, { median, min, max }: Spread): string {
  const reaches = (value: number, goal: number): boolean =>
    better === 'more' ? value >= goal : value <= goal;
  const said = reaches(median, aim) ? 'aim reached' : reaches(median, floor) ? 'met' : 'below';
  return reaches(min, floor) === reaches(max, floor) ? said : `${said}, not in every round`;
}

function rowsOf(evidence: Evidence): string[][] {
  return FLOORS.map((floor) => {
    const found = floor.find(evidence);
    const sign = floor.better === 'more' ? '>=' : '<=';
    const [measured, word] =
      found === undefined ? ['-', 'not measured'] : [cell(found, floor.digits), verdict(floor, found)];
    return [floor.title, measured, `${sign} ${floor.floor}`, `${sign} ${floor.aim}`, word];
  });
}

const HEADS = ['', 'measured', 'at least', 'aim', ''];

export const floorsTable = (evidence: Evidence): string => table([HEADS, ...rowsOf(evidence)]);
export const floorsMarkdown = (evidence: Evidence): string => markdownRows([HEADS, ...rowsOf(evidence)]);
