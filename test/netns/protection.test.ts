// Link protection against real attackers and with real clients: a guest on one host, its victim on another. Rows S2 to S6
// are those of the conformance tables.
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { encapsulated, toHex, udpFrame } from '../helpers/frames.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { type Child, findArping, waitUntil } from '../helpers/process.js';
import { FrameSink, ping, reaches, sendDatagrams, sendFrames, transferTcp } from '../helpers/traffic.js';
import { arpFrame, buildZlan, changed, MappingFile, ndpFrame, plumb } from '../helpers/zlan.js';

const skip = skipUnlessNetns();
const ALL = 'protection=mac-nospoof,ip-nospoof,dhcp-nospoof,restricted';
const GUEST_MAC = '02:00:00:00:00:0a';
const VICTIM_MAC = '02:00:00:00:00:0b';

interface Site {
  readonly bed: Bed;
  readonly guest: Namespace;
  readonly victim: Namespace;
  readonly daemon: Daemon;
}

/** foo0 of the guest and bar0 of the victim, with addresses and without protection. */
async function site(t: Test): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [guest, victim] = await bed.twoHosts();
  const make = async (host: Namespace, peer: Namespace, vnic: string): Promise<Daemon> => {
    const daemon = await Daemon.start(bed, host, { withoutRoot: true });
    daemon.explain(t);
    await daemon.ok(directOverlay({ from: host.underlay.v4, to: peer.underlay.v4 }));
    await daemon.ok(`create-vnic -l overlay0 ${vnic}`);
    return daemon;
  };
  const [daemon] = await Promise.all([
    make(guest, victim, `-m ${GUEST_MAC} foo0`),
    make(victim, guest, `-m ${VICTIM_MAC} bar0`),
  ]);
  // What the hosts' own interfaces say is nobody's attack.
  for (const host of [guest, victim]) await host.ip('link set overlay0 down');
  return { bed, guest, victim, daemon };
}

async function startDhcpServer(bed: Bed, host: Namespace, device: string, range: string): Promise<Child> {
  const child = host.spawn([
    ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--log-facility=-', '--log-dhcp'],
    ...['--port=0', '--user=root', `--interface=${device}`, '--bind-interfaces', '--no-ping'],
    ...['--dhcp-authoritative', `--dhcp-range=${range},255.255.255.0,1h`],
    ...[`--dhcp-leasefile=${bed.directory()}/leases`, '--pid-file='],
  ]);
  await child.waitForOutput(/DHCP, IP range/);
  return child;
}

/** A script for udhcpc and dhclient: the address goes on the device. */
function addressScript(bed: Bed): string {
  const directory = bed.directory();
  const file = path.join(directory, 'address.sh');
  const lines = [
    '#!/bin/sh',
    'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
    'case "$1$reason" in',
    'bound | renew) ip addr replace "$ip/24" dev "$interface" ;;',
    'BOUND | RENEW | REBOOT) ip addr replace "$new_ip_address/24" dev "$interface" ;;',
    'esac',
    'exit 0',
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  chmodSync(file, 0o755);
  chmodSync(directory, 0o755);
  return file;
}

await t.test('a guest that attacks', { skip }, async (t) => {
  const { bed, guest, victim, daemon } = await site(t);
  await guest.plumb('foo0');
  await victim.plumb('bar0');
  t.ok(await reaches(guest, victim.overlay.v4));
  const allowed = `allowed-ips=${guest.overlay.v4},${guest.overlay.v6}`;
  const protect = () => daemon.ok(`set-linkprop -p ${ALL},${allowed} foo0`);
  const counterOfGuest = async (name: string) =>
    (await daemon.vnics()).find((vnic) => vnic.name === 'foo0')?.counters[name] ?? -1;

  const reachesCount = async (name: string, count: number): Promise<void> => {
    await waitUntil(async () => (await counterOfGuest(name)) >= count, { what: `${count} of ${name}` });
    t.pass(`${count} are counted as ${name}`);
  };

  await t.test('set under way, ordinary traffic loses nothing', async (t) => {
    const child = guest.spawn(['ping', '-n', '-c', '200', '-i', '0.01', victim.overlay.v4]);
    await child.waitForOutput(/icmp_seq=20 /);
    await protect();
    await child.exited;
    t.match(child.stdout, ' 200 received', 'not one is lost');
    t.equal((await ping(guest, victim.overlay.v6)).received, 3);
    t.ok((await transferTcp(guest, victim, { bytes: 20 << 20 })).exact, 'superframes pass');
    await guest.ip(`neigh flush dev foo0`);
    t.equal((await ping(guest, victim.overlay.v4)).received, 3, 'and ARP');
  });

  await t.test('frames made by hand (S3, S4, S5, S6)', async (t) => {
    const { v4 } = guest.overlay;
    const victimV4 = victim.overlay.v4;
    const asGuest = { sourceMac: GUEST_MAC, destinationMac: VICTIM_MAC, destination: victimV4 };
    const dhcpServer = { sourcePort: 67, destinationPort: 68, destination: '255.255.255.255' };
    const bpdu = Buffer.concat([Buffer.from('0180c200000002000000000a0026424203', 'hex'), Buffer.alloc(43)]);
    const lldp = Buffer.concat([Buffer.from('0180c200000e02000000000a88cc0207', 'hex'), Buffer.alloc(44)]);
    const advertisement = ndpFrame({
      from: GUEST_MAC,
      source: 'fe80::ff:fe00:a',
      destination: 'ff02::1',
      message: {
        kind: 'routerAdvertisement',
        hopLimit: 64,
        managed: false,
        other: false,
        lifetimeS: 1800,
        reachableMs: 0,
        retransmitMs: 0,
        sourceMac: undefined,
      },
    });
    const neighbour = ndpFrame({
      to: VICTIM_MAC,
      from: GUEST_MAC,
      source: 'fe80::ff:fe00:a',
      destination: victim.overlay.v6,
      message: {
        kind: 'neighborAdvertisement',
        target: 'fd55::1' as never,
        router: false,
        solicited: true,
        override: true,
        targetMac: 0x0200_0000_000a,
      },
    });
    const ofAnother = arpFrame({ from: GUEST_MAC, senderIp: '10.55.55.1', targetIp: victimV4, operation: 2 });
    const otherSender = arpFrame({
      from: GUEST_MAC,
      senderMac: VICTIM_MAC,
      senderIp: v4,
      targetIp: victimV4,
      operation: 2,
    });
    const rows: [what: string, reason: string, frame: Uint8Array][] = [
      ["another's MAC", 'mac_spoofed', udpFrame({ ...asGuest, sourceMac: '02:00:00:00:00:99', source: v4 })],
      ["ARP with another's MAC", 'mac_spoofed', otherSender],
      ["another's address", 'ip_spoofed', udpFrame({ ...asGuest, source: '10.55.55.1' })],
      ["ARP for another's address", 'ip_spoofed', ofAnother],
      ["ND for another's address", 'ip_spoofed', neighbour],
      ['router advertisement', 'rogue_router', advertisement],
      ['DHCP server', 'rogue_dhcp', udpFrame({ ...dhcpServer, sourceMac: GUEST_MAC, source: v4 })],
      ['BPDU', 'restricted', bpdu],
      ['LLDP', 'restricted', lldp],
      ['cut off', 'unreadable', udpFrame({ ...asGuest, source: v4 }).subarray(0, 30)],
    ];
    const good = udpFrame({ ...asGuest, source: v4 });
    const sink = await FrameSink.open(victim, 'bar0');
    for (const [what, reason, frame] of rows) {
      const before = await counterOfGuest(reason);
      const send = () => sendFrames(guest, 'foo0', [frame]);
      const grown = await daemon.counted(send, 'overlay0', { [reason]: 1 });
      t.equal(grown[reason], 1, what, { grown });
      await reachesCount(reason, before + 1);
      t.equal((await counterOfGuest(reason)) - before, 1, `${what}: counted for the VNIC`);
    }
    await sendFrames(guest, 'foo0', [good]);
    await sink.waitFor(1);
    const sent = new Set(rows.map(([, , frame]) => toHex(frame)));
    t.same(
      sink.frames.map(toHex).filter((hex) => sent.has(hex)),
      [],
      'the victim sees none of them',
    );
    await daemon.ok('reset-linkprop -p protection foo0');
    await sendFrames(
      guest,
      'foo0',
      rows.map(([, , frame]) => frame),
    );
    const whole = new Set(rows.filter(([what]) => what !== 'cut off').map(([, , frame]) => toHex(frame)));
    const arrived = (): number => new Set(sink.frames.map(toHex).filter((hex) => whole.has(hex))).size;
    await waitUntil(() => arrived() === whole.size, { what: 'the frames' });
    t.equal(arrived(), whole.size, 'without protection it sees them all');
    await sink.close();
    await protect();
  });

  await t.test('an address that it took (ping, arping)', async (t) => {
    await guest.ip('addr add 10.55.55.99/24 dev foo0');
    t.equal(
      (await ping(guest, victim.overlay.v4, { count: 1, from: '10.55.55.99', waitMs: 500 })).received,
      0,
    );
    await reachesCount('ip_spoofed', 1);
    if (skipUnless({ arping: true }) === false) {
      const before = await counterOfGuest('ip_spoofed');
      const { code } = await guest.run(
        `${findArping()} -c 2 -w 2 -I foo0 -s 10.55.55.99 ${victim.overlay.v4}`,
      );
      t.equal(code, 1, 'nobody answers');
      await reachesCount('ip_spoofed', before + 2);
      const own = await guest.run(`${findArping()} -c 1 -w 5 -I foo0 ${victim.overlay.v4}`);
      t.equal(own.code, 0, 'from its own address somebody does', { own });
    }
    await daemon.ok('set-linkprop -t -p allowed-ips=10.55.55.0/24,fd55::/64 foo0');
    t.equal(
      (await ping(guest, victim.overlay.v4, { from: '10.55.55.99' })).received,
      3,
      'once it may have it',
    );
    await guest.ip('addr del 10.55.55.99/24 dev foo0');
  });

  const clients = skipUnless({ programs: ['dnsmasq', 'udhcpc'] });
  await t.test('a DHCP server of its own (S5)', { skip: clients }, async (t) => {
    const script = addressScript(bed);
    const server = await startDhcpServer(bed, guest, 'foo0', '10.55.55.100,10.55.55.110');
    const lease = () => victim.run(`udhcpc -f -n -q -t 3 -T 1 -A 1 -i bar0 -s ${script}`);
    const before = await counterOfGuest('rogue_dhcp');
    const refused = await lease();
    t.equal(refused.code, 1, 'nobody gets a lease of it', { refused });
    t.match(server.stderr + server.stdout, 'DHCPOFFER', 'though it tried');
    await reachesCount('rogue_dhcp', before + 1);
    await daemon.ok(`set-linkprop -p protection=mac-nospoof,ip-nospoof,restricted foo0`);
    const granted = await lease();
    t.equal(granted.code, 0, 'one that may be a server gives one', { granted });
    await server.stop();
  });
});

await t.test(
  'a guest that has its address by DHCP',
  {
    skip: skip || skipUnless({ programs: ['dnsmasq', 'dhclient', 'udhcpc'] }),
  },
  async (t) => {
    const { bed, guest, victim, daemon } = await site(t);
    await victim.plumb('bar0');
    await guest.ip('link set foo0 up');
    await daemon.ok(`set-linkprop -p ${ALL} foo0`);
    await guest.ip('addr add 10.55.55.50/24 dev foo0');
    t.equal(
      (await ping(guest, victim.overlay.v4, { count: 1, waitMs: 500 })).received,
      0,
      'none that it gives itself',
    );
    await guest.ip('addr del 10.55.55.50/24 dev foo0');
    const server = await startDhcpServer(bed, victim, 'bar0', '10.55.55.100,10.55.55.110');
    const script = addressScript(bed);
    const directory = bed.directory();
    const addressOf = async (): Promise<string> =>
      / inet (10\.55\.55\.\d+)\/24/.exec(await guest.ip('-4 -o addr show dev foo0'))?.[1] ?? '';
    const effective = async (): Promise<string> =>
      (await daemon.ok('show-linkprop -c -o effective -p allowed-ips foo0')).trim();

    for (const command of [
      `dhclient -4 -1 -d -cf /dev/null -lf ${directory}/leases -pf ${directory}/pid -sf ${script} foo0`,
      `udhcpc -f -i foo0 -s ${script} -t 10 -T 2`,
    ]) {
      const [name] = command.split(' ');
      const client = guest.spawn(command);
      await waitUntil(async () => (await addressOf()) !== '', {
        what: `${name} to get an address`,
      }).catch(() => undefined);
      const address = await addressOf();
      t.match(address, /^10\.55\.55\.1[01]\d$/, `${name} has one`, { said: client.stdout + client.stderr });
      t.equal((await ping(guest, victim.overlay.v4)).received, 3, 'and uses it');
      t.match(await effective(), address, 'show-linkprop names it');
      await client.stop('SIGKILL');
      await guest.ip(`addr del ${address}/24 dev foo0`);
      await guest.ip('addr add 10.55.55.50/24 dev foo0');
      t.equal(
        (await ping(guest, victim.overlay.v4, { count: 1, waitMs: 500 })).received,
        0,
        'still no other',
      );
      await guest.ip('addr del 10.55.55.50/24 dev foo0');
    }

    const address = (await effective()).split(',')[0];
    await daemon.restart();
    await guest.ip('link set overlay0 down');
    if ((await addressOf()) === '') await guest.ip(`addr replace ${address}/24 dev foo0`);
    await guest.ip('link set foo0 up');
    t.ok(await reaches(guest, victim.overlay.v4), 'the lease is known after varpd was started anew');
    t.match(await effective(), address);

    const spoofed = async (): Promise<number> =>
      (await daemon.vnics()).find(({ name }) => name === 'foo0')?.counters['dhcp_spoofed'] ?? 0;
    const before = await spoofed();
    await guest.run(`udhcpc -f -n -q -t 2 -T 1 -A 1 -i foo0 -s /bin/true -C -x 0x3d:01020304`);
    await waitUntil(async () => (await spoofed()) > before, { what: 'a client id of another to be counted' });
    t.pass('a client id of another is none that passes');
    await server.stop();
  },
);

await t.test(
  'the file says who may be what, and where (files/protect, vxlan/strict-source)',
  {
    skip,
  },
  async (t) => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const file = new MappingFile(bed);
    const overlay = '-p files/protect=on -p vxlan/strict-source=on';
    const stations = await buildZlan(bed, file, { overlay });
    const [zlan, zlan2, zlan3] = stations;
    for (const station of stations) {
      station.daemon.explain(t);
      await plumb(station);
    }
    for (const from of stations)
      for (const to of stations)
        if (from !== to) t.ok(await reaches(from.host, to.v4), `${from.device} reaches ${to.device}`);
    t.match(
      await zlan.daemon.ok('show-linkprop -c -o value,effective -p protection,allowed-ips foo0'),
      '--:mac-nospoof,ip-nospoof\n--:10.55.55.2,fe80\\:\\:3\n',
    );

    await t.test('S2: what a VTEP says for a MAC of another', async (t) => {
      const say = (from: string, destinationMac = zlan.mac) =>
        encapsulated(
          23,
          udpFrame({ sourceMac: from, destinationMac, source: zlan2.v4, destination: zlan.v4 }),
        );
      const sink = await FrameSink.open(zlan.host, zlan.device);
      const to = { to: zlan.host.underlay.v4, port: 4789 };
      const sayAll = async (): Promise<void> => {
        await sendDatagrams(zlan3.host, {
          ...to,
          payloads: [say(zlan2.mac), say(zlan2.mac, 'ff:ff:ff:ff:ff:ff')],
        });
        await sendDatagrams(zlan3.host, { ...to, payloads: [say('02:00:00:00:00:77')] });
        await sendDatagrams(zlan3.host, { ...to, payloads: [say(zlan3.mac)] });
        await sink.waitFor(1);
      };
      const expected = { rx_source_mismatch: 2, rx_source_unknown: 1 };
      const grown = await zlan.daemon.counted(sayAll, 'overlay0', expected);
      t.equal(grown['rx_source_mismatch'], 2, 'not from here', { grown });
      t.equal(grown['rx_source_unknown'], 1, 'not from anywhere');
      const heard = sink.frames.map(toHex).filter((hex) => hex.startsWith(zlan.mac.replaceAll(':', '')));
      t.ok(heard.length >= 1 && heard.every((hex) => hex.slice(12, 24) === zlan3.mac.replaceAll(':', '')));
      await sink.close();
    });

    await t.test('an address is what the file says, and when it says so', async (t) => {
      await zlan.host.ip(`addr add 10.55.55.9/24 dev ${zlan.device}`);
      const asNine = () => ping(zlan.host, zlan2.v4, { count: 2, from: '10.55.55.9', waitMs: 500 });
      t.equal((await asNine()).received, 0);
      file.replace(changed(file.article, { [zlan.mac]: { arp: [zlan.v4, '10.55.55.9'] } }));
      const isAllowed = async (): Promise<boolean> =>
        (await zlan.daemon.ok('show-linkprop -c -o effective -p allowed-ips foo0')).includes('10.55.55.9');
      await waitUntil(isAllowed, { what: 'the file to be in force' });
      t.ok(await reaches(zlan.host, zlan2.v4));
      await waitUntil(async () => (await asNine()).received > 0, {
        what: 'an answer to .9',
      });
      t.pass('it may be used');
    });

    await t.test('a MAC that the file does not know may be nobody', async (t) => {
      await zlan.daemon.ok('create-vnic -t -l overlay0 qux0');
      const mac = await zlan.host.macOf('qux0');
      await zlan.host.ip('link set qux0 up');
      const frame = udpFrame({
        sourceMac: mac,
        destinationMac: zlan2.mac,
        source: zlan.v4,
        destination: zlan2.v4,
      });
      const send = () => sendFrames(zlan.host, 'qux0', [frame]);
      const grown = await zlan.daemon.counted(send, 'overlay0', { ip_spoofed: 1 });
      t.equal(grown['ip_spoofed'], 1, 'counted', { grown });
      await zlan.daemon.ok('delete-vnic -t qux0');
    });
  },
);
