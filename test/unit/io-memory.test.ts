// The network, the ports and the sockets in memory keep the contract of real devices: the engine is tested on them.
import t from 'tap';
import { MemoryHost, MemoryNetwork } from '../../src/io/memory.js';
import { DESCRIPTOR_WORDS, LENGTH, OFFSET } from '../../src/wire/descriptor.js';
import { endpoint, frame, hex, MAC } from '../helpers/lab.js';
import { same } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const EBADFD = 77;

await t.test('the network in memory keeps the contract of real devices', (t) => {
  const network = new MemoryNetwork(1500);
  const [v4, v6] = [network.bind(endpoint('192.0.2.1')), network.bind(endpoint('2001:db8::1'))];
  const [to4, to6] = [network.bind(endpoint('192.0.2.2')), network.bind(endpoint('2001:db8::2'))];
  t.equal(v4.send(to4.local, new Uint8Array(1500 - 28)), 0, 'the largest datagram passes');
  t.equal(v4.send(to4.local, new Uint8Array(1500 - 27)), 90, 'one byte more is EMSGSIZE');
  t.equal(v6.send(to6.local, new Uint8Array(1500 - 48)), 0);
  t.equal(v6.send(to6.local, new Uint8Array(1500 - 47)), 90);
  t.equal(v4.send(to6.local, new Uint8Array(1)), 97, 'EAFNOSUPPORT');
  t.equal(v6.send(to4.local, new Uint8Array(1)), 101, 'ENETUNREACH');
  t.equal(v4.send(endpoint('192.0.2.99'), new Uint8Array(1)), 0, 'nobody there: lost, as anywhere');
  t.strictSame(to4.take()[0].from, v4.local);
  t.throws(() => network.bind(v4.local), /EADDRINUSE/);
  network.unbind(v4);
  t.ok(network.bind(v4.local));

  const host = new MemoryHost(network, 4);
  const port = host.openPort();
  const batch = host.createBatch();
  const original = frame(MAC.b, MAC.a, 60, 5);
  for (let sent = 0; sent < 5; sent++) port.send(original);
  t.equal(port.receive(batch), 4, 'no more than a batch holds');
  t.strictSame(
    [0, 1, 2, 3].map((index) => batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET] % 16),
    [0, 0, 0, 0],
    'aligned',
  );
  const deliver = (argument: number) => {
    const entries = Int32Array.of(0, argument);
    return [port.deliver(batch, entries, 1), entries[1]];
  };
  t.strictSame(deliver(1), [1, 1]);
  batch.bytes.fill(0xff);
  same(
    t,
    port.take().map(({ bytes }) => bytes),
    [frame(MAC.b, MAC.a, 56)],
    'a copy without its tag',
  );
  batch.descriptors[LENGTH] = 13;
  t.strictSame(deliver(0), [0, -22], 'runt: EINVAL');
  batch.descriptors.set([60, 1, 0, 0, 0, 59, 0], LENGTH);
  t.strictSame(deliver(0), [0, -22], 'checksum outside the frame: EINVAL');
  port.isUp = false;
  t.strictSame(deliver(0), [0, -5], 'down: EIO');
  port.receiveErrno = EBADFD;
  t.equal(port.receive(batch), -EBADFD);
  t.strictSame(host.ready(), [], 'not watched');
  host.close(port.fd);
  t.throws(() => host.port(port.fd), /EBADF/);

  const socket = host.openSocket(endpoint('192.0.2.3'));
  to4.send(socket.local, fromHex('0800000000006400aabb'), 0x2a);
  t.equal(socket.receive(batch), 1);
  t.equal((batch.descriptors[OFFSET] + 8) % 16, 0, 'the inner frame is the aligned one');
  const octets = new Uint8Array(batch.descriptors.buffer);
  t.equal(hex(octets.subarray(32, 48)), '00000000000000000000ffffc0000202', 'v4-mapped');
  t.strictSame([...batch.descriptors.subarray(12, 16)], [4789, 0x2a, 0, 0]);
  const entries = Int32Array.of(0, 7, 99, 0, 0, -1);
  t.equal(socket.deliver(batch, entries, 3), 0);
  t.strictSame([...entries], [0, -22, 99, -22, 0, -22], 'no such slot, no such frame');
  t.end();
});
