// The classic mistakes of docs/troubleshooting.md, made: what the page says of each is what there is to see. And the rules of
// docs/firewall.md, loaded as they stand.
import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { blocks, textOf } from '../helpers/documents.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { run, waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';

const skip = skipUnlessNetns(['nft']);
const page = textOf('docs/troubleshooting.md');
/** A row of the page has all of these words. */
const says = (...words: readonly string[]): boolean =>
  page.split('\n').some((line) => line.startsWith('| ') && words.every((word) => line.includes(word)));

const VNIC = 'foo0';
const MACS = ['de:ad:be:ef:00:00', 'de:ad:be:ef:00:01'];

interface Side {
  readonly host: Namespace;
  readonly daemon: Daemon;
}

/** An overlay and a VNIC whose MAC stays the same from one to the next. */
async function put({ host, daemon }: Side, overlay: string): Promise<void> {
  await daemon.ok(overlay);
  await daemon.ok(`create-vnic -m ${MACS[host.index]} -l overlay0 ${VNIC}`);
  await host.ip(`addr add ${host.overlay.v4}/24 dev ${VNIC}`);
}

async function take({ daemon }: Side): Promise<void> {
  await daemon.ok(`delete-vnic ${VNIC}`);
  await daemon.ok('delete-overlay overlay0');
}

await t.test('the classic mistakes', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const sides: Side[] = [];
  for (const host of await bed.twoHosts())
    sides.push({ host, daemon: (await Daemon.start(bed, host, { withoutRoot: true })).explain(t) });
  const [here, peer] = sides;
  const [from, to] = [here.host.underlay.v4, peer.host.underlay.v4];
  const target = peer.host.overlay.v4;
  const unanswered = async (t: Test): Promise<void> => {
    t.equal((await ping(here.host, target, { count: 2, waitMs: 500 })).received, 0, 'no answer');
  };
  /** Again and again: a neighbour that has not answered is asked for a while only once a second. */
  const shows = async (t: Test, { daemon }: Side, reason: string): Promise<void> => {
    const count = async (): Promise<number> => (await daemon.overlays('overlay0'))[0].counters[reason];
    const before = await count();
    const grows = async (): Promise<boolean> => {
      await unanswered(t);
      return (await count()) > before;
    };
    await waitUntil(grows, { what: `${reason} to grow` });
    t.ok(says(`\`${reason}\``), `the page has ${reason}`);
  };

  await t.test('another VNI, another peer, and none', async (t) => {
    await put(here, directOverlay({ from, to }));
    await put(peer, directOverlay({ from: to, to: from, vnetid: 24 }));
    await shows(t, peer, 'rx_unknown_vni');
    await take(peer);

    await put(peer, directOverlay({ from: to, to: '10.88.88.99' }));
    await shows(t, peer, 'rx_unknown_peer');
    await take(peer);

    const tcpdump = here.host.spawn('tcpdump -lnni under0 -c 1 icmp');
    await tcpdump.waitForOutput(/listening on/);
    await shows(t, here, 'tx_frames');
    await tcpdump.waitForOutput(/ICMP .* udp port 4789 unreachable/);
    t.ok(says('`ICMP ... udp port 4789 unreachable`'));
  });

  await t.test('the MTU of the underlay is lowered', async (t) => {
    await put(peer, directOverlay({ from: to, to: from }));
    t.ok(await reaches(here.host, target), 'all is well again');
    await here.host.ip('link set under0 mtu 1400');
    const large = { packetBytes: 1430, count: 2, waitMs: 500 };
    const told = async (): Promise<void> => {
      t.match((await ping(here.host, target, large)).text, /message too long|Frag needed/);
    };
    const grown = await here.daemon.counted(told, 'overlay0', { tx_path_mtu: 1, too_big_answers: 1 });
    t.ok(grown['tx_path_mtu'] > 0 && grown['too_big_answers'] > 0, JSON.stringify(grown));
    t.ok(says('`tx_path_mtu`', '`too_big_answers`', 'message too long', 'dladm restart'));
    await here.daemon.ok('restart');
    t.equal(await here.host.mtuOf(VNIC), 1350, 'a restart follows');
    await here.host.ip('link set under0 mtu 1500');
  });

  await t.test('a firewall of the peer, and a VNIC that is down', async (t) => {
    const [flush, rules] = [
      'nft flush ruleset',
      'add table inet f; add chain inet f i { type filter hook input priority 0; }',
    ];
    await peer.host.exec(['nft', `${rules}; add rule inet f i udp dport 4789 drop`]);
    t.notOk('rx_frames' in (await peer.daemon.counted(() => unanswered(t))), 'no counter of the peer grows');
    t.ok(says('at the peer no counter does, and no ICMP comes back'));
    await peer.host.exec(flush);
    await peer.host.ip(`link set ${VNIC} down`);
    const down = async (): Promise<boolean> =>
      (await peer.daemon.ok('show-overlay -f')).includes(`port ${VNIC}: its interface was set down`);
    await waitUntil(down, { what: 'the peer to say that its VNIC is down' });
    t.ok(says(`port ${VNIC}: its interface was set down`));
    for (const side of sides) await take(side);
  });

  await t.test('the mapping', async (t) => {
    const file = path.join(bed.directory(), 'hosts.json');
    const entry = (index: number, ip: string): object => ({
      arp: sides[index].host.overlay.v4,
      ip,
      port: 4789,
    });
    const write = (content: object): void => {
      writeFileSync(`${file}.new`, JSON.stringify(content));
      renameSync(`${file}.new`, file);
    };
    const [own, other] = [entry(0, from), entry(1, to)];
    const good = { [MACS[0]]: own, [MACS[1]]: other };
    write(good);
    for (const side of sides) {
      const listen = `-p vxlan/listen_ip=${side.host.underlay.v4}`;
      await put(side, `create-overlay -e vxlan -s files -v 42 ${listen} -p files/config=${file} overlay0`);
    }
    t.ok(await reaches(here.host, target));
    const readings = ({ daemon }: Side): number => daemon.log().split(' read again: ').length;
    const replaced = async (content: object, news: RegExp): Promise<void> => {
      const before = sides.map(readings);
      write(content);
      // The news may be in the words of those before.
      for (const [index, side] of sides.entries()) {
        await waitUntil(() => readings(side) > before[index], { what: 'the mapping to be read again' });
        t.match(await side.daemon.ok('show-overlay -f'), news);
      }
    };
    const mended = async (news: RegExp): Promise<void> => {
      await replaced(good, news);
      t.ok(await reaches(here.host, target), 'all is well again');
    };

    await replaced({ [MACS[0]]: own }, /\+0 -1 ~0/);
    await shows(t, here, 'lookup_drop');
    await here.host.ip(`neigh flush dev ${VNIC}`);
    await shows(t, here, 'proxy_unknown');
    await mended(/\+1 -0 ~0/);

    await replaced({ [MACS[0]]: own, [MACS[1]]: entry(1, '10.88.88.99') }, /\+0 -0 ~1/);
    await shows(t, here, 'tx_frames');
    t.match(await here.daemon.ok('show-overlay -t'), /de:ad:be:ef:00:01 10\.88\.88\.99:4789/);
    await replaced({ [MACS[0]]: own, [MACS[1]]: entry(1, from) }, /\+0 -0 ~1/);
    t.notOk('tx_frames' in (await here.daemon.counted(() => unanswered(t))), 'nothing leaves');
    t.ok(
      says('another destination than its host') &&
        says('`vxlan/listen_ip` of this host', '`tx_frames` stands still'),
    );
    await mended(/2 now/);

    await replaced({}, /\+0 -2 ~0 entries, 0 now/);
    await shows(t, here, 'lookup_drop');
    t.ok(says('the mapping was emptied', '0 now'));
    await mended(/\+2 -0 ~0/);

    writeFileSync(file, '');
    const refused = async (): Promise<boolean> =>
      (await here.daemon.ok('show-overlay -f')).includes(
        "hosts.json:1:1: found the end of the file, expected '{'",
      );
    await waitUntil(refused, { what: 'a file that was cut short to be refused' });
    t.ok(says("hosts.json:1:1: found the end of the file, expected '{'"));
    t.ok(await reaches(here.host, target), 'known flows go on');
  });
});

await t.test('the rules for a firewall let an overlay through, and no stranger', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const hosts = await bed.twoHosts();
  const [a, b] = hosts;
  const rules = blocks('docs/firewall.md', 'nft');
  t.equal(rules.length, 2);
  const daemons: Daemon[] = [];
  for (const [host, other] of [
    [a, b],
    [b, a],
  ]) {
    for (const text of rules)
      await host.exec('nft -f -', { input: text.replaceAll('10.88.88.70', other.underlay.v4) });
    await host.exec([
      'nft',
      'add table inet rest; add chain inet rest input { type filter hook input priority 10; }',
    ]);
    for (const [, line] of textOf('docs/firewall.md').matchAll(/^ {4}(icmp.*)$/gm))
      await host.exec(['nft', `add rule inet rest input ${line}`]);
    await host.exec(['nft', 'add rule inet rest input ct state invalid drop']);
    const daemon = (await Daemon.start(bed, host, { withoutRoot: true })).explain(t);
    daemons.push(daemon);
    await daemon.ok(directOverlay({ from: host.underlay.v4, to: other.underlay.v4 }));
    await host.plumb('overlay0');
  }
  t.ok(await reaches(a, b.overlay.v4), 'both ways');
  await b.exec(['nft', 'delete element inet varpd vteps', `{ ${a.underlay.v4} }`]);
  t.equal(
    (await ping(a, b.overlay.v4, { count: 2, waitMs: 500 })).received,
    0,
    'an address that is not in the set',
  );
  const { stdout } = await run([
    'ip',
    'netns',
    'exec',
    b.name,
    'nft',
    'list',
    'chain',
    'inet',
    'varpd',
    'input',
  ]);
  t.match(stdout, /counter packets [1-9]/);
});
