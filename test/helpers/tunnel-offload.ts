// A varpd with the offload `tunnel`, and what leaves by it, as several tests look at it.
import type { Test } from 'tap';

import { probeFeatures } from '../../src/dgram-extra/index.js';
import { Daemon, directOverlay } from './daemon.js';
import { skipUnlessNetns } from './need.js';
import { addKernelVxlan, type Bed, type Namespace } from './netns.js';
import { waitUntil } from './process.js';
import { overlayOf } from './site.js';
import { reaches, transferTcp } from './traffic.js';
import { type Family, newBed, OVERHEAD, tcpBothWays, VNETID } from './tunnels.js';

const MIB = 1 << 20;
export const BYTES = 4 * MIB;
export const OFFLOAD = 'checksum,tso,uso,train,tunnel,coalesce';
export const WITH_CHECKSUM = 'tx-udp_tnl-csum-segmentation';
const WITHOUT_CHECKSUM = 'tx-udp_tnl-segmentation';
const ONE_BY_ONE = `tx off tso off tx-udp-segmentation off ${WITH_CHECKSUM} off ${WITHOUT_CHECKSUM} off`;

/** Whether the tests of it are skipped, and why. */
export const skip = probeFeatures().tapTunnelSegmentation
  ? skipUnlessNetns(['ethtool', 'tcpdump', 'tshark'])
  : 'this kernel takes no tunnel frames from a TAP (Linux 6.17)';

export interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
}

interface Shape {
  readonly family?: Family;
  /** More words for create-overlay. */
  readonly more?: string;
  /** More words for the kernel's device. */
  readonly extra?: string;
}

/** varpd on a, the kernel's vxlan on b, and a switch between them that hands b single datagrams with whole checksums. */
export async function siteWithKernel(
  t: Test,
  { family = 'v4', more = '', extra = '' }: Shape = {},
): Promise<Site> {
  const bed = newBed(t);
  const [a, b] = await bed.hostsOnSwitch(2);
  const hub = bed.hosts.at(-1)!;
  await hub.exec(`ethtool -K port${b.index} ${ONE_BY_ONE}`);
  const daemon = (await Daemon.start(bed, a)).explain(t);
  const ends = { from: a.underlay[family], to: b.underlay[family], vnetid: VNETID };
  await daemon.ok(directOverlay(ends, `-p offload=${OFFLOAD} ${more}`));
  const device = await addKernelVxlan(b, {
    vnetid: VNETID,
    local: b.underlay[family],
    remote: a.underlay[family],
    extra,
  });
  await b.ip(`link set ${device} mtu ${1500 - OVERHEAD[family]}`);
  await a.plumb('overlay0');
  await b.plumb(device);
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  return { bed, a, b, daemon };
}

export const counted = async (daemon: Daemon, name: string): Promise<number> =>
  (await overlayOf(daemon)).counters[name] ?? 0;

/** Carries TCP. Returns how many superframes left as tunnel frames. */
export async function carry(t: Test, { a, b, daemon }: Site): Promise<number> {
  const before = await counted(daemon, 'tx_tunnel');
  await tcpBothWays(t, { a, b }, BYTES);
  t.ok((await transferTcp(a, b, { address: b.overlay.v6, bytes: BYTES })).exact, 'IPv6 there');
  return (await counted(daemon, 'tx_tunnel')) - before;
}

/** Waits until superframes leave by this way, and carries TCP that leaves so. */
export async function leavesBy(t: Test, site: Site, path: 'tunnel' | 'train'): Promise<void> {
  const { daemon } = site;
  const isSo = async (): Promise<boolean> =>
    (await daemon.ok('show-peers -p -o path overlay0')) === `${path}\n`;
  await waitUntil(isSo, { what: `the path to be ${path}` });
  t.equal((await carry(t, site)) > 0, path === 'tunnel', `they leave by ${path}`);
}
