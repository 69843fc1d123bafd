// A host with a guest that does its worst, a neighbour on the same overlay, and two VNICs of another overlay that has nothing to
// do with either. What is done to the latter two is for a test, or for the bench, to see.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { write16 } from '../../src/wire/bytes.js';
import * as d from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { Daemon, directOverlay } from './daemon.js';
import { toHex, udpFrame } from './frames.js';
import { fromRoot } from './need.js';
import { addKernelVxlan, type Bed, type Namespace, UNDERLAY_DEVICE } from './netns.js';
import type { Child } from './process.js';
import { frameOf, PLAIN, superframeFields } from './superframe.js';
import { reaches } from './traffic.js';
import { arpFrame } from './zlan.js';

/** As superframe.ts has them: the guest, and a station behind the other host, which the mapping has. */
const GUEST_MAC = '02:00:00:00:00:0a';
const GUEST_V4 = '10.55.55.200';
const REMOTE_MAC = '02:00:00:00:00:0b';
const REMOTE_V4 = '10.55.55.201';
/** Made of the guest's MAC: RFC 4291 2.5.1. */
const GUEST_V6 = 'fe80::ff:fe00:a';
const PROTECTION = `protection=mac-nospoof,ip-nospoof,dhcp-nospoof,restricted,allowed-ips=${GUEST_V4}`;

const SUPERFRAME_BYTES = 60_000;
/** Distinct ones of a kind. */
const MANY = 2000;

// -- Attacks: frames with their virtio-net headers, sent over and over as fast as the guest can

/** As PACKET_VNET_HDR takes it: virtio 1.2, 5.1.6, little-endian. */
function withHeader(frame: Uint8Array, fields: Readonly<Partial<Record<number, number>>> = {}): Uint8Array {
  const header = new DataView(new ArrayBuffer(10));
  header.setUint8(0, fields[d.FLAGS] ?? 0);
  header.setUint8(1, fields[d.GSO_TYPE] ?? 0);
  [d.HEADER_BYTES, d.GSO_SIZE, d.CSUM_START, d.CSUM_OFFSET].forEach((name, index) => {
    header.setUint16(2 + 2 * index, fields[name] ?? 0, true);
  });
  return Buffer.concat([new Uint8Array(header.buffer), frame]);
}

function superframe(segmentBytes: number): Uint8Array {
  const packet = { ...PLAIN, payload: new Uint8Array(SUPERFRAME_BYTES) };
  return withHeader(frameOf(packet, 'partial'), superframeFields(packet, segmentBytes));
}

const between = {
  sourceMac: GUEST_MAC,
  destinationMac: REMOTE_MAC,
  source: GUEST_V4,
  destination: REMOTE_V4,
};
const hexOf = (index: number, digits: number): string => index.toString(16).padStart(digits, '0');
const each = (make: (index: number) => Uint8Array): Uint8Array[] =>
  Array.from({ length: MANY }, (_, index) => withHeader(make(index)));

/** RFC 8415 18.2.7: fifty addresses in one message, from the client that the MAC makes. */
function release(index: number): Uint8Array {
  const address = (number: number): string =>
    `00050018fd${'00'.repeat(11)}${hexOf(index, 4)}${hexOf(number, 4)}${'00'.repeat(8)}`;
  const inner = '00'.repeat(12) + Array.from({ length: 50 }, (_, number) => address(number)).join('');
  const client = `0001000a00030001${GUEST_MAC.replaceAll(':', '')}`;
  const options = `${client}0003${hexOf(inner.length / 2, 4)}${inner}`;
  const payload = Buffer.from(`08${hexOf(index, 6)}${options}`, 'hex');
  return udpFrame({
    ...between,
    destinationMac: '33:33:00:01:00:02',
    source: GUEST_V6,
    destination: 'ff02::1:2',
    sourcePort: 546,
    destinationPort: 547,
    payload,
  });
}

function fragment(index: number): Uint8Array {
  const bytes = udpFrame({ ...between, payload: new Uint8Array(1200) });
  write16(bytes, ethernet.HEADER_BYTES + 4, index);
  write16(bytes, ethernet.HEADER_BYTES + 6, 0x2000 | (index % 100)); // more are to come
  ipv4.fillChecksum(bytes, ethernet.HEADER_BYTES);
  return bytes;
}

const KINDS = {
  'gso_size 1': () => [superframe(1)],
  'MSS 88': () => [superframe(88)],
  'ARP storm': () =>
    each((index) =>
      arpFrame({ from: GUEST_MAC, senderIp: GUEST_V4, targetIp: `10.55.${index >> 8}.${index & 0xff}` }),
    ),
  'DHCPv6 RELEASE': () => each(release),
  'unknown MACs': () =>
    each((index) =>
      udpFrame({
        ...between,
        destinationMac: `02:99:00:00:${hexOf(index >> 8, 2)}:${hexOf(index & 0xff, 2)}`,
      }),
    ),
  fragments: () => each(fragment),
} as const;

export type Attack = keyof typeof KINDS | 'all of them';
export const ATTACKS = [...(Object.keys(KINDS) as (keyof typeof KINDS)[]), 'all of them'] as const;

/** A superframe of each kind comes once in so many other frames. */
function framesOf(attack: Attack): Uint8Array[] {
  if (attack !== 'all of them') return KINDS[attack]();
  const others = [
    KINDS['ARP storm'](),
    KINDS['DHCPv6 RELEASE'](),
    KINDS['unknown MACs'](),
    KINDS.fragments(),
  ];
  return Array.from({ length: MANY / 10 }, (_, index) => [
    ...(index % 10 === 0 ? [superframe(1), superframe(88)] : []),
    ...others.map((frames) => frames[index]),
  ]).flat();
}

// -- The place

export interface Hostile {
  readonly daemon: Daemon;
  readonly guest: Namespace;
  /** On the guest's overlay, with somebody to talk to. */
  readonly neighbour: Namespace;
  /** On an overlay of its own. */
  readonly other: Namespace;
  /** Of whom the latter two talk to. */
  readonly peers: { readonly neighbour: string; readonly other: string };
}

export async function hostileBed(bed: Bed): Promise<Hostile> {
  const [a, b] = await bed.twoHosts({ v6: false });
  // As on a network device that cuts no UDP: what leaves is cut in software.
  await a.exec(`ethtool -K ${UNDERLAY_DEVICE} tx-udp-segmentation off gso off`);
  await addKernelVxlan(b, { vnetid: 23, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip('link set vx0 up');
  const mapping = path.join(bed.directory(), 'hosts.json');
  writeFileSync(mapping, JSON.stringify({ [REMOTE_MAC]: { arp: REMOTE_V4, ip: b.underlay.v4, port: 4789 } }));
  const daemon = await Daemon.start(bed, a);
  await daemon.ok(
    `create-overlay -e vxlan -s files -v 23 -p vxlan/listen_ip=${a.underlay.v4} -p files/config=${mapping} bad0`,
  );
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid: 24, name: 'good0' }));

  let made = 0;
  const vnic = async (overlay: string, address: string, mac?: string): Promise<Namespace> => {
    const host = await bed.host({ v6: false });
    const name = `vnic${made++}`;
    await daemon.ok(`create-vnic ${mac === undefined ? '' : `-m ${mac}`} -l ${overlay} ${name}`);
    await a.ip(`link set ${name} netns ${host.name}`);
    await host.ip(`link set ${name} name eth0`);
    await host.ip(`addr add ${address}/24 dev eth0`);
    await host.ip('link set eth0 up');
    return host;
  };
  const peers = { neighbour: '10.55.55.13', other: '10.66.0.2' };
  const guest = await vnic('bad0', GUEST_V4, GUEST_MAC);
  const neighbour = await vnic('bad0', '10.55.55.12');
  await vnic('bad0', peers.neighbour);
  const other = await vnic('good0', '10.66.0.1');
  await vnic('good0', peers.other);
  await daemon.ok(`set-linkprop -p ${PROTECTION} vnic0`);
  for (const [from, to] of [
    [neighbour, peers.neighbour],
    [other, peers.other],
  ] as const)
    if (!(await reaches(from, to))) throw new Error(`no answer from ${to}`);
  return { daemon, guest, neighbour, other, peers };
}

/** Resolves when it has begun; ends by itself after `seconds`. */
export async function attack(bed: Bed, { guest }: Hostile, kind: Attack, seconds: number): Promise<Child> {
  const file = path.join(bed.directory(), 'frames');
  writeFileSync(
    file,
    framesOf(kind)
      .map((frame) => `${toHex(frame)}\n`)
      .join(''),
  );
  const rawframe = fromRoot('dist/test/helpers/rawframe');
  const child = guest.spawn(['sh', '-c', `exec ${rawframe} flood eth0 ${seconds} < ${file}`]);
  await child.waitForOutput(/ready/);
  return child;
}
