// The indexes of the core: MACs, destinations, peers.
import t from 'tap';
import { Destinations } from '../../src/core/tables/destinations.js';
import { MacIndex, NONE } from '../../src/core/tables/mac-index.js';
import { Peers } from '../../src/core/peers/peers.js';
import { type Endpoint, formatEndpoint, writeV6 } from '../../src/wire/ip.js';
import { address, endpoint, frame, hex, MAC } from '../helpers/lab.js';
import { asking, remote } from '../helpers/scenes.js';

await t.test('MacIndex is a Map, also when it grows and loses', (t) => {
  const index = new MacIndex();
  const model = new Map<string, number>();
  let state = 1;
  const random = (below: number) => {
    state = (Math.imul(state, 0x5deece66 | 1) + 11) | 0;
    return (state >>> 8) % below;
  };
  for (let step = 0; step < 50_000; step++) {
    const [high, low] = [random(4), random(3000) - 1500];
    const key = `${high} ${low}`;
    if (random(3) > 0 === step < 25_000) {
      index.set(high, low, step);
      model.set(key, step);
    } else if (index.delete(high, low) !== model.delete(key)) {
      t.fail(`delete ${key}`);
    }
    if (index.get(high, low) !== (model.get(key) ?? NONE) || index.size !== model.size)
      t.fail(`step ${step}`);
    const [otherHigh, otherLow] = [random(4), random(3000) - 1500];
    if (index.get(otherHigh, otherLow) !== (model.get(`${otherHigh} ${otherLow}`) ?? NONE))
      t.fail(`step ${step}: another MAC`);
  }
  for (const [key, value] of model) {
    const [high, low] = key.split(' ').map(Number);
    if (index.get(high, low) !== value) t.fail(key);
  }
  index.set(0xffff, -1, 7);
  t.strictSame([index.get(0xffff, -1), index.get(0xfffe, -1), index.get(0, 0x7fff_ffff)], [7, NONE, NONE]);
  index.clear();
  t.strictSame([index.size, index.get(0xffff, -1), index.delete(0xffff, -1)], [0, NONE, false]);
  t.end();
});

await t.test('destinations: references, slots used again', (t) => {
  const book: string[] = [];
  const destinations = new Destinations({
    setAddress: (slot, bytes, port) => book.push(`${slot} ${hex(bytes)} ${port}`),
  });
  const [one, two, three]: Endpoint[] = [
    endpoint('192.0.2.1', 1),
    endpoint('192.0.2.1', 2),
    endpoint('2001:db8::1'),
  ];
  t.strictSame(
    [one, two, one, three].map((each) => destinations.acquire(each)),
    [0, 1, 0, 2],
  );
  t.strictSame(book, [
    '0 00000000000000000000ffffc0000201 1',
    '1 00000000000000000000ffffc0000201 2',
    '2 20010db8000000000000000000000001 4789',
  ]);
  destinations.release(0);
  t.strictSame(destinations.endpoint(0), one, 'held still');
  destinations.release(0);
  t.throws(() => destinations.endpoint(0));
  t.throws(() => {
    destinations.release(0);
  });
  t.equal(destinations.acquire(three), 2);
  t.equal(destinations.acquire(endpoint('192.0.2.9')), 0, 'used again');
  t.equal(destinations.acquire(one), 3);
  t.equal(book.length, 5);
  t.end();
});

await t.test('slots are used again across a network, and lead nowhere old', (t) => {
  const { lab, net, port, vtep } = asking({ maxTargets: 3 });
  for (let index = 0; index < 200; index++) {
    const to = endpoint(`198.51.100.${index}`, 1000 + index);
    const macs = [remote(index), remote(index + 1)];
    for (const mac of macs) net.setTarget(mac, index % 3 === 0 ? [to, endpoint('192.0.2.2')] : [to]);
    port.send(...macs.map((mac) => frame(mac, MAC.a)));
    const sentTo = lab.datagrams.splice(0).map((datagram) => formatEndpoint(datagram.to));
    const right = sentTo.filter((name) => name === formatEndpoint(to)).length;
    if (right !== 2 || sentTo.length !== (index % 3 === 0 ? 4 : 2)) t.fail(`${index}: ${sentTo.join()}`);
  }
  let highest = -1;
  const setAddress = vtep.host.setAddress.bind(vtep.host);
  vtep.host.setAddress = (slot, bytes, udpPort) => {
    highest = Math.max(highest, slot);
    setAddress(slot, bytes, udpPort);
  };
  for (let index = 0; index < 50; index++) net.setTarget(remote(index), [endpoint(`203.0.113.${index}`)]);
  t.ok(highest < 8, `no slot above ${highest} for 3 targets`);
  t.end();
});

await t.test('peers: references, four words compared', (t) => {
  const peers = new Peers();
  const has = (ip: string) => {
    const words = new Int32Array(6).fill(-1);
    writeV6(address(ip), new Uint8Array(words.buffer), 4);
    return peers.has(words, 1);
  };
  const all = Array.from({ length: 300 }, (_, index) =>
    index % 2 ? `10.0.${index >> 8}.${index & 255}` : `fd00::${index.toString(16)}:0:1`,
  );
  for (const [slot, ip] of all.entries()) peers.add(address(ip), slot, 0);
  t.ok(all.every(has));
  t.notOk(['10.1.0.1', 'fd00::', '::', '0.0.0.0', '255.255.255.255'].some(has));
  peers.add(address(all[7]), 7, 0);
  for (const ip of all.slice(0, 200)) peers.remove(address(ip));
  t.strictSame(all.filter(has), [all[7], ...all.slice(200)]);
  peers.remove(address(all[7]));
  peers.remove(address(all[7]));
  t.strictSame(all.filter(has), all.slice(200));
  t.end();
});
