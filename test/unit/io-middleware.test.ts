// What is put between a device and the engine: capture, trace and fault.
import t from 'tap';
import { VXLAN } from '../../src/encap/vxlan.js';
import { Capture } from '../helpers/device-capture.js';
import type { Device } from '../../src/io/contract.js';
import { Fault } from '../../src/io/fault.js';
import { Trace } from '../helpers/device-trace.js';
import { describe } from '../../src/wire/describe.js';
import * as ipv6 from '../../src/wire/ipv6.js';
import { readCapture } from '../../src/wire/pcapng-read.js';
import { concat, frame, hex, Lab, MAC, packet } from '../helpers/lab.js';
import { facing, inner, pair, same } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

await t.test('capture: what crosses a device, as pcapng', (t) => {
  const { b, netA, portB } = pair();
  const blocks: Uint8Array[] = [];
  let clock = 0n;
  const options = { name: 'tap', nowNs: () => ++clock, write: (block: Uint8Array) => blocks.push(block) };
  const wrap = (device: Device): Device => new Capture(device, { kind: 'port', ...options });
  const tap = netA.port(MAC.c, { vid: 5, wrap });
  const out = frame(MAC.b, MAC.c);
  tap.send(out);
  portB.send(frame(MAC.c, MAC.b, 64, 5));
  tap.port.isUp = false;
  portB.send(frame(MAC.c, MAC.b, 64, 5));
  const capture = readCapture(concat(...blocks));
  t.match(capture, { complete: true, interfaces: [{ name: 'tap', linkType: 1 }] });
  t.strictSame(
    capture?.packets.map(({ direction, comment, timestampNs, data }) => [
      direction,
      comment,
      timestampNs,
      hex(data),
    ]),
    [
      ['in', '', 1n, hex(out)],
      ['out', '', 2n, hex(frame(MAC.c, MAC.b))],
      ['out', 'EIO', 3n, hex(frame(MAC.c, MAC.b, 64, 5))],
    ],
    'as its owner sees them; a refused one as it was',
  );
  t.equal(b.listener.inbox.length, 0);
  t.end();
});

await t.test('trace: a line a frame', (t) => {
  const lines: string[] = [];
  const print = (line: string) => lines.push(line);
  const lab = new Lab();
  const peer = lab.peer('192.0.2.2');
  const wrapSender = (device: Device) => new Trace(device, { kind: VXLAN, name: 'under0', print });
  const vtep = lab.vtep('192.0.2.1', { wrapSender });
  vtep
    .overlay({ vnetid: 7, destination: peer.local, mtuBytes: 1500 })
    .port(MAC.a)
    .send(packet({ trafficClass: 2 }), frame(MAC.b, MAC.a, 1500));
  const listener = new Trace(vtep.listener, { kind: VXLAN, name: 'under0', print });
  const batch = vtep.host.createBatch();
  peer.send(vtep.endpoint, concat(fromHex('08000000 00000700'), frame(MAC.a, MAC.b)), 3);
  peer.send(vtep.endpoint, fromHex('0000'));
  t.equal(listener.receive(batch), 2);
  t.strictSame(lines, [
    `under0 out 74 bytes (VNI 7 tos 2): ${describe(packet({ trafficClass: 2 }))}`,
    `under0 out 1500 bytes (VNI 7 EMSGSIZE): ${describe(frame(MAC.b, MAC.a, 1500))}`,
    `under0 in 60 bytes (VNI 7 from 192.0.2.2:4789 tos 3): ${describe(frame(MAC.a, MAC.b))}`,
    'under0 in 2 bytes (from 192.0.2.2:4789, not VXLAN: truncated): Ethernet truncated (2 bytes)',
  ]);
  t.end();
});

await t.test('fault: each kind of harm does what it says', (t) => {
  const through = (rates: ConstructorParameters<typeof Fault>[2], count = 200) => {
    const lab = new Lab();
    const peer = lab.peer('192.0.2.2');
    const vtep = lab.vtep('192.0.2.1', { wrapSender: (device) => new Fault(device, 42, rates) });
    const net = vtep.overlay({ destination: peer.local });
    net.port(MAC.a).send(...Array.from({ length: count }, (_, index) => frame(MAC.b, MAC.a, 100 + index)));
    const found = inner(peer);
    return { drops: net.drops, found, sizes: found.map(({ length }) => length - 100) };
  };
  const inOrder = Array.from({ length: 200 }, (_, index) => index);
  t.strictSame(through({}).sizes, inOrder, 'none');
  t.strictSame([through({ drop: 1 }).sizes, through({ drop: 1 }).drops], [[], {}], 'lost, and nobody knows');
  t.strictSame(
    through({ duplicate: 1 }).sizes,
    inOrder.flatMap((index) => [index, index]),
  );
  t.strictSame(through({ refuse: 1 }).drops, { tx_queue_full: 200 });
  t.strictSame(through({ refuse: 1, errno: 90 }).drops, { tx_path_mtu: 200 });
  const { sizes } = through({ reorder: 0.5 });
  t.strictNotSame(sizes, inOrder);
  t.strictSame(
    sizes.toSorted((a, b) => a - b),
    inOrder,
    'swapped, none lost',
  );
  const wrong = through({ corrupt: 1 }).found.map((bytes, index) =>
    bytes.reduce((bits, byte, at) => bits + bitsOf(byte ^ frame(MAC.b, MAC.a, 100 + index)[at]), 0),
  );
  t.strictSame(new Set(wrong), new Set([1]), 'one bit');
  const some = through({ drop: 0.3, refuse: 0.2, duplicate: 0.1 });
  t.ok(some.sizes.length > 80 && some.sizes.length < 160);
  t.strictSame(through({ drop: 0.3, refuse: 0.2, duplicate: 0.1 }), some, 'the same seed, the same harm');
  t.end();
});

function bitsOf(value: number): number {
  return value.toString(2).replaceAll('0', '').length;
}

await t.test('what a fault spoils on one list is whole on the others', (t) => {
  const { lab, net, port } = facing();
  const spoiled = net.port(MAC.c, { wrap: (device) => new Fault(device, 1, { corrupt: 1 }) });
  const last = net.port(MAC.d);
  const bytes = packet({ version: 6, to: MAC.all });
  port.send(bytes);
  t.notSame(spoiled.take()[0], bytes);
  same(t, [...last.take(), lab.datagrams[0].bytes.subarray(8)], [bytes, bytes], 'whole');
  t.equal(ipv6.check(bytes, 14, bytes.length - 14), 40);
  t.end();
});
