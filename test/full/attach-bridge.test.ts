// docs/bridges.md, typed as it stands: guests behind a bridge of each of two hosts, by `direct` and by `files`.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { commandsUnder, textOf } from '../helpers/documents.js';
import { udpFrame } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import type { Bed, Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { FrameSink, ping, reaches, sendFrames, transferTcp } from '../helpers/traffic.js';
import { newBed } from '../helpers/tunnels.js';
import { Typist } from '../helpers/typist.js';

const PAGE = 'docs/bridges.md';
const skip = skipUnlessNetns(['bridge', 'iperf3']);
const UNKNOWN = '02:00:00:00:00:99';

/** Page without its title, so that its first section has a heading too. */
const first = (): string[] =>
  [...(textOf(PAGE).split('\n## ')[0] + '\n').replace(/ \\\n +/g, ' ').matchAll(/^ {4}(\S.*)$/gm)].map(
    ([, line]) => line,
  );

interface Guest {
  readonly host: Namespace;
  readonly v4: string;
  readonly v6: string;
}

interface Site {
  readonly bed: Bed;
  readonly host: Namespace;
  readonly daemon: Daemon;
  readonly guests: readonly Guest[];
}

/** The bridge of a host and two guests behind it, by the commands of the page. */
async function bridged(bed: Bed, daemon: Daemon, number: number): Promise<Site> {
  const { host } = daemon;
  const guests: Guest[] = [];
  for (const at of [0, 1]) {
    const guest = await bed.host();
    const [v4, v6] = [`10.55.55.${10 * number + at}`, `fd55::${10 * number + at}`];
    const values = { '10.55.55.2': v4, 'fd55::2': v6, veth0: `veth${at}` };
    const typist = new Typist(host, daemon, values);
    const lines = first().map((line) => line.replace(/(?<=(?:netns|-n) )web\b/, guest.name));
    const isOfGuest = (line: string): boolean => line.includes('veth0') || line.includes('eth0');
    await typist.type(...lines.filter((line) => isOfGuest(line) || at === 0));
    // The typed address waits until duplicate address detection has ended.
    await guest.ip(`addr replace ${v6}/64 dev eth0 nodad`);
    guests.push({ host: guest, v4, v6 });
  }
  return { bed, host, daemon, guests };
}

async function reachEachOther(t: Test, [a, b]: readonly [Site, Site]): Promise<void> {
  for (const from of [...a.guests, ...b.guests])
    for (const to of [...a.guests, ...b.guests].filter((one) => one !== from))
      for (const address of [to.v4, to.v6])
        t.ok(await reaches(from.host, address), `${from.v4} reaches ${address}`);
  const [from, to] = [a.guests[0], b.guests[1]];
  for (const address of [to.v4, to.v6])
    t.equal((await ping(from.host, address, { packetBytes: 1450 })).received, 3, 'the largest packet');
  for (const [one, other] of [
    [from, to],
    [to, from],
  ] as const)
    for (const address of [other.v4, other.v6])
      t.ok((await transferTcp(one.host, other.host, { address })).exact, `10 MiB to ${address}`);
  const server = to.host.spawn('iperf3 -s --forceflush');
  await server.waitForOutput(/listening/);
  const printed = await from.host.exec(`iperf3 -c ${to.v4} -t 3 -f m`);
  t.comment(`iperf3: ${/.*receiver/.exec(printed)?.[0] ?? printed}`);
  await server.stop();
}

/** Where bridges send their messages of the spanning tree protocol (IEEE 802.1D-2004 7.12.3). */
const BRIDGES = Buffer.from('0180c2000000', 'hex');

/** Whether such messages of one bridge come out of the overlay at the other host. The kernel's own bridge reads none in a network
 * namespace (net/llc/llc_input.c), so this is as far as they can be followed here. */
async function seesBridge(from: Site, to: Site): Promise<void> {
  const sink = await FrameSink.open(to.host, 'demo0');
  await setStp(from, 1);
  const seen = (): boolean => sink.frames.some((frame) => frame.subarray(0, BRIDGES.length).equals(BRIDGES));
  await waitUntil(seen, { what: 'a message of the other bridge' });
  await setStp(from, 0);
  await sink.close();
}

const setStp = (site: Site, state: 0 | 1): Promise<string> =>
  site.host.ip(`link set br0 type bridge stp_state ${state}`);

const stray = (): Uint8Array => udpFrame({ sourceMac: '02:00:00:00:00:55', destinationMac: UNKNOWN });

await t.test('direct', { skip }, async (t) => {
  const bed = newBed(t);
  const hosts = await bed.twoHosts();
  const sites: Site[] = [];
  for (const [index, host] of hosts.entries()) {
    const daemon = (await Daemon.start(bed, host)).explain(t);
    const to = hosts[1 - index].underlay.v4;
    await daemon.ok(directOverlay({ from: host.underlay.v4, to, name: 'demo0' }));
    sites.push(await bridged(bed, daemon, index + 1));
  }
  const pair = sites as [Site, Site];
  const [a, b] = pair;
  await reachEachOther(t, pair);
  t.ok((await a.daemon.overlays('demo0'))[0].counters['rx_unclaimed'] > 0, 'for MACs that no VNIC has');

  // A MAC that is not known anywhere.
  const sink = await FrameSink.open(b.guests[1].host, 'eth0');
  await sendFrames(a.guests[0].host, 'eth0', [stray()]);
  await waitUntil(() => sink.frames.some((frame) => frame.includes(Buffer.from(stray()))), {
    what: 'an unknown MAC to be flooded',
  });
  t.pass('a frame to an unknown MAC reaches the guests of the other bridge');

  // A guest that keeps 1,500 bytes.
  await a.guests[0].host.ip('link set eth0 mtu 1500');
  t.equal((await ping(a.guests[0].host, b.guests[0].v4, { packetBytes: 1500, waitMs: 500 })).received, 0);
  t.ok(
    (await transferTcp(a.guests[0].host, b.guests[0].host, { address: b.guests[0].v4 })).exact,
    'TCP goes on',
  );
  await a.guests[0].host.ip('link set eth0 mtu 1450');

  // A VNIC beside the bridge.
  await a.daemon.ok('create-vnic -l demo0 foo0');
  await a.host.ipBatch('addr add 10.55.55.9/24 dev foo0', 'link set foo0 up');
  for (const { host } of [...a.guests, ...b.guests])
    t.ok(await reaches(host, '10.55.55.9'), 'a VNIC is reached');

  // Spanning tree.
  await seesBridge(a, b);
  t.pass('its messages go through the tunnel');
  for (const address of [b.guests[0].v4, b.guests[1].v6]) t.ok(await reaches(a.guests[0].host, address));

  // A guest is kept to its MAC.
  const locks = commandsUnder(PAGE, 'A guest that keeps to its MAC').map((line) =>
    line.replace(/(?<=exec )web\b/, a.guests[0].host.name),
  );
  await new Typist(a.host, a.daemon).type(...locks);
  t.ok(await reaches(a.guests[0].host, b.guests[0].v4), 'with its own MAC it goes on');
  const before = sink.frames.length;
  await sendFrames(a.guests[0].host, 'eth0', [stray()]);
  await sendFrames(a.guests[1].host, 'eth0', [stray()]);
  await waitUntil(() => sink.frames.slice(before).some((frame) => frame.includes(Buffer.from(stray()))), {
    what: 'the frame of the guest that is not locked',
  });
  const strays = sink.frames.slice(before).filter((frame) => frame.includes(Buffer.from(stray())));
  t.equal(strays.length, 1, 'another MAC is not let through');
  await sink.close();

  // A VNIC as the port.
  await a.host.ip('link set demo0 nomaster');
  await a.host.ip('link set foo0 master br0');
  const lost = await a.daemon.counted(
    async () => {
      t.equal(
        (await ping(a.guests[1].host, b.guests[0].v4, { waitMs: 500 })).received,
        0,
        'the answers are lost',
      );
    },
    'demo0',
    { tx_other_source: 1 },
  );
  t.ok(lost['tx_other_source'] > 0);
  t.match(
    a.daemon.log(),
    /port foo0 sends from \S+, which is not its MAC: frames to \S+ go to demo0, not to foo0/,
  );
  await a.daemon.ok('set-linkprop -p protection=mac-nospoof foo0');
  const spoofed = await a.daemon.counted(
    () => ping(a.guests[1].host, b.guests[0].v4, { waitMs: 500 }),
    'demo0',
    { mac_spoofed: 1 },
  );
  t.ok(spoofed['mac_spoofed'] > 0);
});

await t.test('files', { skip }, async (t) => {
  const bed = newBed(t);
  const hosts = await bed.twoHosts();
  const file = path.join(bed.directory(), 'hosts.json');
  writeFileSync(file, '{}');
  const sites: Site[] = [];
  for (const [index, host] of hosts.entries()) {
    const daemon = (await Daemon.start(bed, host)).explain(t);
    const properties = `vxlan/listen_ip=${host.underlay.v4},files/config=${file},mtu=1450`;
    await daemon.ok(`create-overlay -e vxlan -s files -v 23 -p ${properties} demo0`);
    sites.push(await bridged(bed, daemon, index + 1));
  }
  const pair = sites as [Site, Site];
  const [a, b] = pair;
  const entries: Record<string, object> = {};
  for (const { host, guests } of pair)
    for (const guest of guests)
      entries[await guest.host.macOf('eth0')] = {
        ip: host.underlay.v4,
        port: 4789,
        arp: guest.v4,
        ndp: guest.v6,
      };
  writeFileSync(file, JSON.stringify(entries));
  for (const { daemon } of pair) await daemon.ok('reload');
  await reachEachOther(t, pair);
  const { proxy_arp } = (await a.daemon.overlays('demo0'))[0].counters;
  t.ok(proxy_arp > 0, 'varpd answers for the guests of the other host');

  const dropped = await a.daemon.counted(() => sendFrames(a.guests[0].host, 'eth0', [stray()]), 'demo0', {
    lookup_drop: 1,
  });
  t.match(dropped, { lookup_drop: 1 }, 'an unknown MAC is dropped');

  const group = await a.daemon.counted(() => setStp(a, 1), 'demo0', { tx_group: 1 });
  t.ok(group['tx_group'] > 0, 'the spanning tree protocol is dropped');
  for (const { daemon } of pair) await daemon.ok('set-overlayprop -p files/flood=on demo0');
  await seesBridge(a, b);
  t.pass('but not with files/flood=on');
});
