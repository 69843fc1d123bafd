// The files plugin as the article shows it: three hosts, one JSON file, and the programs of real systems that look for
// neighbours and ask for addresses. Then the file changes under traffic, and the traffic is what none of it is about.
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import { QUESTION_RATE } from '../../src/core/questions.js';
import * as arp from '../../src/wire/arp.js';
import { formatMac } from '../../src/wire/mac.js';
import { BAD_MAPPINGS } from '../helpers/bad-mappings.js';
import { Capture } from '../helpers/capture.js';
import { toHex, udpFrame } from '../helpers/frames.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { Bed, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { findArping, waitUntil } from '../helpers/process.js';
import { FrameSink, ping, sendFrames } from '../helpers/traffic.js';
import {
  addressState,
  arpFrame,
  buildZlan,
  changed,
  type Entries,
  filesOverlay,
  MappingFile,
  ndpFrame,
  neighbourMac,
  pacedFrames,
  plumb,
  settled,
  type Station,
  type Stations,
  SteadyPing,
  type ZlanOptions,
} from '../helpers/zlan.js';

const skip = skipUnlessNetns(['tcpdump', 'tshark', 'setpriv']);
/** A change of the file is in force after this long (plugins/files/README.md; `npm run faults` times it). */
const IN_FORCE_MS = 1000;

interface Site {
  readonly bed: Bed;
  readonly file: MappingFile;
  readonly stations: Stations;
}

async function site(t: Test, options?: ZlanOptions): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const file = new MappingFile(bed);
  const stations = await buildZlan(bed, file, options);
  for (const { daemon } of stations) daemon.explain(t);
  return { bed, file, stations };
}

/** Each with each other. */
const pairs = (stations: Stations): [from: Station, to: Station][] =>
  stations.flatMap((from) =>
    stations.filter((to) => to !== from).map((to): [Station, Station] => [from, to]),
  );

/** Ping from all to all at once. */
async function pingAll(t: Test, stations: Stations, target: (to: Station, from: Station) => string) {
  const results = pairs(stations).map(async ([from, to]) => {
    const { received, text } = await ping(from.host, target(to, from), { waitMs: 3000 });
    t.equal(received, 3, `${from.device} reaches ${target(to, from)}`, { text });
  });
  await Promise.all(results);
}

/** Until `show-overlay -f` says so. */
async function untilDetails({ daemon }: Station, pattern: RegExp): Promise<void> {
  let details = '';
  const says = async (): Promise<boolean> => {
    const [{ health }] = await daemon.overlays('overlay0');
    details = `${health.status} ${health.details ?? ''}`;
    return pattern.test(details);
  };
  await waitUntil(says, { what: `show-overlay to say ${pattern}` }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; it says ${details}`);
  });
}

// ---------------------------------------------------------------- frame by frame

await t.test('frames on three quiet hosts', { skip, timeout: 120_000 }, async (t) => {
  // "Nobody has this MAC" is believed longer than any of this takes, however slow the machine.
  const daemon = { config: { limits: { negativeTtlMs: 60_000 } } };
  const { bed, file, stations } = await site(t, { v6: false, daemon });
  for (const { host, device } of stations) await host.ip(`link set ${device} up`);
  const [zlan, zlan2, zlan3] = stations;

  await t.test('unicast requests are forwarded, not answered', async (t) => {
    const request = arpFrame({ to: zlan2.mac, from: zlan.mac, senderIp: zlan.v4, targetIp: zlan2.v4 });
    const sourceMac = Number(`0x${zlan.mac.replaceAll(':', '')}`);
    const solicitation = ndpFrame({
      to: zlan2.mac,
      from: zlan.mac,
      source: zlan.linkLocal,
      destination: zlan2.linkLocal,
      message: { kind: 'neighborSolicitation', target: zlan2.linkLocal as never, sourceMac },
    });
    const near = await FrameSink.open(zlan.host, zlan.device);
    const far = await FrameSink.open(zlan2.host, zlan2.device);
    const send = async (): Promise<void> => {
      await sendFrames(zlan.host, zlan.device, [request, solicitation]);
      t.same((await far.waitFor(2)).map(toHex), [toHex(request), toHex(solicitation)], 'as they are');
    };
    const grown = await zlan.daemon.counted(send, 'overlay0', { tx_frames: 2 });
    t.equal(grown['tx_frames'], 2, 'through the tunnel');
    t.match({ proxy_arp: 0, proxy_ndp: 0, ...grown }, { proxy_arp: 0, proxy_ndp: 0 }, 'no proxy saw them');
    t.same(near.frames, [], 'and nobody answered here');
    await near.close();
    await far.close();
  });

  await t.test('group frames that are no question end here, each with its reason', async (t) => {
    const capture = await Capture.start(bed, zlan.host, UNDERLAY_DEVICE, 'udp');
    const { mac, v4 } = zlan;
    const from = zlan.mac;
    const arpOf = (spec: object): Uint8Array => arpFrame({ from, senderIp: v4, targetIp: zlan2.v4, ...spec });
    const ndpTo = (destination: string, message: object): Uint8Array =>
      ndpFrame({ from, source: zlan.linkLocal, destination, message: message as never });
    const own = Number(`0x${mac.replaceAll(':', '')}`);
    const router = { hopLimit: 64, managed: false, other: false, lifetimeS: 1800, reachableMs: 0 };
    const advertisement = { target: zlan2.linkLocal, router: false, solicited: false, override: true };
    const dhcp = { sourcePort: 68, destinationPort: 67, source: '0.0.0.0', destination: '255.255.255.255' };
    const lldp = Buffer.concat([Buffer.from('0180c200000edeadbeef000088cc', 'hex'), Buffer.alloc(46)]);
    const rows: [what: string, reason: string, frame: Uint8Array][] = [
      ['UDP broadcast', 'tx_group', udpFrame({ sourceMac: mac })],
      ['IPv4 multicast', 'tx_group', udpFrame({ sourceMac: mac, destinationMac: '01:00:5e:00:00:fb' })],
      [
        'IPv6 multicast',
        'tx_group',
        udpFrame({
          sourceMac: mac,
          destinationMac: '33:33:00:00:00:fb',
          source: 'fe80::3',
          destination: 'ff02::fb',
        }),
      ],
      ['LLDP', 'tx_group', lldp],
      ['gratuitous ARP for an own address', 'arp_ignored', arpOf({ targetIp: v4 })],
      [
        'gratuitous ARP for the address of another',
        'arp_conflict',
        arpOf({ senderIp: zlan2.v4, targetIp: zlan2.v4 }),
      ],
      ['an ARP reply', 'arp_ignored', arpOf({ operation: arp.REPLY })],
      ['ARP in the name of another', 'proxy_spoofed', arpOf({ senderMac: zlan3.mac })],
      ['ARP for what nobody has', 'proxy_unknown', arpOf({ targetIp: '10.55.55.99' })],
      ['an ARP probe for an own address', 'proxy_own', arpOf({ senderIp: '0.0.0.0', targetIp: v4 })],
      [
        'a router advertisement',
        'ndp_router',
        ndpTo('ff02::1', { kind: 'routerAdvertisement', ...router, retransmitMs: 0, sourceMac: own }),
      ],
      [
        'a router solicitation',
        'ndp_ignored',
        ndpTo('ff02::2', { kind: 'routerSolicitation', sourceMac: own }),
      ],
      [
        'an unsolicited advertisement',
        'ndp_ignored',
        ndpTo('ff02::1', { kind: 'neighborAdvertisement', ...advertisement, targetMac: own }),
      ],
      [
        'a solicitation for what nobody has',
        'proxy_unknown',
        ndpTo('ff02::1:ff00:99', { kind: 'neighborSolicitation', target: 'fe80::99', sourceMac: own }),
      ],
      ['DHCP from a MAC with no dhcp-proxy', 'proxy_unknown', udpFrame({ sourceMac: mac, ...dhcp })],
    ];
    const grown = await zlan.daemon.counted(async () => {
      for (const [what, reason, frame] of rows) {
        const send = () => sendFrames(zlan.host, zlan.device, [frame]);
        const one = await zlan.daemon.counted(send, 'overlay0', { [reason]: 1 });
        t.equal(one[reason], 1, `${what}: ${reason}`, { one });
      }
    });
    t.equal(grown['tx_frames'] ?? 0, 0, 'none was sent');
    t.equal(await capture.count(''), 0, 'no datagram on the underlay');
  });

  await t.test('files/flood=on: once to each VTEP, never back', async (t) => {
    // A second MAC behind zlan2, so that there are more MACs than VTEPs.
    file.replace(changed(file.article, { 'de:ad:be:ef:00:99': { ip: '10.88.88.70', port: 4789 } }));
    for (const station of stations) {
      const { host, daemon, mac } = station;
      const names = { name: 'flood0', vnetid: 24, more: '-p files/flood=on' };
      await daemon.ok(filesOverlay(host, file, names));
      await daemon.ok(`create-vnic -m ${mac} -l flood0 flooded0`);
      await host.ip('link set flooded0 up');
    }
    const capture = await Capture.start(bed, zlan.host, UNDERLAY_DEVICE, 'udp');
    const sinks = await Promise.all(stations.map(({ host }) => FrameSink.open(host, 'flooded0')));
    const frames = [
      udpFrame({ sourceMac: zlan.mac, destinationMac: '01:00:5e:00:00:fb', destination: '224.0.0.251' }),
      udpFrame({
        sourceMac: zlan.mac,
        destinationMac: '33:33:00:00:00:fb',
        source: 'fe80::3',
        destination: 'ff02::fb',
      }),
      udpFrame({ sourceMac: zlan.mac }),
    ];
    const request = arpFrame({ from: zlan.mac, senderIp: zlan.v4, targetIp: '10.55.55.99' });
    const others = await zlan2.daemon.counted(async () => {
      const send = async (): Promise<void> => {
        await sendFrames(zlan.host, 'flooded0', [...frames, request]);
        for (const sink of sinks.slice(1)) await sink.waitFor(frames.length);
      };
      const expected = { tx_frames: 2 * frames.length, proxy_unknown: 1 };
      const grown = await zlan.daemon.counted(send, 'flood0', expected);
      t.equal(grown['tx_frames'], 2 * frames.length, 'a copy to each of the two others');
      t.equal(grown['proxy_unknown'], 1, 'ARP is not flooded');
    }, 'flood0');
    const sent = frames.map(toHex).sort();
    for (const index of [1, 2]) t.same(sinks[index].frames.map(toHex).sort(), sent, 'each arrives once');
    t.same(sinks[0].frames, [], 'nothing comes back');
    t.equal(others['tx_frames'] ?? 0, 0, 'a receiver sends nothing on');
    const rows = await capture.fields('vxlan', ['ip.dst']);
    const destinations = rows.map((row) => row['ip.dst'][0]).sort();
    t.same(
      destinations,
      ['10.88.88.70', '10.88.88.70', '10.88.88.70', '10.88.88.71', '10.88.88.71', '10.88.88.71'],
      'six datagrams on the underlay',
    );
    for (const sink of sinks) await sink.close();
    for (const { daemon } of stations) {
      await daemon.ok('delete-vnic flooded0');
      await daemon.ok('delete-overlay flood0');
    }
    file.replace(file.article);
  });

  await t.test('10,000 frames to one unknown MAC are one lookup', async (t) => {
    const count = 10_000;
    const frame = udpFrame({ sourceMac: zlan.mac, destinationMac: '02:00:00:00:77:77' });
    const dropped = ({ lookup_drop = 0, pending_full = 0 }: Record<string, number>): number =>
      lookup_drop + pending_full;
    const counters = async (): Promise<Record<string, number>> => (await zlan.daemon.overlays())[0].counters;
    const before = dropped(await counters());
    const grown = await zlan.daemon.counted(async () => {
      await pacedFrames(zlan.host, zlan.device, Array<Uint8Array>(count).fill(frame));
      const areCounted = async (): Promise<boolean> => dropped(await counters()) - before >= count;
      await waitUntil(areCounted, { what: 'each to be counted' }).catch(() => undefined);
    });
    t.equal(grown['lookups'], 1);
    t.equal(grown['tx_frames'] ?? 0, 0, 'none was sent');
    t.equal(dropped(grown), count, 'each was dropped, and counted');
  });

  await t.test('100,000 distinct unknown MACs', async (t) => {
    const count = 100_000;
    for (const { host, device, v4 } of [zlan, zlan2]) await host.ip(`addr add ${v4}/24 dev ${device}`);
    // A guest of its own scans: what its queue does not hold is its own loss.
    await zlan.daemon.ok('create-vnic -m 02:00:00:00:00:01 -l overlay0 scan0');
    await zlan.host.ip('link set scan0 up');
    const steady = await SteadyPing.start(zlan.host, zlan2.v4);
    const frame = udpFrame({ sourceMac: '02:00:00:00:00:01' });
    const frames = function* (): Generator<Uint8Array> {
      for (let n = 0; n < count; n++) {
        const one = Uint8Array.from(frame);
        one.set([0x02, 0x01, 0x00, n >> 16, (n >> 8) & 0xff, n & 0xff]);
        yield one;
      }
    };
    const before = zlan.daemon.residentKib();
    let most = before;
    const timer = setInterval(() => {
      most = Math.max(most, zlan.daemon.residentKib());
    }, 50);
    const startedMs = performance.now();
    const grown = await zlan.daemon.counted(async () => {
      await pacedFrames(zlan.host, 'scan0', frames());
      await sleep(1000);
    });
    const seconds = (performance.now() - startedMs) / 1000;
    clearInterval(timer);
    const { sent, lost, duplicates } = await steady.stop();
    const grew = most - before;
    t.comment(`${grew} KiB more resident at most, ${grown['lookups']} lookups, ${sent} echo requests`);
    const { lookups = 0, lookup_busy: busy = 0 } = grown;
    const { perSecond, burst } = QUESTION_RATE;
    t.ok(lookups >= burst && lookups <= burst + perSecond * seconds + 1, 'as many lookups as a port has', {
      grown,
    });
    // How many get past the TAP's queue of 1,000 depends on the machine; none costs two.
    t.ok(lookups + busy > 0.5 * count && lookups + busy <= count + 1, 'the others are counted', { grown });
    t.ok(grew < 50 << 10, `RSS grows by less than 50 MB: ${grew} KiB`);
    t.ok(sent > 200, `a known flow of ${sent} packets`);
    t.ok(lost <= sent / 1000, `loses less than one in a thousand: ${lost}`);
    t.equal(duplicates, 0);
    const targets = await zlan.daemon.ok('show-overlay -t overlay0');
    t.match(
      targets,
      new RegExp(`${zlan2.mac.replaceAll(':0', ':0?')} +${zlan2.host.underlay.v4}:4789`),
      'and keeps its target',
    );
    await zlan.daemon.ok('delete-vnic scan0');
  });
});

// ---------------------------------------------------------------- real clients

interface DhcpClient {
  readonly name: string;
  /** `ip netns exec` has a mount namespace of its own: what these write there is gone with them. */
  readonly hides?: readonly string[];
  readonly command: (device: string, script: string, directory: string) => string;
  /** Has the server answer by broadcast; undefined = it cannot be made to. */
  readonly broadcastFlag?: string;
}

const DHCP_CLIENTS: readonly DhcpClient[] = [
  {
    name: 'udhcpc',
    command: (device, script) => `udhcpc -f -i ${device} -s ${script} -t 10 -T 2`,
    broadcastFlag: '-B',
  },
  {
    name: 'dhclient',
    command: (device, script, directory) =>
      `dhclient -4 -1 -d -cf /dev/null -lf ${directory}/leases -pf ${directory}/pid -sf ${script} ${device}`,
  },
  {
    name: 'dhcpcd',
    hides: ['/var/lib/dhcpcd', '/run/dhcpcd'],
    command: (device) => `dhcpcd -4 -B -f /dev/null -c /bin/true ${device}`,
    broadcastFlag: '-J',
  },
];

const UDP_DHCP_REPLY = '00430044'; // ports 67 -> 68
const BROADCAST_IP = 'ffffffff';

/** The same host, and the address that the mapping gives it beside the printed ones. */
const globalOf = (index: number): string => `fd55::${2 + index}`;

await t.test('what real systems do to find each other', { skip, timeout: 180_000 }, async (t) => {
  const { bed, file, stations } = await site(t);
  const [zlan, zlan2, zlan3] = stations;

  await t.test('the article: kernel ARP and NDP', async (t) => {
    const meet = async (): Promise<void> => {
      for (const station of stations) await plumb(station);
      for (const station of stations)
        t.equal(await settled(station, station.linkLocal), 'good', `${station.linkLocal} is no duplicate`);
      await pingAll(t, stations, (to) => to.v4);
      await pingAll(t, stations, (to, from) => `${to.linkLocal}%${from.device}`);
    };
    const expected = { proxy_own: 1, proxy_arp: 2, proxy_ndp: 2 };
    const grown = await zlan.daemon.counted(meet, 'overlay0', expected);
    t.ok(grown['proxy_own'] >= 1, 'the kernel asked whether its address was free, and silence said so');
    t.ok(grown['proxy_arp'] >= 2 && grown['proxy_ndp'] >= 2, 'and the proxies told it the others');
    for (const other of [zlan2, zlan3]) {
      t.equal(await neighbourMac(zlan, other.v4), other.mac, `${other.v4} is at the MAC of the file`);
      t.equal(await neighbourMac(zlan, other.linkLocal), other.mac, `so is ${other.linkLocal}`);
    }
  });

  await t.test('several IPv6 addresses of one MAC', async (t) => {
    const lists = stations.map(({ mac, linkLocal }, index) => [mac, { ndp: [linkLocal, globalOf(index)] }]);
    file.replace(changed(file.article, Object.fromEntries(lists) as Entries));
    for (const station of stations) await untilDetails(station, /~3/);
    for (const [index, { host, device }] of stations.entries())
      await host.ip(`addr add ${globalOf(index)}/64 dev ${device}`);
    for (const [index, station] of stations.entries())
      t.equal(await settled(station, globalOf(index)), 'good', `${globalOf(index)} is no duplicate`);
    await pingAll(t, stations, (to) => globalOf(stations.indexOf(to)));
  });

  await t.test("the kernel's DAD finds the duplicate", async (t) => {
    for (const address of [zlan2.linkLocal, globalOf(1)]) {
      await zlan.host.ip(`addr add ${address}/64 dev ${zlan.device}`);
      t.equal(await settled(zlan, address), 'dadfailed', `${address} is another's`);
      await zlan.host.ip(`addr del ${address}/64 dev ${zlan.device}`);
    }
    t.equal(await addressState(zlan, zlan.linkLocal), 'good', 'its own stays good');
  });

  await t.test('arping', { skip: skipUnless({ arping: true }) }, async (t) => {
    const normal = await zlan.host.run(`${findArping()} -b -c 2 -w 5 -I ${zlan.device} ${zlan2.v4}`);
    t.equal(normal.code, 0, 'an answer');
    const macs = [...normal.stdout.matchAll(/\[([0-9A-F:]+)\]/g)].map((match) => match[1].toLowerCase());
    t.same(macs, [zlan2.mac, zlan2.mac], 'one a request, with the MAC of the file', { normal });
    const nobody = await zlan.host.run(`${findArping()} -c 1 -w 1 -I ${zlan.device} 10.55.55.99`);
    t.equal(nobody.code, 1, 'none for what nobody has');
  });

  await t.test('arping -D', { skip: skipUnless({ arping: true }) }, async (t) => {
    // Before it is given to a device, as installers do: then only the network can answer.
    await zlan.host.ip(`addr del ${zlan.v4}/24 dev ${zlan.device}`);
    const probe = (address: string) =>
      zlan.host.run(`${findArping()} -D -c 2 -w 2 -I ${zlan.device} ${address}`);
    const [own, others, nobodys] = await Promise.all([probe(zlan.v4), probe(zlan2.v4), probe('10.55.55.99')]);
    t.equal(own.code, 0, 'its own address is free', { own });
    t.equal(others.code, 1, "another's is a duplicate", { others });
    t.match(others.stdout, new RegExp(zlan2.mac, 'i'), 'and the MAC of the file has it');
    t.equal(nobodys.code, 0, "nobody's is free", { nobodys });
    await zlan.host.ip(`addr add ${zlan.v4}/24 dev ${zlan.device}`);
  });

  await t.test('ndisc6', { skip: skipUnless({ programs: ['ndisc6'] }) }, async (t) => {
    for (const address of [zlan2.linkLocal, globalOf(1)]) {
      const { stdout, stderr } = await zlan.host.run(`ndisc6 -m -w 3000 ${address} ${zlan.device}`);
      const macs = [...stdout.matchAll(/link-layer address: ([0-9A-F:]+)/g)];
      t.same(
        macs.map((match) => match[1].toLowerCase()),
        [zlan2.mac],
        `${address}: the MAC of the file, from one alone`,
        { stdout, stderr },
      );
    }
    const nobody = await zlan.host.run(`ndisc6 -r 1 -w 500 fe80::99 ${zlan.device}`);
    t.not(nobody.code, 0, 'silence for what nobody has');
  });

  await t.test('clients that configure themselves', async (t) => {
    const proxied = { 'dhcp-proxy': zlan.mac };
    file.replace(
      changed(file.article, {
        [zlan.mac]: { arp: [zlan.v4, '169.254.7.2'] },
        [zlan2.mac]: proxied,
        [zlan3.mac]: { ...proxied, arp: [zlan3.v4, '169.254.7.4'] },
      }),
    );
    for (const station of stations) await untilDetails(station, /~3/);
    const scripts = bed.directory();
    const ranScript = addressScript(scripts);
    // A lane for each host, so that the waits that clients are bound to (RFC 5227) run side by side.
    const server = await startDnsmasq(bed, zlan, [zlan2, zlan3]);
    const [[own, others], unicast, broadcast] = await Promise.all([
      autoip(zlan, ['169.254.7.2', '169.254.7.4'], ranScript),
      server ? takeLeases(bed, zlan2, zlan, ranScript, false) : [],
      server ? takeLeases(bed, zlan3, zlan, ranScript, true) : [],
    ]);
    for (const { name, broadcastFlag } of DHCP_CLIENTS) {
      const skip = skipUnless({ programs: [name, 'dnsmasq'] });
      const leaseOf = (leases: readonly Lease[]): Lease => leases.find((lease) => lease.client === name)!;
      t.test(`${name}, replies to its address`, { skip }, async (t) => {
        checkLease(t, leaseOf(unicast), zlan2, false);
      });
      if (broadcastFlag === undefined) continue;
      t.test(`${name}, replies by broadcast`, { skip }, async (t) => {
        checkLease(t, leaseOf(broadcast), zlan3, true);
      });
    }
    await t.test('avahi-autoipd', { skip: skipUnless({ programs: ['avahi-autoipd'] }) }, async (t) => {
      t.match(own, 'Successfully claimed IP address 169.254.7.2', 'its own address is claimed');
      t.notMatch(own, /conflict/i, 'without a conflict');
      t.match(others, 'Starting with address 169.254.7.4');
      t.match(others, /Received conflicting[^]*Trying address/, "another's is a conflict, and not taken");
      t.notMatch(others, /claimed IP address 169\.254\.7\.4\b/);
    });
  });
});

/** What dhclient, udhcpc and avahi-autoipd run when they have an address: it goes on the device, and nowhere else. */
function addressScript(directory: string): string {
  const file = path.join(directory, 'address.sh');
  writeFileSync(
    file,
    `#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
case "$1$reason" in
bound | renew) ip addr replace "$ip/24" dev "$interface" ;;
BOUND | RENEW | REBOOT) ip addr replace "$new_ip_address/24" dev "$interface" ;;
BIND) ip addr replace "$3/16" dev "$2" ;;
CONFLICT | UNBIND | STOP) ip addr del "$3/16" dev "$2" ;;
esac
exit 0
`,
  );
  chmodSync(file, 0o755);
  chmodSync(directory, 0o755);
  return file;
}

async function startDnsmasq(bed: Bed, server: Station, clients: readonly Station[]): Promise<boolean> {
  if (skipUnless({ programs: ['dnsmasq'] }) !== false) return false;
  const hosts = clients.map(({ mac, v4 }) => `--dhcp-host=${mac},${v4}`);
  const child = server.host.spawn([
    ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--log-facility=-', '--log-dhcp'],
    ...['--port=0', '--user=root', `--interface=${server.device}`, '--bind-interfaces', '--no-ping'],
    ...['--dhcp-authoritative', '--dhcp-range=10.55.55.0,static', ...hosts],
    ...[`--dhcp-leasefile=${bed.directory()}/leases`, '--pid-file='],
  ]);
  await child.waitForOutput(/sockets bound|DHCP, static leases/);
  return true;
}

interface Lease {
  readonly client: string;
  readonly output: string;
  readonly addresses: string;
  /** The server's frames, as the client's device got them. */
  readonly replies: readonly string[];
  /** Echo replies to the server. */
  readonly reached: number;
}

/** Every client in turn has its time to get the address of the file. */
async function takeLeases(
  bed: Bed,
  { host, device, v4 }: Station,
  server: Station,
  script: string,
  broadcast: boolean,
): Promise<Lease[]> {
  const leases: Lease[] = [];
  for (const { name, hides = [], command, broadcastFlag } of DHCP_CLIENTS) {
    if (skipUnless({ programs: [name] }) !== false || (broadcast && broadcastFlag === undefined)) continue;
    await host.ip(`-4 addr flush dev ${device}`);
    const sink = await FrameSink.open(host, device);
    const words = command(device, script, bed.directory()).split(' ');
    if (broadcast && broadcastFlag !== undefined) words.splice(1, 0, broadcastFlag);
    const hide = hides.map((directory) => `mkdir -p ${directory}; mount -t tmpfs none ${directory}; `);
    const child = host.spawn(['sh', '-c', `${hide.join('')}exec ${words.join(' ')}`]);
    const show = (): Promise<string> => host.ip(`-4 -o addr show dev ${device}`);
    const isOver = async (): Promise<boolean> => child.ended || (await show()).includes(` ${v4}/24 `);
    // What it has got by then is judged later.
    await waitUntil(isOver, { timeoutMs: 20_000, stepMs: 50, what: name }).catch(() => undefined);
    leases.push({
      client: name,
      output: child.stdout + child.stderr,
      addresses: await show(),
      replies: sink.frames.map(toHex).filter((hex) => hex.slice(68, 76) === UDP_DHCP_REPLY),
      reached: (await ping(server.host, v4, { waitMs: 3000 })).received,
    });
    await sink.close();
    await child.stop();
    await host.ip(`-4 addr flush dev ${device}`);
  }
  return leases;
}

function checkLease(t: Test, lease: Lease, { v4, mac }: Station, broadcast: boolean): void {
  const { addresses, replies, reached, output } = lease;
  t.match(addresses, ` ${v4}/24 `, 'has the address of the file', { output });
  t.ok(replies.length >= 2, 'an offer and an acknowledgement came', { output });
  const digits = mac.replaceAll(':', '');
  t.same(
    replies.filter((hex) => !hex.startsWith(digits)),
    [],
    'to its own MAC',
  );
  const broadcasts = replies.filter((hex) => hex.slice(60, 68) === BROADCAST_IP);
  if (broadcast) t.equal(broadcasts.length, replies.length, 'as the broadcasts that it asked for');
  else t.equal(broadcasts.length, 0, 'to its own address');
  t.equal(reached, 3, 'and is reached there');
}

/** RFC 3927: an address is tried with ARP probes. What was said until it was claimed, or another was tried. */
async function autoip(
  { host, device }: Station,
  addresses: readonly string[],
  script: string,
): Promise<string[]> {
  const said: string[] = [];
  if (skipUnless({ programs: ['avahi-autoipd'] }) !== false) return said;
  for (const address of addresses) {
    const flags = `--force-bind --no-drop-root --no-chroot --no-proc-title --debug -t ${script} -S ${address}`;
    const hide = ['/run', '/var/lib/avahi-autoipd'].map((directory) => `mount -t tmpfs none ${directory}; `);
    const child = host.spawn(['sh', '-c', `${hide.join('')}exec avahi-autoipd ${flags} ${device}`]);
    await child.waitForOutput(/claimed IP address|Trying address/, 20_000).catch(() => undefined);
    await child.stop();
    said.push(child.stdout + child.stderr);
  }
  return said;
}

// ---------------------------------------------------------------- a file that changes

await t.test('the file changes under traffic', { skip, timeout: 180_000 }, async (t) => {
  const { bed, file, stations } = await site(t);
  const [zlan, zlan2, zlan3] = stations;
  const more = stations.map(({ mac, linkLocal }, index) => [mac, { ndp: [linkLocal, globalOf(index)] }]);
  const base = changed(file.article, Object.fromEntries(more) as Entries);
  file.replace(base);
  await Promise.all(stations.map((station, index) => plumb(station, [globalOf(index)])));
  for (const station of stations) {
    await untilDetails(station, /~3/);
    t.equal(await settled(station, globalOf(stations.indexOf(station))), 'good');
  }
  const stranger = (n: number): Entries =>
    changed(base, { [formatMac(0x0200_0000_0000 + n)]: { ip: `10.88.88.${70 + (n & 1)}`, port: 4789 } });

  /** Two known flows at 200 Hz, one of each family, while something is done: none of it may be felt. */
  const undisturbed = async (t: Test, work: () => Promise<void>): Promise<void> => {
    const flows = await Promise.all([
      SteadyPing.start(zlan.host, zlan2.v4),
      SteadyPing.start(zlan3.host, globalOf(1)),
    ]);
    // Whether the work is done or has failed, the flows end.
    await work().finally(async () => {
      for (const { sent, lost, duplicates } of await Promise.all(flows.map((flow) => flow.stop())))
        t.same({ lost, duplicates }, { lost: 0, duplicates: 0 }, `0 of ${sent} known-flow packets lost`);
    });
  };

  await t.test('renamed over, in place, by command and by signal', async (t) => {
    await undisturbed(t, async () => {
      file.replace(stranger(1));
      await untilDetails(zlan, /ONLINE .*\+1 -0 ~0 entries, 4 now/);
      t.pass('a rename');
      file.rewrite(base);
      await untilDetails(zlan, /ONLINE .*\+0 -1 ~0 entries, 3 now/);
      t.pass('in place');

      const timesRead = (): number => zlan.daemon.log().split('read again: the same 3 entries').length - 1;
      // One write may be seen twice: until the watch has nothing more to say.
      let before = -1;
      while (before !== timesRead()) {
        before = timesRead();
        await sleep(IN_FORCE_MS);
      }
      const reload = await zlan.daemon.dladm('reload');
      t.match(reload, { code: 0, stderr: '' }, 'dladm reload');
      t.equal(timesRead(), before + 1, 'has read the file when it returns');
      zlan.daemon.signal('SIGHUP');
      await waitUntil(() => timesRead() === before + 2, { what: 'SIGHUP to have the file read' });
      t.pass('SIGHUP has it read too');

      file.publish(base);
      await waitUntil(() => timesRead() >= before + 3, { what: 'the link to be read' });
      file.publish(stranger(2));
      await untilDetails(zlan, /ONLINE .*\+1 -0 ~0 entries, 4 now/);
      t.pass('a link');
      file.replace(base);
      await untilDetails(zlan, /ONLINE .*\+0 -1 ~0 entries, 3 now/);
    });
  });

  await t.test('a bad file', async (t) => {
    const good = JSON.stringify(base, undefined, 2);
    const bad: [what: string, text: string, place: RegExp][] = [
      ['half of a file', good.slice(0, good.indexOf('"port"')), /:9:5: /],
      ['a MAC twice', good.replace('ef:00:01"', 'ef:0:0"'), /:11:3: .*de:ad:be:ef:0:0/],
      [
        'a port in quotes',
        good.replace('"port": 4789', '"port": "4789"'),
        /:9:13: at '"4789".*': found a string, expected/,
      ],
    ];
    await undisturbed(t, async () => {
      for (const [what, text, place] of bad) {
        file.replace(text);
        await untilDetails(zlan, /^DEGRADED/);
        t.pass(`${what} is noticed`);
        const shown = await zlan.daemon.ok('show-overlay -f overlay0');
        t.match(shown, place, 'with its line and column', { shown });
        t.match(shown, 'DEGRADED');
        t.equal((await ping(zlan2.host, zlan3.v4)).received, 3, 'the mapping in use stays');
        const reload = await zlan.daemon.dladm('reload');
        t.equal(reload.code, 1, 'dladm reload fails');
        t.match(reload.stderr, place, 'and says where');
        file.replace(base);
        await untilDetails(zlan, /^ONLINE/);
        t.pass('a good file ends it');
      }
      rmSync(file.path);
      await untilDetails(zlan, /^DEGRADED .*is not there/);
      file.replace(base);
      await untilDetails(zlan, /^ONLINE/);
      t.pass('so with a file that goes and comes back');
    });
  });

  await t.test(`${BAD_MAPPINGS.length} bad files, each with its place and its words`, async (t) => {
    t.ok(BAD_MAPPINGS.length >= 40);
    await undisturbed(t, async () => {
      for (const [what, text, [at, , , expected]] of BAD_MAPPINGS) {
        file.replace(text);
        const { failures } = await zlan.daemon.call('daemon.reload', {});
        const [{ health }] = await zlan.daemon.overlays('overlay0');
        const place = `${file.path}:${at}: found `;
        t.equal(failures.length, 1, what);
        const message = failures[0]?.message ?? '';
        t.ok(message.startsWith(`not reloaded: ${place}`), place, { failures });
        t.ok(message.includes(`, expected ${expected}`), expected, { failures });
        t.equal(health.status, 'DEGRADED');
        t.ok(health.details?.startsWith(place), 'show-overlay says so', { health });
      }
      for (const { host } of [zlan2, zlan3])
        t.equal((await ping(host, zlan.v4)).received, 3, 'the last good mapping stays in use');
      file.replace(base);
      for (const station of stations) await untilDetails(station, /^ONLINE/);
    });
  });

  await t.test('1000 renames', async (t) => {
    const wrong = await zlan3.daemon.counted(() =>
      undisturbed(t, async () => {
        for (let n = 1; n <= 1000; n++) {
          file.replace(n === 1000 ? changed(stranger(1), stranger(2)) : stranger(n));
          await sleep(2);
        }
        for (const station of stations) {
          await untilDetails(station, /ONLINE .* 5 now/);
          t.pass('the last one is in force');
        }
      }),
    );
    const reloads = zlan.daemon.log().split('read again').length - 1;
    t.comment(`${reloads} reloads so far`);
    t.equal(wrong['rx_no_port'] ?? 0, 0, 'no frame went to the wrong host');
    file.replace(base);
    for (const station of stations) await untilDetails(station, /ONLINE .* 3 now/);
  });

  await t.test('5000 MACs come, move and go: each leaves the target table, no other does', async (t) => {
    const count = 5000;
    const macOfNumber = (n: number): string => formatMac(0x0200_0001_0000 + n);
    const many = (ip: string): Entries =>
      changed(
        base,
        Object.fromEntries(Array.from({ length: count }, (_, n) => [macOfNumber(n), { ip, port: 4789 }])),
      );
    // One of each end of the list, and one in the middle of it.
    const probed = [0, 2047, 2048, count - 1].map(macOfNumber);
    const probe = (): Promise<unknown> =>
      sendFrames(
        zlan.host,
        zlan.device,
        probed.map((destinationMac) => udpFrame({ sourceMac: zlan.mac, destinationMac })),
      );
    /** What `show-overlay -t` says of them. */
    const targets = async (): Promise<string[]> => {
      const text = await zlan.daemon.ok('show-overlay -t -p -o target,destination overlay0');
      const lines = text.split('\n').map((line) => line.replaceAll('\\', ''));
      return probed.map(
        (mac) => lines.find((line) => line.startsWith(`${mac}:`))?.slice(mac.length + 1) ?? '-',
      );
    };
    const become = async (what: Entries, news: RegExp, expected: string): Promise<void> => {
      file.replace(what);
      for (const station of stations) await untilDetails(station, news);
      const isSo = async (): Promise<boolean> => {
        await probe();
        return (await targets()).every((target) => target === expected);
      };
      await waitUntil(isSo, { stepMs: 100, what: `targets to be ${expected}` });
      t.pass(`they are at ${expected}`);
    };
    await probe();
    await undisturbed(t, async () => {
      await become(many('10.88.88.70'), /\+5000 -0 ~0/, '10.88.88.70:4789');
      await become(many('10.88.88.71'), /\+0 -0 ~5000/, '10.88.88.71:4789');
      await become(base, /\+0 -5000 ~0/, 'drop');
    });
  });

  await t.test('an address moves to another MAC', async (t) => {
    // zlan3's addresses go to zlan2, whose guest has them already. RFC 5227, RFC 4862: nobody else is asked.
    const [v4, v6] = [zlan3.v4, globalOf(2)];
    await zlan3.host.ip(`addr del ${v4}/24 dev ${zlan3.device}`);
    await zlan3.host.ip(`addr del ${v6}/64 dev ${zlan3.device}`);
    await zlan3.host.ip(`addr add ${v4}/24 dev ${zlan3.device}`);
    await zlan3.host.ip(`addr add ${v6}/64 dev ${zlan3.device} nodad`);
    t.equal((await ping(zlan.host, v4)).received, 3);
    t.equal((await ping(zlan.host, v6)).received, 3);
    t.same(
      [await neighbourMac(zlan, v4), await neighbourMac(zlan, v6)],
      [zlan3.mac, zlan3.mac],
      'the guest knows the old MAC',
    );
    await zlan2.host.ip(`addr add ${v4}/24 dev ${zlan2.device}`);
    await zlan2.host.ip(`addr add ${v6}/64 dev ${zlan2.device} nodad`);
    file.replace(
      changed(base, {
        [zlan2.mac]: { arp: [zlan2.v4, v4], ndp: [zlan2.linkLocal, globalOf(1), v6] },
        [zlan3.mac]: { arp: [], ndp: [zlan3.linkLocal] },
      }),
    );
    const hasNew = async (address: string): Promise<boolean> =>
      (await neighbourMac(zlan, address)) === zlan2.mac;
    for (const address of [v4, v6])
      await waitUntil(() => hasNew(address), { what: `${address} to be at ${zlan2.mac}` });
    t.pass('and is told the new one, unasked');
    t.equal((await ping(zlan.host, v4)).received, 3, 'which answers');
    t.equal((await ping(zlan.host, v6)).received, 3);
    await zlan2.host.ip(`addr del ${v4}/24 dev ${zlan2.device}`);
    await zlan2.host.ip(`addr del ${v6}/64 dev ${zlan2.device}`);
    file.replace(base);
    for (const station of stations) await untilDetails(station, /ONLINE .*~2 entries/);
  });

  await t.test('a MAC moves to another host', async (t) => {
    const steady = await SteadyPing.start(zlan.host, zlan3.v4);
    const capture = await Capture.start(bed, zlan.host, UNDERLAY_DEVICE, 'udp and src 10.88.88.69');
    await sleep(200);
    // Its VNIC moves first; the file follows.
    await zlan3.daemon.ok(`delete-vnic ${zlan3.device}`);
    await zlan2.daemon.ok(`create-vnic -m ${zlan3.mac} -l overlay0 ${zlan3.device}`);
    await plumb({ ...zlan3, host: zlan2.host });
    const renamedS = Date.now() / 1000;
    file.replace(changed(base, { [zlan3.mac]: { ip: '10.88.88.70' } }));
    await sleep(IN_FORCE_MS);
    const reached = steady.reached;
    await waitUntil(() => steady.reached > reached + 100, { what: 'replies from the new host' });
    t.pass('replies from the new host');
    const old = await zlan3.daemon.counted(() => sleep(500));
    t.equal(old['rx_frames'] ?? 0, 0, 'the old one gets nothing any more', { old });
    await steady.stop();
    const rows = await capture.fields('vxlan && icmp', ['frame.time_epoch', 'ip.dst']);
    const timesTo = (outer: string): number[] =>
      rows
        .filter((row) => row['ip.dst'][0] === outer && row['ip.dst'][1] === zlan3.v4)
        .map((row) => Number(row['frame.time_epoch'][0]) - renamedS);
    const last = Math.max(...timesTo('10.88.88.71'));
    const first = Math.min(...timesTo('10.88.88.70'));
    t.comment(`${first.toFixed(3)} s after the rename the first frame went to the new host`);
    t.ok(last <= first, 'and no frame went to the old host afterwards');
  });
});
