// The figures of one tunnel.
import { setTimeout as sleep } from 'node:timers/promises';

import { fromRoot } from '../helpers/need.js';
import type { Child } from '../helpers/process.js';
import { cpuSeconds, machineBusySeconds, residentKib } from '../helpers/procfs.js';
import { ping, reaches } from '../helpers/traffic.js';
import { median, quantile } from './statistics.js';
import type { Tunnel } from './subjects.js';

export interface Figures {
  readonly tcpForwardGbps: number;
  readonly tcpBackwardGbps: number;
  /** Most packets of 64 bytes of payload delivered per second, at the best offered rate. */
  readonly udpKpps: number;
  /** Delivered when the sender sends all it can. */
  readonly udpFloodKpps: number;
  readonly pingP50Us: number;
  readonly pingP99Us: number;
  /** CPU time of the forwarding processes of both hosts, user and system; null when there are none. */
  readonly cpuSecondsPerGib: number | null;
  /** Of the larger of the two forwarding processes. */
  readonly rssIdleMib: number | null;
  readonly rssLoadMib: number | null;
  /** Part of the machine that was busy with something else before the measurement. */
  readonly backgroundShare: number;
}

const IPERF_PORT = 5301;
const UDP_PORT = 5302;
const UDP_PAYLOAD_BYTES = 64;
const WARM_UP_SECONDS = 1;
const PINGS = 1000;
const PING_INTERVAL_MS = 1;
const RSS_INTERVAL_MS = 200;

const GIB = 2 ** 30;
const UDP_LOAD = fromRoot('dist/test/bench/udp-load');

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
const cpuOf = ({ pids }: Tunnel): number => sum(pids.map(cpuSeconds));
const largestRssMib = ({ pids }: Tunnel): number | null =>
  pids.length === 0 ? null : Math.max(...pids.map(residentKib)) / 1024;

/** Part of all processors that is in use while nothing of ours runs. */
async function backgroundShare(cores: number): Promise<number> {
  const [busyBefore, beforeMs] = [machineBusySeconds(), performance.now()];
  await sleep(500);
  return (machineBusySeconds() - busyBefore) / ((performance.now() - beforeMs) / 1000) / cores;
}

interface TcpRun {
  readonly gbps: number;
  readonly bytes: number;
  readonly cpuSeconds: number;
  readonly rssMib: number | null;
}

interface IperfReport {
  readonly error?: string;
  readonly end: { readonly sum_received: { readonly bits_per_second: number; readonly bytes: number } };
}

/** One TCP stream by iperf3, a -> b or (backward) b -> a. */
async function tcp(tunnel: Tunnel, seconds: number, backward: boolean): Promise<TcpRun> {
  const { a, b, target } = tunnel;
  const server = b.spawn(`iperf3 -s -1 --forceflush -p ${IPERF_PORT}`);
  await server.waitForOutput(/Server listening/);
  let rssMib = largestRssMib(tunnel);
  const sampler = setInterval(() => {
    const now = largestRssMib(tunnel);
    if (now !== null) rssMib = Math.max(rssMib ?? 0, now);
  }, RSS_INTERVAL_MS);
  try {
    const cpuBefore = cpuOf(tunnel);
    const command = `iperf3 -c ${target} -p ${IPERF_PORT} -t ${seconds} -J ${backward ? '-R' : ''}`;
    const { stdout } = await a.run(command, { timeoutMs: (seconds + 15) * 1000 });
    const cpu = cpuOf(tunnel) - cpuBefore;
    if (stdout === '') throw new Error('iperf3 did not end in time');
    const report = JSON.parse(stdout) as IperfReport;
    if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
    const { bits_per_second, bytes } = report.end.sum_received;
    return { gbps: bits_per_second / 1e9, bytes, cpuSeconds: cpu, rssMib };
  } finally {
    clearInterval(sampler);
    await server.stop('SIGKILL');
  }
}

interface UdpRun {
  readonly deliveredPps: number;
  readonly deliveredShare: number;
}

/** Offers packets at a rate (0: without limit) and counts what arrives. */
async function udp({ a, b, target }: Tunnel, seconds: number, offeredPps: number): Promise<UdpRun> {
  const sink: Child = b.spawn([UDP_LOAD, 'sink', `${UDP_PORT}`, `${seconds + 3}`]);
  await sink.waitForOutput(/ready/);
  const words = ['send', target, UDP_PORT, seconds, UDP_PAYLOAD_BYTES, Math.round(offeredPps)].map(String);
  const sent = JSON.parse(await a.exec([UDP_LOAD, ...words])) as { sent: number; seconds: number };
  await sink.exited;
  const got = JSON.parse(sink.stdout) as { received: number; seconds: number };
  return {
    // What was still in queues when the sender stopped is not to raise the rate.
    deliveredPps: got.received / Math.max(got.seconds, sent.seconds),
    deliveredShare: got.received / sent.sent,
  };
}

const FLOOD_SECONDS = 1.2;
const STEP_SECONDS = 0.7;
const STEPS = 6;
/** An offered rate counts as carried when no more than this is lost. */
const CARRIED_SHARE = 0.98;

/** A flood wastes the receiver's time on packets that are lost later; the best rate is looked for by bisection. */
async function bestUdp(tunnel: Tunnel): Promise<{ bestPps: number; floodPps: number }> {
  const floodPps = (await udp(tunnel, FLOOD_SECONDS, 0)).deliveredPps;
  let bestPps = floodPps;
  let carriedPps = 0;
  let tooMuchPps = Infinity;
  let offeredPps = Math.max(floodPps, 10_000) * 0.9;
  for (let step = 0; step < STEPS && tooMuchPps > carriedPps * 1.08; step++) {
    const { deliveredPps, deliveredShare } = await udp(tunnel, STEP_SECONDS, offeredPps);
    bestPps = Math.max(bestPps, deliveredPps);
    if (deliveredShare >= CARRIED_SHARE) carriedPps = offeredPps;
    else tooMuchPps = offeredPps;
    offeredPps = tooMuchPps === Infinity ? offeredPps * 1.4 : (carriedPps + tooMuchPps) / 2;
  }
  return { bestPps, floodPps };
}

export async function measure(tunnel: Tunnel, seconds: number, cores: number): Promise<Figures> {
  if (!(await reaches(tunnel.a, tunnel.target))) throw new Error('no answer through the tunnel');
  const share = await backgroundShare(cores);
  const rssIdleMib = largestRssMib(tunnel);
  await tcp(tunnel, WARM_UP_SECONDS, false);
  const forward = await tcp(tunnel, seconds, false);
  const backward = await tcp(tunnel, seconds, true);
  const { bestPps, floodPps } = await bestUdp(tunnel);
  const { rttUs } = await ping(tunnel.a, tunnel.target, { count: PINGS, intervalMs: PING_INTERVAL_MS });
  const gib = (forward.bytes + backward.bytes) / GIB;
  const hasDaemons = tunnel.pids.length > 0;
  return {
    tcpForwardGbps: forward.gbps,
    tcpBackwardGbps: backward.gbps,
    udpKpps: bestPps / 1000,
    udpFloodKpps: floodPps / 1000,
    pingP50Us: median(rttUs),
    pingP99Us: quantile(rttUs, 0.99),
    cpuSecondsPerGib: hasDaemons ? (forward.cpuSeconds + backward.cpuSeconds) / gib : null,
    rssIdleMib,
    rssLoadMib: hasDaemons ? Math.max(forward.rssMib ?? 0, backward.rssMib ?? 0) : null,
    backgroundShare: share,
  };
}
