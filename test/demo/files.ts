// The second half: zlan, zlan2 and zlan3 of overlay preview 02, who find each other by one JSON file. Its commands as they
// were printed, where the file is in the directory of this demo; then DHCP through the proxy, and the file is edited.
import { copyFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { fromRoot } from '../helpers/need.js';
import type { Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import {
  openSides,
  pingFrom,
  plumb,
  type Side,
  type Sides,
  startDaemons,
  stopDaemons,
  succeeds,
  transfer,
} from './actions.js';
import { check, heading } from './checks.js';
import { print, Terminal } from './terminal.js';

/** As printed, but for the name of the second: the article makes it as foo0 and plumbs bar0. */
const VNICS = [
  { device: 'foo0', mac: 'de:ad:be:ef:00:00', v6: 'fe80::3' },
  { device: 'bar0', mac: 'de:ad:be:ef:00:01', v6: 'fe80::4' },
  { device: 'baz0', mac: 'de:ad:be:ef:00:02', v6: 'fe80::5' },
] as const;
const [SERVER, CLIENT] = VNICS;
/** The station that an edit adds. */
const GUEST = { device: 'qux0', mac: 'de:ad:be:ef:00:03', v4: '10.55.55.5' };

/** What `sed` makes of the file: no MAC on line 1 or 2, and the first port is on line 8 then. */
const BAD_LINE = 8;
const BAD_COLUMN = 25;

export async function files(bed: Bed, sides: Sides): Promise<void> {
  const directory = bed.directory();
  const file = path.join(directory, 'hosts.json'); // /var/tmp/hosts.json of the article
  copyFileSync(fromRoot('config/hosts.json'), file);
  const [zlan, zlan2, zlan3] = await bed.hostsOnSwitch(3);
  openSides(bed, sides, { zlan, zlan2, zlan3 });

  heading('Three hosts on one switch, and one file that all of them read');
  for (const { terminal } of sides) await terminal.type('ip -brief addr show under0');
  const [{ terminal }] = sides;
  await terminal.type(`cat ${file}`);
  await succeeds(terminal, 'the file of the article is good as it is', `dladm check-mapping ${file}`);
  await startDaemons(sides);

  for (const [index, side] of sides.entries()) await buildStation(side, index, file);
  await pingAll(sides);
  await serve(sides);
  await lease(sides, directory);
  await addStation(bed, sides, file);
  await breakAndMend(sides, file);

  heading('The end of the network');
  for (const [index, side] of sides.entries()) {
    const vnics = [VNICS[index].device, ...(index === 2 ? [GUEST.device] : [])];
    const commands = [...vnics.map((vnic) => `dladm delete-vnic ${vnic}`), 'dladm delete-overlay overlay0'];
    await succeeds(side.terminal, 'VNICs and overlay are deleted', commands.join(' && '));
  }
  await stopDaemons(sides);
}

async function buildStation({ terminal }: Side, index: number, file: string): Promise<void> {
  const { device, mac, v6 } = VNICS[index];
  const { hostName, host } = terminal;
  heading(`The commands of the article on ${hostName}`);
  await succeeds(
    terminal,
    'the overlay is created',
    `dladm create-overlay -v 23 -e vxlan -s files -p vxlan/listen_ip=${host.underlay.v4} -p files/config=${file} overlay0`,
  );
  if (index > 0)
    terminal.show(`# the article calls this VNIC foo0 and then plumbs ${device}: it is ${device} here`);
  await succeeds(terminal, 'the VNIC is created', `dladm create-vnic -m ${mac} -l overlay0 ${device}`);
  await plumb(terminal, device, `${host.overlay.v4}/24`);
  terminal.show(
    `# here for "ifconfig ${device} inet6 plumb up" and "ifconfig ${device} inet6 ${v6}", which replaces the automatic address:`,
  );
  await succeeds(
    terminal,
    `${device} gets ${v6}`,
    `ip -6 addr flush dev ${device} && ip addr add ${v6}/64 dev ${device}`,
  );
}

async function pingAll(sides: readonly Side[]): Promise<void> {
  heading('"All three hosts could ping and access network services on each other"');
  for (const [index, { terminal }] of sides.entries()) {
    const { device, v6 } = VNICS[index];
    const list = `-6 addr show dev ${device}`;
    const settled = async (): Promise<boolean> => !(await terminal.host.ip(list)).includes('tentative');
    await waitUntil(settled, { what: `duplicate address detection of ${v6}` });
    const { stdout } = await terminal.type(`ip -brief ${list}`);
    const isKept = stdout.includes(`${v6}/64`) && !(await terminal.host.ip(list)).includes('dadfailed');
    check(`${terminal.hostName}: ${v6} is found to be free by duplicate address detection`, isKept);
  }
  for (const [from, { terminal }] of sides.entries())
    for (const [to, { terminal: peer }] of sides.entries()) {
      if (from === to) continue;
      await pingFrom(terminal, peer.host.overlay.v4, `${peer.hostName} over IPv4`);
      await pingFrom(terminal, `${VNICS[to].v6}%${VNICS[from].device}`, `${peer.hostName} over IPv6`);
    }
  await sides[0].terminal.type('dladm show-overlay -t');
  await sides[0].terminal.type('ip neigh show dev foo0');
}

async function serve([zlan, zlan2, zlan3]: readonly Side[]): Promise<void> {
  heading('A TCP service on zlan3, used by the others');
  await transfer(zlan.terminal, zlan3.terminal, 'zlan3');
  await transfer(zlan2.terminal, zlan3.terminal, 'zlan3');
}

/** dhcp-proxy of the file: zlan2 gets its address from a server on zlan. */
async function lease([zlan, zlan2]: readonly Side[], directory: string): Promise<void> {
  heading('DHCP through the proxy: a server on zlan, zlan2 gives its address away and asks for one');
  const address = zlan2.terminal.host.overlay.v4;
  const server = zlan.terminal.start(
    `dnsmasq --no-daemon --conf-file=/dev/null --user=root --port=0 --bind-interfaces --interface=${SERVER.device} \\
    --dhcp-range=10.55.55.0,static,255.255.255.0 --dhcp-host=${CLIENT.mac},${address} \\
    --dhcp-leasefile=${directory}/leases`,
  );
  await server.waitForOutput(/static leases only/);
  const script = path.join(directory, 'udhcpc.sh');
  const onBound = 'case $1 in bound) ip addr add $ip/$mask dev $interface;; esac';
  writeFileSync(script, `#!/bin/sh\n${onBound}\n`, { mode: 0o755 });

  const { terminal, daemon } = zlan2;
  await terminal.type(`ip -4 addr flush dev ${CLIENT.device}`);
  const lease = () => terminal.type(`udhcpc -i ${CLIENT.device} -f -q -n -t 5 -T 1 -s ${script}`);
  const counted = await daemon.counted(lease, 'overlay0', { proxy_dhcp: 2 });
  check(
    'zlan2: the proxy has brought two broadcasts, DISCOVER and REQUEST, to zlan',
    (counted['proxy_dhcp'] ?? 0) >= 2,
  );
  const { stdout } = await terminal.type(`ip -4 -brief addr show dev ${CLIENT.device}`);
  check(`zlan2: has a lease of ${address}, the address that the file says`, stdout.includes(`${address}/24`));
  zlan.terminal.show('kill %1   # dnsmasq; what it has said:');
  await server.stop();
  print(server.stderr.replaceAll(/^(?!.*DHCP(?:DISCOVER|OFFER|REQUEST|ACK)).*\n/gm, ''));
  await pingFrom(zlan.terminal, address, 'zlan2 at its leased address');
}

/** A flow that all know, over the edits: no packet of it may be missing. */
async function whilePinging(what: string, { terminal }: Side, work: () => Promise<unknown>): Promise<void> {
  const count = 60;
  const ping = terminal.start(`ping -c ${count} -i 0.05 10.55.55.4`);
  await ping.waitForOutput(/icmp_seq=3 /);
  await work();
  const wasRunning = !ping.ended;
  await ping.exited;
  print(ping.stdout.slice(ping.stdout.indexOf('---')));
  check(
    `${terminal.hostName} pings zlan3 while ${what}: ${count} of ${count}`,
    wasRunning && ping.stdout.includes(` ${count} received`),
  );
}

/** All hosts read the same file, each on its own. */
async function untilHealth(sides: readonly Side[], what: string, pattern: RegExp): Promise<void> {
  for (const { daemon, terminal } of sides) {
    const says = async (): Promise<boolean> => {
      const [{ health }] = await daemon.overlays('overlay0');
      return pattern.test(`${health.status} ${health.details ?? ''}`);
    };
    await waitUntil(says, { what: `overlay0 to be ${pattern}` });
    check(`${terminal.hostName}: ${what}`, true);
  }
}

async function addStation(bed: Bed, sides: readonly Side[], file: string): Promise<void> {
  heading('The file is edited: a station more, on zlan3, in a namespace of its own as a container would be');
  const [zlan, , zlan3] = sides;
  const { device, mac, v4 } = GUEST;
  const guest = new Terminal(bed, await bed.host(), 'guest', zlan3.daemon.socket);
  const there = zlan3.terminal;
  await succeeds(
    there,
    'a VNIC is created and given to the container',
    `dladm create-vnic -m ${mac} -l overlay0 ${device} && ip link set ${device} netns ${guest.host.name}`,
  );
  await plumb(guest, device, `${v4}/24`);
  const before = await zlan.terminal.type(`ping -c 1 -W 1 ${v4}`);
  check('zlan: the station cannot be found as long as it is not in the file', before.code !== 0);

  await whilePinging('the file is edited', zlan, async () => {
    const entry = `"${mac}": { "arp": "${v4}", "ip": "${there.host.underlay.v4}", "port": 4789 },`;
    await there.type(`sed -i '2a ${entry}' ${file}`);
    await untilHealth(sides, 'has taken the new entry', /^ONLINE .*\+1 -0 ~0 entries, 4 now/);
  });
  await zlan.terminal.type('dladm show-overlay -f');
  await pingFrom(zlan.terminal, v4, 'the station that the file has now');
}

async function breakAndMend(sides: readonly Side[], file: string): Promise<void> {
  heading('A bad edit is refused, with its place; then it is mended');
  const [zlan] = sides;
  const { terminal } = zlan;
  const place = `${file}:${BAD_LINE}:${BAD_COLUMN}: `;
  const isTold = (output: string): boolean =>
    output.includes(place) && output.includes('"4789"') && output.includes('expected a whole number');

  await whilePinging('the file is bad', zlan, async () => {
    await terminal.type(`sed -i '${BAD_LINE}s/4789/"4789"/' ${file}`);
    await untilHealth(sides, 'refuses the bad file', /^DEGRADED /);
  });
  const health = await terminal.type('dladm show-overlay -f');
  check(
    `zlan: show-overlay -f says DEGRADED, line ${BAD_LINE}, column ${BAD_COLUMN}`,
    /DEGRADED/.test(health.stdout) && isTold(health.stdout),
  );
  const checked = await terminal.type(`dladm check-mapping ${file}`);
  check('zlan: check-mapping says the same, exit status 10', checked.code === 10 && isTold(checked.stdout));
  const reload = await terminal.type('dladm reload');
  check('zlan: so does reload', reload.code === 1 && isTold(reload.stderr));

  await whilePinging('the file is mended', zlan, async () => {
    await terminal.type(`sed -i '${BAD_LINE}s/"4789"/4789/' ${file}`);
    await untilHealth(sides, 'recovers by itself', /^ONLINE /);
  });
  await terminal.type('dladm show-overlay -f');
  await succeeds(terminal, 'reload has nothing to object to', 'dladm reload');
}
