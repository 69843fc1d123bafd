// Explain says what the engine does, of every kind of frame, and changes nothing (src/core/dry-run/dry-run.ts).
import fc from 'fast-check';
import t from 'tap';
import * as loopback from '../../src/wire/loopback.js';
import { anyMac, frames } from '../helpers/any-frame.js';
import {
  AWAY,
  Explainer,
  FIRST_SILENT,
  LOOP,
  NARROW,
  PEER,
  PLACES,
  type PortSpec,
  SILENT,
  SILENT_TYPE,
  STRANGER,
} from '../helpers/explained.js';
import { advertisement, arpFrame, icmpV6, OWN_V4, OWN_V6, solicitation } from '../helpers/guest-frames.js';
import { dhcpFrame, endpoint, frame, MAC, packet } from '../helpers/lab.js';
import { isTried, part } from '../helpers/whole.js';

const DESTINATIONS = [...PLACES.keys(), SILENT, MAC.a, MAC.all, MAC.group];
const to = fc.constantFrom(...DESTINATIONS);
const from = fc.constantFrom(MAC.a, MAC.a, MAC.c, MAC.e, 0);
/** Well-formed ones, so that most get far. */
const good = fc
  .record({
    to,
    from,
    tags: fc.constantFrom([], [], [], [5], [0x6000], [6, 5]),
    version: fc.constantFrom<(4 | 6)[]>(4, 6),
    isOwn: fc.boolean(),
    trafficClass: fc.nat(255),
    payloadBytes: fc.constantFrom(0, 32, 500, 1150, 1250, 1380, 1600),
    ports: fc.tuple(fc.nat(0xffff), fc.nat(0xffff)),
  })
  .map(({ isOwn, ...spec }) => {
    const own = spec.version === 4 ? OWN_V4 : OWN_V6;
    return packet(isOwn ? { ...spec, source: own } : spec);
  });
const proxied = fc.constantFrom(
  arpFrame({ ip: OWN_V4 }),
  arpFrame({ ip: '10.0.0.7' }),
  icmpV6(solicitation('fd00::9'), { to: 0x3333_ff00_0009, source: OWN_V6 }),
  icmpV6(advertisement(OWN_V6), { to: 0x3333_0000_0001, source: OWN_V6 }),
  dhcpFrame(),
  dhcpFrame({ clientMac: MAC.c }),
  arpFrame({ from: MAC.a, sender: MAC.c }),
  arpFrame({ target: OWN_V4 }),
  typed(MAC.all, SILENT_TYPE),
  loopbackTo(MAC.a),
  loopbackTo(MAC.e),
  frame(MAC.group, MAC.a),
);
const anyFrame = fc.oneof(
  { weight: 8, arbitrary: good },
  { weight: 2, arbitrary: frames },
  { weight: 2, arbitrary: proxied },
);
const step = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ kind: fc.constant('transmit'), port: fc.nat(), frame: anyFrame }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('receive'),
      frame: anyFrame,
      from: fc.constantFrom(PEER, PEER, PEER, NARROW, STRANGER),
      vnetid: fc.constantFrom(100, 100, 100, 100, 100, 32),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('time'), ms: fc.nat(5000) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom('set', 'nowhere', 'invalidate', 'delete'),
      mac: fc.oneof(anyMac, to),
      ip: fc.constantFrom(PEER, NARROW, LOOP, AWAY),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restore'), mac: to }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('point'), ip: fc.constantFrom(PEER, NARROW, LOOP) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('down'), port: fc.nat(), isDown: fc.boolean() }) },
);
const portSpec = fc.record({
  mac: fc.constantFrom(MAC.a, MAC.b, MAC.e, 0x0200_0000_0055),
  vid: fc.constantFrom(0, 0, 5),
  own: fc.constant(false),
  protect: fc.oneof(
    { weight: 3, arbitrary: fc.constant<PortSpec['protect']>([]) },
    {
      weight: 1,
      arbitrary: fc.subarray(['mac-nospoof', 'ip-nospoof', 'dhcp-nospoof', 'restricted'] as const),
    },
  ),
});
const world = fc.record({
  encapsulation: fc.constantFrom('vxlan' as const, 'geneve' as const),
  options: fc.record({
    mtuBytes: fc.constantFrom(576, 1450, 1500, 1500),
    destination: fc.constantFrom(undefined, undefined, undefined, endpoint(PEER)),
    acceptAny: fc.boolean(),
    strictSource: fc.constantFrom(false, false, true),
    carryTags: fc.constantFrom(true, true, false),
    copyDscp: fc.boolean(),
    answersLoopback: fc.boolean(),
    negativeTtlMs: fc.nat(2000),
  }),
  ports: fc
    .tuple(fc.boolean(), fc.uniqueArray(portSpec, { selector: ({ mac }) => mac, minLength: 1, maxLength: 4 }))
    .map(([hasOwn, ports]) => ports.map((port, index) => ({ ...port, own: hasOwn && index === 0 }))),
  steps: fc.array(step, { minLength: 40, maxLength: 60, size: 'max' }),
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

function take(explainer: Explainer, each: Step): number {
  if (each.kind === 'transmit' && 'port' in each) explainer.transmit(each.port % explainer.ports, each.frame);
  else if ('vnetid' in each) explainer.receive(each.frame, each.from, each.vnetid);
  else if ('ms' in each) explainer.pass(each.ms);
  else
    explainer.did((net, taps) => {
      if ('isDown' in each) {
        const tap = taps[each.port % taps.length];
        tap.setDown(each.isDown);
        tap.port.isUp = !each.isDown;
      } else if (!('mac' in each)) {
        net.vtep.obey({ kind: 'set-destination', overlay: net.id, destination: endpoint(each.ip) });
      } else if (!('ip' in each)) {
        const targets = [{ mac: each.mac, to: [endpoint(PEER)] }];
        net.vtep.obey({ kind: 'restore-targets', overlay: net.id, targets });
      } else if (each.kind === 'invalidate') net.invalidate(each.mac);
      else if (each.kind === 'delete') net.deleteTarget(each.mac);
      else net.setTarget(each.mac, each.kind === 'set' ? [endpoint(each.ip)] : [], 4000);
    });
  return 'frame' in each ? 1 : 0;
}

/** Outcomes that the frames above must have had, so that the law says something. */
const EXPECTED = [
  ...['sent', 'delivered', 'waits'],
  ...[
    'tx_runt',
    'tx_vlan',
    'tx_too_big',
    'tx_hairpin',
    'lookup_drop',
    'tx_path_mtu',
    'tx_unreachable',
    'tx_loop',
  ],
  ...['mac_spoofed', 'ip_spoofed', 'dhcp_spoofed', 'restricted', 'unreadable'],
  ...['tx_group', 'arp_conflict', 'ndp_ignored', 'proxy_spoofed', 'proxy_local', 'port_down'],
  ...[
    'rx_unknown_vni',
    'rx_unknown_peer',
    'rx_runt',
    'rx_bad_source',
    'rx_source_mismatch',
    'rx_source_unknown',
  ],
  ...['rx_vlan', 'rx_too_big', 'rx_no_port'],
];

/** Of a quarter of the frames, some tries have none. */
const RARE = [
  ...['unreadable', 'dhcp_spoofed', 'proxy_local', 'proxy_spoofed', 'arp_conflict', 'ndp_ignored'],
  ...['restricted', 'tx_unreachable', 'tx_path_mtu'],
];

await t.test(`explain and the engine agree on ${part(10_000)} frames, and explain changes nothing`, (t) => {
  const outcomes = new Map<string, number>();
  let count = 0;
  fc.assert(
    fc.property(world, ({ steps, ...spec }) => {
      const explainer = new Explainer(spec);
      let seen = 0;
      for (const each of steps) seen += take(explainer, each);
      explainer.end();
      count += seen;
      for (const [name, times] of explainer.outcomes) outcomes.set(name, (outcomes.get(name) ?? 0) + times);
    }),
    { numRuns: part(280), endOnFailure: true },
  );
  t.ok(count >= part(10_000), `${count} frames`);
  const often = EXPECTED.filter((name) => isTried(!RARE.includes(name)));
  t.strictSame(
    often.filter((name) => !outcomes.has(name)),
    [],
    'all of these outcomes',
  );
  t.comment([...outcomes].map(([name, times]) => `${name} ${times}`).join(', '));
  t.end();
});

/** A loopback message of a station elsewhere (IEEE 802.1Q-2018 21.7). */
function loopbackTo(to: number): Uint8Array {
  const message = frame(to, MAC.b, 80);
  message.set([0x89, 0x02], 12);
  loopback.write({ level: 7, opcode: loopback.MESSAGE, transaction: 1, dataBytes: 34 }, message, 14);
  return message;
}

/** A frame of as many bytes behind another EtherType than `frame` has. */
function typed(to: number, etherType: number, bytes = 60): Uint8Array {
  const whole = frame(to, MAC.a, bytes);
  whole.set([etherType >> 8, etherType & 0xff], 12);
  return whole;
}

await t.test('explain refuses what the engine refuses: shares, rates and queues', (t) => {
  const ports = [MAC.a, MAC.e].map(
    (mac) => ({ mac, vid: 0, own: false, protect: ['dhcp-nospoof'] }) as const,
  );
  const options = { mtuBytes: 1500, destination: undefined };
  const flood = (
    what: string,
    count: number,
    near: number,
    expected: string,
    one: (at: number) => Uint8Array,
  ) => {
    const explainer = new Explainer({ encapsulation: 'vxlan', options, ports });
    for (let at = 0; at < count; at++) {
      if (at < near) explainer.send(0, one(at));
      else explainer.transmit(0, one(at));
    }
    // The other port has a share of its own.
    explainer.transmit(1, frame(FIRST_SILENT + 77, MAC.e));
    explainer.end();
    t.ok(explainer.outcomes.has('waits'), `${what}: some wait`);
    t.ok(explainer.outcomes.has(expected), `${what}: others are ${expected}`);
  };
  flood('a scan', 1030, 1015, 'lookup_busy', (at) => frame(FIRST_SILENT + at, MAC.a));
  flood('frames to one MAC', 100, 70, 'pending_full', () => frame(SILENT, MAC.a, 1500));
  flood('broadcasts', 262, 245, 'pending_full', () => typed(MAC.all, SILENT_TYPE));
  flood('frames to many MACs', 12_000, 11_950, 'pending_full', (at) =>
    frame(FIRST_SILENT + (at % 200), MAC.a, 1500),
  );
  const explainer = new Explainer({ encapsulation: 'vxlan', options, ports });
  for (let at = 0; at < 70; at++) explainer.transmit(0, dhcpFrame({ transactionId: at }));
  explainer.end();
  t.ok(explainer.outcomes.has('dhcp_flood'), 'DHCP requests');
  t.end();
});
