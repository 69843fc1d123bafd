// dladm capture on real devices: against tcpdump on the same port and on the underlay, drop by drop, as segments, with a reader
// that does not read, to its end.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { createOpener } from '../../src/control/stream-client.js';
import { ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { CaptureStream, readCapture } from '../../src/wire/pcapng-read.js';
import { LINK_TYPE_RAW } from '../../src/wire/pcapng.js';
import { Capture, fieldsOf } from '../helpers/capture.js';
import { Daemon, directOverlay, DLADM_MAIN } from '../helpers/daemon.js';
import type { CaptureRow } from '../../src/cli/capture-sinks.js';
import { DladmCapture } from '../helpers/dladm-capture.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { newHosts, newSite } from '../helpers/site.js';
import { ping, reaches, sendDatagrams, sendFrames, transferTcp, udpEcho } from '../helpers/traffic.js';
import { part, usual } from '../helpers/whole.js';
import { SteadyPing } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['tcpdump', 'tshark', 'capinfos']);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

await t.test('a VNIC as tcpdump sees it, frame by frame', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newSite(t, 'v4');
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.ip('addr flush dev overlay0');
  await a.plumb('foo0');
  t.ok(await reaches(a, b.overlay.v4));
  const mac = (await a.macOf('foo0')).replaceAll(':', '');
  const tcpdump = await Capture.start(bed, a, 'foo0');
  const capture = await DladmCapture.start(bed, daemon, 'foo0');
  await ping(a, b.overlay.v4);
  await ping(b, a.overlay.v6);
  await udpEcho(a, b);
  t.ok((await transferTcp(a, b, { bytes: 1 << 20 })).exact, 'out, in superframes');
  const { code } = await capture.stop();
  await tcpdump.stop();
  t.equal(code, 0);
  t.match(
    capture.child.stderr,
    /capturing foo0, until it is interrupted\n.*\d+ packets captured, 0 lost\n$/s,
  );
  t.equal(tcpdump.lost, 0);
  const seen = readCapture(readFileSync(tcpdump.file))!.packets.map(({ data }) => hex(data));
  const isSent = (frame: string): boolean => frame.slice(12, 24) === mac;
  const { interfaces, complete } = capture.whole;
  t.match(interfaces, [{ name: 'foo0', linkType: 1 }]);
  t.ok(complete);
  const own = (direction: string): string[] =>
    capture.packets.filter((packet) => packet.direction === direction).map(({ data }) => hex(data));
  const sent = seen.filter(isSent);
  t.ok(sent.length > 20, `${sent.length} frames sent`);
  t.ok(
    sent.some((frame) => frame.length / 2 > 3000),
    'superframes among them',
  );
  t.same(between(own('out'), sent), between(sent, own('out')), 'sent: the same bytes in the same order');
  // Of the segments of a run varpd makes one superframe for the port, and captures each.
  const received = seen.filter((frame) => !isSent(frame) && !isTcp(frame));
  const ownReceived = own('in').filter((frame) => !isTcp(frame));
  t.ok(received.length > 6, `${received.length} frames received`);
  t.same(between(ownReceived, received), between(received, ownReceived), 'and received');
  t.equal(await capture.complaints(), '', 'tshark has no complaint');
});

/** The frames of `one` from the time when the other looked as well: they did not begin and end at the same moment. A frame that
 * is sent twice, as an MLD report, does not mark that time: the other may have seen only its repetition. */
function between(one: readonly string[], other: readonly string[]): readonly string[] {
  const isOnce = (frame: string, list: readonly string[]): boolean =>
    list.includes(frame) && list.indexOf(frame) === list.lastIndexOf(frame);
  const isCommon = (frame: string): boolean => isOnce(frame, one) && isOnce(frame, other);
  return one.slice(one.findIndex(isCommon), one.findLastIndex(isCommon) + 1);
}

function isTcp(frame: string): boolean {
  return frame.slice(24, 28) === '0800' && frame.slice(46, 48) === '06';
}

await t.test('the tunnel with its outer headers, as tcpdump sees it on the underlay', { skip }, async (t) => {
  for (const encap of ENCAPSULATION_NAMES)
    for (const family of usual(
      ['v4', 'v6'] as const,
      (family) => (family === 'v4') === (encap === 'vxlan'),
    )) {
      const { bed, a, b } = await newHosts(t);
      const [one, other] = [
        await Daemon.start(bed, a, { withoutRoot: true }),
        await Daemon.start(bed, b, { withoutRoot: true }),
      ];
      one.explain(t);
      const [from, to] = [a.underlay[family], b.underlay[family]];
      await one.ok(directOverlay({ from, to, encap }));
      await other.ok(directOverlay({ from: to, to: from, encap }));
      // So that tcpdump sees the checksums.
      for (const host of [a, b]) await host.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
      for (const host of [a, b]) await host.plumb('overlay0');
      t.ok(await reaches(a, b.overlay.v4));
      const tcpdump = await Capture.start(bed, a, UNDERLAY_DEVICE, 'udp');
      const capture = await DladmCapture.start(bed, one, '--outer', '--peer', to, 'overlay0');
      await ping(a, b.overlay.v4, { packetBytes: 1200 });
      await ping(b, a.overlay.v6);
      await capture.stop();
      await tcpdump.stop();
      t.equal(await capture.complaints(), '', `${encap} over IP${family}: no complaint`);
      const ip = family === 'v4' ? 'ip' : 'ipv6';
      const outer = [`${ip}.src`, `${ip}.dst`, 'udp.srcport', 'udp.dstport', 'udp.length', 'udp.checksum'];
      const fields = [...outer, `${encap}.vni`, 'eth.src', 'icmp.seq', 'icmp.checksum', 'icmpv6.checksum'];
      const inner = `${encap} && (icmp.type == 0 || icmp.type == 8 || icmpv6.type == 128 || icmpv6.type == 129)`;
      const own = await fieldsOf(capture.file, inner, fields);
      // On the underlay there is an Ethernet header more.
      const seen = (await tcpdump.fields(inner, fields)).map((row) => ({
        ...row,
        'eth.src': row['eth.src'].slice(1),
      }));
      t.equal(own.length, 12, 'each request and each reply');
      t.same(
        own,
        seen,
        `${encap} over IP${family}: addresses, ports, lengths, checksums, VNI and what is inside`,
      );
      t.ok(
        capture.packets.every(({ source, comment, direction }) => {
          const about = direction === 'out' ? `to ${formatPeer(to)}` : `from ${formatPeer(to)}`;
          return source.linkType === LINK_TYPE_RAW && comment.startsWith(about);
        }),
        'raw IP, each with its peer',
      );
      await bed.cleanup();
    }
});

function formatPeer(ip: string): string {
  return ip.includes(':') ? `[${ip}]:` : `${ip}:`;
}

await t.test('drop by drop', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newSite(t, 'v4');
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('create-vnic -l overlay0 -v 5 bar0');
  await daemon.ok('set-linkprop -p protection=mac-nospoof,restricted foo0');
  // An MLD report, which the kernel repeats, would be dropped at the port that is down.
  for (const port of ['overlay0', 'foo0', 'bar0']) await a.quietIpv6(port);
  await b.quietIpv6('vx0');
  for (const port of ['foo0', 'bar0']) await a.ip(`link set ${port} up`);
  await b.ip(`addr add 10.88.88.200/24 dev ${UNDERLAY_DEVICE}`);
  const mac = async (port: string): Promise<string> => (await a.macOf(port)).replaceAll(':', '');
  const [foo, bar] = [await mac('foo0'), await mac('bar0')];
  const payload = '00'.repeat(46);
  const vxlan = (vni: string): string => `08000000${vni}00`;
  const inner = `${foo}02000000000908ff${payload}`;
  const fromB = (source: string, ...datagrams: readonly string[]): Promise<unknown> =>
    sendDatagrams(b, {
      to: a.underlay.v4,
      port: 4789,
      source,
      payloads: datagrams.map((datagram) => Buffer.from(datagram, 'hex')),
    });
  const all = await DladmCapture.start(bed, daemon, '--drops', 'overlay0');
  const spoofed = await DladmCapture.start(bed, daemon, '--drops=mac_spoofed', 'overlay0');
  const ofVnic = await DladmCapture.start(bed, daemon, '--drops', 'foo0');
  const before = (await daemon.overlays('overlay0'))[0].counters;
  await fromB(
    b.underlay.v4,
    '080000', // rx_truncated
    `0000000000002a00${inner}`, // rx_no_vni
    `${vxlan('000063')}${inner}`, // rx_unknown_vni
    `${vxlan('00002a')}0102`, // rx_runt
    `${vxlan('00002a')}${foo}01000000000908ff${payload}`, // rx_bad_source
    `${vxlan('00002a')}${foo}02000000000908ff${'00'.repeat(1700)}`, // rx_too_big
  );
  await fromB('10.88.88.200', `${vxlan('00002a')}${inner}`); // rx_unknown_peer
  const frames = (...texts: readonly string[]): Uint8Array[] => texts.map((text) => Buffer.from(text, 'hex'));
  await sendFrames(
    a,
    'foo0',
    frames(
      `0200000000010200000000020800${payload}`, // mac_spoofed
      `0200000000010200000000030800${payload}`, // mac_spoofed
      `020000000001${foo}88b5${payload}`, // restricted
    ),
  );
  await a.ip('link set bar0 mtu 3000');
  await sendFrames(
    a,
    'bar0',
    frames(
      `${bar}${bar}0800${payload}`, // tx_hairpin
      `020000000001${bar}810000070800${payload}`, // tx_vlan
      `020000000001${bar}0800${'00'.repeat(2000)}`, // tx_too_big
    ),
  );
  await a.ip('link set foo0 down');
  await fromB(b.underlay.v4, `${vxlan('00002a')}${inner}`); // port_down
  const wanted = {
    rx_truncated: 1,
    rx_no_vni: 1,
    rx_unknown_vni: 1,
    rx_runt: 1,
    rx_bad_source: 1,
    rx_too_big: 1,
    rx_unknown_peer: 1,
    mac_spoofed: 2,
    restricted: 1,
    tx_hairpin: 1,
    tx_vlan: 1,
    tx_too_big: 1,
    port_down: 1,
  };
  const counted = async (): Promise<Record<string, number>> => {
    const after = (await daemon.overlays('overlay0'))[0].counters;
    return Object.fromEntries(Object.keys(wanted).map((name) => [name, after[name] - before[name]]));
  };
  await waitUntil(async () => (await counted())['port_down'] > 0, { what: 'the last drop' });
  t.same(await counted(), wanted, 'as varpd counts them');
  for (const capture of [all, spoofed, ofVnic]) await capture.stop();
  const noted = (capture: DladmCapture): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (const { comment } of capture.packets) {
      const reason = /dropped: (\w+)$/.exec(comment)?.[1] ?? 'none';
      counts[reason] = (counts[reason] ?? 0) + 1;
    }
    return counts;
  };
  t.match(noted(all), wanted, 'each with its reason');
  t.same(noted(spoofed), { mac_spoofed: 2 });
  t.same(noted(ofVnic), { mac_spoofed: 2, restricted: 1, port_down: 1 }, 'what concerns the VNIC');
  const find = (reason: string): string[] =>
    all.packets.filter(({ comment }) => comment.endsWith(`dropped: ${reason}`)).map(({ data }) => hex(data));
  t.same(find('rx_unknown_peer'), [inner], 'whole');
  t.same(
    find('tx_hairpin'),
    [`${bar}${bar}0800${payload}`],
    'as its port sent it, without the tag of the port',
  );
  t.same(find('port_down'), [inner]);
  const peer = all.packets.find(({ comment }) => comment.endsWith('rx_unknown_peer'));
  t.match(peer, {
    comment: /^from 10\.88\.88\.200:\d+, /,
    direction: 'in',
    source: { name: 'overlay0 tunnel' },
  });
  const unknown = all.packets.find(({ comment }) => comment.endsWith('rx_unknown_vni'));
  t.match(unknown, { source: { name: 'overlay0 underlay', linkType: LINK_TYPE_RAW } });
  t.same(await fieldsOf(all.file, 'vxlan.vni == 99', ['ip.src', 'eth.dst']), [
    { 'ip.src': [b.underlay.v4], 'eth.dst': [foo.replace(/..(?=.)/g, '$&:')] },
  ]);
  for (const capture of [all, spoofed, ofVnic])
    t.equal(await capture.complaints({ mayBeMalformed: true }), '');
});

await t.test('a superframe as the packets that it becomes', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newSite(t, 'v4');
  const [whole, cut] = [
    await DladmCapture.start(bed, daemon, '--type', 'ipv4', 'overlay0'),
    await DladmCapture.start(bed, daemon, '--type', 'ipv4', '--segments', 'overlay0'),
  ];
  const bytes = 1 << 20;
  t.ok((await transferTcp(a, b, { bytes })).exact);
  for (const capture of [whole, cut]) await capture.stop();
  const lengths = ({ packets }: DladmCapture): number[] => packets.map(({ originalBytes }) => originalBytes);
  t.ok(Math.max(...lengths(whole)) > 5000, 'superframes without it');
  const mtuBytes = (await a.mtuOf('overlay0')) + 14;
  t.ok(Math.max(...lengths(cut)) <= mtuBytes, `none above ${mtuBytes} bytes with it`);
  t.match([whole.whole.lost, cut.whole.lost], [0, 0]);
  for (const place of ['overlay0', 'overlay0 tunnel']) {
    const sent = `frame.interface_name == "${place}" && ip.src == ${a.overlay.v4} && tcp`;
    const rows = await fieldsOf(cut.file, `${sent} && tcp.len > 0`, ['tcp.len']);
    const total = rows.reduce((sum, row) => sum + Number(row['tcp.len'][0]), 0);
    t.ok(total >= bytes, `${total} bytes of TCP at ${place}`);
    const bad = await fieldsOf(cut.file, `${sent} && (tcp.checksum.status == 0 || ip.checksum.status == 0)`, [
      'tcp.len',
    ]);
    t.equal(bad.filter((row) => Number(row['tcp.len'][0]) > 0).length, 0, 'with good checksums');
  }
  for (const capture of [whole, cut]) t.equal(await capture.complaints(), '');
});

await t.test('a reader that does not read costs the traffic nothing, and is told', { skip }, async (t) => {
  const { a, b, daemon } = await newSite(t, 'v4');
  const open = createOpener(daemon.socket);
  const { stream } = await open('capture.start', {
    name: 'overlay0',
    isDropsOnly: false,
    isOuter: false,
    isCut: false,
  });
  const steady = await SteadyPing.start(a, b.overlay.v4);
  t.ok((await transferTcp(a, b, { bytes: part(80 << 20) })).exact, 'a transfer goes on');
  await ping(a, b.overlay.v4, { count: 20 });
  t.equal((await steady.stop()).lost, 0, 'no ping is lost');
  stream.end();
  const reader = new CaptureStream();
  let packets = 0;
  for await (const piece of stream as AsyncIterable<Uint8Array>) packets += reader.push(piece).length;
  t.ok(reader.hasEnded, 'it ends in order');
  t.ok(packets > 0 && reader.lost > 0, `${packets} packets, ${reader.lost} lost`);
});

await t.test('the end of a capture', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newSite(t, 'v4');
  const start = (...args: string[]): Promise<DladmCapture> => DladmCapture.start(bed, daemon, ...args);
  const steady = await SteadyPing.start(a, b.overlay.v4);
  const counted = await start('-c', '7', '--ip', b.overlay.v4, '-s', '40', 'overlay0');
  t.equal((await counted.child.exited).code, 0, 'after so many packets');
  t.equal(counted.packets.length, 7);
  t.ok(
    counted.packets.every(({ data, originalBytes }) => data.length === 40 && originalBytes === 98),
    'each cut',
  );
  t.match(counted.child.stderr, /7 packets captured/);
  const others = await Promise.all([1, 2, 3, 4].map(() => start('--mac', '2:0:0:0:0:1', 'overlay0')));
  const fifth = await daemon.dladm('capture', 'overlay0');
  t.match(fifth, { code: EXIT.REFUSED, stderr: /4 captures run, which is the limit/ });
  await others[3].stop();
  t.equal(others[3].packets.length, 0, 'none matches');
  t.equal(await others[3].complaints(), '', 'an empty one is whole');
  await daemon.ok('restart');
  for (const { child } of others.slice(0, 3)) {
    t.equal((await child.exited).code, 1);
    t.match(child.stderr, /was cut off: varpd has ended or restarted; start it again/);
  }
  t.equal((await steady.stop()).lost, 0, 'the traffic goes on');
  const last = await start('overlay0');
  await daemon.ok('delete-overlay overlay0');
  t.equal((await last.child.exited).code, 1);
  t.match(last.child.stderr, /the capture of overlay0 is over: overlay0 was deleted/);
  t.ok(last.whole.complete);
});

await t.test('lines for people and programs, and a pipe, of two threads', { skip }, async (t) => {
  const { a, b, daemon } = await newSite(t, 'v4', '-p queues=2');
  const steady = await SteadyPing.start(a, b.overlay.v4);
  const dladm = [process.execPath, DLADM_MAIN, '--socket', daemon.socket, 'capture', '--ip', b.overlay.v4];
  const take = (count: number, ...args: readonly string[]): Promise<string> =>
    a.exec([...dladm, '-c', `${count}`, ...args, 'overlay0']);
  const run = (...args: readonly string[]): Promise<string> => take(4, ...args);
  // The first four of two threads may be requests alone.
  const text = await take(8);
  t.match(text, /^TIME +INTERFACE +DIR +BYTES +FRAME\n/);
  t.match(text, /\n\d\d:\d\d:\d\d\.\d{6} +overlay0 +out +98 +Ethernet .* \| IPv4 .* \| ICMP echo request /);
  t.match(text, /overlay0 tunnel +in +98 +Ethernet .* echo reply .* \(from 10\.88\.88\.\d+:\d+\)\n/);
  const fields = (await take(8, '-p', '-o', 'interface,dir,bytes,note')).trim().split('\n');
  t.same(new Set(fields.map((line) => line.replace(/:\d+$/, ''))).size, 4, fields.join(' '));
  t.ok(fields.some((line) => line.startsWith('overlay0 tunnel:out:98:to 10.88.88.')));
  const objects = (await run('--json'))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as CaptureRow);
  t.equal(objects.length, 4);
  t.match(objects[0], { v: 1, interface: /^overlay0/, direction: /in|out/, bytes: 98 });
  t.match(objects[0].time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  t.ok(Math.abs(Date.parse(objects[0].time) - Date.now()) < 60_000, 'of now');
  const outer = await run('--outer', '-o', 'frame', '--peer', b.underlay.v4);
  t.match(
    outer,
    /IPv4 10\.88\.88\.\d+ > 10\.88\.88\.\d+ ttl 64 \| UDP \d+ > 4789 \(\d+ bytes\) \| VXLAN 42 \| Ethernet/,
  );
  const piped = await a.run([
    'sh',
    '-c',
    `${[...dladm, '-c', '4', '-w', '-', 'overlay0'].join(' ')} | tshark -n -r - -Y icmp`,
  ]);
  t.match(piped.stdout.trim().split('\n'), { length: 4 });
  t.match(piped.stderr, /4 packets captured, 0 lost/);
  await steady.stop();
});

await t.test('what cannot be captured', { skip }, async (t) => {
  const { daemon } = await newSite(t, 'v4');
  const refused = async (args: string, why: RegExp, code: number = EXIT.REFUSED): Promise<void> => {
    t.match(await daemon.dladm('capture', ...args.split(' ')), { code, stderr: why }, args);
  };
  await refused('other0', /other0/, EXIT.NOT_FOUND);
  const kept = path.join(daemon.directory, 'kept.pcapng');
  writeFileSync(kept, 'an earlier capture');
  await refused(`-w ${kept} other0`, /other0/, EXIT.NOT_FOUND);
  t.equal(
    readFileSync(kept, 'utf8'),
    'an earlier capture',
    'a capture that does not begin costs none before',
  );
  await refused('--drops rx_no_vni overlay0', /is a part of the option: --drops=rx_no_vni/, EXIT.USAGE);
  await refused(
    '--drops=rx_nothing overlay0',
    /no frame is dropped for the reason 'rx_nothing', expected one of tx_runt, /,
  );
  await refused('--mac x overlay0', /invalid mac address: x/);
  await refused('--ip 10.0.0.256 overlay0', /invalid IP address '10\.0\.0\.256'/);
  await refused('--type 0x12345 overlay0', /invalid EtherType '0x12345'/);
  await refused('--vlan 4095 overlay0', /invalid VLAN identifier '4095'; valid range: 0 - 4094/);
  await refused('-s 0 overlay0', /invalid snapshot length '0'/);
  await refused('-c 0 overlay0', /invalid number of packets '0'/);
  await refused('-w /nowhere/file overlay0', /cannot write \/nowhere\/file: ENOENT/, EXIT.NOT_FOUND);
  await refused('-w - --json overlay0', /-w and --json may not be used together/, EXIT.USAGE);
  await refused('-p overlay0', /output fields must be specified/, EXIT.USAGE);
  t.match(await daemon.dladm('capture'), { code: EXIT.USAGE, stderr: /missing overlay or vnic name/ });
});
