// The share of a bench, or of faults with times, of a machine that others work on too.
//
// All that the bench starts runs in a cpu cgroup of the greatest weight, so that other work takes little from it; being
// nice would not do, since the kernel's autogroups make it count only among the processes of one session. What others
// did take is known from the same place: the machine's time, less the cgroup's.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { machineBusySeconds } from '../helpers/procfs.js';
import { cores } from './machine.js';

const PREFIX = 'varpd-bench-';
/** The most that the kernel takes: cgroup-v1 cpu.shares (1024 is usual), cgroup-v2 cpu.weight (100 is usual). */
const MOST_SHARES = 262_144;
const MOST_WEIGHT = 10_000;
/** A process that was killed leaves its cgroup a little later than it is gone from the process table. */
const LEAVE_TRIES = 50;

export interface Share {
  /** In words, for the head of the run. */
  readonly how: string;
  /** Starts to look at the machine; the answer ends it: the part of all processors that others used, if it is known. */
  watch(): () => number | null;
}

/** Part of all processors that others used while something was measured; null when that cannot be told. */
export interface Disturbed {
  readonly foreignShare: number | null;
}

const DISTURBED_SHARE = 0.2;

/** A measurement that others took more of the machine from is made once more; the less disturbed one counts. */
export async function undisturbed<F extends Disturbed>(measure: () => Promise<F>): Promise<F> {
  const first = await measure();
  if (first.foreignShare === null || first.foreignShare <= DISTURBED_SHARE) return first;
  const second = await measure();
  return (second.foreignShare ?? 1) < first.foreignShare ? second : first;
}

interface Place {
  /** The new cgroups, one a hierarchy. */
  readonly directories: readonly string[];
  readonly weigh: () => void;
  readonly usedSeconds: () => number;
}

const lines = (file: string): string[] => (existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []);
const name = `${PREFIX}${process.pid}`;

/** Where the hierarchies of a kind are mounted: of version 1 with this controller, or of version 2. */
function mountOf(type: 'cgroup' | 'cgroup2', controller: string): string | undefined {
  for (const line of lines('/proc/mounts')) {
    const [, directory, kind, options = ''] = line.split(' ');
    if (kind !== type) continue;
    const listed =
      type === 'cgroup' ? options : lines(path.join(directory, 'cgroup.subtree_control')).join(' ');
    if (listed.split(/[, ]/).includes(controller)) return directory;
  }
  return undefined;
}

function find(): Place | undefined {
  const [cpu, accounts, unified] = [
    mountOf('cgroup', 'cpu'),
    mountOf('cgroup', 'cpuacct'),
    mountOf('cgroup2', 'cpu'),
  ];
  if (cpu !== undefined && accounts !== undefined) {
    const [weighing, counting] = [path.join(cpu, name), path.join(accounts, name)];
    return {
      directories: [...new Set([weighing, counting])],
      weigh: () => {
        writeFileSync(path.join(weighing, 'cpu.shares'), `${MOST_SHARES}`);
      },
      usedSeconds: () => Number(readFileSync(path.join(counting, 'cpuacct.usage'), 'utf8')) / 1e9,
    };
  }
  if (unified === undefined) return undefined;
  const directory = path.join(unified, name);
  return {
    directories: [directory],
    weigh: () => {
      writeFileSync(path.join(directory, 'cpu.weight'), `${MOST_WEIGHT}`);
    },
    usedSeconds: () =>
      Number(/^usage_usec (\d+)/m.exec(readFileSync(path.join(directory, 'cpu.stat'), 'utf8'))?.[1]) / 1e6,
  };
}

function enter(directory: string): void {
  writeFileSync(path.join(directory, 'cgroup.procs'), `${process.pid}`);
}

function leave(directories: readonly string[]): void {
  for (const directory of directories.filter((each) => existsSync(each))) {
    enter(path.dirname(directory));
    for (let tries = 0; existsSync(directory) && tries < LEAVE_TRIES; tries++) {
      try {
        rmdirSync(directory);
      } catch {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
      }
    }
  }
}

/** What runs left behind that were killed. */
function removeLeftovers(parent: string): void {
  for (const entry of readdirSync(parent)) {
    if (!entry.startsWith(PREFIX) || existsSync(`/proc/${entry.slice(PREFIX.length)}`)) continue;
    const directory = path.join(parent, entry);
    if (lines(path.join(directory, 'cgroup.procs')).join('') === '') rmdirSync(directory);
  }
}

/** Moves this process, and so all that it starts, into a cgroup of its own, where that can be; until it ends. */
export function takeShare(): Share {
  const none = (reason: string): Share => ({
    how: `no cpu cgroup of its own (${reason}): other work on the machine weighs as much`,
    watch: () => () => null,
  });
  const place = find();
  if (place === undefined) return none('none is mounted');
  const { directories, weigh, usedSeconds } = place;
  process.on('exit', () => {
    leave(directories);
  });
  try {
    for (const directory of directories) {
      removeLeftovers(path.dirname(directory));
      mkdirSync(directory);
    }
    weigh();
    directories.forEach(enter);
  } catch (error) {
    return none((error as Error).message);
  }
  return {
    how: 'in a cpu cgroup of the greatest weight',
    watch: () => {
      const [busy, used, ms] = [machineBusySeconds(), usedSeconds(), performance.now()];
      return () => {
        const foreign = machineBusySeconds() - busy - (usedSeconds() - used);
        return Math.max(0, foreign) / ((performance.now() - ms) / 1000) / cores;
      };
    },
  };
}
