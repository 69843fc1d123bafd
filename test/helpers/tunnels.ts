// Tunnels on real devices, as several tests build them.

import type { Test } from 'tap';

import type { EncapsulationName } from '../../src/encap/index.js';
import { Daemon, directOverlay } from './daemon.js';
import { Bed, type Namespace, UNDERLAY_DEVICE } from './netns.js';
import { transferTcp } from './traffic.js';

export const VNETID = 42;
export const UNDERLAY_MTU = 1500;

export type Family = 'v4' | 'v6';
export const FAMILIES = ['v4', 'v6'] as const;
/** Ethernet, VXLAN, UDP and IP: what the tunnel takes off the MTU (RFC 7348 4.3). */
export const OVERHEAD = { v4: 50, v6: 70 } as const;
export const FRAGMENTS = 'ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr';

export function newBed(t: Test): Bed {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  return bed;
}

export interface OverlayOptions {
  readonly family?: Family;
  readonly encap?: EncapsulationName;
  /** More words for create-overlay. */
  readonly more?: string;
}

/** A varpd with one overlay from `host` to `peer`. */
export async function startOverlay(
  t: Test,
  bed: Bed,
  host: Namespace,
  peer: Namespace,
  { family = 'v4', encap = 'vxlan', more = '' }: OverlayOptions = {},
): Promise<Daemon> {
  const daemon = (await Daemon.start(bed, host, { withoutRoot: true })).explain(t);
  const ends = { from: host.underlay[family], to: peer.underlay[family], vnetid: VNETID, encap };
  await daemon.ok(directOverlay(ends, more));
  return daemon;
}

export async function tcpBothWays(
  t: Test,
  { a, b }: { readonly a: Namespace; readonly b: Namespace },
  bytes: number,
): Promise<void> {
  for (const [from, to, inner] of [
    [a, b, 'v4'],
    [b, a, 'v6'],
  ] as const) {
    const transfer = await transferTcp(from, to, { address: to.overlay[inner], bytes });
    t.equal(transfer.bytesReceived, bytes, `${bytes >> 20} MiB over IP${inner}: all arrive`);
    t.ok(transfer.exact, 'with the same sha256');
  }
}

/** Two hosts with a router between them, whose two links are as wide as is said. */
export async function routedHosts(
  bed: Bed,
  rightMtuBytes: number,
): Promise<[Namespace, Namespace, Namespace]> {
  const [a, router, b] = [await bed.host(), await bed.host(), await bed.host()];
  // The router resolves no neighbour before it has a link-local address that is not tentative (RFC 4861 7.2.2).
  await router.sysctl('net.ipv6.conf.default.accept_dad', 0);
  for (const [host, device, net, mtu] of [
    [a, 'left0', 1, UNDERLAY_MTU],
    [b, 'right0', 2, rightMtuBytes],
  ] as const) {
    const end = `name ${UNDERLAY_DEVICE} netns ${host.name} mtu ${mtu}`;
    await router.ip(`link add ${device} mtu ${mtu} type veth peer ${end}`);
    for (const [at, dev, number] of [
      [router, device, 1],
      [host, UNDERLAY_DEVICE, 2],
    ] as const) {
      await at.ip(`addr add 10.88.${net}.${number}/24 dev ${dev}`);
      await at.ip(`addr add fd88:${net}::${number}/64 dev ${dev} nodad`);
      await at.ip(`link set ${dev} up`);
    }
    await host.ip(`route add default via 10.88.${net}.1`);
    await host.ip(`-6 route add default via fd88:${net}::1`);
  }
  for (const forwarding of ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'])
    await router.sysctl(forwarding, 1);
  return [a, router, b];
}
