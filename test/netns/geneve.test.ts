// Geneve on real devices, beside VXLAN: what both share and what they must not, with options from Open vSwitch, with the
// files plugin, over restarts, against the kernel's own where it has one. Whole tunnels are in tunnels.test.ts.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace, skipUnlessGeneveDevices, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { OpenVSwitch, skipUnlessOpenVSwitch } from '../helpers/openvswitch.js';
import { type Result, waitUntil } from '../helpers/process.js';
import { newHosts } from '../helpers/site.js';
import { ping, reaches, transferTcp } from '../helpers/traffic.js';
import { part } from '../helpers/whole.js';
import { buildZlan, MappingFile, plumb, SteadyPing } from '../helpers/zlan.js';

const MIB = 1 << 20;
const skip = skipUnlessNetns(['tcpdump', 'tshark']);

await t.test('VXLAN and Geneve, two networks each, side by side', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const capture = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp port 4789 or udp port 6081');
  const daemons = [
    await Daemon.start(bed, a, { withoutRoot: true }),
    await Daemon.start(bed, b, { withoutRoot: true }),
  ].map((each) => each.explain(t));
  const ends = [
    { daemon: daemons[0], host: a, peer: b },
    { daemon: daemons[1], host: b, peer: a },
  ];
  // The same numbers in both.
  const overlays = ENCAPSULATION_NAMES.flatMap((encap) =>
    [7, 8].map((vnetid) => ({ name: `${encap}${vnetid}`, encap, vnetid })),
  );
  const names = overlays.map(({ name }) => name);
  for (const { daemon, host, peer } of ends)
    for (const overlay of overlays)
      await daemon.ok(directOverlay({ from: host.underlay.v4, to: peer.underlay.v4, ...overlay }));
  const addAddresses = async (): Promise<void> => {
    for (const [index, { host }] of ends.entries())
      for (const [subnet, name] of names.entries())
        await host.ip(`addr add 10.77.${subnet + 1}.${index + 1}/24 dev ${name}`);
  };
  await addAddresses();
  const all = async (): Promise<number[]> =>
    Promise.all(
      names.map(async (_, index) => (await ping(a, `10.77.${index + 1}.2`, { waitMs: 5000 })).received),
    );
  t.same(await all(), [3, 3, 3, 3], 'each reaches its own');

  await t.test('one UDP port is for one encapsulation', async (t) => {
    const ends = {
      from: a.underlay.v4,
      to: b.underlay.v4,
      vnetid: 9,
      name: 'other0',
      encap: 'geneve',
    } as const;
    const create = (more: string): Promise<Result> =>
      daemons[0].dladm(...directOverlay(ends, more).split(/\s+/));
    const refused = await create('-p geneve/listen_port=4789');
    t.equal(refused.code, 7);
    t.match(
      refused.stderr,
      /encap: another overlay on 10\.88\.88\.69:4789 is vxlan; found geneve, expected vxlan, or another geneve\/listen_ip or geneve\/listen_port/,
    );
    const foreign = await create(`-p vxlan/listen_ip=${a.underlay.v4} -p geneve/accept=some`);
    t.match(foreign.stderr, /vxlan\/listen_ip: no such property: did you mean geneve\/listen_ip\?/);
    t.match(foreign.stderr, /geneve\/accept: found 'some', expected one of known, any/);
  });

  await t.test('rows are as for VXLAN', async (t) => {
    const rows = (await daemons[0].ok('show-overlay -p -o property,value geneve7')).split('\n');
    for (const row of [
      'encap:geneve',
      'geneve/listen_port:6081',
      'mtu:1450',
      'vnetid:7',
      'geneve/accept:known',
    ])
      t.ok(rows.includes(row), row);
    t.notOk(rows.some((row) => row.startsWith('vxlan/')));
  });

  await t.test('a restart keeps all four, and frames move meanwhile', async (t) => {
    const steady = await Promise.all(names.map((_, index) => SteadyPing.start(a, `10.77.${index + 1}.2`)));
    for (const daemon of daemons) await daemon.ok('restart');
    const lost = await Promise.all(steady.map(async (each) => (await each.stop()).lost));
    t.same(lost, [0, 0, 0, 0], 'by dladm restart: none lost');
    for (const daemon of daemons) {
      await daemon.restart();
    }
    await addAddresses();
    t.same(await all(), [3, 3, 3, 3], 'by stop and start');
    t.match(await daemons[1].ok('show-overlay -f'), /geneve8\s+ONLINE/);
  });

  await capture.stop();
  const none = [
    'udp.dstport == 4789 && !vxlan',
    'udp.dstport == 6081 && !geneve',
    'geneve && (geneve.version != 0 || geneve.options || geneve.flags != 0)',
    '_ws.malformed',
  ];
  const some = overlays.map(({ encap, vnetid }) => `${encap}.vni == ${vnetid} && icmp`);
  const counts = await capture.counts(...none, ...some);
  for (const [index, filter] of none.entries()) t.equal(counts[index], 0, filter);
  for (const [index, filter] of some.entries()) t.ok(counts[none.length + index] > 0, filter);
});

await t.test('options of Open vSwitch', { skip: skip || skipUnlessOpenVSwitch() }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  await b.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
  const ovs = await OpenVSwitch.start(bed, a);
  const daemon = (await Daemon.start(bed, b, { withoutRoot: true })).explain(t);
  const ends = { from: b.underlay.v4, to: a.underlay.v4, encap: 'geneve' } as const;
  await daemon.ok(directOverlay(ends, '-p mtu=1300'));
  await b.plumb('overlay0');
  await a.ip('link set br-int mtu 1300');
  await ovs.tunnel(a.underlay.v4, b.underlay.v4, 42, 'geneve');
  t.ok(await reaches(a, b.overlay.v4), 'without any');
  const flows = path.join(bed.directory(), 'flows');
  /** What goes into the tunnel gets these actions before. */
  const send = async (...actions: readonly string[]): Promise<void> => {
    const out = [...actions, 'output:tunnel0'].join(',');
    writeFileSync(flows, `in_port=LOCAL,actions=${out}\nin_port=tunnel0,actions=LOCAL\n`);
    await ovs.openflow('replace-flows', flows);
  };

  await t.test('are passed over', async (t) => {
    await ovs.openflow('add-tlv-map', '{class=0xffff,type=0x01,len=4}->tun_metadata0');
    await ovs.openflow('add-tlv-map', '{class=0x0102,type=0x7f,len=124}->tun_metadata1');
    await send('set_field:0x1234->tun_metadata0', `set_field:0x${'ab'.repeat(124)}->tun_metadata1`);
    const capture = await Capture.start(bed, b, UNDERLAY_DEVICE, 'udp port 6081');
    // A switch that has just got new flows may lose what it is given meanwhile.
    const areAnswered = async (): Promise<boolean> =>
      (await ping(a, b.overlay.v4, { packetBytes: 1300 })).received === 3;
    await waitUntil(areAnswered, { what: 'three answers of three' });
    t.pass('packets with them are answered');
    const carried = 'geneve.option.class == 0xffff && geneve.option.class == 0x0102';
    t.ok((await capture.count(carried)) > 0, 'they were there');
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as readonly (readonly [Namespace, Namespace])[]) {
      const transfer = await transferTcp(from, to, { bytes: part(20 * MIB) });
      t.ok(transfer.exact, 'TCP, byte by byte');
    }
  });

  await t.test('that are critical are not', async (t) => {
    await ovs.openflow('add-tlv-map', '{class=0x0102,type=0x81,len=4}->tun_metadata2');
    await send('set_field:0x1->tun_metadata2');
    const grown = await daemon.counted(() => ping(a, b.overlay.v4, { waitMs: 500 }), 'overlay0', {
      rx_critical_option: 1,
    });
    t.ok(grown['rx_critical_option'] > 0, 'dropped, and counted');
    t.notOk(grown['rx_frames'], 'none of them came through');
    await send();
    t.ok(await reaches(a, b.overlay.v4), 'without them all is as before');
  });
});

await t.test('the files plugin, proxies and protection', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const file = new MappingFile(bed);
  // The port of Geneve in every place.
  file.replace(
    Object.fromEntries(Object.entries(file.article).map(([mac, entry]) => [mac, { ...entry, port: 6081 }])),
  );
  const stations = await buildZlan(bed, file, { encap: 'geneve' });
  for (const station of stations) await plumb(station);
  for (const from of stations)
    for (const to of stations.filter((each) => each !== from))
      t.equal(
        (await ping(from.host, to.v4, { waitMs: 5000 })).received,
        3,
        `${from.device} reaches ${to.device}`,
      );
  const [{ daemon, device, host }, other] = stations;
  const [{ counters }] = await daemon.overlays('overlay0');
  t.ok(counters['proxy_arp'] > 0, 'addresses were answered here');
  t.match(await daemon.ok(`check-mapping ${file.path}`), /3 entries/);
  await daemon.ok(`set-linkprop -p protection=ip-nospoof,allowed-ips=10.55.55.99 ${device}`);
  const grown = await daemon.counted(() => ping(host, other.v4, { waitMs: 300 }), 'overlay0', {
    ip_spoofed: 1,
  });
  t.ok(grown['ip_spoofed'] > 0, 'a VNIC may not send from an address that is not its own');
});

await t.test("the kernel's own Geneve", { skip: skip || (await skipUnlessGeneveDevices()) }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  await b.ip(`link add gnv0 type geneve id 42 remote ${a.underlay.v4}`);
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, encap: 'geneve' }));
  await a.plumb('overlay0');
  await b.plumb('gnv0', { mtuBytes: 1450 });
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  t.equal((await ping(b, a.overlay.v6, { packetBytes: 1450 })).received, 3, 'the largest packet');
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as readonly (readonly [Namespace, Namespace])[])
    t.ok((await transferTcp(from, to, { bytes: part(100 * MIB) })).exact, 'TCP, byte by byte');
});
