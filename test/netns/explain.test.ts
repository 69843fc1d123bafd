// dladm explain on real devices: the frame that it was asked about, sent for real; and the mistakes of docs/explain.md.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

import { type Explanation, MAX_EXPLAINED_BYTES } from '../../src/control/explain-messages.js';
import { ENCAPSULATION_NAMES, type EncapsulationName } from '../../src/encap/index.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { Capture, writeCapture } from '../helpers/capture.js';
import { Daemon } from '../helpers/daemon.js';
import { textOf } from '../helpers/documents.js';
import { toHex, udpFrame } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { newHosts } from '../helpers/site.js';
import { reaches, sendFrames } from '../helpers/traffic.js';
import { FAMILIES, type Family } from '../helpers/tunnels.js';
import { usual } from '../helpers/whole.js';
import { arpFrame } from '../helpers/zlan.js';

const skip = skipUnlessNetns(['tcpdump', 'tshark']);

const OWN = '02:08:20:00:00:01';
const PEER = '02:08:20:00:00:02';
const NOBODY = '02:08:20:00:00:99';
const OWN_IP = '10.55.55.200';
const PEER_IP = '10.55.55.201';

/** A varpd with a mapping of two stations, one of them here behind foo0. */
async function start(t: Test, family: Family, encap: EncapsulationName, more = '') {
  const { bed, a, b } = await newHosts(t);
  // The kernel itself sends nothing from the ports.
  await a.exec('sysctl -qw net.ipv6.conf.default.disable_ipv6=1');
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  const [from, to] = [a.underlay[family], b.underlay[family]];
  const port = encap === 'vxlan' ? 4789 : 6081;
  const mapping = path.join(bed.directory(), 'hosts.json');
  const entries = {
    [OWN]: { ip: from, port, arp: OWN_IP },
    [PEER]: { ip: to, port, arp: PEER_IP },
  };
  const write = (value: object): void => {
    writeFileSync(mapping, JSON.stringify(value));
  };
  write(entries);
  await daemon.ok(
    `create-overlay -e ${encap} -s files -v 42 -p ${encap}/listen_ip=${from},files/config=${mapping} ${more} overlay0`,
  );
  await daemon.ok(`create-vnic -l overlay0 -m ${OWN} foo0`);
  await a.ip('link set foo0 up');
  const explain = async (...args: string[]): Promise<Explanation & { readonly code: number | null }> => {
    const { stdout, stderr, code } = await daemon.dladm('explain', '--json', ...args, 'overlay0');
    if (stdout === '') throw new Error(stderr);
    return { ...(JSON.parse(stdout) as Explanation), code };
  };
  return { bed, a, b, daemon, from, to, port, write, explain };
}

const counted = async (daemon: Daemon): Promise<unknown> =>
  (await daemon.overlays('overlay0')).map(({ counters }) => counters);

await t.test('what is said is what is sent', { skip }, async (t) => {
  for (const encap of ENCAPSULATION_NAMES)
    for (const family of usual(FAMILIES, (each) => (each === 'v4') === (encap === 'vxlan')))
      await t.test(`${encap} over IP${family}`, async (t) => {
        const { bed, a, daemon, from, to, port, explain } = await start(t, family, encap);
        const frames = [41_000, 42_000, 43_000].map((sourcePort) =>
          udpFrame({ sourceMac: OWN, destinationMac: PEER, sourcePort }),
        );
        const before = [await counted(daemon), await daemon.ok('show-overlay -t overlay0')];
        const said: Explanation[] = [];
        for (const frame of frames) {
          const { code, ...explanation } = await explain('-i', 'foo0', '--frame', toHex(frame));
          t.equal(code, EXIT.DONE);
          said.push(explanation);
        }
        const after = [await counted(daemon), await daemon.ok('show-overlay -t overlay0')];
        t.same(after, before, 'nothing was counted, and no target was learned');
        // The neighbour is known then, and the datagrams do not wait in the kernel.
        t.ok(await reaches(a, to), 'the underlay');
        const tcpdump = await Capture.start(bed, a, UNDERLAY_DEVICE, `udp and dst port ${port}`);
        const grown = await daemon.counted(() => sendFrames(a, 'foo0', frames), 'overlay0', {
          tx_frames: frames.length,
        });
        t.match(grown, { tx_frames: frames.length, lookups: 1 });
        const ip = family === 'v4' ? 'ip' : 'ipv6';
        const fields = [`${ip}.src`, `${ip}.dst`, 'udp.srcport', 'udp.dstport', 'udp.length'];
        const sent = await tcpdump.fields(`${encap} && udp.port == 9`, fields);
        const endpoint = (address: string, udpPort: string): string =>
          family === 'v4' ? `${address}:${udpPort}` : `[${address}]:${udpPort}`;
        t.same(
          said.flatMap(({ sends }) => sends.map(({ from, to, bytes }) => [from, to, bytes])),
          sent.map((row) => [
            endpoint(row[`${ip}.src`][0], row['udp.srcport'][0]),
            endpoint(row[`${ip}.dst`][0], row['udp.dstport'][0]),
            Number(row['udp.length'][0]) - 8,
          ]),
          'sockets and bytes, as tcpdump sees them',
        );
        t.equal(sent.length, frames.length);
        t.match(said[0].sentence, new RegExp(`^would send ${frames[0].length + 8} bytes to .*:${port}$`));
        t.ok(from !== to);
      });
});

await t.test('the classic mistakes', { skip }, async (t) => {
  const { bed, a, b, daemon, from, to, write, explain } = await start(
    t,
    'v4',
    'vxlan',
    '-p vxlan/source_ports=4',
  );
  const foo = ['-i', 'foo0'];
  /** The frame is dropped for this reason, at this step. */
  const drops = async (t: Test, reason: string, step: string, ...args: string[]): Promise<void> => {
    const { code, outcome, sentence, steps } = await explain(...args);
    t.match({ code, outcome }, { code: EXIT.NO, outcome: 'drop' }, args.join(' '));
    t.match(sentence, new RegExp(`^would drop: ${reason}: .+ -> .+`));
    t.same(
      steps.filter(({ verdict }) => verdict === 'drop').map((one) => one.step),
      [step],
    );
  };

  await t.test('another VNI at the peer, and a peer that is in no list', async (t) => {
    const inbound = ['--inbound', '--from', to, '--dst', OWN, '--src', PEER];
    await drops(t, 'rx_unknown_vni', 'vni', ...inbound, '--vni', '24');
    await drops(t, 'rx_unknown_peer', 'peer', '--inbound', '--from', '10.88.88.99', '--dst', OWN);
    t.match(await explain(...inbound), { code: EXIT.DONE, deliveries: ['foo0'], from: `${to}:49152` });
  });

  await t.test('nothing is wrong here', async (t) => {
    t.match(await explain(...foo, '--dst', PEER), {
      code: EXIT.DONE,
      sends: [{ to: `${to}:4789`, bytes: 106 }],
    });
    const { steps, sends } = await explain(...foo, '--dst', PEER_IP, '--src', OWN_IP);
    t.equal(sends.length, 1);
    t.match(steps[0], { step: 'address', read: `${PEER_IP} is at ${PEER}` }, 'by the answer of the plugin');
    const text = await daemon.ok(`explain -i foo0 --dst ${PEER} overlay0`);
    t.match(text, /^Ethernet .*\nok {3}frame .*\nok {3}port .*\n/);
    t.match(text, /\nwould send 106 bytes to 10\.[0-9.]+:4789\n$/);
    t.match(
      await daemon.ok(`explain -i foo0 --dst ${PEER} -p -o step,verdict overlay0`),
      /^frame:pass\nport:pass\n.*end:pass\n$/s,
    );
  });

  await t.test('a MAC that the mapping does not have, and one that it places on another host', async (t) => {
    await drops(t, 'lookup_drop', 'plugin', ...foo, '--dst', NOBODY);
    write({ [OWN]: { ip: from, port: 4789 }, [PEER]: { ip: '10.88.88.99', port: 4789 } });
    await daemon.ok('reload');
    t.match(await explain(...foo, '--dst', PEER), { sends: [{ to: '10.88.88.99:4789' }] });
    write({});
    await daemon.ok('reload');
    await drops(t, 'lookup_drop', 'plugin', ...foo, '--dst', PEER);
    write({ [OWN]: { ip: from, port: 4789, arp: OWN_IP }, [PEER]: { ip: to, port: 4789, arp: PEER_IP } });
    await daemon.ok('reload');
  });

  await t.test('the MTU of the underlay is lowered', async (t) => {
    await a.ip(`link set ${UNDERLAY_DEVICE} mtu 1400`);
    await drops(t, 'tx_path_mtu', 'mtu', ...foo, '--dst', PEER, '--size', '1464');
    await drops(t, 'tx_too_big', 'size', ...foo, '--dst', PEER, '--size', '1600');
    await a.ip(`link set ${UNDERLAY_DEVICE} mtu 1500`);
  });

  await t.test('protection, a VLAN, a proxy, an interface that is down', async (t) => {
    await daemon.ok('set-linkprop -p protection=mac-nospoof foo0');
    await drops(t, 'mac_spoofed', 'protection', ...foo, '--dst', PEER, '--src', NOBODY);
    await daemon.ok('reset-linkprop foo0');
    await daemon.ok('create-vnic -l overlay0 -v 5 foo1');
    await drops(t, 'tx_vlan', 'vlan', '-i', 'foo1', '--dst', PEER, '--vlan', '6');
    const request = toHex(arpFrame({ from: OWN, senderIp: OWN_IP, targetIp: PEER_IP }));
    const { code, answers } = await explain(...foo, '--frame', request);
    t.match({ code, answers }, { code: EXIT.DONE, answers: [new RegExp(`ARP reply ${PEER_IP} at ${PEER}`)] });
    const multicast = await explain(...foo, '--dst', '33:33:00:00:00:02');
    t.match(
      multicast.steps.find(({ step }) => step === 'plugin')?.read,
      /drop \(tx_group\)$/,
      'as it is counted',
    );
    t.match(multicast.drops, [{ reason: 'tx_group' }]);
    await daemon.ok('delete-vnic foo1');
  });

  await t.test('a frame of a capture, and what is invalid', async (t) => {
    const file = path.join(bed.directory(), 'frames.pcapng');
    writeCapture(file, [
      udpFrame({ sourceMac: OWN, destinationMac: NOBODY }),
      udpFrame({ sourceMac: OWN, destinationMac: PEER }),
    ]);
    t.match(await explain(...foo, '--pcap', `${file}#2`), { code: EXIT.DONE, sends: [{ to: `${to}:4789` }] });
    // Longer than any other text of a request, as long as a frame can be, and longer.
    const sizes = [513, 1464, MAX_EXPLAINED_BYTES, MAX_EXPLAINED_BYTES + 1];
    const long = sizes.map((bytes) => {
      const frame = new Uint8Array(bytes);
      frame.set(udpFrame({ sourceMac: OWN, destinationMac: PEER }));
      return frame;
    });
    const longFile = path.join(bed.directory(), 'long.pcapng');
    writeCapture(longFile, long);
    for (const [index, frame] of long.slice(0, -1).entries()) {
      const expected =
        frame.length > 1464
          ? { code: EXIT.NO, drops: [{ reason: 'tx_too_big' }] }
          : { code: EXIT.DONE, sends: [{ bytes: frame.length + 8 }] };
      t.match(await explain(...foo, '--frame', toHex(frame)), expected, `${frame.length} bytes`);
      t.match(await explain(...foo, '--pcap', `${longFile}#${index + 1}`), expected, `${frame.length} bytes`);
    }
    const refused = async (expected: RegExp, status: number, line: string): Promise<void> => {
      const { stderr, code } = await daemon.dladm('explain', ...line.split(' '), 'overlay0');
      t.match(stderr, expected);
      t.equal(code, status, line);
    };
    await refused(/has no packet 3, but 2/, EXIT.REFUSED, `--pcap ${file}#3`);
    await refused(/expected FILE#NUMBER/, EXIT.REFUSED, `--pcap ${file}`);
    await refused(/none on a wire has more than 16384/, EXIT.REFUSED, `--pcap ${longFile}#${long.length}`);
    await refused(/it is a device, and no file/, EXIT.REFUSED, '--pcap /dev/zero#1');
    await refused(/no such file/, EXIT.NOT_FOUND, '--pcap /nowhere.pcap#1');
    await refused(/has no port 'foo7', but overlay0, foo0/, EXIT.NOT_FOUND, `-i foo7 --dst ${PEER}`);
    await refused(/knows no MAC of 10.55.55.7/, EXIT.NOT_FOUND, '--dst 10.55.55.7');
    await refused(/not of the address family/, EXIT.REFUSED, `--inbound --from fd00::1 --dst ${PEER}`);
    await refused(/--dst: .*a MAC or an IP address/, EXIT.REFUSED, '--dst foo');
    await refused(/--inbound and --from go together/, EXIT.USAGE, `--inbound --dst ${PEER}`);
    await refused(/one of --dst, --frame and --pcap/, EXIT.USAGE, '-i foo0');
    await refused(/two for each byte/, EXIT.REFUSED, '--frame 012');
    await refused(/a whole frame has its own/, EXIT.USAGE, '--frame 01 --vlan 5');
    t.match(await explain(...foo, '--frame', '01'), { code: EXIT.NO, drops: [{ reason: 'tx_runt' }] });
  });
  t.ok(b);
});

// -- docs/explain.md: every block of the page, typed

/** Done before a block of the page, and after it; blocks are named by the words above them. */
type Around = readonly [before: () => unknown, after: () => unknown];

await t.test('the page shows what is printed', { skip }, async (t) => {
  const { a, daemon, from, write } = await start(t, 'v4', 'vxlan');
  await daemon.ok('create-vnic -l overlay0 -m 02:08:20:00:00:05 -v 5 foo1');
  const nothing = (): void => undefined;
  const around: Readonly<Partial<Record<string, Around>>> = {
    'The mapping places the MAC on another host.': [
      async () => {
        write({ [OWN]: { ip: from, port: 4789 }, [PEER]: { ip: '10.88.88.99', port: 4789 } });
        await daemon.ok('reload');
      },
      async () => {
        const here = { ip: from, port: 4789, arp: OWN_IP };
        write({ [OWN]: here, [PEER]: { ip: '10.88.88.70', port: 4789, arp: PEER_IP } });
        await daemon.ok('reload');
      },
    ],
    'The MTU of the underlay was lowered.': [
      () => a.ip(`link set ${UNDERLAY_DEVICE} mtu 1400`),
      () => a.ip(`link set ${UNDERLAY_DEVICE} mtu 1500`),
    ],
    'Link protection.': [
      () => daemon.ok('set-linkprop -p protection=mac-nospoof,ip-nospoof foo0'),
      () => daemon.ok('reset-linkprop foo0'),
    ],
  };
  const blocks = [
    ...textOf('docs/explain.md').matchAll(
      /^\*\*(.*?)\*\*[^\n]*\n\n {4}# dladm (explain .*)\n((?: {4}.*\n)+)/gm,
    ),
  ];
  t.ok(blocks.length >= 10, `${blocks.length} blocks`);
  for (const [, title, line, output] of blocks) {
    const [before, after] = around[title] ?? [nothing, nothing];
    await before();
    const { stdout } = await daemon.dladm(...line.split(' '));
    await after();
    t.equal(stdout.replaceAll(/UDP port \d+/g, 'UDP port 58154'), output.replaceAll(/^ {4}/gm, ''), title);
  }
  for (const title of Object.keys(around))
    t.ok(
      blocks.some((block) => block[1] === title),
      title,
    );
});

await t.test('several threads', { skip }, async (t) => {
  const { explain } = await start(t, 'v4', 'vxlan', '-p queues=2');
  const { steps, code } = await explain('-i', 'foo0', '--dst', PEER);
  t.equal(code, EXIT.DONE);
  t.match(steps.at(-1), { step: 'threads', read: 'all 2 say the same' });
});
