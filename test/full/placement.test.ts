// Who is where, with real kernels: guests behind a bridge on the overlay's own interface, that interface while nobody uses
// it, the same MAC at two hosts, and the MTU of the way to the peers.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { exec, waitUntil } from '../helpers/process.js';
import { FrameSink, ping, reaches, sendFrames } from '../helpers/traffic.js';
import { part, usual } from '../helpers/whole.js';
import { arpFrame, ndpFrame } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['bridge', 'tc']);

const GUEST_MAC = '02:00:00:00:00:a2';
const GUEST = { v4: '10.55.55.33', v6: 'fd55::33' };

async function twoHosts(t: Test): Promise<{ bed: Bed; a: Namespace; b: Namespace }> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  return { bed, a, b };
}

async function start(t: Test, bed: Bed, host: Namespace, config = {}): Promise<Daemon> {
  return (await Daemon.start(bed, host, { config, withoutRoot: true })).explain(t);
}

/** A station in a namespace of its own, behind a bridge on a device of the host. */
async function addGuest(bed: Bed, host: Namespace, device: string): Promise<Namespace> {
  const guest = await bed.host();
  await host.ip('link add br1 type bridge mcast_snooping 0');
  await host.ip('link set br1 up');
  await host.ip(`link set ${device} master br1`);
  await plug(host, guest);
  return guest;
}

async function plug(host: Namespace, guest: Namespace): Promise<void> {
  await exec(`ip link add eth0 netns ${guest.name} type veth peer name guest0 netns ${host.name}`);
  await host.ip('link set guest0 up master br1');
  await guest.ip(`link set eth0 address ${GUEST_MAC} mtu 1430`);
  await guest.ip('link set eth0 up');
  await guest.ip(`addr add ${GUEST.v4}/24 dev eth0`);
  await guest.ip(`addr add ${GUEST.v6}/64 dev eth0 nodad`);
}

async function reach(t: Test, from: Namespace, to: { v4: string; v6: string }, what: string): Promise<void> {
  for (const target of [to.v4, to.v6]) t.ok(await reaches(from, target, 10_000), `${what}: ${target}`);
}

interface MappedStation {
  readonly mac: string;
  readonly vtep: string;
  readonly v4: string;
  readonly v6: string;
}

function writeMapping(file: string, stations: readonly MappedStation[]): void {
  const entries = stations.map(({ mac, vtep, v4, v6 }) => [mac, { ip: vtep, port: 4789, arp: v4, ndp: v6 }]);
  writeFileSync(file, JSON.stringify(Object.fromEntries(entries)));
}

const filesOverlay = (from: string, file: string, more = ''): string =>
  `create-overlay -e vxlan -s files -v 42 -p vxlan/listen_ip=${from} -p files/config=${file} ${more} overlay0`;

await t.test('files: a guest behind a bridge and the VNICs of its host', { skip }, async (t) => {
  const { bed, a, b } = await twoHosts(t);
  const file = path.join(bed.directory(), 'hosts.json');
  const stations = [
    { mac: '02:00:00:00:00:a1', vtep: a.underlay.v4, ...a.overlay },
    { mac: GUEST_MAC, vtep: a.underlay.v4, ...GUEST },
    { mac: '02:00:00:00:00:b1', vtep: b.underlay.v4, ...b.overlay },
  ];
  writeMapping(file, stations);
  const daemons: Daemon[] = [];
  for (const [host, mac] of [
    [a, '02:00:00:00:00:a1'],
    [b, '02:00:00:00:00:b1'],
  ] as const) {
    const daemon = await start(t, bed, host);
    await daemon.ok(filesOverlay(host.underlay.v4, file, '-p queues=2'));
    await daemon.ok(`create-vnic -l overlay0 -m ${mac} foo0`);
    await host.plumb('foo0');
    daemons.push(daemon);
  }
  const guest = await addGuest(bed, a, 'overlay0');
  const all = async (when: string): Promise<void> => {
    await reach(t, a, GUEST, `${when}: from the VNIC to the guest`);
    await reach(t, guest, a.overlay, `${when}: from the guest to the VNIC`);
    await reach(t, b, GUEST, `${when}: from the other host to the guest`);
    await reach(t, guest, b.overlay, `${when}: from the guest to the other host`);
  };
  await all('at first');
  const rows = await daemons[0].ok('show-overlay -t overlay0');
  t.match(rows, new RegExp(`02:00:00:00:00:a2 +${a.underlay.v4}:4789`), 'it lives here, says the table');
  await daemons[0].ok('restart');
  await all('after a restart');

  writeMapping(
    file,
    stations.map((one) => (one.mac === GUEST_MAC ? { ...one, vtep: b.underlay.v4 } : one)),
  );
  await a.ip('link del guest0');
  await b.ip('link add br1 type bridge mcast_snooping 0');
  await b.ip('link set br1 up');
  await b.ip('link set overlay0 master br1');
  await plug(b, guest);
  await all('moved to the other host');
});

for (const queues of usual([1, 2], (count) => count === 2))
  await t.test(
    `direct, ${queues} queues: a guest behind a bridge is heard, and followed`,
    { skip },
    async (t) => {
      const { bed, a, b } = await twoHosts(t);
      const daemon = await start(t, bed, a);
      await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, `-p queues=${queues}`));
      await daemon.ok('create-vnic -l overlay0 foo0');
      await a.plumb('foo0');
      const vx = await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
      await b.ip('link add br1 type bridge mcast_snooping 0');
      await b.ip(`link set ${vx} mtu 1450 up master br1`);
      await b.plumb('br1');
      const guest = await addGuest(bed, a, 'overlay0');
      const all = async (when: string): Promise<void> => {
        await reach(t, a, GUEST, `${when}: from the VNIC to the guest`);
        await reach(t, guest, a.overlay, `${when}: from the guest to the VNIC`);
        await reach(t, b, GUEST, `${when}: from the other host to the guest`);
        await reach(t, guest, b.overlay, `${when}: from the guest to the other host`);
        await reach(t, b, a.overlay, `${when}: from the other host to the VNIC`);
      };
      await all('at first');
      await daemon.ok('restart');
      const { received } = await ping(a, GUEST.v4, { count: 10 });
      t.equal(received, 10, 'after a restart, from the first packet on');

      // Nobody asks again: the neighbours keep what they know, and the guest says that it is there.
      await a.ip('link del guest0');
      await plug(b, guest);
      await all('moved to the other host');
      t.match(await daemon.overlays('overlay0'), [{ health: { status: 'ONLINE' } }]);
    },
  );

await t.test('direct: a virtual MAC on the own interface', { skip }, async (t) => {
  const { bed, a, b } = await twoHosts(t);
  const daemon = await start(t, bed, a);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip('link set vx0 mtu 1450');
  await b.plumb('vx0', { v6: false });
  const container = await bed.host();
  await a.ip(`link set foo0 netns ${container.name}`);
  await container.plumb('foo0', { v6: false });
  // As keepalived makes it (use_vmac).
  await a.ip('link add link overlay0 name vrrp0 address 00:00:5e:00:01:17 type macvlan mode private');
  await a.ip('addr add 10.55.55.99/24 dev vrrp0');
  await a.ip('link set vrrp0 up');
  t.ok(await reaches(container, '10.55.55.99'), 'from a VNIC of the same host');
  t.ok(await reaches(b, '10.55.55.99'), 'from the other host');
});

// -- The overlay's own interface

/** Who answers a question: the MACs, until one that is surely answered has been, twice. What has no answer then has none. */
async function answersTo(
  host: Namespace,
  device: string,
  question: Uint8Array,
  sure: Uint8Array,
): Promise<string[]> {
  const sink = await FrameSink.open(host, device);
  const answers = (): string[] =>
    sink.frames
      .filter((frame) => isAnswer(frame))
      .map((frame) =>
        frame
          .subarray(6, 12)
          .toString('hex')
          .replace(/..(?=.)/g, '$&:'),
      );
  await sendFrames(host, device, [question, sure]);
  await waitUntil(() => answers().length > 0, { what: 'an answer' });
  const before = answers().length;
  await sendFrames(host, device, [sure]);
  await waitUntil(() => answers().length > before, { what: 'another answer' });
  await sink.close();
  return answers();
}

/** ARP replies, and neighbour advertisements. */
function isAnswer(frame: Buffer): boolean {
  const type = frame.readUInt16BE(12);
  return type === 0x0806 ? frame[21] === 2 : type === 0x86dd && frame[20] === 58 && frame[54] === 136;
}

const macNumber = (mac: string): number => Number(`0x${mac.replaceAll(':', '')}`);

await t.test('the own interface is no station of its network', { skip }, async (t) => {
  const { bed, a, b } = await twoHosts(t);
  const [daemonA, daemonB] = [await start(t, bed, a), await start(t, bed, b)];
  const ends = { from: a.underlay.v4, to: b.underlay.v4 };
  const back = { from: b.underlay.v4, to: a.underlay.v4 };
  await daemonA.ok(directOverlay(ends));
  await daemonB.ok(directOverlay(back));
  for (const [host, daemon] of [
    [a, daemonA],
    [b, daemonB],
  ] as const) {
    await daemon.ok('create-vnic -l overlay0 foo0');
    await host.plumb('foo0');
  }
  // Another network, whose guest is in a container of host B.
  await daemonA.ok(directOverlay({ ...ends, vnetid: 43, name: 'other0' }));
  await daemonB.ok(directOverlay({ ...back, vnetid: 43, name: 'other0' }));
  await daemonB.ok('create-vnic -l other0 h0');
  const container = await bed.host();
  await b.ip(`link set h0 netns ${container.name}`);
  await container.plumb('h0');
  await daemonA.ok('create-vnic -l other0 g0');
  await a.ip('link set g0 up');
  await a.ip('addr add 10.66.66.1/24 dev g0');
  await a.ip('addr add fd66::1/64 dev g0 nodad');

  await t.test('ARP: one answer, by who has the address, and none in another network', async (t) => {
    const foo = await b.macOf('foo0');
    const arp = (from: string, senderIp: string, targetIp: string): Uint8Array =>
      arpFrame({ from, senderIp, targetIp });
    const own = arp(await a.macOf('foo0'), a.overlay.v4, b.overlay.v4);
    t.same(new Set(await answersTo(a, 'foo0', own, own)), new Set([foo]), 'the VNIC alone');
    const h0 = await container.macOf('h0');
    const foreign = arp(h0, container.overlay.v4, a.overlay.v4);
    const known = arp(h0, container.overlay.v4, '10.66.66.1');
    const g0 = await a.macOf('g0');
    t.same(
      new Set(await answersTo(container, 'h0', foreign, known)),
      new Set([g0]),
      'none in another network',
    );
  });

  await t.test('neighbour discovery alike', async (t) => {
    const solicit = (mac: string, source: string, target: string): Uint8Array => {
      const last = target.split('::')[1].padStart(2, '0').slice(-2);
      return ndpFrame({
        to: `33:33:ff:00:00:${last}`,
        from: mac,
        source,
        destination: `ff02::1:ff00:${last}`,
        message: { kind: 'neighborSolicitation', target: target as never, sourceMac: macNumber(mac) },
      });
    };
    const [foo, g0, h0] = [await b.macOf('foo0'), await a.macOf('g0'), await container.macOf('h0')];
    const own = solicit(await a.macOf('foo0'), a.overlay.v6, b.overlay.v6);
    t.same(new Set(await answersTo(a, 'foo0', own, own)), new Set([foo]), 'the VNIC alone');
    const foreign = solicit(h0, container.overlay.v6, a.overlay.v6);
    const known = solicit(h0, container.overlay.v6, 'fd66::1');
    t.same(
      new Set(await answersTo(container, 'h0', foreign, known)),
      new Set([g0]),
      'none in another network',
    );
  });

  await t.test('what is for the VNIC comes by the VNIC: a firewall by interface sees it', async (t) => {
    const received = async (device: string): Promise<number> =>
      Number(await b.exec(`cat /sys/class/net/${device}/statistics/rx_packets`));
    const foo = await b.macOf('foo0');
    for (const target of [b.overlay.v4, b.overlay.v6]) {
      for (let round = 0; round < part(4); round++) {
        await a.ip('neigh flush dev foo0');
        const before = await received('foo0');
        const result = await ping(a, target);
        t.same([result.received, result.duplicates], [3, 0], target);
        t.ok((await received('foo0')) >= before + 3, 'by the VNIC');
        t.match(await a.ip(`neigh show ${target} dev foo0`), foo);
      }
    }
  });

  await t.test('no automatic address, until an address or a bridge is put on it', async (t) => {
    const linkLocal = async (device: string): Promise<string[]> => {
      const [link] = JSON.parse(await a.ip(`-j -6 addr show dev ${device} scope link`)) as [
        { addr_info?: { local?: string }[] }?,
      ];
      return (link?.addr_info ?? []).flatMap(({ local }) => local ?? []);
    };
    const appears = async (device: string, what: string): Promise<void> => {
      await waitUntil(async () => (await linkLocal(device)).length === 1, { what });
      t.pass(what);
    };
    t.same([await linkLocal('overlay0'), await linkLocal('other0')], [[], []]);
    t.equal((await linkLocal('g0')).length, 1, 'a VNIC has one, as any link');
    await a.ip('addr add 10.77.77.1/24 dev overlay0');
    await appears('overlay0', 'with an IPv4 address');
    await a.ip('link add br1 type bridge');
    await a.ip('link set other0 master br1');
    await appears('other0', 'with a master');
    await daemonA.ok(directOverlay({ ...ends, vnetid: 44, name: 'third0' }));
    await a.ip('addr add fd77::1/64 dev third0');
    await appears('third0', 'with an IPv6 address');

    await a.ip('link set overlay0 addrgenmode none');
    await a.ip('addr flush dev overlay0');
    await a.sysctl('net.ipv4.conf.overlay0.arp_ignore', 0);
    await a.ip('addr add 10.77.77.1/24 dev overlay0');
    await daemonA.ok('restart');
    await a.ip('addr add 10.77.77.2/24 dev overlay0');
    t.same(await linkLocal('overlay0'), [], 'what the operator has set stays');
    t.equal(
      (await a.exec('cat /proc/sys/net/ipv4/conf/overlay0/arp_ignore')).trim(),
      '0',
      'over a restart too',
    );
    await daemonA.ok(directOverlay({ ...ends, vnetid: 45, name: 'fourth0' }));
    await daemonA.ok('restart');
    t.same(await linkLocal('fourth0'), [], 'a restart makes none');
    await a.ip('addr add 10.78.78.1/24 dev fourth0');
    await appears('fourth0', 'but knows that it is still to come');
  });
});

// -- The MTU

await t.test('the MTU is that of the routes to the peers', { skip }, async (t) => {
  const { bed, a, b } = await twoHosts(t);
  const daemon = await start(t, bed, a);
  const file = path.join(bed.directory(), 'hosts.json');
  await a.ip('addr add 9.9.9.1/32 dev lo');
  await a.ip('addr add fd99::1/128 dev lo');
  await a.ip(`route add 9.9.9.2 via ${b.underlay.v4} src 9.9.9.1`);
  await a.ip(`route add 9.9.9.3 via ${b.underlay.v4} src 9.9.9.1 mtu 1400`);
  await a.ip(`route add fd99::2 via ${b.underlay.v6} src fd99::1`);
  const rows: [what: string, listen: string, peers: readonly string[], mtuBytes: number][] = [
    ['one peer', '9.9.9.1', ['9.9.9.2'], 1450],
    ['the narrowest of two', '9.9.9.1', ['9.9.9.2', '9.9.9.3'], 1350],
    ['over IPv6', 'fd99::1', ['fd99::2'], 1430],
    ['none to the one there is', '9.9.9.1', ['192.0.2.99'], 1450],
    ['no peer but itself', '9.9.9.1', [], 1450],
    ['no peer, over IPv6', 'fd99::1', [], 1430],
    ['the link has the address', a.underlay.v4, [], 1450],
  ];
  for (const [what, listen, peers, mtuBytes] of rows) {
    const stations = [listen, ...peers].map((vtep, index) => [
      `02:00:00:00:00:0${index}`,
      { ip: vtep, port: 4789 },
    ]);
    writeFileSync(file, JSON.stringify(Object.fromEntries(stations)));
    await daemon.ok(filesOverlay(listen, file));
    t.equal(await a.mtuOf('overlay0'), mtuBytes, what);
    await daemon.ok('delete-overlay overlay0');
  }
  const many = Array.from({ length: part(100_000) }, (_, index) => [
    (0x0200_0000_0000 + index)
      .toString(16)
      .padStart(12, '0')
      .replace(/..(?=.)/g, '$&:'),
    { ip: `10.${88 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`, port: 4789 },
  ]);
  writeFileSync(file, JSON.stringify(Object.fromEntries(many)));
  await daemon.ok(filesOverlay('9.9.9.1', file));
  t.equal(await a.mtuOf('overlay0'), 1450, 'many, and a route to few of them');
});

// -- The same MAC at two hosts

const VM_MAC = '02:00:00:00:00:aa';

for (const search of ['direct', 'files'] as const)
  await t.test(`${search}: a guest that moves, its VNIC made ready`, { skip }, async (t) => {
    const { bed, a, b } = await twoHosts(t);
    const file = path.join(bed.directory(), 'hosts.json');
    const vm = { mac: VM_MAC, v4: '10.55.55.10', v6: 'fd55::10' };
    const place = (vtep: string): void => {
      writeMapping(file, [
        { mac: '02:00:00:00:00:b1', vtep: b.underlay.v4, ...b.overlay },
        { ...vm, vtep },
      ]);
    };
    place(a.underlay.v4);
    const daemons: Daemon[] = [];
    for (const [host, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const daemon = await start(t, bed, host);
      await daemon.ok(
        search === 'files'
          ? filesOverlay(host.underlay.v4, file, '-p files/flood=on')
          : directOverlay({ from: host.underlay.v4, to: other.underlay.v4 }),
      );
      daemons.push(daemon);
    }
    const [onA, onB] = daemons;
    await onB.ok('create-vnic -l overlay0 -m 02:00:00:00:00:b1 foo0');
    await b.plumb('foo0');
    await onA.ok(`create-vnic -l overlay0 -m ${VM_MAC} vm0`);
    const guest = await bed.host();
    const live = async (host: Namespace): Promise<void> => {
      await host.ip(`link set vm0 netns ${guest.name}`);
      await guest.ip('link set vm0 up');
      await guest.ip(`addr add ${vm.v4}/24 dev vm0`);
      await guest.ip(`addr add ${vm.v6}/64 dev vm0 nodad`);
    };
    await live(a);
    await reach(t, b, vm, 'at home');

    for (const state of ['down', 'up and silent'] as const) {
      // Nobody is behind it: the host itself would announce itself there, and answer for its other addresses.
      await b.quietNewDevices();
      await b.sysctl('net.ipv4.conf.all.arp_ignore', 1);
      await onB.ok(`create-vnic -l overlay0 -m ${VM_MAC} vm0`);
      if (state === 'down') await b.ip('link set vm0 down');
      await b.ip('neigh flush dev foo0');
      const grown = await onB.counted(async () => {
        for (const target of [vm.v4, vm.v6]) {
          const { received } = await ping(b, target, { count: 5 });
          t.equal(received, 5, `its next VNIC is ${state}: ${target}`);
        }
      });
      t.notOk(grown['rx_bad_source'], `${state}: no loop`);
      if (state === 'down') await onB.ok('delete-vnic vm0');
    }

    await guest.ip('link set vm0 down');
    await guest.ip('link set vm0 name old0');
    place(b.underlay.v4);
    await b.sysctl('net.ipv6.conf.vm0.disable_ipv6', 0);
    await live(b);
    await reach(t, b, vm, 'moved');
    await onA.ok('create-vnic -l overlay0 -m 02:00:00:00:00:a9 foo0');
    if (search === 'direct') {
      await a.plumb('foo0');
      await reach(t, a, vm, 'and from where it was, though its VNIC there has not been deleted');
    }
  });

await t.test('the same MAC in use at two hosts is said', { skip }, async (t) => {
  const { bed, a, b } = await twoHosts(t);
  const daemon = await start(t, bed, a);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok(`create-vnic -l overlay0 -m ${VM_MAC} vm0`);
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip(`link set vx0 address ${VM_MAC} mtu 1450 up`);
  const arp = arpFrame({ from: VM_MAC, senderIp: '10.55.55.10', targetIp: '10.55.55.11' });
  await a.ip('link set vm0 up');
  const line = `frames from ${b.underlay.v4} are refused: their source is 02:00:00:00:00:aa, which port vm0`;
  const isSaid = async (): Promise<boolean> => {
    await Promise.all([sendFrames(a, 'vm0', [arp, arp]), sendFrames(b, 'vx0', [arp, arp])]);
    return daemon.log().includes(line);
  };
  await waitUntil(isSaid, { what: 'the log to say it' });
  const isDegraded = async (): Promise<boolean> => {
    await isSaid();
    const [{ health }] = await daemon.overlays('overlay0');
    return health.status === 'DEGRADED' && (health.details ?? '').includes(line);
  };
  await waitUntil(isDegraded, { what: 'the health, when it goes on' });
  t.ok(daemon.log().split(line).length - 1 <= 4, 'not each time');
});

await t.test('a VNIC that speaks as another is said', { skip }, async (t) => {
  const { bed, a, b } = await twoHosts(t);
  const daemon = await start(t, bed, a);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  const grown = await daemon.counted(async () => {
    await sendFrames(a, 'foo0', [
      arpFrame({ from: '00:00:5e:00:01:17', senderIp: '10.55.55.10', targetIp: '10.55.55.11' }),
    ]);
    const said = 'port foo0 sends from 00:00:5e:00:01:17, which is not its MAC';
    await waitUntil(() => daemon.log().includes(said), { what: 'the log to say it' });
  });
  t.equal(grown['tx_other_source'], 1);
});
