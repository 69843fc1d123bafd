// An underlay that is narrower than it looks, or becomes so; congestion on it; and overlays that come and go on it.

import t from 'tap';

import { VXLAN } from '../../src/encap/vxlan.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches, transferTcp } from '../helpers/traffic.js';
import {
  FAMILIES,
  FRAGMENTS,
  newBed,
  OVERHEAD,
  routedHosts,
  startOverlay,
  UNDERLAY_MTU,
  VNETID,
} from '../helpers/tunnels.js';
import { every, part, usual } from '../helpers/whole.js';

await t.test(
  'a smaller MTU, and an underlay that shrinks',
  { skip: skipUnlessNetns(['tcpdump', 'tshark']) },
  async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const daemon = await startOverlay(t, bed, a, b, { more: '-p mtu=1300' });
    await startOverlay(t, bed, b, a, { more: '-p mtu=1300' });
    await a.plumb('overlay0');
    await b.plumb('overlay0');
    t.equal(await a.mtuOf('overlay0'), 1300, 'the device has the MTU of the overlay');
    t.ok(await reaches(a, b.overlay.v4));
    t.equal((await ping(a, b.overlay.v4, { packetBytes: 1300 })).received, 3);
    t.ok((await transferTcp(a, b)).exact);

    const capture = await Capture.start(bed, a, UNDERLAY_DEVICE);
    await a.ip('link set under0 mtu 1320');
    const pings = async (): Promise<void> => {
      t.equal((await ping(a, b.overlay.v4, { packetBytes: 1270 })).received, 3, 'what still fits passes');
      const { received, text } = await ping(a, b.overlay.v4, { packetBytes: 1271, count: 2, waitMs: 200 });
      t.equal(received, 0, 'what no longer fits does not');
      t.match(text, /mtu[ =]+1270/, 'its sender is told');
    };
    const grown = await daemon.counted(pings, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
    t.match(grown, { tx_path_mtu: 1, too_big_answers: 1 }, 'and it is counted; the second was not even sent');
    t.equal(await capture.count(FRAGMENTS), 0, 'no fragments');
    await a.ip('link set under0 mtu 1500');
    await a.ip('route flush cache'); // the sender remembers the answer for ten minutes (mtu_expires)
    t.equal(
      (await ping(a, b.overlay.v4, { packetBytes: 1300 })).received,
      3,
      'it passes again when the underlay has grown',
    );
  },
);

const ROUTED = [
  ['v4', '10.88.1.2', '10.88.2.2'],
  ['v6', 'fd88:1::2', 'fd88:2::2'],
] as const;
const NARROW = 1400;

async function startRouted(left: Daemon, right: Daemon, ends: readonly [string, string]): Promise<void> {
  for (const [daemon, from, to] of [
    [left, ...ends],
    [right, ends[1], ends[0]],
  ] as const)
    await daemon.ok(directOverlay({ from, to, vnetid: VNETID }, '-t'));
}

await t.test('a narrow link on the way', { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
  const bed = newBed(t);
  const [a, router, b] = await routedHosts(bed, NARROW);
  const daemons = [
    (await Daemon.start(bed, a, { withoutRoot: true })).explain(t),
    (await Daemon.start(bed, b, { withoutRoot: true })).explain(t),
  ] as const;
  const capture = await Capture.start(bed, router, 'right0', `udp port ${VXLAN.defaultPort} or ip6 proto 44`);
  for (const [family, left, right] of ROUTED) {
    const mtuBytes = UNDERLAY_MTU - OVERHEAD[family];
    const largest = NARROW - OVERHEAD[family];
    await startRouted(...daemons, [left, right]);
    await a.plumb('overlay0', { mtuBytes });
    await b.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4), `IP${family}: the tunnel is up`);
    t.equal(await b.mtuOf('overlay0'), largest, 'who sits at the narrow link knows');
    for (const target of [b.overlay.v4, b.overlay.v6]) {
      const pings = async (): Promise<void> => {
        const { received, text } = await ping(a, target, { packetBytes: mtuBytes, count: 5, waitMs: 200 });
        t.equal(received, 0, 'a large packet does not pass');
        t.match(text, new RegExp(`From ${target} .*mtu[ =]+${largest}`), 'and its sender is told what would');
      };
      const grown = await daemons[0].counted(pings, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
      t.ok(grown['tx_path_mtu'] >= 1, 'once the path is known, drops are counted here');
      t.ok(grown['too_big_answers'] >= 1);
      t.equal((await ping(a, target, { packetBytes: largest })).received, 3, 'what fits passes');
      t.equal((await ping(a, target, { packetBytes: largest + 1, count: 2, waitMs: 200 })).received, 0);
    }
    for (const daemon of daemons) await daemon.ok('delete-overlay overlay0');
  }
  t.equal(await capture.count(FRAGMENTS), 0, 'no fragments');
});

await t.test('TCP goes on when the path becomes narrow', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, router, b] = await routedHosts(bed, UNDERLAY_MTU);
  const daemons = [
    (await Daemon.start(bed, a, { withoutRoot: true })).explain(t),
    (await Daemon.start(bed, b, { withoutRoot: true })).explain(t),
  ] as const;
  const shrinks = [
    ['a link of a router', () => router.ip(`link set right0 mtu ${NARROW}`)],
    ['the link at hand', () => a.ip(`link set ${UNDERLAY_DEVICE} mtu ${NARROW}`)],
  ] as const;
  for (const [family, left, right] of ROUTED) {
    for (const inner of FAMILIES) {
      const usually = shrinks[family === inner ? 0 : 1];
      for (const [what, shrink] of usual(shrinks, (each) => each === usually)) {
        await router.ip(`link set right0 mtu ${UNDERLAY_MTU}`);
        await a.ip(`link set ${UNDERLAY_DEVICE} mtu ${UNDERLAY_MTU}`);
        // What the kernel has learned of paths goes.
        for (const version of ['-4', '-6']) await a.ip(`${version} route flush cache`);
        await startRouted(...daemons, [left, right]);
        await a.plumb('overlay0');
        await b.plumb('overlay0');
        t.ok(await reaches(a, b.overlay[inner]), `IP${inner} over IP${family}, ${what}`);
        const narrowed = async (): Promise<void> => {
          const transfer = transferTcp(a, b, { address: b.overlay[inner], bytes: (400 << 20) / every(10) });
          await waitUntil(async () => (await daemons[0].overlays())[0].counters['tx_bytes'] > 5 << 20, {
            what: 'the transfer to be under way',
          });
          await shrink();
          t.ok((await transfer).exact, 'every byte arrives');
        };
        const grown = await daemons[0].counted(narrowed, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
        t.ok(grown['tx_path_mtu'] >= 1 && grown['too_big_answers'] >= 1, 'though the path became narrow');
        for (const daemon of daemons) await daemon.ok('delete-overlay overlay0');
      }
    }
  }
});

// ---------------------------------------------------------------- congestion

await t.test('TCP with congestion marks', { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a);
  for (const host of [a, b]) {
    await host.sysctl('net.ipv4.tcp_ecn', 1);
    await host.plumb('overlay0');
  }
  t.ok(await reaches(a, b.overlay.v4));
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
  t.ok((await transferTcp(a, b, { bytes: 1 << 20 })).exact);
  const rows = await capture.fields('vxlan && tcp.len > 0', ['ip.dsfield.ecn']);
  const marks = new Set(rows.map((row) => row['ip.dsfield.ecn'].join()));
  t.ok(marks.delete('2,2'), 'ECT(0) inside and outside');
  marks.delete('0,0'); // what TCP sends again is not marked (RFC 3168 6.1.5)
  t.same([...marks], [], 'always the same on both');
});

// ---------------------------------------------------------------- change

await t.test('overlays that come and go beside a busy one', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const daemon = await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a);
  for (const host of [a, b]) await host.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const before = await daemon.descriptorsAtRest();
  const state = { busy: true };
  const transfer = transferTcp(a, b, { bytes: part(100 << 20) }).finally(() => (state.busy = false));
  const { call } = daemon;
  const properties: [string, string][] = [
    ['vxlan/listen_ip', a.underlay.v4],
    ['direct/dest_ip', b.underlay.v4],
    ['direct/dest_port', '4789'],
  ];
  let changes = 0;
  for (; state.busy || changes < part(20); changes++) {
    const options = changes % 2 === 0 ? [] : [['vxlan/listen_port', '4790'] as [string, string]];
    const wish = {
      encap: 'vxlan',
      search: 'direct',
      temporary: true,
      properties: [...properties, ...options],
    };
    await call('overlay.create', { name: 'other0', vnetid: 43, ...wish });
    for (const over of ['overlay0', 'other0'])
      await call('vnic.create', { name: `on${over}`, over, temporary: true });
    for (const over of ['overlay0', 'other0'])
      await call('vnic.delete', { name: `on${over}`, temporary: true });
    await call('overlay.delete', { name: 'other0', temporary: true });
  }
  t.ok((await transfer).exact, `TCP does not notice ${changes} changes`);
  t.equal(await daemon.descriptorsAtRest(before), before, 'no descriptor is left open');
});
