// The figures as the tables and the chart show them.
import type { Figures } from '../measure.js';

export interface Column {
  readonly key: keyof Figures;
  readonly title: string;
  readonly digits: number;
  /** Which way is good; undefined: nothing to compare subjects by. */
  readonly better?: 'more' | 'less';
  /** Also in the chart and in the table for the README. */
  readonly chief: boolean;
}

const more = (key: keyof Figures, title: string, digits: number): Column => ({
  key,
  title,
  digits,
  better: 'more',
  chief: true,
});
const less = (key: keyof Figures, title: string, digits: number): Column => ({
  ...more(key, title, digits),
  better: 'less',
});
const aside = (key: keyof Figures, title: string, digits: number): Column => ({
  key,
  title,
  digits,
  chief: false,
});

export const columns: readonly Column[] = [
  more('tcpForwardGbps', 'TCP, 1 stream, Gbit/s', 2),
  more('tcpBackwardGbps', 'TCP, 1 stream, the other way', 2),
  more('tcp4ForwardGbps', 'TCP, 4 streams, Gbit/s', 2),
  more('tcp4BackwardGbps', 'TCP, 4 streams, the other way', 2),
  more('udpKpps', 'UDP 64 bytes, 1 flow, kpps', 0),
  more('udp16Kpps', 'UDP 64 bytes, 16 flows, kpps', 0),
  less('pingP50Us', 'ping p50, us', 0),
  less('pingP99Us', 'ping p99, us', 0),
  less('pingP999Us', 'ping p99.9, us', 0),
  less('loadedPingP50Us', 'ping p50 under TCP, us', 0),
  less('loadedPingP99Us', 'ping p99 under TCP, us', 0),
  less('cpuSecondsPerGib', 'CPU seconds a GiB of TCP', 2),
  less('rssLoadMib', 'RSS under load, MiB', 0),
  aside('rssIdleMib', 'RSS idle, MiB', 0),
  aside('udpFloodKpps', 'UDP 1 flow, flooded, kpps', 0),
  aside('udpDisorderedShare', 'UDP 16 flows, overtaken', 4),
  aside('loadedPingLostShare', 'ping under TCP, lost', 3),
  aside('foreignShare', 'other load meanwhile', 2),
];
