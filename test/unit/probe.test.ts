// dladm probe without a network: what is sent and concluded when a datapath answers some frames and loses others, and the text.
import t, { type Test } from 'tap';

import { answeredPaths, rowsOf, textOf } from '../../src/cli/probe-text.js';
import type { ProbeInfo } from '../../src/control/messages.js';
import type { ProbedDatapath, ProbeListener } from '../../src/datapath/probe-contract.js';
import { pathOf } from '../../src/daemon/observe/probe-frames.js';
import type { ProbedOverlay } from '../../src/daemon/observe/probe-run.js';
import { Probes } from '../../src/daemon/observe/probes.js';
import { OverlayError } from '../../src/model/errors.js';
import * as ethernet from '../../src/wire/ethernet.js';
import type { IpAddress } from '../../src/wire/ip.js';
import { formatMac } from '../../src/wire/mac.js';
import { address, endpoint, MAC } from '../helpers/lab.js';

const PEER = endpoint('192.0.2.2');
const SOURCE_PORTS = [50000, 50001, 50002, 50003];

interface Seen {
  readonly id: number;
  readonly etherType: number;
  /** Bytes of the packet, and the path that it takes. */
  readonly bytes: number;
  readonly path: number;
}

/** `answer`: the frame is answered by this station; undefined = it is lost; late = the station MAC.b answers
 * once a frame of another kind is sent. */
type Answer = (seen: Seen, before: readonly Seen[]) => number | 'late' | undefined;

function overlay(
  answer: Answer,
  neighbor: (ip: IpAddress) => number | null | undefined = () => undefined,
): ProbedOverlay & { readonly seen: Seen[] } {
  const seen: Seen[] = [];
  const late: Seen[] = [];
  const datapath: ProbedDatapath = {
    probe: (_rules, heard) =>
      Promise.resolve({
        sourcePorts: SOURCE_PORTS,
        send: (_port, frames) => {
          for (const { id, frame } of frames) {
            const etherType = ethernet.etherType(frame, 0);
            const route = { from: MAC.a, to: ethernet.destination(frame, 0), vid: 0 };
            const one = {
              id,
              etherType,
              bytes: frame.length - 14,
              path: pathOf(route, id, SOURCE_PORTS.length),
            };
            const given = answer(one, seen);
            if (given === 'late') late.push(one);
            else {
              for (const earlier of late.splice(0)) settle(heard, earlier, MAC.b);
              settle(heard, one, given);
            }
            seen.push(one);
          }
        },
        stop: () => Promise.resolve(),
      }),
  };
  return {
    seen,
    name: 'overlay0',
    mac: MAC.a,
    plan: { encap: 'vxlan' },
    listen: endpoint('192.0.2.1'),
    mtuBytes: 1450,
    datapath,
    vnics: new Map([['foo0', { mac: MAC.c, vid: 5 }]]),
    links: { macOf: () => undefined },
    plugin: { neighbor: (ip) => Promise.resolve(neighbor(ip)), placeOf: () => undefined },
    hasMac: (mac) => mac === MAC.a || mac === MAC.c,
  };
}

/** The answer of a thread may be heard before the other thread says that the frame was sent. */
function settle(heard: ProbeListener, { id, etherType }: Seen, mac: number | undefined): void {
  queueMicrotask(() => {
    if (mac !== undefined && etherType === ethernet.FAULT_MANAGEMENT) heard.replied(id, 12, mac, PEER);
    else if (mac !== undefined) heard.neighbor(12, mac, PEER);
    heard.sent(id, 10, undefined);
  });
}

const isLoopback = ({ etherType }: Seen): boolean => etherType === ethernet.FAULT_MANAGEMENT;

async function probe(
  of: ProbedOverlay,
  params: Partial<Parameters<Probes['run']>[0]> = {},
): Promise<ProbeInfo> {
  const base = {
    name: 'overlay0',
    target: formatMac(MAC.b),
    isMtuSought: false,
    isEachPath: false,
    count: 1,
  };
  return new Probes({ need: () => of }).run({ ...base, ...params });
}

await t.test('round trips, and answers that come twice', async (t) => {
  const of = overlay(() => MAC.b);
  t.same(await probe(of, { count: 3, packetBytes: 100 }), {
    overlay: 'overlay0',
    port: 'overlay0',
    source: formatMac(MAC.a),
    mac: formatMac(MAC.b),
    ip: null,
    vlan: 0,
    packetBytes: 100,
    method: 'loopback',
    unanswered: 0,
    peer: '192.0.2.2',
    sent: 3,
    received: 3,
    roundTripMs: { min: 2, avg: 2, max: 2 },
    dropped: null,
    mtu: null,
    paths: null,
  });
  t.ok(of.seen.every((one) => isLoopback(one) && one.bytes === 100));
  t.equal(new Set(of.seen.map(({ id }) => id >>> 16)).size, 1, 'one series');
});

await t.test('an answer that comes while the station is asked itself', async (t) => {
  // Of the first two messages; the station does not answer when it is asked by its address.
  const of = overlay((one, before) =>
    !isLoopback(one) ? undefined : before.length < 2 ? 'late' : one.bytes <= 1400 ? MAC.b : undefined,
  );
  t.match(await probe(of, { count: 2, isMtuSought: true }), {
    method: 'loopback',
    sent: 2,
    received: 2,
    unanswered: 0,
    mtu: { packetBytes: 1400, isBothWays: true },
  });
  t.equal(of.seen.filter((one) => !isLoopback(one)).length > 0, true, 'it was asked');
});

await t.test('paths are tried again when the first answers were late', async (t) => {
  // The first try of all paths is lost in the queue of a router.
  const tries = SOURCE_PORTS.length * 4;
  const of = overlay((one, before) =>
    !isLoopback(one) ? undefined : before.length === 0 ? 'late' : before.length > tries ? MAC.b : undefined,
  );
  const found = await probe(of, { isEachPath: true });
  t.match(found, { method: 'loopback', received: 1 });
  t.equal(answeredPaths(found), SOURCE_PORTS.length);
});

await t.test('the sender: the own port, or a VNIC if the mapping has that alone', async (t) => {
  const of = overlay(() => MAC.b);
  const known = (...macs: readonly number[]): ProbedOverlay => ({
    ...of,
    vnics: new Map([
      ['foo0', { mac: MAC.c, vid: 5 }],
      ['foo1', { mac: MAC.d, vid: 0 }],
    ]),
    plugin: { ...of.plugin, placeOf: (mac) => (macs.includes(mac) ? {} : null) },
  });
  const sender = async (where: ProbedOverlay, vlan?: number): Promise<string> =>
    (await probe(where, vlan === undefined ? {} : { vlan })).port;
  t.equal(await sender(known(MAC.a, MAC.c, MAC.d)), 'overlay0');
  t.equal(await sender(known(MAC.c, MAC.d)), 'foo1', 'a VNIC of another VLAN is left out');
  t.equal(await sender(known(MAC.c, MAC.d), 5), 'foo0');
  t.equal(await sender(known(MAC.c, MAC.d), 6), 'foo1');
  t.equal(await sender(known(MAC.c)), 'foo0', 'in its VLAN, as no other port could get an answer');
  t.equal(await sender(known(MAC.c), 6), 'overlay0');
  t.equal(await sender(known()), 'overlay0');
  t.match(await probe(known(MAC.c), { port: 'foo1' }), { port: 'foo1' }, 'a port that is named');
});

await t.test('an overlay that ends meanwhile', async (t) => {
  const params = {
    name: 'overlay0',
    target: formatMac(MAC.b),
    isMtuSought: false,
    isEachPath: false,
    count: 1,
  };
  const both = [overlay(() => MAC.b), overlay(() => MAC.b)];
  await t.rejects(
    new Probes({ need: () => both.shift()! }).run(params),
    /was started again while it was probed/,
  );
  const one = [overlay(() => MAC.b)];
  const need = (): ProbedOverlay => {
    const found = one.shift();
    if (found === undefined) throw new OverlayError('NOT_FOUND', 'overlay0');
    return found;
  };
  await t.rejects(new Probes({ need }).run(params), { code: 'NOT_FOUND' });
});

await t.test('the largest packet, although some that fit are lost', async (t) => {
  const of = overlay(({ bytes }, before) => {
    const isFirst = before.every((one) => one.bytes !== bytes);
    return bytes <= 1203 && !(isFirst && bytes > 84) ? MAC.b : undefined;
  });
  const { mtu } = await probe(of, { isMtuSought: true });
  t.same(mtu, { packetBytes: 1203, underlayBytes: 1253, limitBytes: 1450, isBothWays: true });
  const wide = await probe(
    overlay(() => MAC.b),
    { isMtuSought: true },
  );
  t.equal(wide.mtu?.packetBytes, 1450, 'the mtu of the overlay at once');
});

await t.test('a path that is broken, and ways back that are', async (t) => {
  const of = overlay(({ path }, before) => (path !== 2 && before.length % 3 === 0 ? MAC.b : undefined));
  const found = await probe(of, { isEachPath: true });
  t.equal(answeredPaths(found), 3);
  t.match(found.paths?.[2], { sourcePort: 50002, sent: 16, received: 0, roundTripMs: null });
  t.equal(found.method, 'loopback');
});

await t.test('a station of another VTEP', async (t) => {
  const of = overlay((seen) => (isLoopback(seen) || seen.bytes > 900 ? undefined : MAC.b));
  const byArp = await probe(of, { target: '10.0.0.2', isMtuSought: true, isEachPath: true });
  t.match(byArp, {
    method: 'arp',
    unanswered: 1,
    mac: formatMac(MAC.b),
    ip: '10.0.0.2',
    received: 1,
    mtu: { packetBytes: 900, isBothWays: false },
    paths: null,
  });
  t.match(await probe(of), { method: 'ndp', unanswered: 1, received: 1, ip: null });
  const known = overlay(
    ({ etherType }) => (etherType === ethernet.FAULT_MANAGEMENT ? MAC.b : undefined),
    () => MAC.b,
  );
  t.match(await probe(known, { target: 'fd00::2' }), {
    method: 'loopback',
    ip: 'fd00::2',
    mac: formatMac(MAC.b),
  });
  t.ok(known.seen.every(isLoopback), 'the plugin has said which MAC it is');
  const silent = overlay(() => undefined);
  t.match(await probe(silent), {
    method: 'loopback',
    unanswered: 1,
    received: 0,
    roundTripMs: null,
    peer: null,
  });
  t.match(await probe(silent, { target: '10.0.0.9' }), {
    method: 'arp',
    mac: null,
    ip: '10.0.0.9',
    received: 0,
  });
});

await t.test('what is refused', async (t) => {
  const refused = async (params: Parameters<typeof probe>[1], code: string, of = overlay(() => MAC.b)) => {
    const error = await probe(of, params).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    t.equal(OverlayError.is(error) ? error.code : error, code, JSON.stringify(params));
    t.same(of.seen, [], 'and nothing is sent');
  };
  await refused({ target: 'nonsense' }, 'INVALID');
  await refused({ target: '224.0.0.1' }, 'INVALID');
  await refused({ target: '01:00:5e:00:00:01' }, 'INVALID');
  await refused({ target: formatMac(MAC.c) }, 'INVALID');
  await refused({ packetBytes: 1451 }, 'INVALID');
  await refused({ port: 'foo0', vlan: 6 }, 'INVALID');
  await refused({ port: 'bar0' }, 'NOT_FOUND');
  await refused(
    { target: '10.0.0.9' },
    'NOT_FOUND',
    overlay(
      () => MAC.b,
      () => null,
    ),
  );
  t.match(
    await probe(
      overlay(() => MAC.b),
      { port: 'foo0' },
    ),
    { port: 'foo0', source: formatMac(MAC.c), vlan: 5 },
  );
  const running = overlay(() => MAC.b);
  const probes = new Probes({ need: () => running });
  const params = { name: 'overlay0', target: formatMac(MAC.b), isMtuSought: false, isEachPath: false };
  const first = probes.run(params);
  await new Promise(setImmediate);
  await t.rejects(probes.run(params), /another probe of overlay0 is under way/);
  t.equal((await first).received, 5);
  t.equal((await probes.run(params)).received, 5, 'and afterwards it is free');
});

const both = { isMtuSought: true, isEachPath: true };

await t.test('text and rows', (t: Test) => {
  const found: ProbeInfo = {
    ...{
      overlay: 'overlay0',
      port: 'foo0',
      source: formatMac(MAC.a),
      mac: formatMac(MAC.b),
      ip: '10.0.0.2',
      vlan: 5,
    },
    ...{ packetBytes: 84, method: 'arp', unanswered: 2, peer: address('192.0.2.2'), sent: 3, received: 2 },
    roundTripMs: { min: 0.1, avg: 0.25, max: 0.4 },
    dropped: null,
    mtu: { packetBytes: 900, underlayBytes: 950, limitBytes: 1450, isBothWays: false },
    paths: null,
  };
  const lines = [
    'PROBE 10.0.0.2 (02:b1:b2:b3:b4:0b) through overlay0 from foo0 in VLAN 5: packets of 84 bytes',
    '2 loopback messages sent, none answered: its VTEP is not varpd, or has loopback=off',
    '3 ARP requests sent, 2 answered by the station itself at 192.0.2.2, 33% lost',
    'round trip min/avg/max = 0.100/0.250/0.400 ms',
    'largest packet: 900 bytes there; the way back is not tried, which is less than the mtu of the overlay, 1450 (950 on the underlay)',
    'paths: not tried, since only loopback messages can choose one',
  ];
  t.same(textOf(found, both).split('\n'), [...lines, '']);
  const silent = {
    ...found,
    method: 'loopback',
    received: 0,
    roundTripMs: null,
    mtu: null,
    peer: null,
  } as const;
  t.match(
    textOf(silent, both),
    /3 loopback messages sent, none answered, 100% lost\nno answer to loopback messages, nor to ARP/,
  );
  const dropped = { reason: 'tx_vlan', about: 'tagged', frames: 3 };
  t.match(
    textOf({ ...silent, dropped }, both),
    /3 dropped here, tx_vlan: tagged\nno message has left this host/,
  );
  const paths = [
    { sourcePort: 1, sent: 1, received: 1, roundTripMs: found.roundTripMs },
    { sourcePort: 2, sent: 16, received: 0, roundTripMs: null },
  ];
  t.match(
    textOf({ ...found, method: 'loopback', paths }, both),
    /paths: 1 of 2 source ports answered\nno answer from source port 2: 16 messages lost\n$/,
  );
  t.match(rowsOf({ ...found, paths }), [
    { sourcePort: undefined, sent: 3 },
    { sourcePort: 1 },
    { sourcePort: 2 },
  ]);
  t.end();
});
