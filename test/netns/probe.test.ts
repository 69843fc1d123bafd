// dladm probe on real devices: two varpds, a narrow path with and without ICMP, two paths of which one is broken, and a peer
// that is no varpd. tshark, the kernel's own choice of a path and nftables are the judges.
import t, { type Test } from 'tap';

import type { ProbeInfo } from '../../src/control/messages.js';
import type { Finding } from '../../src/cli/doctor/finding.js';
import { ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { doctor } from '../helpers/doctor.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { type Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { newHosts, newSite } from '../helpers/site.js';
import { usual } from '../helpers/whole.js';
import { FAMILIES, newBed, OVERHEAD, routedHosts, startOverlay, UNDERLAY_MTU } from '../helpers/tunnels.js';
import { buildZlan, MappingFile } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['tcpdump', 'tshark', 'nft']);

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

const pair = (bed: Bed, ...hosts: readonly [Namespace, Namespace]): Promise<Daemon[]> =>
  Promise.all(hosts.map((host) => Daemon.start(bed, host, { withoutRoot: true })));

/** What `--json` prints, and the exit status. */
async function probe(
  daemon: Daemon,
  line: string,
): Promise<{ code: number; found: ProbeInfo; stderr: string }> {
  const { code, stdout, stderr } = await daemon.dladm('probe', '--json', ...line.split(' '));
  return { code: code ?? -1, found: (stdout === '' ? {} : JSON.parse(stdout)) as ProbeInfo, stderr };
}

t.test(
  'two varpds: there and back through the tunnel, and tshark reads both messages',
  { skip },
  async (t) => {
    for (const encap of ENCAPSULATION_NAMES)
      for (const family of usual(FAMILIES, (each) => (each === 'v4') === (encap === 'vxlan'))) {
        const { bed, a, b } = await newHosts(t);
        const one = await startOverlay(t, bed, a, b, { family, encap, more: '-p queues=2' });
        const other = await startOverlay(t, bed, b, a, { family, encap });
        await other.ok('create-vnic -l overlay0 -v 5 foo0');
        const [mac, foo] = [await b.macOf('overlay0'), await b.macOf('foo0')];
        // So that tshark sees the checksums.
        for (const host of [a, b]) await host.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
        const underlay = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
        const guest = await Capture.start(bed, b, 'overlay0');
        await b.ip('link set overlay0 up');

        const { code, found } = await probe(one, `-s 200 -c 3 overlay0 ${mac}`);
        t.equal(code, 0, `${encap} over IP${family}`);
        t.match(found, {
          v: 1,
          overlay: 'overlay0',
          port: 'overlay0',
          source: await a.macOf('overlay0'),
          mac,
          ip: null,
          vlan: 0,
          packetBytes: 200,
          method: 'loopback',
          unanswered: 0,
          peer: b.underlay[family],
          sent: 3,
          received: 3,
          dropped: null,
          mtu: null,
          paths: null,
        });
        const { min, avg, max } = found.roundTripMs!;
        t.ok(min > 0 && min <= avg && avg <= max);
        t.match(
          (await probe(one, `--vlan 5 overlay0 ${foo}`)).found,
          { received: 5, vlan: 5 },
          'a VNIC in a VLAN',
        );
        t.match(
          await probe(one, `-c 1 overlay0 ${foo}`),
          { code: EXIT.NO, found: { received: 0 } },
          'and in no other',
        );

        await underlay.stop();
        await guest.stop();
        const fields = [
          'cfm.opcode',
          'cfm.md.level',
          'cfm.lb.transaction.id',
          'cfm.tlv.type',
          'udp.srcport',
        ] as const;
        const rows = await underlay.fields('cfm', fields);
        t.equal(rows.length, 3 * 2 + 5 * 2 + 1);
        t.ok(rows.every((row) => row['cfm.md.level'][0] === '7'));
        const ids = (opcode: string): string[] =>
          rows.filter((row) => row['cfm.opcode'][0] === opcode).map((row) => row['cfm.lb.transaction.id'][0]);
        t.same(ids('2'), ids('3').slice(0, -1), 'each LBM has its LBR');
        t.equal(
          new Set(rows.map((row) => row['udp.srcport'][0])).size > 4,
          true,
          'each on a path of its own',
        );
        t.equal(
          await underlay.count('cfm && (_ws.malformed || _ws.expert.severity >= 4194304)'),
          0,
          'no warning',
        );
        t.equal(await guest.count('cfm'), 0, 'the station sees none that was answered');
        await bed.cleanup();
      }
  },
);

t.test('text, fields, and what is refused', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const one = await startOverlay(t, bed, a, b);
  const other = await startOverlay(t, bed, b, a);
  const mac = await b.macOf('overlay0');
  const text = await one.ok(`probe --mtu --paths overlay0 ${mac}`);
  t.match(
    text,
    new RegExp(
      [
        `^PROBE ${mac} through overlay0: packets of 84 bytes`,
        `5 loopback messages sent, 5 answered by varpd at ${b.underlay.v4}, 0% lost`,
        `round trip min/avg/max = [0-9.]+/[0-9.]+/[0-9.]+ ms`,
        `largest packet: 1450 bytes there and back, which is the mtu of the overlay \\(1500 on the underlay\\)`,
        `paths: 64 of 64 source ports answered\n$`,
      ].join('\n'),
    ),
  );
  t.equal(
    await one.ok(`probe -p -o target,method,peer,sourceport,sent,received overlay0 ${mac}`),
    `${mac.replaceAll(':', '\\:')}:loopback:${b.underlay.v4}:--:5:5\n`,
  );
  const table = await one.ok(`probe --paths -o sourceport,received overlay0 ${mac}`);
  t.equal(table.split('\n').length, 1 + 1 + 64 + 1, 'a row for all, and one for each path');

  const refusals: readonly [line: string, status: number, message: RegExp][] = [
    ['overlay0', EXIT.USAGE, /expected an overlay and a MAC or IP address/],
    ['overlay0 nonsense', EXIT.REFUSED, /'nonsense' is neither the MAC nor the IP address of a station/],
    ['overlay0 ff:ff:ff:ff:ff:ff', EXIT.REFUSED, /not the MAC of one station/],
    [`overlay0 ${await a.macOf('overlay0')}`, EXIT.REFUSED, /is at this host/],
    [`-s 1451 overlay0 ${mac}`, EXIT.REFUSED, /1451 bytes does not fit the mtu of overlay0, which is 1450/],
    [`-s 45 overlay0 ${mac}`, EXIT.REFUSED, /invalid packet size '45'; valid range: 46 - 8900/],
    [`-c 0 overlay0 ${mac}`, EXIT.REFUSED, /invalid number of messages '0'/],
    [`--vlan 4095 overlay0 ${mac}`, EXIT.REFUSED, /invalid VLAN identifier '4095'/],
    [`-i foo9 overlay0 ${mac}`, EXIT.NOT_FOUND, /overlay0 has no port 'foo9'/],
    [`overlay9 ${mac}`, EXIT.NOT_FOUND, /overlay9/],
    [`-p overlay0 ${mac}`, EXIT.USAGE, /output fields must be specified/],
  ];
  for (const [line, status, message] of refusals) {
    const { code, stdout, stderr } = await one.dladm('probe', ...line.split(' '));
    t.equal(code, status, line);
    t.match(stderr, message);
    t.equal(stdout, '');
  }
  await other.stop();
  const { code, found } = await probe(one, `-c 2 overlay0 ${mac}`);
  t.equal(code, EXIT.NO, 'no varpd at the other end');
  t.match(found, { received: 0, sent: 2, roundTripMs: null, method: 'loopback', unanswered: 2 });
  await a.exec('nft add table inet f');
  await a.exec(['nft', 'add chain inet f out { type filter hook output priority 0; }']);
  await a.exec('nft add rule inet f out udp dport 4789 drop');
  t.match(await probe(one, `-c 2 overlay0 ${mac}`), {
    code: EXIT.NO,
    found: { dropped: { reason: 'tx_firewall', frames: 2 } },
  });
  t.match(
    (await one.dladm('probe', '-c', '1', 'overlay0', mac)).stdout,
    /1 dropped here, tx_firewall: a firewall/,
  );
});

t.test('a path of MTU 1400, with ICMP and without', { skip }, async (t) => {
  const NARROW = 1400;
  for (const [family, left, right] of [
    ['v4', '10.88.1.2', '10.88.2.2'],
    ['v6', 'fd88:1::2', 'fd88:2::2'],
  ] as const)
    for (const isFiltered of usual([false, true], (each) => each === (family === 'v6'))) {
      const bed = newBed(t);
      const [a, router, b] = await routedHosts(bed, UNDERLAY_MTU);
      await router.ip(`link set right0 mtu ${NARROW}`);
      if (isFiltered) {
        await router.exec('nft add table inet f');
        await router.exec(['nft', 'add chain inet f out { type filter hook output priority 0; }']);
        await router.exec('nft add rule inet f out icmp type destination-unreachable drop');
        await router.exec('nft add rule inet f out icmpv6 type packet-too-big drop');
      }
      const [one, other] = await pair(bed, a, b);
      one.explain(t);
      await one.ok(directOverlay({ from: left, to: right }));
      await other.ok(directOverlay({ from: right, to: left }));
      const mac = await b.macOf('overlay0');
      const largest = NARROW - OVERHEAD[family];
      for (const [more, bytes] of [
        ['', largest],
        ['--vlan 7 ', largest - 4],
      ] as const) {
        const { code, found } = await probe(one, `-c 2 --mtu ${more}overlay0 ${mac}`);
        t.equal(code, 0);
        t.same(
          found.mtu,
          {
            packetBytes: bytes,
            underlayBytes: NARROW,
            limitBytes: UNDERLAY_MTU - OVERHEAD[family],
            isBothWays: true,
          },
          `IP${family} ${more}${isFiltered ? 'without ICMP' : 'with ICMP'}`,
        );
      }
      const learned = (await one.overlays('overlay0'))[0].counters['path_mtu_learned'];
      t.equal(learned > 0, !isFiltered, `${learned} messages were believed`);
      await bed.cleanup();
    }
});

/** Two hosts with two routers between them. What a sends takes one by its ports; what b sends, the first. */
async function twoPaths(
  bed: Bed,
): Promise<[a: Namespace, first: Namespace, second: Namespace, b: Namespace]> {
  const [a, first, second, b] = [await bed.host(), await bed.host(), await bed.host(), await bed.host()];
  for (const [index, router] of [first, second].entries())
    for (const [host, net] of [
      [a, 10 + index],
      [b, 20 + index],
    ] as const) {
      const [device, end] = [`net${net}`, `way${index}`];
      await router.ip(`link add ${device} type veth peer name ${end} netns ${host.name}`);
      await router.ip(`addr add 10.88.${net}.1/24 dev ${device}`);
      await host.ip(`addr add 10.88.${net}.2/24 dev ${end}`);
      await router.ip(`link set ${device} up`);
      await host.ip(`link set ${end} up`);
    }
  for (const [index, router] of [first, second].entries()) {
    await router.sysctl('net.ipv4.ip_forward', 1);
    await router.ip(`route add 10.88.1.2 via 10.88.${10 + index}.2`);
    await router.ip(`route add 10.88.2.2 via 10.88.${20 + index}.2`);
  }
  await a.ip('addr add 10.88.1.2/32 dev lo');
  await b.ip('addr add 10.88.2.2/32 dev lo');
  await a.sysctl('net.ipv4.fib_multipath_hash_policy', 1);
  await a.ip('route add 10.88.2.2 src 10.88.1.2 nexthop via 10.88.10.1 nexthop via 10.88.11.1');
  await b.ip('route add 10.88.1.2 src 10.88.2.2 via 10.88.20.1');
  return [a, first, second, b];
}

t.test('two paths of which one is broken', { skip }, async (t) => {
  const bed = newBed(t);
  const [a, , second, b] = await twoPaths(bed);
  const [one, other] = await pair(bed, a, b);
  one.explain(t);
  await one.ok(directOverlay({ from: '10.88.1.2', to: '10.88.2.2' }));
  await other.ok(directOverlay({ from: '10.88.2.2', to: '10.88.1.2' }));
  const mac = await b.macOf('overlay0');
  const whole = await probe(one, `--paths overlay0 ${mac}`);
  t.equal(whole.code, 0, 'both are sound');
  t.equal(whole.found.paths?.length, 64);
  const bySecond = async ({ sourcePort }: { sourcePort: number }): Promise<boolean> => {
    const route = await a.ip(`route get 10.88.2.2 from 10.88.1.2 ipproto udp sport ${sourcePort} dport 4789`);
    return route.includes('via 10.88.11.1');
  };
  const broken: number[] = [];
  for (const path of whole.found.paths ?? []) if (await bySecond(path)) broken.push(path.sourcePort);
  t.ok(
    broken.length > 10 && broken.length < 54,
    `the kernel sends ${broken.length} of 64 by the second router`,
  );
  await second.sysctl('net.ipv4.ip_forward', 0);
  const half = await probe(one, `--paths overlay0 ${mac}`);
  t.equal(half.code, EXIT.NO);
  const silent = (half.found.paths ?? []).filter(({ received }) => received === 0);
  t.same(
    silent.map(({ sourcePort }) => sourcePort),
    broken,
    'the silent ones are those',
  );
  t.ok(silent.every(({ sent, roundTripMs }) => sent === 16 && roundTripMs === null));
  const { stdout } = await one.dladm('probe', '-c', '1', '--paths', 'overlay0', mac);
  t.match(
    stdout,
    new RegExp(
      `paths: ${64 - broken.length} of 64 source ports answered\nno answer from source port ${broken[0]}: 16`,
    ),
  );
});

t.test('some source ports that a firewall drops, there and back', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const one = await startOverlay(t, bed, a, b, { family: 'v6', more: '-p vxlan/source_ports=16' });
  await startOverlay(t, bed, b, a, { family: 'v6' });
  const mac = await b.macOf('overlay0');
  for (const host of [a, b]) {
    await host.exec('nft add table inet f');
    await host.exec(['nft', 'add chain inet f in { type filter hook input priority 0; }']);
    await host.exec('nft add rule inet f in udp dport 4789 udp sport & 1 == 1 drop');
  }
  const { found } = await probe(one, `--paths overlay0 ${mac}`);
  t.equal(found.paths?.length, 16);
  for (const { sourcePort, received } of found.paths ?? [])
    t.equal(received > 0, sourcePort % 2 === 0, `source port ${sourcePort}`);
});

/** A probe of a peer that is no varpd. */
async function ofKernel(t: Test, family: 'v4' | 'v6'): Promise<void> {
  const { bed, a, b, daemon } = await newSite(t, family);
  const mac = await b.macOf('vx0');
  for (const [target, method] of [
    [b.overlay.v4, 'arp'],
    [b.overlay.v6, 'ndp'],
    [mac, 'ndp'],
  ] as const) {
    const { code, found } = await probe(daemon, `-c 2 overlay0 ${target}`);
    t.equal(code, 0, `${target}: answered`);
    t.match(found, {
      method,
      mac,
      unanswered: 2,
      sent: 2,
      received: 2,
      peer: b.underlay[family],
      paths: null,
    });
  }
  const { stdout } = await daemon.dladm('probe', '-c', '1', '--mtu', '--paths', 'overlay0', b.overlay.v4);
  t.match(stdout, /1 loopback message sent, none answered: its VTEP is not varpd, or has loopback=off/);
  t.match(stdout, /1 ARP request sent, 1 answered by the station itself at/);
  t.match(stdout, /largest packet: \d+ bytes there; the way back is not tried/);
  t.match(stdout, /paths: not tried, since only loopback messages can choose one/);
  const unknown = await probe(daemon, '-c 1 overlay0 10.55.55.99');
  t.match(unknown, { code: EXIT.NO, found: { method: 'arp', mac: null, ip: '10.55.55.99', received: 0 } });
  t.equal((await a.exec('ip neigh show 10.55.55.99')).trim(), '');
  await bed.cleanup();
}

t.test('a peer that is no varpd is asked by ARP and neighbour solicitation', { skip }, async (t) => {
  for (const family of usual(FAMILIES, (each) => each === 'v6')) await ofKernel(t, family);
});

t.test('loopback=off, and a mapping', { skip }, async (t) => {
  const bed = newBed(t);
  const file = new MappingFile(bed);
  const [zlan, zlan2, zlan3] = await buildZlan(bed, file);
  for (const { daemon } of [zlan, zlan2, zlan3]) daemon.explain(t);
  const found = await probe(zlan.daemon, `-i foo0 --mtu overlay0 ${zlan2.v4}`);
  t.match(found, {
    code: 0,
    found: { port: 'foo0', source: zlan.mac, mac: zlan2.mac, ip: zlan2.v4, method: 'loopback', received: 5 },
  });
  t.match(await probe(zlan.daemon, `-c 1 overlay0 ${zlan2.v4}`), {
    code: 0,
    found: { port: 'foo0', source: zlan.mac, received: 1 },
  });
  t.match(
    await probe(zlan.daemon, `-c 1 -i overlay0 overlay0 ${zlan2.v4}`),
    { code: EXIT.NO, found: { port: 'overlay0', received: 0 } },
    'the mapping lacks the own port, so nothing comes back to it',
  );
  t.match(await probe(zlan.daemon, `-i foo0 overlay0 ${zlan2.linkLocal}`), {
    code: 0,
    found: { mac: zlan2.mac },
  });
  t.match(await probe(zlan.daemon, '-i foo0 overlay0 10.55.55.77'), {
    code: EXIT.NOT_FOUND,
    stderr: /the mapping of overlay0 has no MAC for 10.55.55.77/,
  });
  t.match(await probe(zlan.daemon, '-i foo0 overlay0 de:ad:be:ef:00:77'), {
    code: EXIT.NO,
    found: { dropped: { reason: 'lookup_drop' } },
  });
  t.match(await zlan2.daemon.overlays('overlay0'), [{ counters: { loopback_answers: Number } }]);

  await zlan3.daemon.ok('delete-vnic baz0');
  await zlan3.daemon.ok('delete-overlay overlay0');
  const [{ properties }] = await zlan2.daemon.overlays('overlay0');
  t.match(
    properties.find(({ property }) => property === 'vxlan/loopback'),
    { value: 'on', default: 'on', possible: 'on,off' },
  );
});

t.test('doctor --probe', { skip }, async (t) => {
  const bed = newBed(t);
  const [zlan, zlan2, zlan3] = await buildZlan(bed, new MappingFile(bed));
  for (const { daemon } of [zlan, zlan2, zlan3]) daemon.explain(t);
  await zlan.host.ip('link set foo0 up');
  const place = { host: zlan.host, socket: zlan.daemon.socket, config: zlan.daemon.configFile };
  const findings = async (...options: string[]): Promise<readonly Finding[]> =>
    (await doctor(place, ...options)).findings.filter(({ code }) => code === 'PEER-ANSWERS');
  t.match(await findings(), [{ status: 'skip', about: null, advice: 'dladm doctor --probe' }]);
  t.match(await findings('--probe'), [
    { status: 'skip', about: 'overlay0', sentence: /no station of a peer/ },
  ]);
  for (const { mac } of [zlan2, zlan3]) await zlan.daemon.ok(`probe -i foo0 -c 1 overlay0 ${mac}`);
  t.match(await findings('--probe'), [{ status: 'ok', about: 'overlay0', sentence: '2 peers answered' }]);
  await zlan3.daemon.stop();
  t.match(await findings('--probe'), [
    {
      status: 'fail',
      sentence: `no answer from ${zlan3.host.underlay.v4} (${zlan3.mac}), of 2 peers that were asked`,
      advice: /^dladm probe -i foo0 overlay0 de:ad:be:ef:00:02, /,
    },
  ]);
  await zlan.daemon.ok('delete-vnic foo0');
  await zlan.daemon.stop();
  t.match(await findings('--probe'), [{ status: 'skip', sentence: 'the overlay does not run' }]);
});

t.test('with loopback=off the station gets the message', { skip }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const one = await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a, { more: '-p vxlan/loopback=off' });
  await b.quietIpv6('overlay0');
  await b.ip('link set overlay0 up');
  const guest = await Capture.start(bed, b, 'overlay0');
  const mac = await b.macOf('overlay0');
  t.match(await probe(one, `-c 2 overlay0 ${mac}`), { code: EXIT.NO, found: { received: 0 } });
  await guest.stop();
  t.equal(await guest.count('cfm.opcode == 3'), 2);
});
