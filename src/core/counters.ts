/**
 * Counters that the datapath thread adds to and the control side reads, over one SharedArrayBuffer each.
 *
 * They are doubles: exact up to 2^53, added to without allocating, and an aligned 64-bit store is whole on every
 * machine Node runs on. There is one writer, so no atomic operation is needed; a reader may be a moment behind. What
 * several threads count, each counts in an array of its own.
 */
import { type DropReason, DROPS } from '../model/drops.js';

/** Counted for a port as well. tx = port -> underlay, rx = underlay -> port. Bytes are of inner frames. */
export const PORT_TRAFFIC = ['tx_frames', 'tx_bytes', 'rx_frames', 'rx_bytes'] as const;

/** All count frames as they are on a wire: a superframe is its segments. local = port -> port; proxy_* = replies given and,
 * for DHCP, frames brought to the one they are for; rx_unclaimed = for no port of this host, so the own one had them;
 * tx_other_source = sent by a VNIC from a MAC that is not its own. path_mtu_* count ICMP messages (path-news.ts). */
export const TRAFFIC = [
  ...PORT_TRAFFIC,
  'local_frames',
  'lookups',
  'rx_reserved_bits',
  'rx_unclaimed',
  'tx_other_source',
  'proxy_arp',
  'proxy_ndp',
  'proxy_dhcp',
  'too_big_answers',
  'tx_segmentation_refused',
  'path_mtu_learned',
  'path_mtu_refused',
  'path_mtu_too_small',
] as const;

export type CounterName = (typeof TRAFFIC)[number] | DropReason;

export const COUNTER_NAMES = [...TRAFFIC, ...Object.keys(DROPS)] as readonly CounterName[];

/** Name -> index into the values. */
export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index])) as Readonly<
  Record<CounterName, number>
>;

export type Counters = Float64Array<SharedArrayBuffer>;

export function createCounters(): Counters {
  return new Float64Array(new SharedArrayBuffer(COUNTER_NAMES.length * Float64Array.BYTES_PER_ELEMENT));
}

/** By name, zero ones included; the sum of them where there are several. */
export function readCounters(...counters: readonly Counters[]): Record<CounterName, number> {
  const total = (index: number): number => counters.reduce((sum, values) => sum + values[index], 0);
  return Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, total(index)])) as Record<
    CounterName,
    number
  >;
}
