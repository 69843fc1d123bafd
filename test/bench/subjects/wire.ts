// Four kinds of wire. They differ in what a device takes whole, to cut it itself or to pass it on: a tunnel frame
// (VXLAN with a TCP superframe inside), or a UDP train (many datagrams of one size in one send, USO). What it does not
// take, the kernel of the sender cuts before the device. The kernel's vxlan sends the one, varpd the other.
//
// Two hosts are on one switch, so that a path has two veth pairs; each end of each pair has the same features. GRO is
// on, as it is on a network card. A veth as it comes takes both.
import type { Bed, HostOptions, Namespace } from '../../helpers/netns.js';

export interface Wire {
  readonly name: string;
  /** What it takes whole. */
  readonly title: string;
  readonly takesTunnelFrames: boolean;
  readonly takesTrains: boolean;
}

export const wires: readonly Wire[] = [
  {
    name: 'both',
    title: 'tunnel frames and UDP trains',
    takesTunnelFrames: true,
    takesTrains: true,
  },
  { name: 'trains', title: 'UDP trains alone', takesTunnelFrames: false, takesTrains: true },
  { name: 'neither', title: 'neither', takesTunnelFrames: false, takesTrains: false },
  { name: 'tunnel', title: 'tunnel frames alone', takesTunnelFrames: true, takesTrains: false },
];

/** For `ethtool -K`. */
function featuresOf({ takesTunnelFrames, takesTrains }: Wire): string {
  const onOff = (isOn: boolean): string => (isOn ? 'on' : 'off');
  const tunnel = onOff(takesTunnelFrames);
  return [
    'gro on',
    `tx-udp-segmentation ${onOff(takesTrains)}`,
    `tx-udp_tnl-segmentation ${tunnel}`,
    `tx-udp_tnl-csum-segmentation ${tunnel}`,
  ].join(' ');
}

/** Two hosts with the wire between them; nothing else is in the bed. */
export async function hostsOverWire(
  bed: Bed,
  wire: Wire,
  options: HostOptions,
): Promise<[Namespace, Namespace]> {
  const [a, b] = await bed.hostsOnSwitch(2, options);
  for (const host of bed.hosts) {
    const links = JSON.parse(await host.ip('-j link show type veth')) as { ifname: string }[];
    for (const { ifname } of links) await host.exec(`ethtool -K ${ifname} ${featuresOf(wire)}`);
  }
  return [a, b];
}
