// npm run bench -- --cost: how long varpd takes until it is ready, and how much memory it has, idle and under load.
//
// A start is that of root, and that of the unit: as the user varpd, with CAP_NET_ADMIN and CAP_BPF.
import { setTimeout as sleep } from 'node:timers/promises';

import { asDaemonUser, startable } from '../helpers/daemon-user.js';
import { Daemon, directOverlay, VARPD_MAIN } from '../helpers/daemon.js';
import { Bed } from '../helpers/netns.js';
import { cpuSeconds, residentKib } from '../helpers/procfs.js';
import { tcp } from './figures/tcp.js';
import { udp } from './figures/udp.js';
import { spread } from './report/statistics.js';
import { cell, table } from './report/tables.js';
import { writeResults } from './results.js';
import { hosts, innerMtu, type Terms, type Tunnel, VNETID } from './subjects/tunnel.js';

/** Rights that the unit grants, as setpriv(1) has them. */
const UNIT_RIGHTS = '-all,+net_admin,+bpf';
/** An idle varpd has given back the memory of its start by then. */
const IDLE_MS = 3000;
const SAMPLE_MS = 50;
const FLOWS = 16;

interface Cost {
  readonly bareMs: number;
  readonly rootMs: number;
  readonly unitMs: number;
  /** In the process itself and in the kernel for it, until it is ready. */
  readonly unitCpuMs: number;
  readonly idleMib: number;
  readonly loadMib: number;
}

const ROWS: readonly (readonly [title: string, key: keyof Cost, goal: number | undefined])[] = [
  ['Node without a program, ms', 'bareMs', undefined],
  ['ready, started by root, ms', 'rootMs', 150],
  ['ready, started as by the unit, ms', 'unitMs', 150],
  ['its CPU time until then, ms', 'unitCpuMs', undefined],
  ['resident memory, idle, MiB', 'idleMib', 70],
  ['most resident memory under load, MiB', 'loadMib', 90],
];

interface Start {
  readonly readyMs: number;
  readonly cpuMs: number;
  readonly idleMib: number;
}

const mib = (pid: number): number => residentKib(pid) / 1024;

/** Until the program writes that it serves, from the moment that Node is started. */
async function start(programFor: (daemon: Daemon) => readonly string[]): Promise<Start> {
  const bed = new Bed();
  try {
    const host = await bed.host();
    const program = programFor(new Daemon(bed, host));
    let begunMs = 0;
    let begunCpu = 0;
    const isReady = new Promise<Omit<Start, 'idleMib'>>((resolve) => {
      const line = (text: string): void => {
        if (text === 'begin') [begunMs, begunCpu] = [performance.now(), cpuSeconds(child.pid)];
        if (!text.includes(' serves ')) return;
        const readyMs = performance.now() - begunMs;
        resolve({ readyMs, cpuMs: 1000 * (cpuSeconds(child.pid) - begunCpu) });
      };
      const child = host.spawn(startable(bed, program, 'exec 2>&1; echo begin'), { line });
    });
    const ready = await isReady;
    await sleep(IDLE_MS);
    return { ...ready, idleMib: mib(host.children[0].pid) };
  } finally {
    await bed.cleanup();
  }
}

const varpd = ({ configFile }: Daemon): string[] => [
  ...[process.execPath, VARPD_MAIN],
  ...['--config', configFile, '--foreground'],
];
const inUnit = (daemon: Daemon): string[] => asDaemonUser(varpd(daemon), UNIT_RIGHTS);
/** Node that does nothing else: a busy machine takes as many times longer for it as for varpd. */
const bareNode = (): string[] => [
  process.execPath,
  '-e',
  "console.log('Node serves '); setInterval(() => 0, 1e6)",
];

/** The most that either of two daemons has while they carry TCP, then small packets. */
async function underLoad(terms: Terms, seconds: number): Promise<number> {
  const bed = new Bed();
  try {
    const [a, b] = await hosts(bed, terms);
    const pids: number[] = [];
    for (const [host, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      const daemon = await Daemon.start(bed, host);
      const ends = { from: host.underlay.v4, to: peer.underlay.v4, vnetid: VNETID };
      await daemon.ok(directOverlay(ends, `-p mtu=${innerMtu(terms)}`));
      await host.plumb('overlay0', { v6: false });
      pids.push(daemon.pid);
    }
    const tunnel: Tunnel = { a, b, target: b.overlay.v4, pids };
    // The memory of the start has gone by then.
    await sleep(IDLE_MS);
    let most = 0;
    const sampling = setInterval(() => {
      most = Math.max(most, ...pids.map(mib));
    }, SAMPLE_MS);
    try {
      await tcp(tunnel, { seconds, streams: 4 });
      await udp(tunnel, { seconds, flows: FLOWS, offeredPps: 0 });
    } finally {
      clearInterval(sampling);
    }
    return most;
  } finally {
    await bed.cleanup();
  }
}

export interface CostSettings extends Terms {
  readonly rounds: number;
  readonly seconds: number;
}

/** True when all goals are reached. */
export async function measureCost(settings: CostSettings): Promise<boolean> {
  const rounds: Cost[] = [];
  for (let round = 0; round < settings.rounds; round++) {
    const bare = await start(bareNode);
    const root = await start(varpd);
    const unit = await start(inUnit);
    rounds.push({
      bareMs: bare.readyMs,
      rootMs: root.readyMs,
      unitMs: unit.readyMs,
      unitCpuMs: unit.cpuMs,
      idleMib: unit.idleMib,
      loadMib: await underLoad(settings, settings.seconds),
    });
  }
  const spreads = ROWS.map(([, key]) => spread(rounds.map((one) => one[key])));
  const rows = ROWS.map(([title, , goal], index) => [title, cell(spreads[index], 0), `${goal ?? ''}`]);
  const text = table([['', 'varpd', 'at most'], ...rows]);
  console.log(`median (smallest..largest) of ${settings.rounds} rounds\n${text}`);
  await writeResults('cost', { json: { rounds }, md: `\`\`\`\n${text}\n\`\`\`` });
  return ROWS.every(([, , goal], index) => goal === undefined || spreads[index]!.median <= goal);
}
