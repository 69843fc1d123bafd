// Laws of src/core and of the devices around it: the conservation of frames.

import fc from 'fast-check';
import t from 'tap';
import { VXLAN } from '../../src/encap/vxlan.js';
import type { Device } from '../../src/io/contract.js';
import { Fault } from '../../src/io/fault.js';
import { WHOLE } from '../../src/io/memory.js';
import { readCapture } from '../../src/wire/pcapng-read.js';
import { Capture } from '../helpers/device-capture.js';
import { Trace } from '../helpers/device-trace.js';
import { Lab, MAC, address, concat, dhcpFrame, endpoint, frame, hex, packet } from '../helpers/lab.js';
import { lieOf } from '../helpers/lies.js';
import { part } from '../helpers/whole.js';
import { equal, World } from '../helpers/world.js';
import { frame as vector, fromHex, vectors, type Name } from '../vectors/frames.js';
import { law } from '../helpers/law.js';
import { anyMac, frames, MACS } from '../helpers/any-frame.js';

// -- Conservation: a frame is delivered, or waits, or is counted under one reason

const offload = fc.oneof(
  { weight: 4, arbitrary: fc.constant(WHOLE) },
  {
    weight: 1,
    arbitrary: fc
      .record({
        checksumStart: fc.oneof(fc.constantFrom(14, 34, 38, 54), fc.nat(0xffff)),
        checksumOffset: fc.nat(70),
      })
      .map((rest) => ({ ...WHOLE, flags: 1, ...rest })),
  },
);
const headers = fc.oneof(
  { weight: 6, arbitrary: fc.constant(fromHex('0800000000006400')) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 8, maxLength: 8 }) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 8 }) },
);
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant('transmit'), port: fc.nat(), bytes: frames, offload }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('receive'),
      header: headers,
      bytes: frames,
      isKnown: fc.boolean(),
      tos: fc.nat(255),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('answer'), lookup: fc.nat(20), isDrop: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('target', 'nowhere', 'invalidate', 'delete'), mac: anyMac }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('time'), ms: fc.nat(5000) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove-port'), port: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('add-port'),
      mac: anyMac,
      vid: fc.constantFrom(0, 5),
      own: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('break'), port: fc.nat(), errno: fc.constantFrom(0, 11, 77) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('block'), sender: fc.nat(2), errno: fc.constantFrom(0, 11) }),
  },
);
const world = fc.record({
  options: fc.record({
    mtuBytes: fc.constantFrom(576, 1450, 1500),
    destination: fc.constantFrom(undefined, endpoint('192.0.2.2'), endpoint('192.0.2.9')),
    acceptAny: fc.boolean(),
    carryTags: fc.boolean(),
    copyDscp: fc.boolean(),
    negativeTtlMs: fc.nat(2000),
  }),
  vids: fc.array(fc.constantFrom(0, 5, 6), { minLength: 1, maxLength: 4 }),
  hasOwn: fc.boolean(),
  steps: fc.array(step, { maxLength: 40, size: 'max' }),
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

function take(world: World, each: Step, now: { ms: number }): void {
  const { net, live } = world;
  const tap = 'port' in each ? live.at(each.port % Math.max(1, live.length)) : undefined;
  if ('offload' in each) {
    if (tap !== undefined) world.transmit(tap, each.bytes, each.offload);
  } else if ('header' in each) {
    world.receive(concat(each.header, each.bytes), each.isKnown, each.tos);
  } else if ('lookup' in each) {
    const question = world.vtep.questions.at(each.lookup);
    const to = [endpoint(each.lookup % 3 === 0 ? '2001:db8::1' : '192.0.2.2')];
    world.did(() => {
      if (question === undefined) return;
      net.answer(
        question,
        each.isDrop ? { kind: 'drop', reason: 'lookup_failed' } : { kind: 'target', to, ttlMs: 3000 },
      );
    });
  } else if ('own' in each) {
    world.addPort(each.mac, each.vid, each.own);
  } else if ('sender' in each) {
    world.vtep.senders[each.sender].sendErrno = each.errno;
  } else if ('mac' in each) {
    world.did(() => {
      if (each.kind === 'target') net.setTarget(each.mac, [world.peer.local], 4000);
      else if (each.kind === 'nowhere') net.setTarget(each.mac, [], 4000);
      else if (each.kind === 'invalidate') net.invalidate(each.mac);
      else net.deleteTarget(each.mac);
    });
  } else if ('ms' in each) {
    world.vtep.engine.setTime((now.ms += each.ms));
  } else if ('errno' in each) {
    if (tap !== undefined) tap.port.deliverErrno = each.errno;
  } else if (tap !== undefined) {
    world.did(() => {
      tap.remove();
    });
    live.splice(live.indexOf(tap), 1);
  }
}

await t.test('every frame is delivered, or counted under one reason; nothing throws', (t) => {
  law(
    world,
    ({ options, vids, hasOwn, steps }) => {
      const world = new World(options);
      vids.forEach((vid, index) => {
        world.addPort(MACS[index], vid, hasOwn && index === 0);
      });
      const now = { ms: 0 };
      for (const each of steps) take(world, each, now);
      world.end();
    },
    1000,
  );
  t.end();
});

await t.test('so is every truncation of every test frame, either way (S8)', (t) => {
  const world = new World({ destination: endpoint('192.0.2.2'), acceptAny: true });
  world.addPort(MAC.c, 0, true);
  world.addPort(MAC.d, 5, false);
  let count = 0;
  for (const name of Object.keys(vectors) as Name[]) {
    const whole = vector(name);
    for (let length = 0; length <= whole.length; length++) {
      const part = whole.subarray(0, length);
      for (const tap of world.live) world.transmit(tap, part);
      world.receive(part, true, 3);
      world.receive(concat(fromHex('0800000000006400'), part), false, 2);
      count++;
    }
  }
  world.end();
  t.ok(count > 1000, `${count} of them`);
  t.end();
});

// -- Middleware

const rate = fc.oneof(fc.constant(0), fc.constant(1), fc.double({ min: 0, max: 1, noNaN: true }));
const rates = fc.record({ drop: rate, duplicate: rate, reorder: rate, refuse: rate });
const sizes = fc.array(fc.integer({ min: 14, max: 200 }), { maxLength: 30 });

/** A sender of frames of these sizes through middleware: what arrives, what is counted. */
function through(wrapSender: (device: Device) => Device, sent: readonly number[]) {
  const lab = new Lab();
  const peer = lab.peer('192.0.2.2');
  const vtep = lab.vtep('192.0.2.1', { wrapSender, batchFrames: 8 });
  const net = vtep.overlay({ destination: peer.local });
  net.port(MAC.a).send(...sent.map((bytes) => frame(MAC.b, MAC.a, bytes)));
  return { found: peer.take().map(({ bytes }) => hex(bytes.subarray(8))), drops: net.drops };
}

await t.test('capture and trace change nothing, and miss nothing', (t) => {
  law(
    sizes,
    (sent) => {
      const bare = through((device) => device, sent);
      const blocks: Uint8Array[] = [];
      const lines: string[] = [];
      const options = {
        kind: VXLAN,
        name: 'x',
        nowNs: () => 0n,
        print: (line: string) => lines.push(line),
      } as const;
      const write = (block: Uint8Array) => blocks.push(block);
      const wrapped = through(
        (device) => new Trace(new Capture(device, { ...options, write }), options),
        sent,
      );
      equal(wrapped, bare, 'as without');
      const captured = readCapture(concat(...blocks));
      equal(
        captured?.packets.map(({ data }) => hex(data)),
        bare.found,
        'captured',
      );
      equal(lines.length, sent.length, 'lines');
    },
    100,
  );
  t.end();
});

await t.test('fault: what is not dropped, doubled or refused arrives, and the count is right', (t) => {
  law(
    fc.record({ sent: sizes, seed: fc.integer(), rates }),
    ({ sent, seed, rates }) => {
      const harm = () => through((device) => new Fault(device, seed, rates), sent);
      const { found, drops } = harm();
      equal(harm(), { found, drops }, 'the same seed, the same harm');
      const original = sent.map((bytes) => hex(frame(MAC.b, MAC.a, bytes)));
      const refused = drops.tx_queue_full ?? 0;
      if (found.some((each) => !original.includes(each))) throw new Error('a frame that nobody sent');
      if (rates.drop === 0 && rates.duplicate === 0) equal(found.length + refused, sent.length, 'conserved');
      if (rates.reorder === 0 && rates.drop === 0 && rates.refuse === 0 && rates.duplicate === 0) {
        equal(found, original, 'untouched');
      }
      if (found.length > 2 * (sent.length - refused)) throw new Error('more than two copies');
    },
    300,
  );
  t.end();
});

// -- Link protection

await t.test('no mutation of any frame gets a lie past link protection, and none makes it throw', (t) => {
  const lab = new Lab(65535);
  const vtep = lab.vtep('192.0.2.1');
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay({ destination: peer.local, mtuBytes: 8900 });
  const port = net.port(MAC.a);
  const own = [address('10.0.0.5'), address('fd00::5')];
  port.protect({
    types: ['mac-nospoof', 'ip-nospoof', 'dhcp-nospoof', 'restricted'],
    addresses: own.map((ip) => ({ ip, bits: ip.includes(':') ? 128 : 32 })),
    clientIds: [],
  });
  const macText = '02a1a2a3a40a';
  const addresses = ['0a000005', 'fd000000000000000000000000000005', 'fe8000000000000000a1a2fffea3a40a'];
  const isOwn = (found: string) => addresses.includes(found);
  const arp = (ip: string) =>
    fromHex(`ffffffffffff ${macText} 0806 0001080006040001 ${macText} ${ip} 000000000000 0a000009`);
  const advertisement = (target: string) =>
    packet({
      version: 6,
      source: 'fd00::5',
      protocol: 58,
      payload: fromHex(`88000000 60000000 ${target} 0201${macText}`),
    });
  /** With as many bytes before its options, which name this MAC and the one of another. */
  const discovery = (type: number, fixedBytes: number) =>
    packet({
      version: 6,
      source: 'fd00::5',
      protocol: 58,
      payload: concat(
        Uint8Array.of(type),
        new Uint8Array(fixedBytes - 1),
        fromHex(`0101${macText} 020102c1c2c3c40c`),
      ),
    });
  const seeds = [
    packet({ source: '10.0.0.5' }),
    packet({ source: '10.0.0.6' }),
    packet({ source: '10.0.0.5', protocol: 6, tags: [5] }),
    packet({ source: '10.0.0.5', protocol: 1, firstByte: 8 }),
    packet({ source: '10.0.0.5', fragment: 0x2000 }),
    packet({ version: 6, source: 'fd00::5', extensions: 2 }),
    packet({ version: 6, source: 'fd00::5', fragment: 1 }),
    packet({ version: 6, source: 'fd00::5', protocol: 58, firstByte: 134, extensions: 1 }),
    packet({
      version: 6,
      source: 'fd00::5',
      ports: [546, 547],
      payload: fromHex(`01000001 0001000a00030001${macText}`),
    }),
    arp('0a000005'),
    arp('00000000'),
    advertisement(addresses[1]),
    advertisement('fd000000000000000000000000000006'),
    dhcpFrame(),
    dhcpFrame({ operation: 2 }),
    dhcpFrame({ clientMac: MAC.c }),
    frame(MAC.b, MAC.a),
    packet({ source: '10.0.0.5', protocol: 1, firstByte: 5 }),
    packet({ version: 6, source: 'fd00::5', protocol: 58, firstByte: 137 }),
    packet({ version: 6, source: 'fd00::5', protocol: 58, firstByte: 134, fragment: 1 }),
    packet({ version: 6, source: 'fd00::5', ports: [547, 546], extensions: 1 }),
    packet({ from: MAC.c, source: '10.0.0.5' }),
    dhcpFrame({ hops: 1 }),
    dhcpFrame({ options: new Map([53, 82].map((code) => [code, Uint8Array.of(1)])) }),
    packet({ source: '10.0.0.5', protocol: 1, firstByte: 9 }),
    packet({ source: '10.0.0.5', protocol: 2, firstByte: 0x22 }),
    discovery(133, 8),
    discovery(135, 24),
    discovery(137, 40),
    discovery(141, 8),
    packet({
      version: 6,
      source: 'fd00::5',
      ports: [546, 547],
      payload: fromHex(`01000001 0001000a00030001${macText} 00250002abcd`),
    }),
  ];
  const step = fc.oneof(
    fc.record({ kind: fc.constant('flip' as const), at: fc.nat(120), bit: fc.nat(7) }),
    fc.record({
      kind: fc.constant('set' as const),
      at: fc.nat(120),
      bit: fc.constantFrom(0, 1, 2, 4, 5, 9, 10, 17, 44, 48, 53, 58, 60, 67, 68, 82, 134, 137, 141, 255),
    }),
    fc.record({
      kind: fc.constant('cut' as const),
      at: fc.integer({ min: 1, max: 400 }),
      bit: fc.constant(0),
    }),
    fc.record({
      kind: fc.constant('tag' as const),
      at: fc.constantFrom(0x8100, 0x88a8, 0x9100),
      bit: fc.nat(255),
    }),
    fc.record({ kind: fc.constant('double' as const), at: fc.nat(100), bit: fc.nat(40) }),
  );
  let passed = 0;
  let honest = 0;
  law(
    fc.record({ seed: fc.nat(seeds.length - 1), steps: fc.array(step, { maxLength: 4 }) }),
    ({ seed, steps }) => {
      let bytes: Uint8Array = seeds[seed].slice();
      for (const { kind, at, bit } of steps) {
        if (kind === 'cut') bytes = bytes.subarray(0, Math.max(14, bytes.length - at));
        else if (kind === 'tag')
          bytes = concat(bytes.subarray(0, 12), Uint8Array.of(at >> 8, at & 255, 0, bit), bytes.subarray(12));
        else if (kind === 'double')
          bytes = concat(bytes.subarray(0, at), bytes.subarray(Math.max(0, at - bit)));
        else if (at < bytes.length) bytes[at] = kind === 'flip' ? bytes[at] ^ (1 << bit) : bit;
      }
      port.send(bytes);
      for (const { bytes: datagram } of peer.take()) {
        passed++;
        const lie = lieOf(datagram.subarray(8), macText, isOwn);
        if (lie !== undefined) throw new Error(`${lie}: ${hex(bytes)}`);
      }
      if (lieOf(bytes, macText, isOwn) === undefined) honest++;
      vtep.leases.length = 0;
    },
    20_000,
  );
  t.ok(passed > part(2000) && passed <= honest, `${passed} of ${honest} without a lie passed`);
  t.end();
});
