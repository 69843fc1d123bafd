// The whole path of a group frame: port, datapath, plugin, proxy, and back, over a network in memory.
import t from 'tap';
import { WHOLE } from '../../src/io/memory.js';
import type { Answer, Instance } from '../../src/plugin/index.js';
import * as ethernet from '../../src/wire/ethernet.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { filler, ipOf, toHex, udpFrame, withTag } from '../helpers/frames.js';
import { Lab, type Tap } from '../helpers/lab.js';
import { plug } from '../helpers/plugged.js';
import { waitUntil } from '../helpers/process.js';
import { inner } from '../helpers/scenes.js';
import { frame, fromHex } from '../vectors/frames.js';

const A = 0x0200_0000_000a;
const B = 0x0200_0000_000b;
const C = 0x0200_0000_000c;
const D = 0x0200_0000_000d;
const LISTEN = { ip: ipOf('10.1.0.1'), port: 4789 };
const PEER = { ip: ipOf('10.1.0.2'), port: 4789 };
const OTHER = { ip: ipOf('10.1.0.3'), port: 4789 };

/** Proxies what it can, and knows B behind PEER. */
const FILES_LIKE: Partial<Instance> = {
  resolve: ({ destinationMac, etherType }): Answer => {
    if (destinationMac === B) return { kind: 'target', to: PEER };
    const isGroup = ((destinationMac / 2 ** 40) & 1) === 1;
    if (isGroup && etherType === ethernet.ARP) return { kind: 'proxy', what: 'arp' };
    if (isGroup && etherType === ethernet.IPV6) return { kind: 'proxy', what: 'ndp' };
    if (isGroup && etherType === ethernet.IPV4) return { kind: 'proxy', what: 'dhcp' };
    return { kind: 'drop', reason: 'nobody' };
  },
  neighbor: () => B,
  dhcpServer: () => B,
};

/** An overlay on a host with two peers, and the plugin that it asks. */
async function makeLab(behaviour: Partial<Instance>, limits: { readonly lookupDeadlineMs?: number } = {}) {
  const lab = new Lab(9000);
  const net = lab.vtep(LISTEN.ip).overlay({ mtuBytes: 8900, acceptAny: true, maxTargets: 100 });
  const [peer, other] = [PEER, OTHER].map(({ ip }) => lab.peer(ip));
  return {
    ...(await plug(net, behaviour, limits)),
    net,
    other,
    addPort: (mac: number, vid = 0) => net.port(mac, { vid }),
    peerHears: () => inner(peer).map(toHex),
    /** Those that are not zero. */
    counted: () => Object.fromEntries(Object.entries(net.counters).filter(([, value]) => value > 0)),
  };
}

const hears = (tap: Tap): string[] => tap.take().map(toHex);

const ARP_REPLY = '02000000000a02000000000b08060001080006040002' + '02000000000b0a00000202000000000a0a000001';

await t.test('a request is answered to its port, each time anew', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const [a, c] = [lab.addPort(A), lab.addPort(C)];
  for (let round = 1; round <= 2; round++) {
    a.send(frame('arpRequest'));
    await lab.settle();
    t.same(hears(a), [ARP_REPLY], 'the asker hears');
    t.same(hears(c), [toHex(frame('arpRequest'))], 'others only the question');
    t.match(lab.counted(), { proxy_arp: round, lookups: round, local_frames: round });
  }
  t.same(lab.peerHears(), [], 'nothing in the tunnel');
  t.same(lab.net.targets(), [], 'nothing in the table');
});

await t.test('10,000 announcements change nothing that is answered (S7)', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const [a, c] = [lab.addPort(A), lab.addPort(C)];
  const lie = frame('arpRequest');
  lie.set([10, 0, 0, 2], 28); // 10.0.0.2 is at A, says A; the plugin says B
  lie.set([10, 0, 0, 2], 38);
  for (let n = 0; n < 10_000; n += 100) {
    c.send(...Array.from({ length: 100 }, () => Uint8Array.from(lie)));
    await lab.settle();
  }
  hears(a);
  a.send(frame('arpRequest'));
  await lab.settle();
  t.same(hears(a), [ARP_REPLY], 'the same as ever');
  t.match(lab.counted(), { proxy_arp: 1 });
});

await t.test('tags', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const [trunk, access, elsewhere] = [lab.addPort(A), lab.addPort(D, 100), lab.addPort(C, 101)];
  trunk.send(withTag(frame('arpRequest'), 100));
  await lab.settle();
  t.same(hears(trunk), [toHex(withTag(Buffer.from(ARP_REPLY, 'hex'), 100))], 'a trunk keeps it');
  t.same(hears(access), [toHex(frame('arpRequest'))]);

  const asked = frame('arpRequest');
  asked[11] = 0x0d;
  asked[27] = 0x0d;
  access.send(asked);
  await lab.settle();
  t.same(hears(access), [ARP_REPLY.replaceAll('02000000000a', '02000000000d')]);
  t.equal(hears(trunk).length, 1, 'the trunk hears the question, tagged');
  t.same(hears(elsewhere), [], 'another VLAN nothing');
});

await t.test('duplicate address detection is answered to the asker alone', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const [a, c] = [lab.addPort(A), lab.addPort(C)];
  const dad = Buffer.from(
    '3333ff00000b02000000000a86dd6000000000183aff00000000000000000000000000000000' +
      'ff0200000000000000000001ff00000b87007c1100000000fe80000000000000000000000000000b',
    'hex',
  );
  a.send(dad);
  await lab.settle();
  t.match(hears(a), [/^33330000000102000000000b86dd/]);
  t.same(hears(c), [toHex(dad)]);
  t.match(lab.counted(), { proxy_ndp: 1 });

  // A checksum that is left to the device is none that is wrong.
  const started = Uint8Array.from(dad);
  const length = 24;
  const pseudo = 0xff02 + 1 + 0xff00 + 0x000b + length + 58;
  started.set([((pseudo % 0xffff) >> 8) & 0xff, (pseudo % 0xffff) & 0xff], 56);
  a.sendWith(
    {
      ...virtio.parse(new Uint8Array(10), 0, 200)!,
      flags: 1,
      checksumStart: 54,
      checksumOffset: 2,
    },
    started,
  );
  await lab.settle();
  t.match(hears(a), [/^33330000000102000000000b86dd/]);
});

await t.test('who is on this host has heard it itself', async (t) => {
  const lab = await makeLab({ ...FILES_LIKE, neighbor: () => C, dhcpServer: () => C });
  const [a, c] = [lab.addPort(A), lab.addPort(C)];
  a.send(frame('arpRequest'));
  await lab.settle();
  t.equal(hears(a).length, 1, 'whether anybody is behind a silent port is not known: it is answered for');
  hears(c);
  c.send(fromHex('02000000000a 02000000000c 88b5'));
  await lab.settle();
  hears(a);
  a.send(frame('arpRequest'));
  a.send(frame('dhcpDiscover'));
  await lab.settle();
  t.same(hears(a), []);
  t.same(hears(c), [toHex(frame('arpRequest')), toHex(frame('dhcpDiscover'))], 'once');
  t.match(lab.counted(), { proxy_arp: 1, proxy_local: 2 });
  t.same(lab.peerHears(), []);
});

await t.test('DHCP goes to the server, six bytes changed', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const [a, v] = [lab.addPort(A), lab.addPort(D, 100)];
  const discover = frame('dhcpDiscover');
  const toServer = toHex(discover).replace('ffffffffffff', '02000000000b');
  a.send(discover);
  await lab.settle();
  t.same(lab.peerHears(), [toServer], 'D2');
  t.match(
    lab.counted(),
    { proxy_dhcp: 1, lookups: 2, tx_frames: 1 },
    'one question for the frame, one for B',
  );
  a.send(discover);
  await lab.settle();
  t.same(lab.peerHears(), [toServer], 'and again');
  t.match(lab.counted(), { proxy_dhcp: 2, lookups: 3, tx_frames: 2 }, 'B is known');

  const partial = Uint8Array.from(discover);
  const pseudo = 2 * 0xffff + 17 + 308;
  partial.set([(pseudo % 0xffff) >> 8, (pseudo % 0xffff) & 0xff], 40);
  a.sendWith(
    {
      ...virtio.parse(new Uint8Array(10), 0, 500)!,
      flags: 1,
      checksumStart: 34,
      checksumOffset: udp.CHECKSUM,
    },
    partial,
  );
  await lab.settle();
  t.same(lab.peerHears(), [toServer], 'a checksum left to the device is done');
  a.send(frame('arpRequest'));
  await lab.settle();
  t.same(
    a.takeWhole().map(({ header }) => header),
    [WHOLE],
    'and not asked for in what comes next from the same memory',
  );

  v.send(discover);
  await lab.settle();
  t.same(lab.peerHears(), [toHex(withTag(Buffer.from(toServer, 'hex'), 100))], 'in its VLAN');
});

await t.test('DHCP without a way', async (t) => {
  for (const [name, server, counter] of [
    ['D5 itself', A, 'tx_hairpin'],
    ['D5 an unknown MAC', D, 'lookup_drop'],
    ['D5 broadcast', 0xffff_ffff_ffff, 'lookup_failed'],
    ['D3 none', null, 'proxy_unknown'],
  ] as const) {
    const lab = await makeLab({ ...FILES_LIKE, dhcpServer: () => server });
    const a = lab.addPort(A);
    a.send(frame('dhcpDiscover'));
    await lab.settle();
    t.match(lab.counted(), { [counter]: 1 }, name);
    t.same([hears(a), lab.peerHears()], [[], []], `${name}: silence`);
    t.equal(lab.counted()['tx_frames'], undefined);
  }
});

await t.test('A8 a unicast request is forwarded', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const a = lab.addPort(A);
  const request = frame('arpRequest');
  ethernet.setDestination(request, 0, B);
  a.send(request);
  await lab.settle();
  t.same(lab.peerHears(), [toHex(request)]);
  t.same(hears(a), []);
});

await t.test('flooding: frame by frame, or for as long as it is said', async (t) => {
  const lookups: number[] = [];
  const answers: Answer[] = [
    { kind: 'flood', to: [PEER, OTHER, LISTEN] },
    { kind: 'flood', to: [PEER, OTHER], ttlMs: 1000 },
  ];
  const lab = await makeLab({
    resolve: ({ destinationMac }) => {
      lookups.push(destinationMac);
      return answers[Math.min(lookups.length, answers.length) - 1];
    },
  });
  const a = lab.addPort(A);
  const big = udpFrame({ payload: filler(8000) });
  for (let round = 1; round <= 4; round++) {
    a.send(big);
    await lab.settle();
    t.same(lab.peerHears(), [toHex(big)], 'whole, once');
    t.equal(lab.other.take().length, 1, 'to each');
    t.equal(lookups.length, Math.min(round, 2));
  }
  t.match(lab.net.targets(), [{ state: 'valid', to: [PEER, OTHER] }]);
  lab.host.invalidate();
  a.send(big);
  await lab.settle();
  t.equal(lookups.length, 3, 'asked again');
});

await t.test('flooding what no proxy is for', async (t) => {
  const lab = await makeLab({
    ...FILES_LIKE,
    resolve: ({ etherType }) => ({
      kind: 'proxy',
      what: etherType === ethernet.IPV4 ? 'dhcp' : etherType === ethernet.ARP ? 'arp' : 'ndp',
      otherwise: [PEER, LISTEN],
    }),
  });
  const a = lab.addPort(A);
  const multicast = udpFrame({
    destinationMac: '33:33:00:00:00:fb',
    source: 'fe80::a',
    destination: 'ff02::fb',
  });
  for (const flooded of [udpFrame(), multicast]) {
    a.send(flooded);
    await lab.settle();
    t.same(lab.peerHears(), [toHex(flooded)]);
  }
  const gratuitous = frame('arpRequest');
  gratuitous[41] = 1; // what A has, says A; the plugin says B
  const advertisement = frame('neighborAdvertisement');
  advertisement.set([0x33, 0x33, 0, 0, 0, 1]);
  for (const kept of [gratuitous, advertisement, frame('routerAdvertisement'), frame('arpRequest')])
    a.send(kept);
  await lab.settle();
  t.same(lab.peerHears(), [], 'ARP and discovery stay here');
  t.match(lab.counted(), { arp_conflict: 1, ndp_ignored: 1, ndp_router: 1, proxy_arp: 1 });
  t.same(lab.net.targets(), [], 'nothing in the table');
});

await t.test('dropping: frame by frame, or for as long as it is said', async (t) => {
  let answer: Answer = { kind: 'drop', reason: 'no' };
  const lab = await makeLab({ resolve: () => answer });
  const a = lab.addPort(A);
  a.send(udpFrame());
  await lab.settle();
  t.match(lab.counted(), { tx_group: 1, lookups: 1 });
  t.same(lab.net.targets(), []);
  answer = { kind: 'drop', reason: 'no', ttlMs: 1000 };
  a.send(udpFrame());
  await lab.settle();
  a.send(udpFrame());
  await lab.settle();
  t.match(lab.counted(), { tx_group: 2, lookups: 2, lookup_drop: 1 });
});

await t.test('a storm is bounded', async (t) => {
  const lab = await makeLab({ resolve: () => new Promise(() => undefined) });
  const a = lab.addPort(A);
  for (let count = 0; count < 300; count++) a.send(frame('arpRequest'));
  await lab.settle();
  t.match(lab.counted(), { lookups: 256, pending_full: 44 });
  lab.net.remove();
  t.match(lab.counted(), { pending_lost: 256 });
});

await t.test('answers that come too late', async (t) => {
  const waiting: ((answer: Answer) => void)[] = [];
  const lab = await makeLab({
    ...FILES_LIKE,
    resolve: () => new Promise((resolve) => waiting.push(resolve)),
  });
  const a = lab.addPort(A);
  a.send(frame('arpRequest'));
  await lab.settle();
  lab.host.invalidate([B]);
  t.equal(waiting.length, 1, 'another MAC is no matter');
  lab.host.invalidate();
  t.equal(waiting.length, 2, 'asked again');
  waiting[0]({ kind: 'flood', to: [PEER] });
  await lab.settle();
  t.same(lab.peerHears(), [], 'the first answer is too old');
  waiting[1]({ kind: 'proxy', what: 'arp' });
  await lab.settle();
  t.same(hears(a), [ARP_REPLY]);

  a.send(frame('arpRequest'));
  await lab.settle();
  a.remove();
  waiting[2]({ kind: 'proxy', what: 'arp' });
  await lab.settle();
  t.same(hears(a), [], 'the port is gone');
  t.match(lab.counted(), { pending_lost: 1 });
});

await t.test('plugins that are wrong', async (t) => {
  const proxyArp = (): Answer => ({ kind: 'proxy', what: 'arp' });
  const wrong: readonly (readonly [string, Partial<Instance>, string, RegExp])[] = [
    [
      'no neighbor',
      { resolve: proxyArp },
      'lookup_failed',
      /gives frames to the arp proxy, but has no neighbor/,
    ],
    [
      'a throw',
      {
        resolve: proxyArp,
        neighbor: () => {
          throw new Error('oops');
        },
      },
      'lookup_failed',
      /oops/,
    ],
    [
      'a group',
      { resolve: proxyArp, neighbor: () => 0xffff_ffff_ffff },
      'lookup_failed',
      /MAC of one station/,
    ],
    ['zero', { resolve: proxyArp, neighbor: () => 0 }, 'lookup_failed', /MAC of one station/],
    [
      'nothing',
      { resolve: proxyArp, neighbor: () => undefined as unknown as null },
      'lookup_failed',
      /where a MAC/,
    ],
    [
      'another proxy',
      { resolve: () => ({ kind: 'proxy', what: 'rarp' }) as unknown as Answer },
      'lookup_failed',
      /arp, ndp or dhcp was expected/,
    ],
    [
      'no answer',
      { resolve: proxyArp, neighbor: () => new Promise(() => undefined) },
      'lookup_timeout',
      /no answer within/,
    ],
  ];
  for (const [name, behaviour, counter, sentence] of wrong) {
    // A call that the host interrupts for longer than the deadline is late, too.
    const lookupDeadlineMs = counter === 'lookup_timeout' ? 20 : 60_000;
    const lab = await makeLab(behaviour, { lookupDeadlineMs });
    const a = lab.addPort(A);
    a.send(frame('arpRequest'));
    const isCounted = async (): Promise<boolean> => {
      await lab.settle();
      return lab.counted()[counter] === 1;
    };
    await waitUntil(isCounted, { what: `${name}: ${counter}` });
    t.same(hears(a), [], name);
    t.match(lab.counted(), { [counter]: 1 }, name);
    t.match(lab.health.report(), { status: 'DEGRADED', details: sentence }, name);
  }

  const lab = await makeLab({ resolve: proxyArp, neighbor: () => B });
  const a = lab.addPort(A);
  const unicast = frame('arpRequest');
  ethernet.setDestination(unicast, 0, B);
  a.send(unicast);
  await lab.settle();
  t.match(lab.counted(), { lookup_failed: 1 });
  t.match(lab.health.report(), { details: /only broadcasts are proxied/ }, 'unicast is not proxied');
});

await t.test('announcements', async (t) => {
  const lab = await makeLab(FILES_LIKE);
  const [a, c, access] = [lab.addPort(A), lab.addPort(C), lab.addPort(D, 100)];
  lab.host.announce(ipOf('10.0.0.9'), C);
  lab.host.announce(ipOf('fe80::9'), C);
  await lab.settle();
  const heard = hears(a);
  t.match(heard, [/^ffffffffffff02000000000c0806.*0a000009$/, /^33330000000102000000000c86dd/]);
  t.same(hears(access), heard, 'an access port too, untagged');
  t.same(hears(c), [], 'not whom it is about');
  t.same(lab.peerHears(), [], 'not the tunnel');
  for (const [ip, mac] of [
    ['224.0.0.1', C],
    ['::', C],
    ['10.0.0.9', 0xffff_ffff_ffff],
    ['10.0.0.9', 0],
  ] as const) {
    t.throws(() => {
      lab.host.announce(ipOf(ip), mac);
    }, /where the (address|MAC) of one station was expected/);
  }
});
