// Nothing simulated: 1, 5, 10, 20 and 50 varpds on this machine, each in a network namespace, on one switch, with one NATS store. Pings
// along a sample of the full mesh, and MACs that move between hosts meanwhile. What each varpd costs goes into bench-results.
import { setTimeout as sleep } from 'node:timers/promises';

import { quantile, spread } from '../bench/report/statistics.js';
import { cell, table } from '../bench/report/tables.js';
import { writeResults } from '../bench/results.js';
import { Daemon } from '../helpers/daemon.js';
import { NatsServer, skipWithoutNats } from '../helpers/nats-server.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { type Child, exec, waitUntil, words } from '../helpers/process.js';
import { cpuSeconds, machineBusySeconds, residentKib } from '../helpers/procfs.js';
import { ping, reaches } from '../helpers/traffic.js';
import { type Line, lineChart } from './lines.js';

const SIZES = [1, 5, 10, 20, 50];
const VNETID = 42;
const BUCKET = `varpd-${VNETID}`;
const WRITER = fromRoot('dist/test/sim/writer.js');
/** Pairs of the mesh that are pinged, at a time and in all. */
const [PAIRS, AT_ONCE] = [100, 10];
const MOVES = 5;
const IDLE_MS = 5000;
const STARTS_AT_ONCE = 2;
const PATIENCE_MS = 300_000;

/** The MAC of an overlay's own interface is drawn by varpd; that of the station that moves is chosen. */
const STATION = '02:00:00:00:ff:01';
const STATION_IP = '10.55.55.250';
/** Hosts that ping the station while it moves, and how often. */
const [WATCHERS, WATCH_MS] = [8, 20];

export interface Measured {
  readonly hosts: number;
  /** Of each varpd after the pings, and of its plugin process with the spawner; MiB. */
  readonly rssMib: readonly number[];
  readonly childrenMib: readonly number[];
  /** Share of one processor that each varpd takes while nothing is sent. */
  readonly idleCpuShare: number;
  readonly pairs: number;
  readonly answered: number;
  /** Round trip of the first ping of a pair, which asks the plugin, and of the ones after; us. */
  readonly firstUs: number;
  readonly laterUs: number;
  /** From the write into the store until every host has the new place; ms. */
  readonly movedMs: readonly number[];
  readonly machineBusy: number;
}

interface Varpd {
  readonly host: Namespace;
  readonly daemon: Daemon;
  mac: string;
}

/** A store on a host of its own, and a program beside it that writes places into its bucket. */
class Store {
  readonly #teardowns: (() => unknown)[] = [];
  #writer: Child | undefined;
  url = '';

  async start(host: Namespace): Promise<void> {
    const t = { teardown: (work: () => unknown) => this.#teardowns.push(work) };
    const prefix = ['ip', 'netns', 'exec', host.name];
    const server = await NatsServer.start(t, { address: host.underlay.v4, port: 4222, prefix });
    this.url = server.url;
    this.#writer = host.spawn([process.execPath, WRITER, server.url, BUCKET], {}, 'pipe');
    await this.#writer.waitForOutput(/ready/, PATIENCE_MS);
  }

  /** Resolves to the time of the write, in ms, once the store has it. */
  async set(mac: string, ip: string, address: string): Promise<number> {
    const writer = this.#writer!;
    const times = (): number[] =>
      [...writer.stdout.matchAll(new RegExp(`^${mac} (\\d+)$`, 'gm'))].map((match) => Number(match[1]));
    const before = times().length;
    writer.write(`${mac} ${ip} ${address}\n`);
    await waitUntil(() => times().length > before, { timeoutMs: PATIENCE_MS, what: `${mac} in the store` });
    return times().at(-1)!;
  }

  async stop(): Promise<void> {
    await this.#writer?.stop('SIGKILL');
    for (const work of this.#teardowns.reverse()) await work();
  }
}

export async function measureGrowth(sizes: readonly number[] = SIZES): Promise<boolean> {
  const missing = skipUnlessNetns() || skipWithoutNats;
  if (missing !== false) {
    console.error(`--measure ${missing}`);
    return false;
  }
  const rows: Measured[] = [];
  for (const size of sizes) {
    rows.push(await measure(size));
    console.log(`\n${textOf(rows)}`);
  }
  await writeResults('growth', {
    json: { rows },
    md: `\`\`\`\n${textOf(rows)}\n\`\`\``,
    svg: chartOf(rows),
  });
  return rows.every(({ pairs, answered }) => answered === pairs);
}

async function measure(size: number): Promise<Measured> {
  const bed = new Bed();
  const store = new Store();
  try {
    const [storeHost, ...hosts] = (await bed.hostsOnSwitch(size + 1, { v6: false })).slice(0, size + 1);
    await store.start(storeHost);
    const varpds = await startAll(bed, hosts, store);
    const busyBefore = machineBusySeconds();
    const cpuBefore = varpds.map(({ daemon }) => cpuSeconds(daemon.pid));
    await sleep(IDLE_MS);
    const idle = varpds.map(({ daemon }, index) => cpuSeconds(daemon.pid) - cpuBefore[index]);
    const pings = await pingMesh(varpds);
    const movedMs = size === 1 ? [] : await moveStation(varpds, store);
    const mib = (pid: number): number => residentKib(pid) / 1024;
    return {
      hosts: size,
      rssMib: varpds.map(({ daemon }) => mib(daemon.pid)),
      childrenMib: await Promise.all(varpds.map(pluginMib)),
      idleCpuShare: idle.reduce((sum, each) => sum + each, 0) / size / (IDLE_MS / 1000),
      ...pings,
      movedMs,
      machineBusy: machineBusySeconds() - busyBefore,
    };
  } finally {
    await store.stop();
    await bed.cleanup();
  }
}

/** Starts them, a few at a time, and tells the mapping about all of them. */
async function startAll(bed: Bed, hosts: readonly Namespace[], store: Store): Promise<Varpd[]> {
  const varpds: Varpd[] = [];
  const size = hosts.length;
  const waiting = [...hosts];
  const worker = async (): Promise<void> => {
    for (let host = waiting.shift(); host !== undefined; host = waiting.shift()) {
      const daemon = await Daemon.start(bed, host);
      const own = `-p vxlan/listen_ip=${host.underlay.v4} -p nats/servers=${store.url} -p nats/mode=lookup`;
      await daemon.ok(`create-overlay -e vxlan -s nats -v ${VNETID} ${own} overlay0`);
      await host.plumb('overlay0', { v6: false });
      varpds.push({ host, daemon, mac: await host.macOf('overlay0') });
    }
  };
  await Promise.all(Array.from({ length: STARTS_AT_ONCE }, worker));
  for (const { host, mac } of varpds) await store.set(mac, host.underlay.v4, host.overlay.v4);
  // Each can ask the store when it reaches another one.
  for (const [index, { host }] of varpds.entries()) {
    const next = varpds[(index + 1) % size];
    if (size > 1 && !(await reaches(host, next.host.overlay.v4, PATIENCE_MS)))
      throw new Error(`${host.name} does not reach ${next.host.name}`);
  }
  return varpds;
}

async function pingMesh(
  varpds: readonly Varpd[],
): Promise<Pick<Measured, 'pairs' | 'answered' | 'firstUs' | 'laterUs'>> {
  const pairs: [Varpd, Varpd][] = [];
  const count = varpds.length * (varpds.length - 1);
  // Even steps through the mesh: every host is an end of some pairs.
  const step = Math.max(1, count / PAIRS);
  for (let at = 0; at < count; at += step) {
    const from = Math.floor(at / (varpds.length - 1));
    const to = Math.floor(at) % (varpds.length - 1);
    pairs.push([varpds[from], varpds[to >= from ? to + 1 : to]]);
  }
  const firsts: number[] = [];
  const laters: number[] = [];
  let answered = 0;
  const waiting = [...pairs];
  const worker = async (): Promise<void> => {
    for (let pair = waiting.shift(); pair !== undefined; pair = waiting.shift()) {
      const [from, to] = pair;
      const { received, rttUs } = await ping(from.host, to.host.overlay.v4, { count: 5, intervalMs: 100 });
      if (received === 5) answered++;
      firsts.push(rttUs[0] ?? NaN);
      laters.push(...rttUs.slice(1));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return {
    pairs: pairs.length,
    answered,
    firstUs: quantile(firsts.filter(Number.isFinite), 0.5),
    laterUs: quantile(laters, 0.5),
  };
}

/** A station moves between the first and the last host; the hosts in between ping it. Returns the times from the write into
 * the store until a reply came from the new host, of each move and each of them; ms. */
async function moveStation(varpds: readonly Varpd[], store: Store): Promise<number[]> {
  const ends = [varpds[0], varpds.at(-1)!];
  const watchers = varpds.slice(1, -1).slice(0, WATCHERS);
  for (const { daemon, host } of ends) {
    await daemon.call('vnic.create', { name: 'station0', over: 'overlay0', mac: STATION, temporary: true });
    await host.ip(`addr add ${STATION_IP}/32 dev station0`);
  }
  const times: number[] = [];
  for (let move = 0; move <= MOVES; move++) {
    const [to, from] = move % 2 === 0 ? ends : [ends[1], ends[0]];
    const children = move === 0 ? [] : watchers.map(({ host }) => watch(host));
    if (move > 0) await sleep(WATCH_MS * 25);
    await from.host.ip('link set station0 down');
    await to.host.ip('link set station0 up');
    const movedMs = await store.set(STATION, to.host.underlay.v4, STATION_IP);
    if (move === 0) {
      for (const { host } of watchers)
        if (!(await reaches(host, STATION_IP, PATIENCE_MS))) throw new Error(`${host.name} finds no station`);
      continue;
    }
    for (const child of children) {
      // What was sent before the move may have been answered by the old host still.
      const repliesMs = (): number[] =>
        [...child.stdout.matchAll(/^\[(\d+\.\d+)\] .*time=([\d.]+) ms/gm)]
          .filter(([, at, rtt]) => 1000 * Number(at) - Number(rtt) > movedMs)
          .map(([, at]) => 1000 * Number(at) - movedMs);
      await waitUntil(() => repliesMs().length > 0, {
        timeoutMs: PATIENCE_MS,
        what: 'a reply after the move',
      });
      times.push(repliesMs()[0]);
      await child.stop('SIGKILL');
    }
  }
  return times;
}

/** Pings with the time of each reply. */
const watch = (host: Namespace): ReturnType<Namespace['spawn']> =>
  host.spawn(['ping', '-n', '-D', '-i', `${WATCH_MS / 1000}`, '-W', '1', STATION_IP]);

const textOf = (rows: readonly Measured[]): string =>
  table([
    [
      'varpds',
      'RSS, MiB',
      'plugin process, MiB',
      'idle CPU, %',
      'pairs',
      'answered',
      'first ping',
      'later',
      'moved, ms',
    ],
    ...rows.map((row) => [
      `${row.hosts}`,
      cell(spread(row.rssMib), 0),
      cell(spread(row.childrenMib), 0),
      (100 * row.idleCpuShare).toFixed(2),
      `${row.pairs}`,
      `${row.answered}`,
      `${row.firstUs.toFixed(0)} us`,
      `${row.laterUs.toFixed(0)} us`,
      cell(spread(row.movedMs), 0),
    ]),
  ]);

/** One panel a figure, over the number of varpds. */
const chartOf = (rows: readonly Measured[]): string => {
  const middle = (values: readonly number[]): number => quantile(values, 0.5);
  const line = (title: string, value: (row: Measured) => number): Line => ({
    title,
    points: rows.map((row) => [row.hosts, value(row)]),
  });
  return lineChart('varpds on one machine', [
    line('RSS of a varpd, MiB', ({ rssMib }) => middle(rssMib)),
    line('CPU of an idle varpd, %', ({ idleCpuShare }) => 100 * idleCpuShare),
    line('ping of a pair that speaks, us', ({ laterUs }) => laterUs),
    line('a MAC has moved: p50 until found, ms', ({ movedMs }) => middle(movedMs)),
  ]);
};

/** Resident memory of the plugin process of a varpd and of its spawner, which are in the same namespace; MiB. */
async function pluginMib({ host, daemon }: Varpd): Promise<number> {
  const pids = words(await exec(['ip', 'netns', 'pids', host.name])).map(Number);
  return pids.filter((pid) => pid !== daemon.pid).reduce((sum, pid) => sum + residentKib(pid) / 1024, 0);
}
