// The spoof matrix: what a guest may send under each protection and under all together, really sent through the TAPs of a
// running varpd, and caught where its tunnel ends. Nothing that a protection refuses may get there, and all that it does not
// must.
//
// A column is an overlay with one VNIC; all VNICs have the same MAC and addresses, so that each frame is made once. A frame is
// known again by its destination MAC. Which drop is counted for which frame is for unit/link-protection.test.ts to say.
import { setTimeout as sleep } from 'node:timers/promises';

import t from 'tap';

import { LEASE_FACTS } from '../../src/core/protection/dhcp-leases.js';
import { formatMac } from '../../src/wire/mac.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { Daemon } from '../helpers/daemon.js';
import { toHex, withTag } from '../helpers/frames.js';
import { LINK_LOCAL, OWN_V4, OWN_V6 } from '../helpers/guest-frames.js';
import { MAC, packet } from '../helpers/lab.js';
import { lieOf } from '../helpers/lies.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { DatagramSink } from '../helpers/traffic.js';
import { type Row, ROWS, ROWS_WITHOUT_ADDRESS } from '../helpers/spoof-matrix.js';

// -- Columns

const OTHER_VID = 8;
const OWN_VID = 5;

interface Column {
  readonly what: string;
  readonly protection: readonly string[];
  /** Rows that it refuses, by the letters of their marks. */
  readonly refuses: string;
  readonly rows: readonly Row[];
  readonly vid?: number;
  readonly offload?: 'checksum';
  readonly hasAddresses?: false;
}

const ALL = ['mac-nospoof', 'ip-nospoof', 'dhcp-nospoof', 'restricted'];
const COLUMNS: readonly Column[] = [
  { what: 'mac-nospoof', protection: ['mac-nospoof'], refuses: 'm', rows: ROWS },
  { what: 'ip-nospoof', protection: ['ip-nospoof'], refuses: 'i', rows: ROWS },
  { what: 'dhcp-nospoof', protection: ['dhcp-nospoof'], refuses: 'd', rows: ROWS },
  { what: 'restricted', protection: ['restricted'], refuses: 'r', rows: ROWS },
  { what: 'all four', protection: ALL, refuses: 'midr', rows: ROWS },
  { what: 'all four, no superframes', protection: ALL, refuses: 'midr', rows: ROWS, offload: 'checksum' },
  { what: 'all four, access port', protection: ALL, refuses: 'midr', rows: ROWS, vid: OWN_VID },
  { what: 'no protection, access port', protection: [], refuses: '', rows: ROWS, vid: OWN_VID },
  {
    what: 'all four, no address yet',
    protection: ALL,
    refuses: 'midr',
    rows: ROWS_WITHOUT_ADDRESS,
    hasAddresses: false,
  },
];

// -- Ways to send a row

type Tag = readonly [vid: number, etherType: number];

interface Way {
  readonly what: string;
  readonly isGroup?: true;
  /** Outermost first. */
  readonly tags: readonly Tag[];
}

const WAYS: readonly Way[] = [
  { what: 'as it is', tags: [] },
  { what: 'to a group', tags: [], isGroup: true },
];
const WAYS_OF_A_TRUNK: readonly Way[] = [
  ...WAYS,
  { what: 'tagged', tags: [[OTHER_VID, 0x8100]] },
  {
    what: 'tagged twice',
    tags: [
      [OTHER_VID, 0x88a8],
      [OTHER_VID, 0x8100],
    ],
  },
];
/** A priority tag alone is none of a VLAN; whatever else is tagged does not leave an access port. */
const WAYS_OF_AN_ACCESS_PORT: readonly Way[] = [
  ...WAYS,
  { what: 'with a priority', tags: [[0, 0x8100]] },
  { what: 'in its VLAN', tags: [[OWN_VID, 0x8100]] },
  { what: 'with a priority of a provider', tags: [[0, 0x88a8]] },
  ...[0x8100, 0x88a8, 0x9100].map((etherType): Way => {
    const tags: Tag[] = [
      [0, 0x8100],
      [OTHER_VID, etherType],
    ];
    return { what: `with ${etherType.toString(16)} behind a priority`, tags };
  }),
  {
    what: 'with three tags',
    tags: [
      [0, 0x8100],
      [0, 0x8100],
      [OTHER_VID, 0x8100],
    ],
  },
];

const leavesAccessPort = ({ tags }: Way): boolean =>
  tags.length === 0 || (tags.length === 1 && tags[0][0] === 0 && tags[0][1] === 0x8100);

// -- Frames

/** For the other reader (lies.ts): addresses of all, the one that its MAC makes among them. */
const OWN_HEX = ['0a000005', 'fd000000000000000000000000000005', 'fe8000000000000000a1a2fffea3a40a'];
const toMacHex = (mac: number): string => formatMac(mac).replaceAll(':', '');

interface Sent {
  readonly what: string;
  readonly mac: string;
  readonly isRefused: boolean;
  /** On the wire. */
  readonly count: number;
  /** With its virtio-net header. */
  readonly bytes: Uint8Array;
  /** As it must arrive; undefined where its checksum is filled in, or it is cut, on the way. */
  readonly arrives: string | undefined;
}

function sentBy(column: Column): Sent[] {
  const ways = column.vid === undefined ? WAYS_OF_A_TRUNK : WAYS_OF_AN_ACCESS_PORT;
  return ways.flatMap((way, wayIndex) =>
    column.rows
      .filter(({ header }) => header === undefined || way.tags.length < 2)
      .map((row, rowIndex): Sent => {
        const number = wayIndex * column.rows.length + rowIndex;
        const mac = (way.isGroup === true ? 0x07ee_0000_0000 : 0x06ee_0000_0000) + number;
        const isRefused =
          column.refuses.split('').some((letter) => row.refused.includes(letter)) ||
          (column.vid !== undefined && !leavesAccessPort(way));
        const frame = withTags(addressed(row.frame, mac), way.tags);
        const carried = column.vid === undefined ? frame : inVlan(frame, way, column.vid);
        return {
          what: `${row.what}, ${way.what}`,
          mac: formatMac(mac),
          isRefused,
          count: row.count ?? 1,
          bytes: Buffer.concat([virtioHeader(row, 4 * way.tags.length), frame]),
          arrives: row.header === undefined ? toHex(carried) : undefined,
        };
      }),
  );
}

function addressed(frame: Uint8Array, mac: number): Uint8Array {
  return Buffer.concat([Buffer.from(toMacHex(mac), 'hex'), frame.subarray(6)]);
}

const withTags = (frame: Uint8Array, tags: readonly Tag[]): Uint8Array =>
  tags.reduceRight((tagged, [vid, etherType]) => withTag(tagged, vid, etherType), frame);

/** What an access port makes of a frame that may leave it. */
function inVlan(frame: Uint8Array, way: Way, vid: number): Uint8Array {
  if (way.tags.length === 0) return withTag(frame, vid);
  const adopted = Buffer.from(frame);
  adopted.writeUInt16BE(vid, 14);
  return adopted;
}

function virtioHeader({ header }: Row, tagBytes: number): Uint8Array {
  const bytes = new Uint8Array(virtio.HEADER_BYTES);
  if (header === undefined) return bytes;
  const { checksumStart, headerLength } = header;
  const moved = {
    checksumStart: checksumStart + tagBytes,
    headerLength: headerLength && headerLength + tagBytes,
  };
  virtio.write({ ...header, ...moved }, bytes, 0);
  return bytes;
}

// -- Machines

const FIRST_VNETID = 100;
const HEADER_BYTES = 8;
/** Fewer than a TAP's queue or the socket at the other end may lose. */
const BURST_FRAMES = 64;
const RAWFRAME = fromRoot('dist/test/helpers/rawframe');
/** From a client's port to a server's, of either family. */
const DHCP_PORTS = /00440043|02220223/;
const isDhcp = ({ bytes }: Sent): boolean => DHCP_PORTS.test(toHex(bytes));

/** An overlay and its VNIC, of each column. */
async function build(daemon: Daemon, to: Namespace): Promise<void> {
  const { host, call } = daemon;
  for (const [index, { vid, offload = 'auto', protection, hasAddresses = true }] of COLUMNS.entries()) {
    const [overlay, vnic] = [`overlay${index}`, `foo${index}`];
    await call('overlay.create', {
      name: overlay,
      encap: 'vxlan',
      search: 'direct',
      vnetid: FIRST_VNETID + index,
      temporary: true,
      properties: [
        ['vxlan/listen_ip', host.underlay.v4],
        ['direct/dest_ip', to.underlay.v4],
        ['direct/dest_port', '4789'],
        ['vxlan/source_ports', '4'],
        ['offload', offload],
      ],
    });
    const properties: [name: string, values: string[]][] = [];
    if (protection.length > 0) properties.push(['protection', [...protection]]);
    if (hasAddresses) properties.push(['allowed-ips', [OWN_V4, OWN_V6]]);
    const port = { name: vnic, over: overlay, mac: formatMac(MAC.a), properties, temporary: true };
    await call('vnic.create', { ...port, ...(vid !== undefined && { vid }) });
    await host.ip(`link set ${vnic} up`);
  }
}

/** What has left the tunnel of one column, by destination MAC. */
function caught(sink: DatagramSink, vnetid: number): Map<string, Buffer[]> {
  const frames = new Map<string, Buffer[]>();
  for (const { payload } of sink.datagrams) {
    if (payload.readUIntBE(4, 3) !== vnetid) continue;
    const frame = payload.subarray(HEADER_BYTES);
    const mac = formatMac(frame.readUIntBE(0, 6));
    frames.set(mac, [...(frames.get(mac) ?? []), frame]);
  }
  return frames;
}

/**
 * Sends all of a column, a burst at a time, each with a frame behind it that every column lets pass: when that has arrived,
 * all before it was judged. One more stands alone at the end, so that nothing is under way behind it.
 */
async function send(
  host: Namespace,
  index: number,
  sent: readonly Sent[],
  sink: DatagramSink,
): Promise<string> {
  const device = `foo${index}`;
  const vni = (FIRST_VNETID + index).toString(16).padStart(6, '0');
  const child = host.spawn([RAWFRAME, 'send', device, 'vnet'], {}, 'pipe');
  const line = (bytes: Uint8Array): string => `${toHex(bytes)}\n`;
  let mark = 0;
  let dhcpMessages = 0;
  for (let first = 0; first < sent.length + BURST_FRAMES; first += BURST_FRAMES) {
    const mac = 0x06ef_0000_0000 + mark++;
    const frame = addressed(packet({ version: 6, source: LINK_LOCAL }), mac);
    const some = sent.slice(first, first + BURST_FRAMES);
    // Of more in a second some would be refused, whatever they hold (`dhcp_flood`).
    const more = some.filter(isDhcp).length;
    if (dhcpMessages + more > LEASE_FACTS.burst) {
      await sleep(1000);
      dhcpMessages = 0;
    }
    dhcpMessages += more;
    const burst = some.map(({ bytes }) => line(bytes));
    child.write(burst.join('') + line(Buffer.concat([new Uint8Array(virtio.HEADER_BYTES), frame])));
    const arrived = `${vni}00${toMacHex(mac)}${toMacHex(MAC.a)}`;
    await waitUntil(() => sink.has(arrived), {
      stepMs: 5,
      what: `burst ${mark} of ${device}`,
    });
  }
  child.end();
  await child.exited;
  return child.stderr;
}

const REFUSALS = [
  ...['mac_spoofed', 'ip_spoofed', 'dhcp_spoofed', 'rogue_router', 'rogue_dhcp', 'restricted', 'unreadable'],
  'tx_vlan',
];

await t.test('the spoof matrix', { skip: skipUnlessNetns() }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [guest, peer] = await bed.twoHosts();
  await guest.quietNewDevices();
  const daemon = await Daemon.start(bed, guest, { withoutRoot: true });
  daemon.explain(t);
  await build(daemon, peer);
  const sink = await DatagramSink.open(peer, peer.underlay.v4, 4789);

  let total = 0;
  for (const [index, column] of COLUMNS.entries()) {
    await t.test(column.what, async (t) => {
      const sent = sentBy(column);
      total += sent.length;
      let stderr = '';
      const refused = sent.filter(({ isRefused }) => isRefused);
      const expected = refused.reduce((sum, { count }) => sum + count, 0);
      const grown = await daemon.counted(async () => {
        stderr = await send(guest, index, sent, sink);
      }, `overlay${index}`);
      t.equal(stderr.replace('ready\n', ''), '', 'all are sent');
      const frames = caught(sink, FIRST_VNETID + index);
      const arrivedAs = ({ mac }: Sent): Buffer[] => frames.get(mac) ?? [];

      const through = refused.filter((one) => arrivedAs(one).length > 0);
      t.strictSame(
        through.map(({ what }) => what),
        [],
        `none of ${refused.length} spoofed frames gets through`,
      );
      const honest = sent.filter(({ isRefused }) => !isRefused);
      t.strictSame(
        honest.filter((one) => arrivedAs(one).length !== one.count).map(({ what }) => what),
        [],
        `none of ${honest.length} honest frames is lost`,
      );
      t.strictSame(
        honest
          .filter((one) => one.arrives !== undefined && toHex(arrivedAs(one)[0]) !== one.arrives)
          .map(({ what }) => what),
        [],
        'each arrives as it was sent',
      );
      const refusals = REFUSALS.reduce((sum, name) => sum + (grown[name] ?? 0), 0);
      t.equal(refusals, expected, 'each refusal is counted', { grown });
      if (column.protection === ALL) {
        const own = (hex: string): boolean => OWN_HEX.includes(hex);
        const lies = [...frames.values()].flat().flatMap((frame) => lieOf(frame, toMacHex(MAC.a), own) ?? []);
        t.strictSame(lies, [], 'nor does another reader find a lie');
      }
    });
  }
  t.ok(total >= 400, `${total} frames in all`);
});
