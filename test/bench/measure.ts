// The figures of one tunnel, in the order in which they are taken.
import { reaches } from '../helpers/traffic.js';
import { idleLatency, loadedLatency } from './figures/latency.js';
import { tcp } from './figures/tcp.js';
import { bestUdp } from './figures/udp.js';
import { largestRssMib, watchRss } from './figures/usage.js';
import type { Disturbed, Share } from './share.js';
import type { Tunnel } from './subjects/tunnel.js';

export interface Figures extends Disturbed {
  /** a -> b, and b -> a. */
  readonly tcpForwardGbps: number;
  readonly tcpBackwardGbps: number;
  /** Of all four streams. */
  readonly tcp4ForwardGbps: number;
  readonly tcp4BackwardGbps: number;
  /** Most packets of 64 bytes of payload delivered per second, at the best offered rate. */
  readonly udpKpps: number;
  readonly udp16Kpps: number;
  /** Delivered when the sender sends all it can. */
  readonly udpFloodKpps: number;
  /** Of the 16 flows: part of the packets that a later one of the same flow overtook. */
  readonly udpDisorderedShare: number;
  readonly pingP50Us: number;
  readonly pingP99Us: number;
  readonly pingP999Us: number;
  /** Beside one TCP stream at full speed; of those that were answered. */
  readonly loadedPingP50Us: number;
  readonly loadedPingP99Us: number;
  readonly loadedPingLostShare: number;
  /** CPU time of the forwarding processes of both hosts with one TCP stream; null when there are none. */
  readonly cpuSecondsPerGib: number | null;
  /** Of the larger of the two forwarding processes. */
  readonly rssIdleMib: number | null;
  readonly rssLoadMib: number | null;
}

const FLOWS = 16;
export const FOUR_STREAMS = 4;
export const WARM_UP_SECONDS = 1;
/** Of everything but the five TCP runs that `seconds` is the length of; generous. */
const OTHER_SECONDS = 23;

/** Seconds that a subject takes in a round, about. */
export const secondsASubject = (seconds: number): number => 5 * seconds + OTHER_SECONDS;

type Traffic = Omit<Figures, 'rssIdleMib' | 'rssLoadMib' | 'foreignShare'>;

async function traffic(tunnel: Tunnel, seconds: number): Promise<Traffic> {
  await tcp(tunnel, { seconds: WARM_UP_SECONDS });
  const forward = await tcp(tunnel, { seconds });
  const backward = await tcp(tunnel, { seconds, backward: true });
  const forward4 = await tcp(tunnel, { seconds, streams: FOUR_STREAMS });
  const backward4 = await tcp(tunnel, { seconds, streams: FOUR_STREAMS, backward: true });
  const oneFlow = await bestUdp(tunnel, 1);
  const manyFlows = await bestUdp(tunnel, FLOWS);
  const idle = await idleLatency(tunnel);
  const loaded = await loadedLatency(tunnel, seconds);
  const cpu = forward.cpuSeconds + backward.cpuSeconds;
  return {
    tcpForwardGbps: forward.gbps,
    tcpBackwardGbps: backward.gbps,
    tcp4ForwardGbps: forward4.gbps,
    tcp4BackwardGbps: backward4.gbps,
    udpKpps: oneFlow.bestPps / 1000,
    udp16Kpps: manyFlows.bestPps / 1000,
    udpFloodKpps: oneFlow.floodPps / 1000,
    udpDisorderedShare: manyFlows.disorderedShare,
    pingP50Us: idle.p50Us,
    pingP99Us: idle.p99Us,
    pingP999Us: idle.p999Us,
    loadedPingP50Us: loaded.p50Us,
    loadedPingP99Us: loaded.p99Us,
    loadedPingLostShare: loaded.lostShare,
    cpuSecondsPerGib: tunnel.pids.length === 0 ? null : cpu / (forward.gib + backward.gib),
  };
}

export async function measure(tunnel: Tunnel, seconds: number, share: Share): Promise<Figures> {
  if (!(await reaches(tunnel.a, tunnel.target, 10_000))) throw new Error('no answer through the tunnel');
  const rssIdleMib = largestRssMib(tunnel);
  const foreign = share.watch();
  const { result, peakMib } = await watchRss(tunnel, () => traffic(tunnel, seconds));
  return { ...result, rssIdleMib, rssLoadMib: peakMib, foreignShare: foreign() };
}
