// Round trips through a tunnel that is idle, and through one that is full.
import { setTimeout as sleep } from 'node:timers/promises';

import { ping } from '../../helpers/traffic.js';
import { median, quantile } from '../report/statistics.js';
import type { Tunnel } from '../subjects/tunnel.js';
import { tcp } from './tcp.js';

/** So many that five of them decide about the last thousandth. */
const IDLE = { count: 5000, intervalMs: 1 };
/** Few enough that they are no load themselves. */
const LOADED_INTERVAL_MS = 2;
/** After this TCP has found its speed. */
const RAMP_SECONDS = 0.5;

export interface Latency {
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly lostShare: number;
}

async function roundTrips(tunnel: Tunnel, count: number, intervalMs: number): Promise<Latency> {
  const { rttUs, sent } = await ping(tunnel.a, tunnel.target, { count, intervalMs });
  if (rttUs.length === 0) throw new Error('no ping was answered');
  return {
    p50Us: median(rttUs),
    p99Us: quantile(rttUs, 0.99),
    p999Us: quantile(rttUs, 0.999),
    lostShare: 1 - rttUs.length / sent,
  };
}

export const idleLatency = (tunnel: Tunnel): Promise<Latency> =>
  roundTrips(tunnel, IDLE.count, IDLE.intervalMs);

/** While one TCP stream takes all it can get the same way. */
export async function loadedLatency(tunnel: Tunnel, seconds: number): Promise<Latency> {
  const pings = async (): Promise<Latency> => {
    await sleep(RAMP_SECONDS * 1000);
    return roundTrips(tunnel, Math.round((seconds * 1000) / LOADED_INTERVAL_MS), LOADED_INTERVAL_MS);
  };
  const [latency] = await Promise.all([pings(), tcp(tunnel, { seconds: seconds + 2 * RAMP_SECONDS })]);
  return latency;
}
