// What counters say and what has happened are the same number of frames: one by one, in a superframe that is cut on the
// way, and in a run that the kernel has put together.
import t from 'tap';
import { COUNTER_NAMES, type CounterName } from '../../src/core/counts/counters.js';
import { LEASE_FACTS } from '../../src/core/protection/dhcp-leases.js';
import { LOOPBACK_RATE } from '../../src/core/probe/loopback-replies.js';
import { JOINED_SHIFT, REFUSED } from '../../src/core/outputs.js';
import type { OverlayOptions } from '../../src/core/overlay.js';
import type { Device } from '../../src/io/contract.js';
import type { DropReason, ProxyDrop } from '../../src/model/drops.js';
import type { Protection } from '../../src/model/link-properties.js';
import type { FrameBatch } from '../../src/wire/descriptor.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as tcp from '../../src/wire/tcp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { loopbackFrame } from '../../src/daemon/observe/probe-frames.js';
import { concat, dhcpFrame, endpoint, frame, Lab, MAC, type Net, packet, type Tap } from '../helpers/lab.js';
import { AMBIGUOUS, Apart, Coalescing, MANY, refusing } from '../helpers/many-frames.js';
import { VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const SEGMENT_BYTES = 100;
const PAYLOAD_BYTES = 2 * SEGMENT_BYTES + 50;
const HEADER_BYTES = 14 + 20 + 20;

const EIO = 5;
const EAGAIN = 11;
const EINVAL = 22;
const EPERM = 1;
const EBADFD = 77;
const EMSGSIZE = 90;
const EHOSTUNREACH = 113;

const superframe = (to: number, from: number = MAC.a): Uint8Array =>
  packet({ to, from, protocol: ipv4.TCP, payloadBytes: PAYLOAD_BYTES, checksum: 'partial' });
const CUT: virtio.Repr = {
  flags: virtio.NEEDS_CHECKSUM,
  gsoType: virtio.GSO_TCPV4,
  gsoSize: SEGMENT_BYTES,
  headerLength: HEADER_BYTES,
  checksumStart: 34,
  checksumOffset: tcp.CHECKSUM,
};

interface Site {
  readonly net: Net;
  readonly own: Tap;
  readonly vnic: Tap;
  /** The own port sends to a MAC. */
  readonly sends: (to: number) => void;
  /** A peer sends frames that are whole, or `cut` makes of them. */
  readonly receives: (cut?: (bytes: Uint8Array) => Uint8Array, header?: string, ip?: string) => void;
}

function site(isMany: boolean, options: Partial<OverlayOptions> = {}, errno?: number): Site {
  const lab = new Lab();
  const { encapsulation = 'vxlan' } = options;
  const vtep = lab.vtep('192.0.2.1', {
    encapsulation,
    wrapListener: (device) => new Coalescing(device),
    ...(errno !== undefined && { wrapSender: () => refusing(errno) }),
  });
  const peers = new Map(['192.0.2.2', '192.0.2.3'].map((ip) => [ip, lab.peer(ip)]));
  const net = vtep.overlay({ destination: endpoint('192.0.2.2'), ...options });
  const wrap = (device: Device): Device => new Apart(device);
  const own = net.port(MAC.a, { own: true, wrap });
  const vnic = net.port(MAC.c, { wrap });
  return {
    net,
    own,
    vnic,
    sends: (to) => {
      if (isMany) own.sendWith(CUT, superframe(to));
      else own.send(frame(to, MAC.a));
    },
    receives: (cut = (bytes) => bytes, header = VXLAN_100, ip = '192.0.2.2') => {
      for (let left = isMany ? MANY : 1; left > 0; left--)
        peers.get(ip)!.send(vtep.endpoint, concat(fromHex(header), cut(frame(MAC.c, MAC.b))));
      lab.run();
    },
  };
}

const dynamic = { destination: undefined };

/** Asked about, and answered like this. */
function answered(isMany: boolean, to: number, reason: DropReason & (ProxyDrop | `lookup_${string}`)): Net {
  const { net, sends } = site(isMany, dynamic);
  sends(to);
  net.answer(net.vtep.questions[0], { kind: 'drop', reason: reason as 'lookup_drop' });
  return net;
}

const proxied =
  (reason: ProxyDrop) =>
  (isMany: boolean): Net =>
    answered(isMany, MAC.all, reason);

const sent =
  (to: number, options: Partial<OverlayOptions> = {}, errno?: number) =>
  (isMany: boolean): Net => {
    const { net, sends } = site(isMany, options, errno);
    sends(to);
    return net;
  };

const received =
  (options: Partial<OverlayOptions> = {}, ...how: Parameters<Site['receives']>) =>
  (isMany: boolean): Net => {
    const { net, receives } = site(isMany, options);
    receives(...how);
    return net;
  };

const refusedBy =
  (errno: number) =>
  (isMany: boolean): Net => {
    const { net, vnic, sends, receives } = site(isMany);
    vnic.port.deliverErrno = errno;
    receives();
    sends(MAC.c);
    return net;
  };

/** ICMP says that the path carries no more, and quotes a packet of so many bytes. */
const announced =
  (mtuBytes: number, innerBytes = 1450) =>
  (isMany: boolean): Net => {
    const { net, sends } = site(isMany);
    sends(MAC.b);
    const inner = packet({ to: MAC.b, payloadBytes: innerBytes - 28 });
    const quoted = concat(fromHex(VXLAN_100), inner);
    net.vtep.senders[0].icmp.push({ to: endpoint('192.0.2.2'), mtuBytes, quoted });
    net.vtep.lab.run();
    return net;
  };

const protecting =
  (types: readonly Protection[], bytes: Uint8Array, isCut = false) =>
  (isMany: boolean): Net => {
    const { net, own } = site(isMany);
    own.protect({ types, addresses: [], clientIds: [] });
    if (isMany && isCut) own.sendWith(CUT, bytes);
    else own.send(bytes);
    return net;
  };

/** One DHCP message more than a port may send in a second. */
function flooded(): Net {
  const { net, own } = site(false);
  own.protect({ types: ['dhcp-nospoof'], addresses: [], clientIds: [] });
  own.send(...Array.from({ length: LEASE_FACTS.burst + 1 }, () => dhcpFrame()));
  return net;
}

const change =
  (at: number, ...values: readonly number[]) =>
  (bytes: Uint8Array): Uint8Array => {
    bytes.set(values, at);
    return bytes;
  };

/** What is counted, and in how many frames where it was one and where it was MANY; the latter left out: there is none. */
type Row = readonly [act: (isMany: boolean) => Net, one?: number, many?: number];

const FROM_PORT = frame(MAC.b, MAC.a).length;
const SUPERFRAME_BYTES = MANY * HEADER_BYTES + PAYLOAD_BYTES;

/** A port of a datapath in memory hands over a superframe, with this header. */
const handedOver = (header: virtio.Repr) => (): Net => {
  const { net, own } = site(false);
  own.sendWith(header, superframe(MAC.b));
  return net;
};

/** A device that says that all was sent, and has this in its result beside. */
const saying = (more: number, ...tunnelUse: number[]): Device => ({
  receive: () => 0,
  deliver: (_: FrameBatch, __: Int32Array, count: number) => count + more,
  tunnelUse: tunnelUse.length === 0 ? undefined : Int32Array.from(tunnelUse),
});

const sentWith =
  (more: number, tunnels = 0, refused = 0) =>
  (): Net => {
    const net = new Lab()
      .vtep('192.0.2.1', { wrapSender: () => saying(more, tunnels, refused) })
      .overlay({ destination: endpoint('192.0.2.2') });
    net.port(MAC.a).sendWith(CUT, superframe(MAC.b));
    return net;
  };

const writtenWith = (more: number) => (): Net => {
  const net = new Lab().vtep('192.0.2.1').overlay({ destination: endpoint('192.0.2.2') });
  net.port(MAC.c, { wrap: () => saying(more) });
  net.port(MAC.a).send(frame(MAC.c, MAC.a));
  return net;
};

/** The control side counts these: netns/receive.test.ts, full/offload-switches.test.ts. */
const CONTROL_SIDE = [
  'rx_queue_full',
  'tx_checksum_refused',
  'tx_tso_refused',
  'tx_uso_refused',
  'tx_nested_refused',
] as const;
type Reachable = Exclude<CounterName, (typeof CONTROL_SIDE)[number]>;

const ROWS: Record<Reachable, Row> = {
  tx_frames: [sent(MAC.b)],
  tx_bytes: [sent(MAC.b), FROM_PORT, SUPERFRAME_BYTES],
  rx_frames: [received()],
  rx_bytes: [received(), FROM_PORT, MANY * FROM_PORT],
  local_frames: [sent(MAC.c)],
  lookups: [sent(MAC.b, dynamic), 1, 1],
  tx_stale: [
    (isMany) => {
      const { net, sends } = site(isMany, dynamic);
      const targets = [{ mac: MAC.b, to: [endpoint('192.0.2.2')] }];
      net.vtep.obey({ kind: 'restore-targets', overlay: net.id, targets });
      sends(MAC.b);
      return net;
    },
  ],
  rx_reserved_bits: [received({}, undefined, 'ff000000 00006401')],
  rx_unclaimed: [received({}, change(0, 0x02, 0xff))],
  tx_other_source: [
    (isMany) => {
      const { net, vnic } = site(isMany);
      if (isMany) vnic.sendWith(CUT, superframe(MAC.b, MAC.d));
      else vnic.send(frame(MAC.b, MAC.d));
      return net;
    },
  ],
  proxy_arp: [replied('proxy_arp'), 1, 1],
  proxy_ndp: [replied('proxy_ndp'), 1, 1],
  proxy_dhcp: [redirected(true), 1, 1],
  loopback_answers: [looped(1), 1, 1],
  too_big_answers: [
    (isMany) => {
      const { net, own } = site(isMany, { mtuBytes: 576 });
      own.send(packet({ protocol: ipv4.TCP, payloadBytes: 1000 }));
      return net;
    },
    1,
    1,
  ],
  tx_checksum: [handedOver({ ...CUT, gsoType: virtio.GSO_NONE }), 1, 1],
  tx_tso: [handedOver(CUT), 1, 1],
  tx_uso: [handedOver({ ...CUT, gsoType: virtio.GSO_UDP_L4 }), 1, 1],
  tx_nested: [handedOver({ ...CUT, gsoType: virtio.GSO_TCPV4 | virtio.GSO_TUNNEL_V4 }), 1, 1],
  tx_train: [sentWith(3 << JOINED_SHIFT), 3, 3],
  tx_tunnel: [sentWith(0, 3), 3, 3],
  tx_tunnel_refused: [sentWith(0, 0, 3), 3, 3],
  rx_coalesce: [writtenWith(3 << JOINED_SHIFT), 3, 3],
  rx_coalesce_refused: [writtenWith(REFUSED), 1, 1],
  tx_segmentation_refused: [sentWith(REFUSED), 1, 1],
  path_mtu_learned: [announced(1400), 1, 1],
  path_mtu_refused: [announced(1400, 100), 1, 1],
  path_mtu_too_small: [announced(625), 1, 1],
  tx_runt: [
    (isMany) => {
      const { net, own } = site(isMany);
      own.send(frame(MAC.b, MAC.a).subarray(0, 13));
      return net;
    },
    1,
    1,
  ],
  tx_vlan: [
    (isMany) => {
      const { net } = site(isMany, { carryTags: false });
      const access = net.port(MAC.d, { vid: 5 });
      if (isMany) access.sendWith(CUT, superframe(MAC.b, MAC.d));
      else access.send(frame(MAC.b, MAC.d));
      return net;
    },
  ],
  tx_too_big: [
    (isMany) => {
      const { net, own } = site(isMany, { mtuBytes: 100 });
      if (isMany) own.sendWith(CUT, superframe(MAC.b));
      else own.send(frame(MAC.b, MAC.a, 200));
      return net;
    },
  ],
  tx_hairpin: [sent(MAC.a)],
  lookup_drop: [(isMany) => answered(isMany, MAC.b, 'lookup_drop')],
  lookup_failed: [(isMany) => answered(isMany, MAC.b, 'lookup_failed')],
  lookup_timeout: [(isMany) => answered(isMany, MAC.b, 'lookup_timeout')],
  lookup_busy: [
    (isMany) => {
      const { net, own, sends } = site(isMany, dynamic);
      for (let index = 0; index < 1024; index++) own.send(frame(0x0200_0100_0000 + index, MAC.a));
      sends(MAC.b);
      return net;
    },
  ],
  pending_full: [
    (isMany) => {
      const { net, own, sends } = site(isMany, dynamic);
      for (let left = Math.floor((128 * 1024) / (1464 + 256)); left > 0; left--)
        own.send(frame(MAC.b, MAC.a, 1464));
      own.send(frame(MAC.b, MAC.a));
      sends(MAC.b);
      return net;
    },
  ],
  pending_lost: [
    (isMany) => {
      const { net, sends } = site(isMany, dynamic);
      sends(MAC.b);
      net.deleteTarget(MAC.b);
      return net;
    },
  ],
  tx_malformed: [sent(MAC.b, {}, EINVAL)],
  tx_path_mtu: [sent(MAC.b, {}, EMSGSIZE)],
  tx_queue_full: [sent(MAC.b, {}, EAGAIN)],
  tx_unreachable: [sent(MAC.b, {}, EHOSTUNREACH)],
  tx_firewall: [sent(MAC.b, {}, EPERM)],
  tx_loop: [
    (isMany) => {
      const { net, sends } = site(isMany);
      net.setLoops(endpoint('192.0.2.2').ip);
      sends(MAC.b);
      return net;
    },
  ],
  tx_error: [sent(MAC.b, {}, EBADFD)],
  mac_spoofed: [protecting(['mac-nospoof'], superframe(MAC.b, MAC.d), true)],
  ip_spoofed: [protecting(['ip-nospoof'], superframe(MAC.b), true)],
  dhcp_spoofed: [protecting(['dhcp-nospoof'], dhcpFrame({ clientMac: MAC.d })), 1, 1],
  dhcp_flood: [flooded, 1, 1],
  rogue_router: [protecting(['ip-nospoof'], packet({ source: '0.0.0.0', protocol: 1, firstByte: 5 })), 1, 1],
  rogue_dhcp: [protecting(['dhcp-nospoof'], packet({ ports: [67, 68] })), 1, 1],
  restricted: [protecting(['restricted'], frame(MAC.b, MAC.a)), 1, 1],
  unreadable: [protecting(['ip-nospoof'], packet({}).subarray(0, 33)), 1, 1],
  tx_group: [proxied('tx_group')],
  arp_malformed: [proxied('arp_malformed')],
  arp_ignored: [proxied('arp_ignored')],
  arp_conflict: [proxied('arp_conflict')],
  ndp_malformed: [proxied('ndp_malformed')],
  ndp_ignored: [proxied('ndp_ignored')],
  ndp_router: [proxied('ndp_router')],
  dhcp_malformed: [proxied('dhcp_malformed')],
  proxy_spoofed: [proxied('proxy_spoofed')],
  proxy_unknown: [proxied('proxy_unknown')],
  proxy_own: [proxied('proxy_own')],
  proxy_local: [redirected(false), 1, 1],
  rx_truncated: [received({}, () => new Uint8Array(0), '08000000 000064')],
  rx_no_vni: [received({}, undefined, '00000000 00006400')],
  rx_version: [received({ encapsulation: 'geneve' }, undefined, '40006558 00006400')],
  rx_control: [received({ encapsulation: 'geneve' }, undefined, '00806558 00006400')],
  rx_critical_option: [received({ encapsulation: 'geneve' }, undefined, '00406558 00006400')],
  rx_bad_option: [received({ encapsulation: 'geneve' }, undefined, '01006558 00006400 01020301')],
  rx_protocol: [received({ encapsulation: 'geneve' }, undefined, '00000800 00006400')],
  rx_unknown_vni: [received({}, undefined, '08000000 00006500')],
  rx_ambiguous: [received({}, undefined, AMBIGUOUS)],
  rx_unknown_peer: [received({}, undefined, VXLAN_100, '192.0.2.3')],
  rx_runt: [received({}, (bytes) => bytes.subarray(0, 13))],
  rx_bad_source: [received({}, change(6, 0x03))],
  rx_source_mismatch: [received({ strictSource: true, acceptAny: true }, undefined, VXLAN_100, '192.0.2.3')],
  rx_source_unknown: [received({ ...dynamic, strictSource: true, acceptAny: true })],
  rx_vlan: [received({ carryTags: false }, change(12, 0x81, 0x00, 0x00, 0x05))],
  rx_ecn: [
    (isMany) => {
      const { net } = site(isMany);
      const { vtep } = net;
      for (let left = isMany ? MANY : 1; left > 0; left--)
        vtep.listener.inbox.push({
          from: endpoint('192.0.2.2'),
          to: vtep.endpoint,
          tos: 3,
          bytes: concat(fromHex(VXLAN_100), packet({ to: MAC.c, from: MAC.b })),
        });
      vtep.lab.run();
      return net;
    },
  ],
  rx_too_big: [received({ mtuBytes: 40 })],
  rx_loopback: [looped(LOOPBACK_RATE.burst + 1), 1, 1],
  rx_no_port: [
    (isMany) => {
      const { net, own, vnic, receives } = site(isMany);
      own.remove();
      vnic.remove();
      receives();
      return net;
    },
  ],
  port_down: [refusedBy(EIO), 2, 2 * MANY],
  port_full: [refusedBy(EAGAIN), 2, 2 * MANY],
  port_error: [refusedBy(EPERM), 2, 2 * MANY],
};

/** A peer sends loopback messages to a port. */
function looped(messages: number) {
  return (): Net => {
    const { net, receives } = site(false, { answersLoopback: true });
    const message = loopbackFrame({ from: MAC.b, to: MAC.c, vid: 0 }, 1, 46);
    for (let left = messages; left > 0; left--) receives(() => message);
    return net;
  };
}

function replied(counter: 'proxy_arp' | 'proxy_ndp') {
  return (): Net => {
    const { net, own, sends } = site(false, dynamic);
    sends(MAC.all);
    net.answer(net.vtep.questions[0], { kind: 'reply', frame: frame(MAC.a, MAC.b), counter });
    t.equal(own.take().length, 1, 'and the reply is there');
    return net;
  };
}

/** A broadcast is for another station, whose place is asked for: known or not, or here, where it has been heard. */
function redirected(isElsewhere: boolean) {
  return (): Net => {
    const { net, vnic, sends } = site(false, dynamic);
    sends(MAC.all);
    const to = isElsewhere ? MAC.b : 0x0200_0000_0001;
    net.answer(net.vtep.questions[0], { kind: 'redirect', to });
    t.equal(
      net.counters.proxy_dhcp + net.counters.proxy_local,
      0,
      'it waits, and has not been brought to anybody',
    );
    const place = isElsewhere ? endpoint('192.0.2.2') : net.vtep.endpoint;
    net.answer(net.vtep.questions[1], { kind: 'target', to: [place], ttlMs: 1 });
    t.equal(vnic.take().length, 1, 'ports have heard it');
    return net;
  };
}

t.test('one frame, and many in one, are counted as what they are', (t) => {
  t.same([...Object.keys(ROWS), ...CONTROL_SIDE].sort(), [...COUNTER_NAMES].sort());
  for (const [name, [act, one = 1, many = MANY * one]] of Object.entries(ROWS)) {
    const count = (isMany: boolean): number => countOf(act(isMany), name);
    t.equal(count(false), one, name);
    t.equal(count(true), many, `${name}: many`);
  }
  t.end();
});

/** Some are counted for the socket, not for an overlay. */
function countOf(net: Net, name: string): number {
  return net.drops[name as DropReason] ?? net.counters[name as CounterName];
}

t.test('reserved bits: frames that are dropped are not said to be delivered', (t) => {
  const { net, receives } = site(true);
  receives(change(6, 0x03), 'ff000000 00006401');
  receives(undefined, 'ff000000 00006401');
  t.match(net.counters, { rx_reserved_bits: MANY, rx_frames: MANY, rx_bad_source: MANY });
  t.end();
});

t.test('DHCP that is brought to nobody is not counted as brought', (t) => {
  const { net, sends } = site(false, dynamic);
  sends(MAC.all);
  net.answer(net.vtep.questions[0], { kind: 'redirect', to: MAC.b });
  net.answer(net.vtep.questions[1], { kind: 'drop', reason: 'lookup_drop' });
  t.match(net.counters, { proxy_dhcp: 0, lookup_drop: 1 });
  t.end();
});

t.test('ports count the same frames', (t) => {
  for (const isMany of [false, true]) {
    const frames = isMany ? MANY : 1;
    const { own, vnic, sends, receives } = site(isMany);
    sends(MAC.c);
    receives();
    t.match(own.counters, { tx_frames: frames, tx_bytes: isMany ? SUPERFRAME_BYTES : FROM_PORT });
    t.match(vnic.counters, {
      rx_frames: 2 * frames,
      rx_bytes: frames * FROM_PORT + (isMany ? SUPERFRAME_BYTES : FROM_PORT),
    });
  }
  t.end();
});
