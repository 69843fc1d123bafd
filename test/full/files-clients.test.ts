// The files plugin and the programs of real systems that look for neighbours and ask for addresses.

import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { toHex } from '../helpers/frames.js';
import { skipUnless } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { findArping, waitUntil } from '../helpers/process.js';
import { FrameSink, ping } from '../helpers/traffic.js';
import {
  addressState,
  changed,
  type Entries,
  neighbourMac,
  plumb,
  settled,
  type Station,
} from '../helpers/zlan.js';
import { globalOf, skip, site, pingAll, untilDetails } from '../helpers/files-site.js';

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

await t.test('what real systems do to find each other', { skip }, async (t) => {
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
    await waitUntil(isOver, { stepMs: 50, what: name }).catch(() => undefined);
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
