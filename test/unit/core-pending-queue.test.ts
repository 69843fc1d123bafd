// Frames that wait for an answer: how many may, in which order they leave, and that they are whole then.
import t from 'tap';
import {
  MAX_BYTES,
  MAX_BYTES_PER_TARGET,
  PendingBudget,
  PendingQueue,
} from '../../src/core/queues/pending-queue.js';
import { MemoryHost, MemoryNetwork, WHOLE } from '../../src/io/memory.js';
import { LENGTH, OFFSET } from '../../src/wire/descriptor.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import * as virtio from '../../src/wire/virtio-net.js';
import { frame, hex, MAC, packet } from '../helpers/lab.js';
import { asking, inner, remote, same } from '../helpers/scenes.js';

await t.test('10,000 frames to one unknown MAC: one question, bounded memory (S20)', (t) => {
  const { vtep, net, port, peer, target } = asking();
  const frames = Array.from({ length: 10_000 }, (_, index) => frame(remote(1), MAC.a, 60 + (index & 1)));
  port.send(...frames);
  t.equal(vtep.questions.length, 1);
  t.equal(net.counters.lookups, 1);
  const fit = Math.floor(MAX_BYTES_PER_TARGET / (60.5 + 256));
  t.strictSame(net.drops, { pending_full: 10_000 - fit }, `${fit} frames wait`);
  net.answer(vtep.questions[0], target());
  same(t, inner(peer), frames.slice(0, fit), 'then they go, in order');
  port.send(frames[0]);
  t.strictSame([inner(peer).length, vtep.questions.length], [1, 1], 'from now on at once');
  t.end();
});

await t.test('16 MiB for all overlays together', (t) => {
  const { vtep, net, port } = asking({ maxTargets: 100_000 });
  const second = vtep.overlay({ vnetid: 101, maxTargets: 100_000 });
  const portToo = second.port(MAC.c);
  const each = 1400 + 256;
  const half = Array.from({ length: 8000 }, (_, index) => frame(remote(index >> 3), MAC.a, 1400));
  port.send(...half);
  portToo.send(...half);
  const lost = 16_000 - Math.floor(MAX_BYTES / each);
  const ofFirst = net.drops.pending_full ?? 0;
  const ofSecond = second.drops.pending_full ?? 0;
  t.equal(ofFirst + ofSecond, lost, 'as many wait as may');
  t.ok(Math.abs(ofFirst - ofSecond) <= 1, `each has half of it: ${ofFirst} and ${ofSecond} are lost`);
  net.remove();
  t.match(net.drops, { pending_full: ofFirst, pending_lost: 8000 - ofFirst });
  portToo.send(frame(remote(20_000), MAC.c), frame(remote(0), MAC.c, 1400));
  t.strictSame(second.drops, { pending_full: ofSecond }, 'and all of it alone');
  t.end();
});

await t.test('what the plugin pushes sends what waits, in order', (t) => {
  const { vtep, net, port, peer } = asking({}, { batchFrames: 8 });
  const frames = Array.from({ length: 100 }, (_, index) =>
    packet({ to: remote(1), payloadBytes: 8 * index }),
  );
  port.send(...frames);
  net.setTarget(remote(1), [peer.local], 1000);
  same(t, inner(peer), frames, 'more than a batch of them');
  net.answer(vtep.questions[0], { kind: 'drop', reason: 'lookup_drop' });
  port.send(frames[0]);
  t.strictSame([inner(peer).length, net.drops], [1, {}], 'the late answer is thrown away');
  t.end();
});

await t.test('frames that waited are as they would have been', (t) => {
  const { vtep, net, peer, target } = asking();
  const port = net.port(MAC.c, { vid: 9 });
  const partial = packet({ to: remote(1), protocol: ipv4.TCP, checksum: 'partial', trafficClass: 2 });
  port.sendWith({ ...WHOLE, flags: virtio.NEEDS_CHECKSUM, checksumStart: 34, checksumOffset: 16 }, partial);
  net.answer(vtep.questions[0], target());
  const [{ bytes, tos }] = peer.take();
  same(
    t,
    [bytes.subarray(8)],
    [packet({ to: remote(1), protocol: ipv4.TCP, trafficClass: 2, tags: [9] })],
    'whole',
  );
  t.strictSame([tos, hex(bytes.subarray(0, 8))], [2, '0800000000006400']);
  t.end();
});

await t.test('the pending queue gives back what it took', (t) => {
  const budget = new PendingBudget();
  const fail = (): void => {
    t.fail('nothing is lost');
  };
  const queue = new PendingQueue(budget, { addHeld: fail }, fail);
  const sender = {};
  const host = new MemoryHost(new MemoryNetwork(), 4);
  const batch = host.createBatch();
  const port = host.openPort();
  const hold = (row: number, bytes: number) => {
    port.send(frame(MAC.b, MAC.a, bytes));
    port.receive(batch);
    return queue.hold(row, sender, batch, 0);
  };
  t.ok(hold(1, 65536), 'the largest frame');
  t.notOk(hold(1, 65536), 'one of it');
  t.ok(hold(2, 14));
  t.equal(budget.used, 65536 + 14 + 512);
  t.equal(queue.discard(3), 0);
  const counts: number[] = [];
  queue.release(1, batch, (count) =>
    counts.push(count, batch.descriptors[LENGTH], batch.descriptors[OFFSET] % 16),
  );
  t.strictSame(counts, [1, 65536, 0]);
  t.equal(queue.discard(2), 1);
  t.equal(budget.used, 0);
  for (let index = 0; index < 9; index++) t.ok(hold(1, 60 + index));
  queue.release(1, batch, (count) => counts.push(count));
  t.strictSame(counts.slice(3), [4, 4, 1], 'as many as the batch holds at a time');
  t.end();
});
