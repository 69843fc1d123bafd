// The kinds of wire. Four differ in what a device takes whole, to cut it itself or to pass it on: a tunnel frame (VXLAN with
// a TCP superframe inside), or a UDP train (many datagrams of one size in one send, USO). What it does not take, the kernel
// of the sender cuts before the device. The kernel's vxlan sends the one, varpd the other. Two more take both, and delay
// frames, or lose some.
//
// Two hosts are on one switch, so that a path has two veth pairs; each end of each pair has the same features. GRO is
// on, as it is on a network card. A veth as it comes takes both. The delay is that of a relay between two TAPs
// (delay-relay.c), since not every kernel has netem. Frames are lost by a rule of nftables on the switch.
import { fromRoot } from '../../helpers/need.js';
import {
  type Bed,
  type HostOptions,
  type Namespace,
  plumbUnderlay,
  UNDERLAY_DEVICE,
} from '../../helpers/netns.js';

export const DELAY_RELAY = fromRoot('dist/test/bench/delay-relay');

export interface Wire {
  readonly name: string;
  /** What it takes whole, and what it does to frames. */
  readonly title: string;
  readonly takesTunnelFrames: boolean;
  readonly takesTrains: boolean;
  /** Each way. */
  readonly delayUs?: number;
  /** One frame in so many is lost. A frame that crosses whole is lost whole. */
  readonly losesOneIn?: number;
}

const BOTH = { takesTunnelFrames: true, takesTrains: true };

export const wires: readonly Wire[] = [
  { name: 'both', title: 'tunnel frames and UDP trains', ...BOTH },
  { name: 'trains', title: 'UDP trains alone', takesTunnelFrames: false, takesTrains: true },
  { name: 'neither', title: 'neither', takesTunnelFrames: false, takesTrains: false },
  { name: 'tunnel', title: 'tunnel frames alone', takesTunnelFrames: true, takesTrains: false },
  { name: 'delay', title: 'both, and delays each frame by 100 us', ...BOTH, delayUs: 100 },
  { name: 'loss', title: 'both, and loses 0.1 % of the frames', ...BOTH, losesOneIn: 1000 },
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
  if (wire.delayUs !== undefined) return hostsOverRelay(bed, wire.delayUs, options);
  const [a, b] = await bed.hostsOnSwitch(2, options);
  for (const host of bed.hosts) {
    const links = JSON.parse(await host.ip('-j link show type veth')) as { ifname: string }[];
    for (const { ifname } of links) await host.exec(`ethtool -K ${ifname} ${featuresOf(wire)}`);
  }
  if (wire.losesOneIn !== undefined) {
    const drop = `numgen random mod ${wire.losesOneIn} 0 counter drop`;
    const input = `table bridge wire {\n chain forward {\n type filter hook forward priority 0\n ${drop}\n }\n}\n`;
    await bed.hosts[2].exec('nft -f -', { input });
  }
  return [a, b];
}

/** Two hosts whose underlay devices are the two TAPs of a relay, which runs on a third host. */
async function hostsOverRelay(
  bed: Bed,
  delayUs: number,
  options: HostOptions,
): Promise<[Namespace, Namespace]> {
  const pair = [await bed.host(options), await bed.host(options)] as const;
  const relay = await bed.host(options);
  const taps = pair.map(({ index }) => `tap${index}`);
  await relay.spawn([DELAY_RELAY, ...taps, `${delayUs}`]).waitForOutput(/ready/);
  for (const host of pair) {
    const mtu = `mtu ${options.mtuBytes ?? 1500}`;
    await relay.ip(`link set ${taps[host.index]} ${mtu} netns ${host.name} name ${UNDERLAY_DEVICE}`);
    await plumbUnderlay(host, UNDERLAY_DEVICE, options);
  }
  return [...pair];
}
