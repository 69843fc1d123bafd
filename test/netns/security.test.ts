// What docs/encryption.md prints for an underlay that others can read or write to, typed as it stands: WireGuard below the overlay,
// and the rule that keeps VXLAN to it.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import { Capture } from '../helpers/capture.js';
import { Daemon } from '../helpers/daemon.js';
import { block, textOf } from '../helpers/documents.js';
import { encapsulated, udpFrame } from '../helpers/frames.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { exec, waitUntil } from '../helpers/process.js';
import { ping, reaches, sendFrames, transferTcp } from '../helpers/traffic.js';

const skip = skipUnlessNetns(['wireguard-go', 'wg', 'wg-quick', 'nft', 'tcpdump', 'tshark']);
const PAGE = 'docs/encryption.md';

/** The indented lines that begin with this word. */
const commands = (word: string): string[] =>
  [...textOf(PAGE).matchAll(/^ {4}([\w-]+ .*)$/gm)].flatMap(([, line]) =>
    line.startsWith(`${word} `) ? [line] : [],
  );

interface Keys {
  readonly own: string;
  readonly public: string;
}

async function newKeys(): Promise<Keys> {
  const own = (await exec('wg genkey')).trim();
  return { own, public: (await exec('wg pubkey', { input: own })).trim() };
}

/** Those of the first host, as the page has them, for either. */
function forHost(text: string, [host, peer]: readonly [Namespace, Namespace]): string {
  const values: Record<string, string> = {
    '192.0.2.2': peer.underlay.v4,
    '10.99.0.1': `10.99.0.${host.index + 1}`,
    '10.99.0.2': `10.99.0.${peer.index + 1}`,
  };
  return text.replace(/192\.0\.2\.2|10\.99\.0\.[12]/g, (address) => values[address]);
}

/** A row of the table of the page: what the tunnel carries, and the `mtu` of an overlay over IPv4 and IPv6, in bytes. */
function mtuRow(tunnel: string): number[] {
  const [row] = textOf(PAGE)
    .split('\n')
    .filter((line) => line.startsWith(`| ${tunnel} `));
  return [...row.matchAll(/\d,\d{3}/g)].map(([bytes]) => Number(bytes.replace(',', '')));
}

/** Where this kernel has no WireGuard, wg-quick takes wireguard-go, whose control socket is the whole machine's. */
async function wireguard(
  bed: Bed,
  pair: readonly [Namespace, Namespace],
  own: string,
  peer: string,
): Promise<void> {
  const file = path.join(bed.directory(), 'wg0.conf');
  const keyed = block(PAGE, 'ini')
    .replace(/(PrivateKey = ).*/, `$1${own}`)
    .replace(/(PublicKey = ).*/, `$1${peer}`);
  writeFileSync(file, forHost(keyed, pair), { mode: 0o600 });
  const up = commands('wg-quick').join().replace(/wg0$/, file);
  const script = `mkdir -p /run/wireguard && mount -t tmpfs tmpfs /run/wireguard && ${up}`;
  await pair[0].exec(['unshare', '--mount', 'sh', '-c', script]);
}

/** VXLAN in the name of the peer, whose inner source is a group: a frame that only an overlay that believes it looks at. */
const forgery = (mac: string): Uint8Array =>
  udpFrame({
    destinationMac: mac,
    source: '10.99.0.2',
    destination: '10.99.0.1',
    destinationPort: 4789,
    payload: encapsulated(23, udpFrame({ sourceMac: '03:00:00:00:00:01' })),
  });

await t.test(
  'an overlay over WireGuard: nothing of it is to be seen or forged on the wire',
  { skip },
  async (t) => {
    const bed = new Bed();
    t.teardown(async () => {
      // WireGuard's daemon ends with its device.
      for (const host of bed.hosts) await host.run('ip link delete wg0');
      await bed.cleanup();
    });
    const [a, b] = await bed.twoHosts();
    const keys = [await newKeys(), await newKeys()];
    const daemons: Daemon[] = [];
    for (const pair of [
      [a, b],
      [b, a],
    ] as const) {
      const [host, peer] = pair;
      await wireguard(bed, pair, keys[host.index].own, keys[peer.index].public);
      const daemon = (await Daemon.start(bed, host)).explain(t);
      daemons.push(daemon);
      for (const line of commands('dladm')) await daemon.ok(forHost(line, pair).slice(6));
      await host.plumb('demo0');
    }
    const [daemon] = daemons;
    t.ok(await reaches(a, b.overlay.v4), 'the overlay is up');
    const [below, mtu, mtuV6] = mtuRow('WireGuard');
    t.same([await a.mtuOf('wg0'), await a.mtuOf('demo0')], [below, mtu], 'its MTU is what WireGuard leaves');
    const [seen, inside] = await Promise.all([
      Capture.start(bed, a, UNDERLAY_DEVICE, 'ip'),
      Capture.start(bed, a, 'wg0'),
    ]);
    t.equal(
      (await ping(a, b.overlay.v4, { count: 5, packetBytes: mtu })).received,
      5,
      'its largest packet passes',
    );
    t.equal((await ping(a, b.overlay.v4, { count: 1, packetBytes: mtu + 1 })).received, 0, 'no larger one');
    t.equal((await transferTcp(a, b, { bytes: 4 << 20 })).exact, true, 'superframes pass too');
    for (const [capture, filter] of [
      [seen, 'wg'],
      [inside, 'vxlan'],
    ] as const) {
      t.ok((await capture.count(filter)) > 100, filter);
      t.equal(await capture.count('ip.flags.mf == 1 || ip.frag_offset > 0'), 0, `${filter}: no fragment`);
    }
    // Outer, then inner.
    const echoes = await inside.fields('vxlan && icmp', ['ip.len']);
    const largest = echoes.slice(0, 10).map((row) => row['ip.len'].map(Number));
    t.same(largest, Array(10).fill([below, mtu]), 'five there and five back fill the tunnel');
    const { counters } = (await daemon.overlays('demo0'))[0];
    t.same([counters['tx_path_mtu'], counters['tx_too_big']], [0, 0], 'nothing was too big below');
    const ports = await seen.fields('udp', ['udp.dstport']);
    t.same(
      [...new Set(ports.map((row) => row['udp.dstport'].join()))],
      ['51820'],
      'WireGuard alone is on the wire',
    );

    await a.ip('addr add fd00:99::1/64 dev wg0 nodad');
    await daemon.ok(
      'create-overlay -e vxlan -s direct -v 24 -p vxlan/listen_ip=fd00:99::1,direct/dest_ip=fd00:99::2,direct/dest_port=4789 demo6',
    );
    t.equal(await a.mtuOf('demo6'), mtuV6, 'over IPv6 too');

    // A neighbour on the wire that has no key: Linux takes its packets in, for whichever of its addresses they are.
    const [forged, drops] = [forgery(await a.macOf(UNDERLAY_DEVICE)), commands('nft')];
    for (const name of ['all', UNDERLAY_DEVICE]) await a.sysctl(`net.ipv4.conf.${name}.rp_filter`, 0);
    const forge = async (): Promise<void> => {
      await sendFrames(b, UNDERLAY_DEVICE, [forged]);
    };
    t.match(await daemon.counted(forge, 'demo0', { rx_bad_source: 1 }), { rx_bad_source: 1 }, 'is taken in');
    for (const line of drops) await a.exec(['sh', '-c', line]);
    const dropped = async (): Promise<number> =>
      Number(/packets (\d+)/.exec(await a.exec('nft list ruleset'))?.[1]);
    const after = await daemon.counted(async () => {
      await forge();
      await waitUntil(async () => (await dropped()) === 1, { what: 'the rule to drop it' });
      t.ok(await reaches(a, b.overlay.v4), 'the overlay stays up');
    }, 'demo0');
    t.notOk('rx_bad_source' in after, 'is kept out by the rule');
  },
);
