// src/dgram-extra against the kernel: UDP sockets, datagrams in batches, the MTU of a route. On real sockets, from this process.
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import * as extra from '../../src/dgram-extra/index.js';
import * as d from '../../src/wire/descriptor.js';
import * as ip from '../../src/wire/ip.js';
import { createPathNews } from '../../src/wire/path-news.js';
import { addressBytes, filler, toHex, udpFrame } from '../helpers/frames.js';
import {
  nativeTests,
  closing,
  ERRNO,
  ETHERNET_MTU,
  fails,
  field,
  frameOf,
  incoming,
  list,
  native,
  openUdp,
  outgoing,
  put,
  receive,
  results,
  RULE,
  SLAB_BYTES,
  udpIn,
} from '../helpers/native.js';
import { here } from '../helpers/own-namespace.js';

const LOOPBACK = ['127.0.0.1', '::1'] as const;

async function udpOptions(t: Test): Promise<void> {
  const close = closing(t);
  for (const [slot, address] of LOOPBACK.entries()) {
    const port = 5001;
    const plain = close(openUdp(address, port));
    native.addressSet(slot, addressBytes(address), port);
    const send = (fd: number, index: number): number[] => {
      const entries = list([index, slot]);
      native.udpSend(outgoing.handle, fd, entries, 1, 0, 0);
      return results(entries);
    };
    const sender = close(openUdp(address, 50_123));

    // Never fragmented: RFC 7348 4.3.
    const largest = ETHERNET_MTU - (address === '::1' ? 48 : 28);
    [largest, largest + 1].forEach((bytes, index) => {
      put(outgoing, index, filler(bytes));
    });
    t.same(send(sender, 0), [slot], `${address}: ${largest} bytes pass`);
    t.same(send(sender, 1), [-ERRNO.EMSGSIZE], 'one more does not');
    t.equal(await receive(() => udpIn(plain), 1), 1);
    t.same(frameOf(incoming, 0), filler(largest), 'whole');
    t.equal(field(incoming, 0, d.PORT), 50_123, 'from the port the socket is bound to');
    t.equal(
      ip.readV6(new Uint8Array(incoming.descriptors.slice(d.ADDRESS, d.PORT).buffer), 0),
      address,
      'and address',
    );

    // Traffic classes, sent and received.
    const classes = [0x00, 0x01, 0x02, 0x03, 0xb8, 0xbb];
    classes.forEach((tos, index) => {
      put(outgoing, index, filler(64 + index), { [d.TOS]: tos });
    });
    for (const index of classes.keys()) send(sender, index);
    await receive(() => udpIn(plain), classes.length);
    t.same(
      classes.map((_, index) => field(incoming, index, d.TOS)),
      classes,
      'traffic class as sent',
    );

    // A socket that only sends: what comes for it is dropped by the kernel.
    const sendOnly = close(openUdp(address, 5002, { sendOnly: true }));
    native.addressSet(slot, addressBytes(address), 5002);
    t.same(send(sender, 0), [slot]);
    t.equal(udpIn(sendOnly), 0, 'nothing is received by a socket that only sends');
    native.addressSet(slot, addressBytes(address), port);
    t.same(send(sendOnly, 0), [slot]);
    t.equal(await receive(() => udpIn(plain), 1), 1, 'and it sends');

    const shared = [0, 1].map(() => close(openUdp(address, 5003, { reusePort: true })));
    t.equal(new Set(shared).size, 2, 'two sockets share one port where both say so');
    const first = close(openUdp(address, 5005, { admitOthers: true }));
    const further = close(openUdp(address, 5005, { reusePort: true }));
    const taken = `${address}:5005`;
    fails(t, () => openUdp(address, 5005, { admitOthers: true }), 'EADDRINUSE', 'bind', taken);
    native.addressSet(slot, addressBytes(address), 5005);
    for (let count = 0; count < 32; count++) send(close(openUdp(address, 0)), 0);
    const shares = [first, further].map((fd) => {
      let count = 0;
      for (let more = udpIn(fd); more > 0; more = udpIn(fd)) count += more;
      return count;
    });
    t.equal(shares[0] + shares[1], 32, 'each datagram comes to one of them');
    t.ok(Math.min(...shares) > 0, 'and both have some of the flows');
  }

  const buffers = { receiveBufferBytes: 6 << 20, sendBufferBytes: 5 << 20 };
  close(openUdp('127.0.0.1', 5004, buffers));
  // The kernel doubles what it is asked for (socket(7)).
  const shown = await here.exec('ss -Hulnm sport = :5004');
  t.match(shown, /\brb12582912\b.*\btb10485760\b/s, 'buffers beyond the bound of the system');
}

/** RFC 7348 5: a VTEP must accept a zero checksum. On IPv6 that has to be asked for (RFC 6935). */
async function zeroChecksums(t: Test): Promise<void> {
  const close = closing(t);
  const rows = [
    // [address, sender leaves it out, receiver takes it, arrives]
    ['127.0.0.1', true, false, true],
    ['127.0.0.1', true, true, true],
    ['::1', true, false, false],
    ['::1', true, true, true],
    ['::1', false, false, true],
  ] as const;
  for (const [index, [address, zeroChecksumSend, zeroChecksumReceive, arrives]] of rows.entries()) {
    const port = 5010 + index;
    const receiver = close(openUdp(address, port, { zeroChecksumReceive }));
    const sender = close(openUdp(address, 0, { zeroChecksumSend }));
    put(outgoing, 0, filler(100));
    native.addressSet(0, addressBytes(address), port);
    native.udpSend(outgoing.handle, sender, list([0, 0]), 1, 0, 0);
    await sleep(20);
    const words = `${address}, ${zeroChecksumSend ? 'no' : 'a'} checksum`;
    const asked = zeroChecksumReceive ? ', asked for' : '';
    t.equal(udpIn(receiver), arrives ? 1 : 0, `${words}${asked}: ${arrives ? 'arrives' : 'is dropped'}`);
  }
}

async function datagrams(t: Test): Promise<void> {
  const close = closing(t);
  const receiver = close(openUdp('127.0.0.1', 5020));
  const sender = close(openUdp('127.0.0.1', 0));
  const [GOOD, UNSET, NO_ROUTE] = [0, 4000, 2];
  native.addressSet(GOOD, addressBytes('127.0.0.1'), 5020);
  native.addressSet(NO_ROUTE, addressBytes('192.0.2.1'), 5020);
  const take = async (count: number): Promise<string[]> => {
    const got: string[] = [];
    while (got.length < count) {
      const more = await receive(() => udpIn(receiver), count);
      for (let index = 0; index < more; index++) got.push(toHex(frameOf(incoming, index)));
    }
    return got;
  };

  t.equal(udpIn(receiver), 0, 'nothing to receive');
  // A header before the frame, as VXLAN's, is sent with it.
  const frame = Uint8Array.of(...filler(8), ...udpFrame());
  put(outgoing, 0, frame, { [d.OFFSET]: d.HEADROOM_BYTES + 8, [d.LENGTH]: frame.length - 8 });
  t.equal(native.udpSend(outgoing.handle, sender, list([0, GOOD]), 1, 8, 0), 1);
  t.same(await take(1), [toHex(frame)], 'with the bytes that stand before it');
  t.equal(field(incoming, 0, d.OFFSET) % 16, 8, 'the inner frame is 16-aligned');

  // What cannot be sent costs only itself.
  [filler(100), filler(2000), filler(102), filler(103)].forEach((bytes, index) => {
    put(outgoing, index, bytes);
  });
  put(outgoing, 4, filler(10), { [d.LENGTH]: SLAB_BYTES });
  put(outgoing, 5, filler(10), { [d.OFFSET]: 4 });
  const entries = list(
    [0, GOOD],
    [1, GOOD], // too big
    [2, GOOD],
    [2, UNSET],
    [2, -1],
    [2, NO_ROUTE],
    [4, GOOD], // outside the slab
    [5, GOOD], // no room for the header
    [99, GOOD], // no such frame
    [3, GOOD],
  );
  const { EINVAL, EMSGSIZE, ENETUNREACH } = ERRNO;
  const expected = [GOOD, -EMSGSIZE, GOOD, -EINVAL, -EINVAL, -ENETUNREACH, -EINVAL, -EINVAL, -EINVAL, GOOD];
  t.equal(native.udpSend(outgoing.handle, sender, entries, 10, 8, 0), 3, 'three of ten can be sent');
  t.same(results(entries), expected, 'the others say why not');
  const bodies = (await take(3)).map((hex) => hex.slice(16));
  t.same(
    bodies,
    [100, 102, 103].map((bytes) => toHex(filler(bytes))),
    'in order',
  );

  // More entries than the batch has frames, and more datagrams than one receive takes.
  const many = list(...Array.from({ length: 50 }, (_, at) => [at % 4 === 1 ? 0 : at % 4, GOOD] as const));
  t.equal(native.udpSend(outgoing.handle, sender, many, 50, 0, 0), 50, 'a list longer than the batch');
  t.equal((await take(50)).length, 50);
  t.equal(
    native.udpReceive(incoming.handle, receiver, 1000, RULE),
    0,
    'more is asked for than there is room',
  );

  for (const [name, got] of [
    ['no such batch', native.udpSend(99, sender, list([0, GOOD]), 1, 0, 0)],
    ['a list that is too short', native.udpSend(outgoing.handle, sender, list([0, GOOD]), 2, 0, 0)],
    ['no such batch to receive into', native.udpReceive(99, receiver, 8, RULE)],
    ['an address of no length', native.addressSet(0, new Uint8Array(4), 1)],
    ['a slot below zero', native.addressSet(-1, addressBytes('127.0.0.1'), 1)],
    ['a slot above 2^24', native.addressSet(1 << 24, addressBytes('127.0.0.1'), 1)],
  ] as const)
    t.equal(got, -ERRNO.EINVAL, name);
  t.equal(udpIn(-1), -ERRNO.EBADF, 'no such descriptor');
  const heard = createPathNews(4);
  const told = (fd: number, max: number, words = heard.words): number =>
    native.udpErrors(fd, words, heard.quotes, max);
  t.equal(told(sender, 4), 0, 'no news of paths');
  t.equal(told(-1, 4), -ERRNO.EBADF, 'nor of one that is closed');
  t.equal(told(sender, 5), -ERRNO.EINVAL, 'no room for so much');
  t.equal(told(sender, 0), -ERRNO.EINVAL);
  const closed = list([0, GOOD], [2, GOOD]);
  t.equal(native.udpSend(outgoing.handle, -1, closed, 2, 0, 0), 0);
  t.same(results(closed), [-ERRNO.EBADF, -ERRNO.EBADF]);
}

async function routeMtus(t: Test): Promise<void> {
  closing(t)(extra.openTap('tap0', { exclusive: true }));
  await here.plumb('tap0');
  for (const route of ['10.9.0.0/24 via 10.55.55.9 mtu 1400', 'fd99::/64 via fd55::9 mtu 1380'])
    await here.ip(`route add ${route}`);
  for (const [from, to, mtuBytes] of [
    ['127.0.0.1', '127.0.0.1', ETHERNET_MTU],
    ['10.55.55.2', '10.55.55.9', 1500],
    ['10.55.55.2', '10.9.0.1', 1400],
    ['fd55::2', 'fd55::9', 1500],
    ['fd55::2', 'fd99::1', 1380],
  ] as const) {
    t.equal(extra.routeMtuBytes(addressBytes(from), addressBytes(to), to), mtuBytes, `${to}: ${mtuBytes}`);
  }
}

await nativeTests(import.meta.url, async () => {
  await t.test('UDP sockets as RFC 7348 wants them', udpOptions);
  await t.test('datagrams without a checksum', zeroChecksums);
  await t.test('datagrams in batches', datagrams);
  await t.test('the MTU of a route', routeMtus);
});
