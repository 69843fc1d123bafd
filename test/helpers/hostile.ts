// A host with a guest that does its worst, a neighbour on the same overlay, and two VNICs of another overlay that has nothing to
// do with either. What is done to the latter two is for a test, or for the bench, to see.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { write16 } from '../../src/wire/bytes.js';
import * as d from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { Daemon, type DaemonOptions, directOverlay } from './daemon.js';
import { toHex, udpFrame } from './frames.js';
import { fromRoot } from './need.js';
import { addKernelVxlan, type Bed, type Namespace, UNDERLAY_DEVICE } from './netns.js';
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

/** RFC 8415 18.2.7: forty addresses in one message, from the client that the MAC makes. */
function release(index: number): Uint8Array {
  const address = (number: number): string =>
    `00050018fd${'00'.repeat(11)}${hexOf(index, 4)}${hexOf(number, 4)}${'00'.repeat(8)}`;
  const inner = '00'.repeat(12) + Array.from({ length: 40 }, (_, number) => address(number)).join('');
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
  readonly bed: Bed;
  readonly daemon: Daemon;
  /** Where it runs. */
  readonly a: Namespace;
  /** On the guest's overlay, with somebody to talk to. */
  readonly neighbour: Namespace;
  /** On an overlay of its own. */
  readonly other: Namespace;
  /** Of whom the latter two talk to. */
  readonly peers: { readonly neighbour: string; readonly other: string };
}

export async function hostileBed(bed: Bed, options?: DaemonOptions): Promise<Hostile> {
  const [a, b] = await bed.twoHosts({ v6: false });
  // As on a network device that cuts no UDP: what leaves is cut in software.
  await a.exec(`ethtool -K ${UNDERLAY_DEVICE} tx-udp-segmentation off gso off`);
  await addKernelVxlan(b, { vnetid: 23, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip('link set vx0 up');
  const mapping = path.join(bed.directory(), 'hosts.json');
  writeFileSync(mapping, JSON.stringify({ [REMOTE_MAC]: { arp: REMOTE_V4, ip: b.underlay.v4, port: 4789 } }));
  const daemon = await Daemon.start(bed, a, { withoutRoot: true, ...options });
  await daemon.ok(
    `create-overlay -e vxlan -s files -v 23 -p vxlan/listen_ip=${a.underlay.v4} -p files/config=${mapping} bad0`,
  );
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid: 24, name: 'good0' }));

  const place = (name: string, overlay: string, address: string): Promise<Namespace> =>
    addVnic({ bed, daemon, a }, `-l ${overlay} ${name}`, address);
  const peers = { neighbour: '10.55.55.13', other: '10.66.0.2' };
  const neighbour = await place('vnic0', 'bad0', '10.55.55.12');
  await place('vnic1', 'bad0', peers.neighbour);
  const other = await place('vnic2', 'good0', '10.66.0.1');
  await place('vnic3', 'good0', peers.other);
  for (const [from, to] of [
    [neighbour, peers.neighbour],
    [other, peers.other],
  ] as const)
    if (!(await reaches(from, to))) throw new Error(`no answer from ${to}`);
  return { bed, daemon, a, neighbour, other, peers };
}

/** With a namespace of its own around it, as a guest has; the last word of `line` is its name. */
async function addVnic(
  { bed, daemon, a }: Pick<Hostile, 'bed' | 'daemon' | 'a'>,
  line: string,
  address: string,
): Promise<Namespace> {
  const host = await bed.host({ v6: false });
  const name = line.split(' ').at(-1);
  await daemon.ok(`create-vnic ${line}`);
  await a.ip(`link set ${name} netns ${host.name}`);
  await host.ip(`addr add ${address}/24 dev ${name}`);
  await host.ip(`link set ${name} up`);
  return host;
}

export interface UnderAttack {
  /** Frames that the guest has got rid of so far, as they are on a wire. */
  framesOfGuest(): Promise<number>;
  /** Whether the guest still sends. */
  readonly goesOn: boolean;
  /** With the guest, whose queue may have work for minutes. */
  end(): Promise<void>;
}

/** A new guest attacks for so many seconds at most; resolves when it does. */
export async function attack(site: Hostile, kind: Attack, seconds: number): Promise<UnderAttack> {
  const { bed, daemon } = site;
  const guest = await addVnic(site, `-m ${GUEST_MAC} -l bad0 guest0`, GUEST_V4);
  await daemon.ok(`set-linkprop -p ${PROTECTION} guest0`);
  const file = path.join(bed.directory(), 'frames');
  const frames = framesOf(kind).map((frame) => `${toHex(frame)}\n`);
  writeFileSync(file, frames.join(''));
  const rawframe = fromRoot('dist/test/helpers/rawframe');
  const child = guest.spawn(['sh', '-c', `exec ${rawframe} flood guest0 ${seconds} < ${file}`]);
  await child.waitForOutput(/ready/);
  return {
    framesOfGuest: async () =>
      (await daemon.vnics()).find(({ name }) => name === 'guest0')?.counters['tx_frames'] ?? 0,
    get goesOn() {
      return !child.ended;
    },
    end: async () => {
      await child.stop('SIGKILL');
      await daemon.ok('delete-vnic guest0');
    },
  };
}
