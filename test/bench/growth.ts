// What does not grow: packets a second with a million targets beside ten, and with a thousand ports, or overlays, beside ten.
//
// Both tunnels of a pair stand side by side all the time and are measured in turns, with the same traffic. In the large
// table the ten MACs that the traffic goes to are spread over all of it.
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { fromRoot } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { reaches } from '../helpers/traffic.js';
import { idleLatency } from './figures/latency.js';
import { bestUdp } from './figures/udp.js';
import { type Spread, spread } from './report/statistics.js';
import { cell, table } from './report/tables.js';
import { hosts, innerMtu, type Terms, type Tunnel, VNETID } from './subjects/tunnel.js';

const PLUGINS = fromRoot('dist/test/bench/plugins');
/** The plugin's own first MAC. */
const FIRST_MAC = 0x0200_0100_0000;
const [FEW, MANY_TARGETS, MANY_PORTS, MANY_OVERLAYS] = [10, 1_000_000, 1000, 1000];
/** So long a million targets may take to be set. */
const FILL_MS = 120_000;
/** Addresses of the MACs that are real; those of the hosts themselves are below. */
const addressOf = (index: number): string => `10.55.55.${100 + index}`;

export interface GrowthSettings extends Terms {
  readonly rounds: number;
}

interface Measure {
  readonly title: string;
  readonly digits: number;
  take(tunnel: Tunnel): Promise<number>;
}

interface Pair {
  readonly what: string;
  readonly sizes: readonly [few: number, many: number];
  build(bed: Bed, size: number, settings: GrowthSettings): Promise<Tunnel>;
  readonly measures: readonly Measure[];
}

/** Of one figure: with few, with many, and their ratio within each round. */
export interface Growth {
  readonly title: string;
  readonly rounds: readonly (readonly [few: number, many: number])[];
  readonly ratio: Spread;
}

export interface GrowthReport {
  readonly growth: readonly Growth[];
  readonly text: string;
}

const macOf = (value: number): string =>
  value
    .toString(16)
    .padStart(12, '0')
    .replace(/..(?!$)/g, '$&:');

/** Ten VNICs on b, whose MACs are in the table of a among `size` targets. */
async function withTargets(bed: Bed, size: number, settings: GrowthSettings): Promise<Tunnel> {
  const [a, b] = await hosts(bed, settings);
  const inner = innerMtu(settings);
  const [left, right] = [await Daemon.start(bed, a, { pluginPath: [PLUGINS] }), await Daemon.start(bed, b)];
  await right.ok(
    directOverlay({ from: b.underlay.v4, to: a.underlay.v4, vnetid: VNETID }, `-p mtu=${inner}`),
  );
  // Where targets that are not real are: without a route to them the overlay would be degraded.
  await a.ip(`route add 198.18.0.0/15 via ${b.underlay.v4}`);
  const every = size / FEW;
  const fill = `-p many/count=${size} -p many/every=${every} -p many/dest_ip=${b.underlay.v4}`;
  const own = `-p vxlan/listen_ip=${a.underlay.v4} -p mtu=${inner}`;
  await left.ok(`create-overlay -e vxlan -s many -v ${VNETID} ${own} ${fill} overlay0`);
  await a.plumb('overlay0', { v6: false });
  await b.plumb('overlay0', { v6: false });
  for (let index = 0; index < FEW; index++) {
    const mac = macOf(FIRST_MAC + index * every);
    await right.call('vnic.create', { name: `real${index}`, over: 'overlay0', mac, temporary: true });
    await b.ip(`addr add ${addressOf(index)}/32 dev real${index}`);
    await a.ip(`neigh replace ${addressOf(index)} lladdr ${mac} dev overlay0 nud permanent`);
  }
  await b.ip(`neigh replace ${a.overlay.v4} lladdr ${await a.macOf('overlay0')} dev overlay0 nud permanent`);
  const isFull = async (): Promise<boolean> =>
    (await left.overlays('overlay0'))[0].health.details === `${size} targets are set`;
  await waitUntil(isFull, { timeoutMs: FILL_MS, stepMs: 200, what: `${size} targets` });
  const last = { name: 'overlay0', after: macOf(FIRST_MAC + size - 2), limit: 1 };
  const { rows } = await left.call('overlay.targets', last);
  if (rows[0]?.mac !== macOf(FIRST_MAC + size - 1)) throw new Error('the last target is not in the table');
  return { a, b, target: addressOf(0), pids: [left.pid, right.pid] };
}

/** An overlay with `size` VNICs on both hosts, all up, none of them used. */
async function withPorts(bed: Bed, size: number, settings: GrowthSettings): Promise<Tunnel> {
  const [a, b] = await hosts(bed, settings);
  const pids: number[] = [];
  const start = async (host: Namespace, peer: Namespace): Promise<void> => {
    const daemon = await Daemon.start(bed, host);
    const ends = { from: host.underlay.v4, to: peer.underlay.v4, vnetid: VNETID };
    await daemon.ok(directOverlay(ends, `-p mtu=${innerMtu(settings)}`));
    for (let index = 0; index < size; index++)
      await daemon.call('vnic.create', { name: `idle${index}`, over: 'overlay0', temporary: true });
    await host.plumb('overlay0', { v6: false });
    pids.push(daemon.pid);
  };
  await start(a, b);
  await start(b, a);
  return { a, b, target: b.overlay.v4, pids };
}

/** `size` overlays over one socket of each host; the traffic is in the last of them. */
async function withOverlays(bed: Bed, size: number, settings: GrowthSettings): Promise<Tunnel> {
  const [a, b] = await hosts(bed, settings);
  const pids: number[] = [];
  const start = async (host: Namespace, peer: Namespace): Promise<void> => {
    const daemon = await Daemon.start(bed, host);
    const ends = { from: host.underlay.v4, to: peer.underlay.v4 };
    const create = (name: string, vnetid: number): Promise<string> =>
      daemon.ok(directOverlay({ ...ends, vnetid, name }, `-p mtu=${innerMtu(settings)}`));
    for (let index = 1; index < size; index++) await create(`idle${index}`, VNETID + index);
    await create('overlay0', VNETID);
    await host.plumb('overlay0', { v6: false });
    pids.push(daemon.pid);
  };
  await start(a, b);
  await start(b, a);
  return { a, b, target: b.overlay.v4, pids };
}

const udpOneFlow: Measure = {
  title: 'UDP 64 bytes, 1 flow, kpps',
  digits: 0,
  take: async (tunnel) => (await bestUdp(tunnel, 1)).bestPps / 1000,
};
const pingP50: Measure = {
  title: 'ping p50, us',
  digits: 0,
  take: async (tunnel) => (await idleLatency(tunnel)).p50Us,
};
const udpToAll: Measure = {
  title: `UDP 64 bytes, ${FEW} flows to ${FEW} MACs, kpps`,
  digits: 0,
  take: async (tunnel) => {
    const target = Array.from({ length: FEW }, (_, index) => addressOf(index)).join(',');
    return (await bestUdp({ ...tunnel, target }, FEW)).bestPps / 1000;
  },
};

const PAIRS: readonly Pair[] = [
  {
    what: 'targets',
    sizes: [FEW, MANY_TARGETS],
    build: withTargets,
    measures: [udpOneFlow, udpToAll, pingP50],
  },
  { what: 'ports', sizes: [FEW, MANY_PORTS], build: withPorts, measures: [udpOneFlow, pingP50] },
  { what: 'overlays', sizes: [FEW, MANY_OVERLAYS], build: withOverlays, measures: [udpOneFlow, pingP50] },
];

async function measurePair(pair: Pair, settings: GrowthSettings): Promise<Growth[]> {
  const bed = [new Bed(), new Bed()];
  try {
    const tunnels: Tunnel[] = [];
    for (const index of [0, 1]) {
      const tunnel = await pair.build(bed[index], pair.sizes[index], settings);
      if (!(await reaches(tunnel.a, tunnel.target, 10_000)))
        throw new Error(`no answer with ${pair.sizes[index]} ${pair.what}`);
      tunnels.push(tunnel);
    }
    const taken = pair.measures.map((): [number, number][] => []);
    for (let round = 0; round < settings.rounds; round++) {
      for (const [index, measure] of pair.measures.entries()) {
        const values: [number, number] = [0, 0];
        for (const which of round % 2 === 0 ? [0, 1] : [1, 0])
          values[which] = await measure.take(tunnels[which]);
        taken[index].push(values);
      }
    }
    return pair.measures.map(({ title }, index) => ({
      title: `${title}: ${pair.what}`,
      rounds: taken[index],
      ratio: spread(taken[index].map(([few, many]) => many / few))!,
    }));
  } finally {
    for (const each of bed) await each.cleanup();
  }
}

function textOf(pair: Pair, growth: readonly Growth[]): string {
  const column = (rounds: Growth['rounds'], which: 0 | 1, digits: number): string =>
    cell(spread(rounds.map((values) => values[which])), digits);
  const rows = growth.map(({ rounds, ratio }, index) => {
    const { title, digits } = pair.measures[index];
    return [title, column(rounds, 0, digits), column(rounds, 1, digits), cell(ratio, 2)];
  });
  const heads = pair.sizes.map((size) => `${size.toLocaleString('en')} ${pair.what}`);
  return table([['', ...heads, 'ratio'], ...rows]);
}

/** The first figure of the report is that of one flow with a million targets. */
export async function growth(settings: GrowthSettings): Promise<GrowthReport> {
  const all: Growth[] = [];
  const texts: string[] = [];
  for (const pair of PAIRS) {
    const measured = await measurePair(pair, settings);
    all.push(...measured);
    texts.push(textOf(pair, measured));
    console.log(`\nmedian (smallest..largest) of ${settings.rounds} rounds\n${texts.at(-1)!}`);
  }
  return { growth: all, text: texts.join('\n\n') };
}
