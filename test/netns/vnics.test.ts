// VNICs and VLANs on real devices, and a second network beside the first.

import t from 'tap';

import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { toHex, udpFrame, withTag } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { DatagramSink, FrameSink, ping, sendDatagrams, sendFrames, transferTcp } from '../helpers/traffic.js';
import { newBed, startOverlay, VNETID } from '../helpers/tunnels.js';

/** Puts a VNIC into a namespace of its own and gives it that host's addresses. */
async function moveTo(host: Namespace, from: Namespace, vnic: string): Promise<void> {
  await from.ip(`link set ${vnic} netns ${host.name}`);
  await host.plumb(vnic);
}

await t.test(
  'VNICs in namespaces of their own',
  { skip: skipUnlessNetns(['tcpdump', 'tshark']) },
  async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    const [c, d, e] = [await bed.host(), await bed.host(), await bed.host()];
    const daemon = await startOverlay(t, bed, a, b);
    const other = await startOverlay(t, bed, b, a);
    await daemon.ok('create-vnic -l overlay0 -m 02:00:00:00:00:c1 foo0');
    await daemon.ok('create-vnic -l overlay0 bar0');
    await other.ok('create-vnic -l overlay0 foo0');
    await moveTo(c, a, 'foo0');
    await moveTo(d, a, 'bar0');
    await moveTo(e, b, 'foo0');
    await a.plumb('overlay0');
    await b.plumb('overlay0');
    t.equal(await c.macOf('foo0'), '02:00:00:00:00:c1', 'the MAC that was asked for');

    const everyone = [a, b, c, d, e];
    for (const from of everyone) {
      for (const to of everyone.filter((host) => host !== from)) {
        const received = [
          await ping(from, to.overlay.v4, { count: 2 }),
          await ping(from, to.overlay.v6, { count: 2 }),
        ];
        t.same(
          received.map((result) => result.received),
          [2, 2],
          `${from.name} reaches ${to.name}`,
        );
        t.same(
          received.map((result) => result.duplicates),
          [0, 0],
          'once',
        );
      }
    }
    const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
    const transfer = async (): Promise<void> => {
      t.ok((await transferTcp(c, d)).exact, 'TCP between two VNICs of one host');
    };
    const grown = await daemon.counted(transfer, 'overlay0', { local_frames: 101 });
    t.ok(grown['local_frames'] > 100, 'it was switched here');
    t.equal(await capture.count('vxlan && tcp'), 0, 'and none of it went into the tunnel');
    t.ok((await transferTcp(c, e, { address: e.overlay.v6 })).exact, 'TCP through the tunnel');
    t.ok((await transferTcp(e, d)).exact, 'and back');

    const [foo] = await daemon.vnics();
    t.match(foo, {
      name: 'foo0',
      over: 'overlay0',
      vid: 0,
      mac: '02:00:00:00:00:c1',
      mtuBytes: 1450,
      state: 'up',
    });
    await daemon.ok('delete-vnic foo0');
    t.notOk(await c.hasDevice('foo0'), 'deleted where it is');
    t.equal((await ping(d, c.overlay.v4, { count: 1, waitMs: 200 })).received, 0);
    t.equal((await ping(d, e.overlay.v4)).received, 3, 'the other one goes on');
  },
);

await t.test('VLANs', { skip: skipUnlessNetns(['tcpdump', 'tshark']) }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const [c, d, e] = [await bed.host(), await bed.host(), await bed.host()];
  const daemon = await startOverlay(t, bed, a, b);
  const other = await startOverlay(t, bed, b, a);
  // c and e are in VLAN 5, d is in VLAN 6 and has the addresses of c.
  await daemon.ok('create-vnic -l overlay0 -v 5 five0');
  await daemon.ok('create-vnic -l overlay0 -v 6 six0');
  await other.ok('create-vnic -l overlay0 -v 5 five0');
  await moveTo(c, a, 'five0');
  await moveTo(e, b, 'five0');
  await a.ip(`link set six0 netns ${d.name}`);
  await d.ip(`addr add ${c.overlay.v4}/24 dev six0`);
  await d.ip('link set six0 up');

  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
  t.equal((await ping(c, e.overlay.v4)).received, 3, 'through the tunnel, in one VLAN');
  t.equal((await ping(e, c.overlay.v6)).received, 3);
  t.equal((await ping(d, e.overlay.v4, { count: 1, waitMs: 200 })).received, 0, 'not from another');
  const tags = await capture.fields('vxlan && icmp', ['vlan.id']);
  t.same([...new Set(tags.flatMap((row) => row['vlan.id']))], ['5'], 'tagged in the tunnel');
  const mtuBytes = await c.mtuOf('five0');
  t.equal(
    (await ping(c, e.overlay.v4, { packetBytes: mtuBytes })).received,
    3,
    'the largest packet has room for its tag',
  );

  // The overlay's own port sees the tags; a VNIC takes its own VLAN, untagged, and gives no other.
  const own = await FrameSink.open(a, 'overlay0');
  const five = await FrameSink.open(e, 'five0');
  const frame = udpFrame();
  /** Waits for so many frames of this test, and leaves out what the hosts say of their own accord. */
  const heard = async (sink: FrameSink, count: number): Promise<string[]> => {
    const isOurs = (one: Buffer): boolean => one.subarray(6, 12).equals(frame.subarray(6, 12));
    await waitUntil(() => sink.frames.filter(isOurs).length >= count, { what: `${count} frames` });
    return sink.frames.filter(isOurs).map(toHex);
  };
  await sendFrames(c, 'five0', [frame]);
  t.same(await heard(own, 1), [toHex(withTag(frame, 5))], 'tagged at the own port');
  t.same(await heard(five, 1), [toHex(frame)], 'untagged at the VNIC');
  await sendFrames(a, 'overlay0', [withTag(frame, 5), withTag(frame, 6), frame]);
  await sendFrames(c, 'five0', [withTag(frame, 0)]);
  t.same(await heard(five, 3), [frame, frame, frame].map(toHex), 'its own VLAN; a priority is no VLAN');
  const tagged = () => sendFrames(c, 'five0', [withTag(frame, 5), withTag(frame, 7)]);
  const grown = await daemon.counted(tagged, 'overlay0', { tx_vlan: 2 });
  t.equal(grown['tx_vlan'], 2, 'a VNIC of a VLAN sends no tags');
  t.ok((await transferTcp(c, e)).exact, 'TCP');
  t.ok((await transferTcp(e, c, { address: c.overlay.v6 })).exact, 'and back');
});

/** Kernels without CONFIG_VLAN_8021Q have none. */
const skipUnlessVlanDevices = async (): Promise<false | string> => {
  const bed = new Bed();
  try {
    const host = await bed.host();
    const { code } = await host.run('ip link add link lo name lo.5 type vlan id 5');
    return code === 0 ? false : 'this kernel has no VLAN devices (CONFIG_VLAN_8021Q)';
  } finally {
    await bed.cleanup();
  }
};
const skipVlanDevices = skipUnlessNetns() || (await skipUnlessVlanDevices());

await t.test('VLAN devices on an overlay', { skip: skipVlanDevices }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  await startOverlay(t, bed, a, b);
  await addKernelVxlan(b, { vnetid: VNETID, local: b.underlay.v4, remote: a.underlay.v4 });
  for (const [host, device] of [
    [a, 'overlay0'],
    [b, 'vx0'],
  ] as const) {
    await host.ip(`link set ${device} up`);
    await host.ip(`link add link ${device} name tagged0 mtu 1446 type vlan id 5`);
    await host.plumb('tagged0');
  }
  t.equal((await ping(a, b.overlay.v4, { packetBytes: 1446 })).received, 3);
  t.ok((await transferTcp(a, b)).exact);
  t.ok((await transferTcp(b, a)).exact);
});

// ---------------------------------------------------------------- two networks

await t.test('two networks with the same addresses', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const daemons = [
    await Daemon.start(bed, a, { withoutRoot: true }),
    await Daemon.start(bed, b, { withoutRoot: true }),
  ] as const;
  const networks = [
    { name: 'red0', vnic: 'redvnic0', vnetid: 0, hosts: [await bed.host(), await bed.host()] },
    { name: 'blue0', vnic: 'bluevnic0', vnetid: 0xff_ffff, hosts: [await bed.host(), await bed.host()] },
  ] as const;
  const addresses = ['10.55.55.2', '10.55.55.3'] as const;
  for (const { name, vnic, vnetid, hosts } of networks) {
    for (const [side, [here, there]] of [
      [0, [a, b]],
      [1, [b, a]],
    ] as const) {
      const daemon = daemons[side].explain(t);
      const ends = { from: here.underlay.v4, to: there.underlay.v4, vnetid, name };
      await daemon.ok(directOverlay(ends, '-t'));
      await daemon.ok(`create-vnic -t -l ${name} -m 02:00:00:00:00:0${side + 1} ${vnic}`);
      await here.ip(`link set ${vnic} netns ${hosts[side].name}`);
      await hosts[side].ip(`addr add ${addresses[side]}/24 dev ${vnic}`);
      await hosts[side].ip(`link set ${vnic} up`);
    }
  }
  const sinks = await Promise.all(
    networks.map(({ hosts }) => DatagramSink.open(hosts[1], addresses[1], 7000)),
  );
  for (const [index, { name, hosts }] of networks.entries()) {
    t.equal((await ping(hosts[0], addresses[1])).received, 3, `${name}: its own hosts are reached`);
    await sendDatagrams(hosts[0], { to: addresses[1], port: 7000, payloads: [Buffer.from(name)] });
    await sinks[index].waitFor(1);
  }
  await networks[0].hosts[1].ip('link set redvnic0 down');
  t.equal(
    (await ping(networks[0].hosts[0], addresses[1], { count: 2, waitMs: 300 })).received,
    0,
    'red is down',
  );
  t.equal((await ping(networks[1].hosts[0], addresses[1])).received, 3, 'blue is not');
  t.same(
    sinks.map((sink) => sink.datagrams.map(({ payload }) => payload.toString())),
    [['red0'], ['blue0']],
    'each network has heard its own',
  );
});
