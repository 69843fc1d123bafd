// The files plugin as the article shows it: three hosts and one JSON file, frame by frame.

import { setTimeout as sleep } from 'node:timers/promises';

import t from 'tap';

import { QUESTION_RATE } from '../../src/core/queues/questions.js';
import * as arp from '../../src/wire/arp.js';
import { Capture } from '../helpers/capture.js';
import { toHex, udpFrame } from '../helpers/frames.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { FrameSink, sendFrames } from '../helpers/traffic.js';
import { arpFrame, changed, filesOverlay, ndpFrame, pacedFrames, SteadyPing } from '../helpers/zlan.js';
import { skip, site } from '../helpers/files-site.js';
import { part } from '../helpers/whole.js';

await t.test('frames on three quiet hosts', { skip }, async (t) => {
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

  await t.test('very many distinct unknown MACs', async (t) => {
    const count = part(100_000);
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
