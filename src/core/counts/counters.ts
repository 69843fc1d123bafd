/**
 * Counters that a datapath thread adds to and the control side reads, each set in one SharedArrayBuffer.
 *
 * Counters are doubles: exact up to 2^53, added to without allocation, and an aligned 64-bit store is atomic
 * on every machine that Node runs on. A set has one writer, so no atomic operation is needed; a reader may be
 * a moment behind. Each of several threads counts in a set of its own.
 */
import { type DropReason, DROPS } from '../../model/drops.js';

// A superframe counts as its segments, as they are on a wire. Bytes are those of inner frames.

/** Counted for each port. tx = port -> underlay, rx = underlay -> port. Name -> what it counts. */
export const PORT_TRAFFIC = {
  tx_frames: 'Frames that came from the port.',
  tx_bytes: 'Bytes of frames that came from the port.',
  rx_frames: 'Frames that went to the port.',
  rx_bytes: 'Bytes of frames that went to the port.',
} as const;

const foundWithout = (offload: string): string =>
  `Ports that were found without the offload \`${offload}\`, which the overlay may use: it was switched off (\`ethtool -K\`), or the device is of another varpd.`;

/** Counted for each overlay. Name -> what it counts; docs/drops.md and metrics say so too. */
export const TRAFFIC = {
  tx_frames:
    'Frames from ports to the underlay. A frame that the kernel refuses is counted here and as a drop.',
  tx_bytes: 'Bytes of inner frames from ports to the underlay.',
  rx_frames:
    'Frames from the underlay to ports. A frame that the kernel refuses is counted here and as a drop.',
  rx_bytes: 'Bytes of inner frames from the underlay to ports.',
  local_frames: 'Frames from port to port. A frame that the kernel refuses is counted here and as a drop.',
  lookups: 'Questions to the lookup plugin.',
  tx_stale:
    'Frames to a stale target: its time is over, and the plugin is being asked again, or asking fails.',
  rx_reserved_bits:
    'Delivered frames with reserved bits set in the tunnel header. RFC 7348 and RFC 8926 require delivery; Linux and Open vSwitch drop them.',
  rx_unclaimed:
    'Frames from the underlay to a MAC that no port has. The own interface of the overlay got them.',
  tx_other_source:
    'Frames from a VNIC with another source MAC than its own. The VNIC gets no answers to them.',
  proxy_arp: 'ARP replies given in place of another host.',
  proxy_ndp: 'Neighbour advertisements given in place of another host.',
  proxy_dhcp: 'DHCP messages brought to the station that they are for.',
  loopback_answers: 'Loopback messages (`dladm probe` of another host) answered in the name of a port.',
  too_big_answers: 'ICMP and ICMPv6 messages to senders of packets that did not fit.',
  tx_checksum:
    'Frames that ports handed over without a checksum, for varpd to complete (offload `checksum`). Superframes are not among them.',
  tx_tso: 'Superframes of TCP from ports (offload `tso`).',
  tx_uso: 'Superframes of UDP from ports (offload `uso`).',
  tx_nested: 'Superframes in a UDP tunnel from ports (offload `nested`).',
  tx_train: 'Messages of many frames that were sent (offload `train`).',
  tx_tunnel: 'Superframes that left whole, as tunnel frames (offload `tunnel`).',
  rx_coalesce: 'Superframes that varpd put together for ports (offload `coalesce`).',
  tx_checksum_refused: foundWithout('checksum'),
  tx_tso_refused: foundWithout('tso'),
  tx_uso_refused: foundWithout('uso'),
  tx_nested_refused: foundWithout('nested'),
  tx_tunnel_refused:
    'Tunnel frames that the kernel did not take. Their superframes left as trains, and so do all to that destination until its route changes.',
  rx_coalesce_refused:
    'Reads from the underlay with a superframe that the kernel did not take. Its frames went to the port one by one.',
  tx_segmentation_refused:
    'Messages of many frames that a route or device refused. varpd sent these frames one by one, and does so for that destination from now on.',
  path_mtu_learned: 'ICMP messages about the size of a path that were believed.',
  path_mtu_refused:
    'ICMP messages about the size of a path that were not believed; beyond 1,600 a second and thread they are not read. One that names no overlay counts for every overlay on the same address and port.',
  path_mtu_too_small: 'ICMP messages about a path that is credible, but too narrow for any overlay.',
} as const;

export type CounterName = keyof typeof TRAFFIC | DropReason;

export const COUNTER_NAMES = [...Object.keys(TRAFFIC), ...Object.keys(DROPS)] as readonly CounterName[];

/** Name -> index into the values. */
export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index])) as Readonly<
  Record<CounterName, number>
>;

export type Counters = Float64Array<SharedArrayBuffer>;

export function createCounters(): Counters {
  return new Float64Array(new SharedArrayBuffer(COUNTER_NAMES.length * Float64Array.BYTES_PER_ELEMENT));
}

/** The values by name, zeros included; their sums if there are several sets. */
export function readCounters(...counters: readonly Counters[]): Record<CounterName, number> {
  // A copy of an object that has the names costs a seventh of one made of pairs. A look at 1,000 ports makes 1,000.
  const result: Record<CounterName, number> = { ...COUNTER };
  COUNTER_NAMES.forEach((name, index) => {
    let total = 0;
    for (const values of counters) total += values[index];
    result[name] = total;
  });
  return result;
}
