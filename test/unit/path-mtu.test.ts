// What ICMP says of paths: who is believed, how far and how long, and what becomes of frames then. `full/path-news.test.ts`
// has the same with the kernel between.
import t, { type Test } from 'tap';
import { readCounters } from '../../src/core/counts/counters.js';
import type { OverlayOptions } from '../../src/core/overlay.js';
import { PathMtus } from '../../src/core/tables/path-mtu.js';
import { leastPathMtuBytes, leastUnprovenBytes } from '../../src/core/peers/path-news.js';
import { tellOfPaths } from '../../src/datapath/userland/main/paths.js';
import type { Command } from '../../src/datapath/userland/protocol.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import * as icmp from '../../src/wire/icmp.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { address, concat, endpoint, frame, Lab, MAC, packet } from '../helpers/lab.js';
import { VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const FAMILIES = {
  4: { ips: ['192.0.2.1', '192.0.2.2'], overhead: 50 },
  6: { ips: ['2001:db8::1', '2001:db8::2'], overhead: 70 },
} as const;
const UNDERLAYS = [4, 6] as const;
const TEN_MINUTES_MS = 600_000;

/** An IPv4 packet of so many bytes, in its frame. */
const inner = (bytes: number, ...tags: number[]): Uint8Array =>
  packet({ payloadBytes: bytes - ipv4.HEADER_BYTES - 8, tags });

/** A host with a peer, to which it has just sent. */
function site(underlay: 4 | 6 = 4, options: Partial<OverlayOptions> = {}) {
  const { ips, overhead } = FAMILIES[underlay];
  const lab = new Lab(9000);
  const vtep = lab.vtep(ips[0]);
  const peer = lab.peer(ips[1]);
  const net = vtep.overlay({ destination: peer.local, mtuBytes: 8900, ...options });
  const port = net.port(MAC.a, { own: true });
  vtep.engine.setTime(0);
  port.send(inner(100));
  peer.take();
  const quote = (bytes: number, header = VXLAN_100) => concat(fromHex(header), inner(bytes));
  const told = (mtuBytes: number, quoted = quote(8000), to = peer.local, socket = vtep.senders[0]) => {
    socket.icmp.push({ to, mtuBytes, quoted });
    lab.run();
  };
  /** The largest inner packet that leaves; what does not fit is answered. */
  const largest = (): number => {
    let [low, high] = [60, 8900];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      port.send(inner(middle));
      if (peer.take().length > 0) low = middle;
      else high = middle - 1;
    }
    port.take();
    return low;
  };
  const counted = (): Record<string, number> => {
    const { path_mtu_learned, path_mtu_refused, path_mtu_too_small } = readCounters(
      net.values,
      vtep.socketCounters,
    );
    return { learned: path_mtu_learned, refused: path_mtu_refused, small: path_mtu_too_small };
  };
  return { lab, vtep, peer, net, port, quote, told, largest, counted, overhead };
}

const NOTHING = { learned: 0, refused: 0, small: 0 };

await t.test('a router is believed for ten minutes, and the guest is told', (t) => {
  for (const underlay of UNDERLAYS) {
    const { lab, vtep, peer, net, port, counted, overhead, largest } = site(underlay);
    lab.network.narrow.set(peer.local.ip, { mtuBytes: 1400 });
    port.send(inner(1400));
    t.strictSame([peer.take().length, port.take().length], [0, 0], 'the first is lost on the way');
    t.strictSame(counted(), { ...NOTHING, learned: 1 });
    t.strictSame(vtep.paths, [{ overlay: net.id, to: peer.local, mtuBytes: 1400, isBelieved: true }]);
    port.send(inner(1400));
    t.strictSame(net.drops, { tx_path_mtu: 1 }, 'the second is not sent');
    const [answer] = port.take();
    t.equal(icmp.word(answer, 14 + ipv4.HEADER_BYTES), 1400 - overhead, 'and its sender knows why');
    t.equal(largest(), 1400 - overhead, 'what fits passes');
    vtep.engine.setTime(TEN_MINUTES_MS - 10);
    t.equal(largest(), 1400 - overhead);
    lab.network.narrow.clear();
    vtep.engine.setTime(TEN_MINUTES_MS);
    t.equal(largest(), 8900, 'then the path is tried again');
  }
  t.end();
});

await t.test('news has a floor, and what is below it is shown', (t) => {
  t.strictSame(
    [leastPathMtuBytes(VXLAN, 4), leastPathMtuBytes(VXLAN, 6)],
    [626, 1280],
    'of an overlay with an mtu of 576; of IPv6',
  );
  for (const underlay of UNDERLAYS) {
    const least = leastPathMtuBytes(VXLAN, underlay);
    for (const mtuBytes of [0, 1, 67, 68, 552, least - 1]) {
      const { vtep, told, counted, largest, peer, net } = site(underlay);
      told(mtuBytes);
      t.strictSame(counted(), { ...NOTHING, small: 1 }, `${mtuBytes}`);
      t.equal(largest(), 8900, 'is not obeyed');
      t.strictSame(vtep.notices, [{ kind: 'narrowPath', overlay: net.id, to: peer.local.ip, mtuBytes }]);
      told(mtuBytes);
      t.equal(vtep.notices.length, 1, 'said once a second');
      vtep.engine.setTime(1000);
      told(mtuBytes);
      t.equal(vtep.notices.length, 2);
    }
    const { told, largest, overhead } = site(underlay);
    told(least);
    t.equal(largest(), least - overhead, `${least} is believed`);
  }
  t.end();
});

await t.test('news that does not fit what was sent is counted, and nothing else', (t) => {
  for (const underlay of UNDERLAYS) {
    const other = underlay === 4 ? '192.0.2.9' : '2001:db8::9';
    const { ips, overhead } = FAMILIES[underlay];
    for (const [what, act] of Object.entries<(made: ReturnType<typeof site>) => void>({
      'another VNI': ({ told, quote }) => {
        told(1400, quote(8000, '08000000 00006500'));
      },
      'no VNI': ({ told, quote }) => {
        told(1400, quote(8000, '00000000 00006400'));
      },
      'no peer': ({ told }) => {
        told(1400, undefined, endpoint(other));
      },
      'another UDP port': ({ told }) => {
        told(1400, undefined, endpoint(ips[1], 4790));
      },
      'a packet that is not larger': ({ told, quote }) => {
        told(1400, quote(1400 - overhead));
      },
      'one that arrives at a socket which nothing was sent from': ({ told, vtep }) => {
        told(1400, undefined, undefined, vtep.listener);
      },
      'a peer that was not used lately': ({ told, vtep }) => {
        vtep.engine.setTime(10_010);
        told(1400);
      },
      'too little quoted, and below what IPv6 needs': ({ told }) => {
        told(leastUnprovenBytes(VXLAN, underlay) - 1, new Uint8Array(0));
      },
      'no length quoted, and below that': ({ told, quote }) => {
        told(leastUnprovenBytes(VXLAN, underlay) - 1, quote(8000).subarray(0, 8 + 14 + 3));
      },
      'no IP quoted, and below that': ({ told }) => {
        told(leastUnprovenBytes(VXLAN, underlay) - 1, concat(fromHex(VXLAN_100), frame(MAC.b, MAC.a, 60)));
      },
      'nothing quoted, and below all': ({ told }) => {
        told(68, new Uint8Array(0));
      },
    })) {
      const made = site(underlay);
      act(made);
      t.strictSame(made.counted(), { ...NOTHING, refused: 1 }, what);
      t.strictSame([made.largest(), made.vtep.notices], [8900, []], 'changes nothing');
    }
    const larger = site(underlay);
    larger.told(1400, larger.quote(1401 - overhead));
    t.strictSame(larger.counted(), { ...NOTHING, learned: 1 }, 'a packet that was one byte larger');
    const tagged = site(underlay);
    tagged.told(1400, concat(fromHex(VXLAN_100), inner(1400 - overhead - 3, 5)));
    t.strictSame(tagged.counted(), { ...NOTHING, learned: 1 }, 'by its tag');
    const late = site(underlay);
    late.vtep.engine.setTime(10_000);
    late.told(1400);
    t.strictSame(late.counted(), { ...NOTHING, learned: 1 }, 'ten seconds later');
  }
  t.end();
});

await t.test('who quotes too little is believed as far as IPv6 still fits', (t) => {
  for (const [what, quoted] of [
    ['8 bytes of UDP', new Uint8Array(0)],
    ['a part of the VXLAN header', fromHex('08000000')],
    ['no IP', concat(fromHex(VXLAN_100), frame(MAC.b, MAC.a, 60))],
  ] as const) {
    const { told, largest, counted } = site();
    told(leastUnprovenBytes(VXLAN, 4), quoted);
    t.strictSame([largest(), counted()], [1280, { ...NOTHING, learned: 1 }], what);
  }
  t.end();
});

await t.test('a quotation may be cut anywhere', (t) => {
  const whole = site().quote(8000);
  for (let length = 0; length <= 64; length++) {
    const { told, largest, counted } = site();
    told(700, whole.subarray(0, length));
    const isWhole = length >= 8 + 14 + 4;
    t.strictSame(counted(), { ...NOTHING, [isWhole ? 'learned' : 'refused']: 1 }, `${length} bytes`);
    t.equal(largest(), isWhole ? 650 : 8900);
  }
  t.end();
});

await t.test('news makes a path smaller, never larger, and does not prolong it', (t) => {
  const { vtep, told, largest, port, counted } = site();
  told(1400);
  told(1500);
  told(1400);
  t.equal(largest(), 1350);
  told(1300);
  t.strictSame([largest(), counted()], [1250, { ...NOTHING, learned: 2 }]);
  vtep.engine.setTime(300_000);
  port.send(inner(100));
  told(1300);
  told(1350);
  vtep.engine.setTime(TEN_MINUTES_MS);
  t.equal(largest(), 8900, 'ten minutes after it was learned');
  told(1400);
  t.equal(largest(), 1350, 'and then what is larger than before is news');
  t.end();
});

await t.test('a superframe whose segments are too large is dropped, as many as they are', (t) => {
  const { told, net, port, peer } = site();
  told(700);
  const superframe = packet({ protocol: ipv4.TCP, payloadBytes: 3000, checksum: 'partial' });
  const cut = (gsoSize: number): virtio.Repr => ({
    flags: virtio.NEEDS_CHECKSUM,
    gsoType: virtio.GSO_TCPV4,
    gsoSize,
    headerLength: 54,
    checksumStart: 34,
    checksumOffset: 16,
  });
  port.sendWith(cut(1000), superframe);
  t.strictSame([net.drops, peer.take().length], [{ tx_path_mtu: 3 }, 0]);
  const [answer] = port.take();
  t.equal(icmp.word(answer, 14 + ipv4.HEADER_BYTES), 650);
  port.sendWith(cut(610), superframe);
  t.strictSame([net.drops, peer.take().length], [{ tx_path_mtu: 3 }, 1], 'smaller segments go out');
  t.end();
});

await t.test('a path is narrow to one destination, for all overlays', (t) => {
  const { vtep, told, port } = site();
  const other = vtep.lab.peer('192.0.2.3');
  const net = vtep.overlay({ vnetid: 101, mtuBytes: 8900 });
  const second = net.port(MAC.c, { own: true });
  net.setTarget(MAC.b, [endpoint('192.0.2.2')]);
  net.setTarget(MAC.d, [other.local]);
  told(1400);
  second.send(packet({ from: MAC.c, payloadBytes: 1400 }));
  second.send(packet({ from: MAC.c, to: MAC.d, payloadBytes: 1400 }));
  t.strictSame([net.drops, other.take().length], [{ tx_path_mtu: 1 }, 1]);
  port.take();
  // What is known goes with the destination.
  net.deleteTarget(MAC.d);
  net.setTarget(MAC.d, [endpoint('192.0.2.4')]);
  const fourth = vtep.lab.peer('192.0.2.4');
  second.send(packet({ from: MAC.c, to: MAC.d, payloadBytes: 1400 }));
  t.equal(fourth.take().length, 1);
  t.end();
});

await t.test('what a route was told to carry holds too, and goes with the overlay that named it', (t) => {
  const { vtep, net, peer, told, largest } = site();
  const routes = (mtuBytes: number, overlay = net.id): void => {
    vtep.obey({ kind: 'set-route-mtus', overlay, routes: [{ to: peer.local.ip, mtuBytes }] });
  };
  routes(600);
  t.equal(largest(), 550, 'below the floor of news, since it is no news');
  routes(1500);
  t.equal(largest(), 1450);
  told(1400);
  t.equal(largest(), 1350, 'the smaller of both');
  vtep.engine.setTime(TEN_MINUTES_MS);
  t.equal(largest(), 1450);
  const another = vtep.overlay({ vnetid: 101, destination: peer.local });
  routes(1300, another.id);
  t.equal(largest(), 1250, 'of several overlays the smallest');
  another.remove();
  t.equal(largest(), 1450);
  vtep.obey({ kind: 'set-route-mtus', overlay: net.id, routes: [] });
  t.equal(largest(), 8900);
  // It is there for a destination that comes later.
  vtep.obey({
    kind: 'set-route-mtus',
    overlay: net.id,
    routes: [{ to: address('192.0.2.3'), mtuBytes: 1200 }],
  });
  vtep.obey({ kind: 'set-destination', overlay: net.id, destination: endpoint('192.0.2.3') });
  net.vtep.lab.run();
  vtep.lab.network.unbind(peer);
  t.equal(sentTo(t, vtep.lab.peer('192.0.2.3')), 1150);
  t.end();

  function sentTo(_: Test, third: ReturnType<Lab['peer']>): number {
    let bytes = 1100;
    const tap = net.port(MAC.c);
    for (; bytes < 1300; bytes++) {
      tap.send(packet({ from: MAC.c, payloadBytes: bytes - 28 }));
      if (third.take().length === 0) break;
    }
    return bytes - 1;
  }
});

await t.test('other threads believe it where they have sent there themselves', (t) => {
  const used = site();
  const news = [{ overlay: used.net.id, to: used.peer.local, mtuBytes: 1400 }];
  used.vtep.obey({ kind: 'paths', news });
  t.equal(used.largest(), 1350);
  used.vtep.obey({ kind: 'paths', news });
  t.strictSame(used.counted(), { ...NOTHING, learned: 1 }, 'and counted where it is');
  const unused = site();
  unused.vtep.engine.setTime(20_000);
  unused.vtep.obey({ kind: 'paths', news });
  t.equal(unused.largest(), 8900);
  unused.vtep.obey({
    kind: 'paths',
    news: [{ overlay: undefined, to: endpoint('192.0.2.9'), mtuBytes: 1400 }],
  });
  t.pass('or not at all, of somebody they do not know');

  const idle = site();
  idle.vtep.engine.setTime(20_000);
  for (let count = 0; count < 16; count++) idle.told(1400);
  idle.vtep.engine.setTime(20_010);
  idle.told(1400);
  t.equal(idle.vtep.paths.length, 16, 'they are told of what is not believed here, so often in a second');
  idle.vtep.engine.setTime(21_100);
  idle.told(1400);
  t.strictSame(idle.vtep.paths.at(-1), {
    overlay: idle.net.id,
    to: idle.peer.local,
    mtuBytes: 1400,
    isBelieved: false,
  });
  t.equal(idle.vtep.paths.length, 17);

  const posted: [number, Command][] = [];
  const learned: unknown[] = [];
  const link = (index: number) => ({
    post: (command: Command) => void posted.push([index, command]),
    invalidate: () => undefined,
    request: () => Promise.resolve(),
    inspect: () => Promise.resolve(),
  });
  const [one, two] = [1400, 1300].map((mtuBytes) => ({
    overlay: 1,
    to: endpoint('192.0.2.2'),
    mtuBytes,
  }));
  tellOfPaths(
    1,
    [
      { ...one, isBelieved: true },
      { ...two, isBelieved: false },
    ],
    [link(0), link(1), link(2)],
    (report) => void learned.push(report),
  );
  const command = { kind: 'paths', news: [one, two] };
  t.strictSame(posted, [
    [0, command],
    [2, command],
  ]);
  t.strictSame(learned, [one], 'and the log of what is believed');
  t.end();
});

await t.test('a turn reads so many messages and no more, of which a few are judged', (t) => {
  const { vtep, peer, quote, counted } = site();
  const [sender] = vtep.senders;
  for (let count = 0; count < 150; count++)
    sender.icmp.push({ to: peer.local, mtuBytes: 68, quoted: quote(8000) });
  sender.icmp.push({ to: peer.local, mtuBytes: -1, quoted: quote(8000) });
  const token = vtep.host.ready()[0];
  const after = (nowMs: number, turns: number): readonly number[] => {
    vtep.engine.setTime(nowMs);
    for (let count = 0; count < turns; count++) vtep.engine.hear(token);
    const { small, refused } = counted();
    return [small, refused, sender.icmp.length];
  };
  t.strictSame(after(10, 5), [16, 48, 87]);
  t.strictSame(after(11, 5), [16, 112, 23], 'the next turn');
  t.strictSame(after(20, 1), [32, 118, 0], 'and when there is time again; what is about no size is no news');
  t.equal(vtep.notices.length, 1);
  t.end();
});

await t.test('links that take tunnel frames', (t) => {
  const told: string[] = [];
  const paths = new PathMtus((slot, link) => told.push(`${slot}:${link?.index ?? 0}:${link?.mtuBytes ?? 0}`));
  const news = (): string[] => {
    while (paths.sweep(0));
    return told.splice(0);
  };
  const [two, three] = ['192.0.2.2', '192.0.2.3'].map((ip) => endpoint(ip));
  const route = (index: number, to = two.ip) => ({ to, tunnelLink: { index, mtuBytes: 1500 } });
  paths.opened(0, two);
  paths.nameRoutes(1, []);
  t.same(news(), [], 'nothing without a link');
  paths.nameRoutes(1, [route(7)]);
  t.same(news(), ['0:7:1500'], 'a slot that is there');
  t.equal(paths.bytes(0), Infinity, 'the link itself bounds no datagram');
  paths.opened(1, { ...two, port: 4790 });
  paths.opened(2, three);
  t.same(news(), ['1:7:1500'], 'and one that comes');
  paths.nameRoutes(2, [route(7), route(8, three.ip)]);
  t.same(news().sort(), ['0:7:1500', '1:7:1500', '2:8:1500'], 'two overlays with the same link');
  paths.nameRoutes(2, [route(8)]);
  t.same(news().sort(), ['0:0:0', '1:0:0', '2:0:0'], 'with another one: none');
  paths.nameRoutes(2, []);
  t.same(news().sort(), ['0:7:1500', '1:7:1500']);
  paths.closed(1);
  paths.nameRoutes(1, []);
  t.same(news(), ['0:0:0'], 'no more');
  t.end();
});

await t.test('times do not come again when the ticks run over', (t) => {
  const paths = new PathMtus();
  const slot = 100;
  paths.opened(slot, endpoint('192.0.2.2'));
  t.notOk(paths.isUsedLately(slot, 0), 'a slot that is new');
  paths.usedTick[slot] = 0x7fff_fff0;
  t.ok(paths.isUsedLately(slot, -0x7fff_fff0), 'across the border');
  paths.learn(slot, 1400, 0x7fff_fff0);
  t.ok(paths.exceeds(slot, 1400, -0x7fff_fff0));
  t.equal(paths.bytes(slot), 1400);
  paths.age();
  t.notOk(paths.sweep(-0x7000_0000), 'there is no more');
  t.equal(paths.bytes(slot), Infinity);
  t.notOk(paths.isUsedLately(slot, 0x7fff_fff0));
  paths.learn(slot, 1400, 0);
  paths.closed(slot);
  paths.age();
  paths.sweep(0x1000_0000);
  paths.opened(slot, endpoint('192.0.2.3'));
  t.equal(paths.bytes(slot), Infinity, 'a slot that is used again knows nothing');
  t.end();
});
