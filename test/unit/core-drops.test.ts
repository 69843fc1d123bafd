// Every reason to drop is reached by a frame, and it alone.
import t, { type Test } from 'tap';
import { COUNTER, COUNTER_NAMES, createCounters, readCounters } from '../../src/core/counts/counters.js';
import { LOOPBACK_RATE } from '../../src/core/probe/loopback-replies.js';
import type { OverlayOptions } from '../../src/core/overlay.js';
import { MAX_BYTES_PER_TARGET } from '../../src/core/queues/pending-queue.js';
import { loopbackFrame } from '../../src/daemon/observe/probe-frames.js';
import type { Device } from '../../src/io/contract.js';
import { WHOLE } from '../../src/io/memory.js';
import {
  dropOfPortError,
  dropOfSendError,
  type DropReason,
  DROPS,
  SOCKET_DROPS,
  type ProxyDrop,
} from '../../src/model/drops.js';
import type { Protection } from '../../src/model/link-properties.js';
import { LENGTH } from '../../src/wire/descriptor.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as virtio from '../../src/wire/virtio-net.js';
import {
  address,
  concat,
  dhcpFrame,
  endpoint,
  frame,
  Lab,
  MAC,
  type Net,
  packet,
  type Tap,
} from '../helpers/lab.js';
import { asking, facing, OPEN_QUESTIONS, pair, remote, VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const EPERM = 1;
const EAGAIN = 11;
const EBADFD = 77;
const EHOSTUNREACH = 113;
type Options = Partial<OverlayOptions>;

/** The kernel counts `rx_queue_full`: netns/receive.test.ts. */
const CASES: Record<Exclude<DropReason, 'rx_queue_full'>, () => Net> = {
  tx_runt: () =>
    sent(facing(), (port) => {
      port.send(frame(MAC.b, MAC.a).subarray(0, 13));
    }),
  tx_vlan: () =>
    sent(facing({ carryTags: false }), (port) => {
      port.send(frame(MAC.b, MAC.a, 64, 5));
    }),
  tx_too_big: () =>
    sent(facing(), (port) => {
      port.send(frame(MAC.b, MAC.a, 1465));
    }),
  tx_hairpin: () =>
    sent(facing(), (port) => {
      port.send(frame(MAC.a, MAC.a));
    }),
  lookup_drop: () => answered('lookup_drop'),
  lookup_failed: () => answered('lookup_failed'),
  lookup_timeout: () => answered('lookup_timeout'),
  tx_group: () => answeredGroup('lookup_drop'),
  arp_malformed: () => answeredGroup('arp_malformed'),
  arp_ignored: () => answeredGroup('arp_ignored'),
  arp_conflict: () => answeredGroup('arp_conflict'),
  ndp_malformed: () => answeredGroup('ndp_malformed'),
  ndp_ignored: () => answeredGroup('ndp_ignored'),
  ndp_router: () => answeredGroup('ndp_router'),
  dhcp_malformed: () => answeredGroup('dhcp_malformed'),
  proxy_spoofed: () => answeredGroup('proxy_spoofed'),
  proxy_unknown: () => answeredGroup('proxy_unknown'),
  proxy_own: () => answeredGroup('proxy_own'),
  proxy_local: () => {
    const { vtep, net, port } = asking();
    net.port(MAC.c);
    port.send(frame(MAC.all, MAC.a));
    net.answer(vtep.questions[0], { kind: 'redirect', to: MAC.c });
    return net;
  },
  lookup_busy: () =>
    sent(asking(), (port) => {
      port.send(...Array.from({ length: OPEN_QUESTIONS + 1 }, (_, index) => frame(remote(index), MAC.a)));
    }),
  pending_full: () =>
    sent(asking(), (port) => {
      const fit = Math.floor(MAX_BYTES_PER_TARGET / (60 + 256));
      port.send(...Array<Uint8Array>(fit + 1).fill(frame(remote(1), MAC.a)));
    }),
  pending_lost: () =>
    sent(asking(), (port) => {
      port.send(frame(remote(1), MAC.a));
      port.net.deleteTarget(remote(1));
    }),
  tx_malformed: () =>
    sent(facing(), (port) => {
      port.sendWith(
        { ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: 59, checksumOffset: 0 },
        frame(MAC.b, MAC.a),
      );
    }),
  tx_path_mtu: () => {
    const { netA, portA } = pair({ mtuBytes: 1500 });
    portA.send(frame(MAC.b, MAC.a, 1465));
    return netA;
  },
  tx_queue_full: () =>
    sent(facing(), (port) => {
      for (const sender of port.net.vtep.senders) sender.sendErrno = EAGAIN;
      port.send(frame(MAC.b, MAC.a));
    }),
  tx_unreachable: () =>
    sent(facing(), (port) => {
      port.net.vtep.lab.network.errnos.set(address('192.0.2.2'), EHOSTUNREACH);
      port.send(frame(MAC.b, MAC.a));
    }),
  tx_firewall: () =>
    sent(facing(), (port) => {
      port.net.vtep.lab.network.errnos.set(address('192.0.2.2'), EPERM);
      port.send(frame(MAC.b, MAC.a));
    }),
  tx_loop: () => {
    const { net, port, peer } = facing();
    net.setLoops(peer.local.ip);
    port.send(frame(MAC.b, MAC.a));
    return net;
  },
  tx_error: () =>
    sent(facing({ destination: endpoint('2001:db8::1') }), (port) => {
      port.send(frame(MAC.b, MAC.a));
    }),
  mac_spoofed: () => protecting(['mac-nospoof'], frame(MAC.b, MAC.c)),
  ip_spoofed: () => protecting(['ip-nospoof'], packet({})),
  dhcp_spoofed: () => protecting(['dhcp-nospoof'], dhcpFrame({ clientMac: MAC.c })),
  rogue_router: () => protecting(['ip-nospoof'], packet({ source: '0.0.0.0', protocol: 1, firstByte: 5 })),
  dhcp_flood: () => protecting(['dhcp-nospoof'], ...Array.from({ length: 65 }, () => dhcpFrame())),
  rogue_dhcp: () => protecting(['dhcp-nospoof'], packet({ ports: [67, 68] })),
  restricted: () => protecting(['restricted'], frame(MAC.b, MAC.a)),
  unreadable: () => protecting(['ip-nospoof'], packet({}).subarray(0, 33)),
  rx_source_mismatch: () => {
    const { net, port, inject } = facing({ destination: undefined, strictSource: true, acceptAny: true });
    net.setTarget(MAC.b, [endpoint('192.0.2.3')]);
    inject(frame(port.mac, MAC.b));
    return net;
  },
  rx_source_unknown: () => {
    const { net, port, inject } = facing({ destination: undefined, strictSource: true, acceptAny: true });
    inject(frame(port.mac, MAC.b));
    return net;
  },
  rx_truncated: () => injected(new Uint8Array(0), '08000000 000064'),
  rx_no_vni: () => injected(frame(MAC.a, MAC.b), 'f7ffffff 000064ff'),
  rx_version: () => geneve('40006558 00006400'),
  rx_control: () => geneve('00806558 00006400'),
  rx_critical_option: () => geneve('00406558 00006400'),
  rx_bad_option: () => geneve('01006558 00006400 01020301'),
  rx_protocol: () => geneve('00000800 00006400'),
  rx_unknown_vni: () => injected(frame(MAC.a, MAC.b), '08000000 00006500'),
  rx_ambiguous: () => {
    const wrapListener = (device: Device): Device => ({
      receive: (batch) => {
        const count = device.receive(batch);
        if (count > 0) batch.descriptors.set([0, 0, 0, 1], LENGTH);
        return count;
      },
      deliver: () => 0,
    });
    const lab = new Lab();
    const vtep = lab.vtep('192.0.2.1', { wrapListener });
    const net = vtep.overlay({ destination: endpoint('192.0.2.2') });
    lab.peer('192.0.2.2').send(vtep.endpoint, concat(fromHex(VXLAN_100), frame(MAC.a, MAC.b)));
    lab.run();
    return net;
  },
  rx_unknown_peer: () => injected(frame(MAC.a, MAC.b), VXLAN_100, { destination: undefined }),
  rx_runt: () => injected(frame(MAC.a, MAC.b).subarray(0, 13)),
  rx_bad_source: () => injected(frame(MAC.a, MAC.group)),
  rx_vlan: () => injected(frame(MAC.a, MAC.b, 64, 5), VXLAN_100, { carryTags: false }),
  rx_ecn: () => {
    const { net, inject } = facing();
    inject(packet({ to: MAC.a, from: MAC.b }), VXLAN_100, 3);
    return net;
  },
  rx_too_big: () => injected(frame(MAC.a, MAC.b, 1465)),
  rx_loopback: () => {
    const { net, inject } = facing({ answersLoopback: true });
    const message = loopbackFrame({ from: MAC.b, to: MAC.a, vid: 0 }, 1, 46);
    for (let left = LOOPBACK_RATE.burst + 1; left > 0; left--) inject(message);
    return net;
  },
  rx_no_port: () =>
    sent(facing(), (port) => {
      port.remove();
      port.net.vtep.lab.network
        .bind(endpoint('192.0.2.2', 1))
        .send(port.net.vtep.endpoint, concat(fromHex(VXLAN_100), frame(MAC.a, MAC.b)));
      port.net.vtep.lab.run();
    }),
  port_down: () =>
    refusing((tap) => {
      tap.port.isUp = false;
    }),
  port_full: () =>
    refusing((tap) => {
      tap.port.deliverErrno = EAGAIN;
    }),
  port_error: () =>
    refusing((tap) => {
      tap.port.deliverErrno = EBADFD;
    }),
};

function sent({ net, port }: { net: Net; port: Tap }, act: (port: Tap) => void): Net {
  act(port);
  return net;
}

function answered(reason: 'lookup_drop' | 'lookup_failed' | 'lookup_timeout'): Net {
  const { vtep, net, port } = asking();
  port.send(frame(remote(1), MAC.a));
  net.answer(vtep.questions[0], { kind: 'drop', reason });
  return net;
}

function answeredGroup(reason: 'lookup_drop' | ProxyDrop): Net {
  const { vtep, net, port } = asking();
  port.send(frame(MAC.all, MAC.a));
  net.answer(vtep.questions[0], { kind: 'drop', reason });
  return net;
}

function injected(bytes: Uint8Array, header = VXLAN_100, options: Options = {}): Net {
  const { net, inject } = facing(options);
  inject(bytes, header);
  return net;
}

function geneve(header: string): Net {
  const { net, inject } = facing({}, { encapsulation: 'geneve' });
  inject(frame(MAC.a, MAC.b), header);
  return net;
}

function protecting(types: readonly Protection[], ...frames: readonly Uint8Array[]): Net {
  const { net, port } = facing();
  port.protect({ types, addresses: [], clientIds: [] });
  port.send(...frames);
  t.equal(readCounters(port.values)[Object.keys(net.drops)[0] as DropReason], 1, 'counted for the port too');
  return net;
}

function refusing(act: (port: Tap) => void): Net {
  const { net, port, inject } = facing();
  act(port);
  inject(frame(MAC.a, MAC.b));
  return net;
}

/** The frame that was dropped is noted: where it came from, and its beginning. */
function noted(t: Test, net: Net, reason: DropReason): void {
  const last = net.lastDrop(reason);
  if (last === undefined) {
    t.fail(`${reason}: no frame is noted`);
    return;
  }
  const { from, port, lengthBytes, beginning } = last;
  if (/^(rx|port)_/.test(reason)) t.equal(from?.ip, '192.0.2.2', `${reason}: its VTEP`);
  else t.match(port, /^port\d+$/, `${reason}: its port`);
  t.equal(beginning.length, Math.min(64, lengthBytes), `${reason}: its beginning`);
  const source = reason in SOCKET_DROPS || lengthBytes < 14 ? undefined : ethernet.source(beginning, 0);
  if (source !== undefined) t.ok(Object.values<number>(MAC).includes(source), `${reason}: its source MAC`);
}

await t.test('every reason to drop is reached, and it alone', (t) => {
  t.strictSame(
    [...Object.keys(CASES), 'rx_queue_full'].sort(),
    Object.keys(DROPS).sort(),
    'a reason has a case',
  );
  for (const [reason, act] of Object.entries(CASES) as [DropReason, () => Net][]) {
    const net = act();
    t.strictSame(net.drops, { [reason]: 1 }, reason);
    noted(t, net, reason);
  }
  const failing: Record<DropReason, number[]> | object = {
    tx_path_mtu: [90],
    tx_queue_full: [11, 12, 105],
    tx_unreachable: [99, 100, 101, 111, 113],
    tx_malformed: [22],
    tx_firewall: [1],
    tx_error: [5, 9, 97],
  };
  for (const [reason, errnos] of Object.entries(failing)) {
    for (const errno of errnos as number[]) t.equal(dropOfSendError(errno), reason, `send errno ${errno}`);
  }
  t.strictSame([5, 11, 12, 105, 22, 77].map(dropOfPortError), [
    'port_down',
    'port_full',
    'port_full',
    'port_full',
    'port_error',
    'port_error',
  ]);
  t.strictSame(Object.keys(COUNTER), COUNTER_NAMES);
  t.equal(new Set(COUNTER_NAMES).size, COUNTER_NAMES.length, 'no name twice');
  t.equal(createCounters().length, COUNTER_NAMES.length);
  t.end();
});
