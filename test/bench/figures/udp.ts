// Small UDP packets through a tunnel, by udp-load.
import { fromRoot } from '../../helpers/need.js';
import type { Tunnel } from '../subjects/tunnel.js';

export const UDP_LOAD = fromRoot('dist/test/bench/udp-load');
const PORT = 5302;
const PAYLOAD_BYTES = 64;
const FLOOD_SECONDS = 1.2;
const STEP_SECONDS = 0.7;
const STEPS = 6;
/** An offered rate counts as carried when no more than this is lost. */
const CARRIED_SHARE = 0.98;
/** The search ends when the lowest rate that is too much is this close to the highest that is carried. */
const CLOSE_ENOUGH = 1.08;

interface UdpRun {
  readonly deliveredPps: number;
  readonly deliveredShare: number;
  /** Part of those delivered that a later one of the same flow overtook. */
  readonly disorderedShare: number;
}

export interface UdpLoad {
  readonly seconds: number;
  readonly flows: number;
  /** 0: without limit. */
  readonly offeredPps: number;
}

/** Offers packets at a rate and counts what arrives. */
export async function udp({ a, b, target }: Tunnel, load: UdpLoad): Promise<UdpRun> {
  const { seconds, flows, offeredPps } = load;
  const sink = b.spawn([UDP_LOAD, 'sink', `${PORT}`, `${seconds + 3}`]);
  await sink.waitForOutput(/ready/);
  const words = ['send', target, PORT, seconds, PAYLOAD_BYTES, Math.round(offeredPps), flows].map(String);
  const sent = JSON.parse(await a.exec([UDP_LOAD, ...words])) as { sent: number; seconds: number };
  await sink.exited;
  const got = JSON.parse(sink.stdout) as {
    received: number;
    disordered: number;
    seconds: number;
  };
  return {
    // What was still in queues when the sender stopped is not to raise the rate.
    deliveredPps: got.received / Math.max(got.seconds, sent.seconds),
    deliveredShare: got.received / sent.sent,
    disorderedShare: got.disordered / Math.max(got.received, 1),
  };
}

export interface BestUdp {
  readonly bestPps: number;
  readonly floodPps: number;
  /** Of the run that was worst in this. */
  readonly disorderedShare: number;
}

/** A flood wastes the receiver's time on packets that are lost later; the best rate is looked for by bisection. */
export async function bestUdp(tunnel: Tunnel, flows: number): Promise<BestUdp> {
  const flood = await udp(tunnel, { seconds: FLOOD_SECONDS, flows, offeredPps: 0 });
  const runs = [flood];
  let carriedPps = 0;
  let tooMuchPps = Infinity;
  let offeredPps = Math.max(flood.deliveredPps, 10_000) * 0.9;
  for (let step = 0; step < STEPS && tooMuchPps > carriedPps * CLOSE_ENOUGH; step++) {
    const run = await udp(tunnel, { seconds: STEP_SECONDS, flows, offeredPps });
    runs.push(run);
    if (run.deliveredShare >= CARRIED_SHARE) carriedPps = offeredPps;
    else tooMuchPps = offeredPps;
    offeredPps = tooMuchPps === Infinity ? offeredPps * 1.4 : (carriedPps + tooMuchPps) / 2;
  }
  return {
    bestPps: Math.max(...runs.map(({ deliveredPps }) => deliveredPps)),
    floodPps: flood.deliveredPps,
    disorderedShare: Math.max(...runs.map(({ disorderedShare }) => disorderedShare)),
  };
}
