// The lists of what goes out, and the slots that come in: order, bounds, nothing left lying.
import t from 'tap';
import { COUNTER, createCounters } from '../../src/core/counts/counters.js';
import { Drops } from '../../src/core/counts/drops.js';
import { OutputList, Outputs } from '../../src/core/outputs.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { Capture } from '../helpers/device-capture.js';
import type { Device } from '../../src/io/contract.js';
import { Fault } from '../../src/io/fault.js';
import { MemoryHost, MemoryNetwork, MemorySocket } from '../../src/io/memory.js';
import { Trace } from '../helpers/device-trace.js';
import { dropOfSendError } from '../../src/model/drops.js';
import type { FrameBatch } from '../../src/wire/descriptor.js';
import { concat, endpoint, frame, Lab, MAC } from '../helpers/lab.js';
import { same, VXLAN_100 } from '../helpers/scenes.js';
import { fromHex } from '../vectors/frames.js';

const EAGAIN = 11;

await t.test('output lists keep order, and are flushed when they are full', (t) => {
  const calls: number[][] = [];
  const sink = {
    deliver: (_: unknown, entries: Int32Array, count: number) => {
      calls.push([...entries.subarray(0, count * 2)]);
      entries[1] = -EAGAIN;
      return count - 1;
    },
  };
  const outputs = new Outputs();
  const list = new OutputList(sink, 2, dropOfSendError);
  const counters = createCounters();
  const drops = new Drops(counters, { nowTick: 0, origin: { port: undefined, isUnderlay: false } });
  const batch = new MemoryHost(new MemoryNetwork(), 4).createBatch();
  for (let index = 0; index < 5; index++) outputs.add(list, batch, index, 10 + index, drops);
  outputs.flush(batch);
  outputs.flush(batch);
  t.strictSame(calls, [
    [0, 10, 1, 11],
    [2, 12, 3, 13],
    [4, 14],
  ]);
  t.equal(counters[COUNTER.tx_queue_full], 3);
  t.end();
});

/** A socket that takes as many datagrams as there are, and has descriptors for `batchFrames` of them. */
await t.test('what there were no descriptors for follows at once, through any middleware', (t) => {
  const held: MemorySocket['inbox'] = [];
  let receives = 0;
  const printed: string[] = [];
  const wrapListener = (device: Device): Device => {
    if (!(device instanceof MemorySocket)) throw new Error('not in memory');
    const socket = device;
    const handOn = (batch: FrameBatch): number => {
      socket.inbox.push(...held.splice(0, batch.capacityFrames));
      return socket.receive(batch);
    };
    const greedy: Device = {
      receive: (batch) => {
        receives++;
        held.push(...socket.inbox.splice(0));
        return handOn(batch);
      },
      rest: handOn,
      deliver: () => 0,
    };
    const options = { kind: VXLAN, name: 'under0', nowNs: () => 0n, write: () => undefined } as const;
    const print = (line: string): unknown => printed.push(line);
    return new Trace(new Capture(new Fault(greedy, 1, {}), options), {
      kind: VXLAN,
      name: 'under0',
      print,
    });
  };
  for (const count of [1, 3, 4, 5, 8, 11]) {
    const lab = new Lab();
    const vtep = lab.vtep('192.0.2.1', { batchFrames: 4, wrapListener });
    const net = vtep.overlay({ destination: endpoint('192.0.2.2') });
    const port = net.port(MAC.a, { own: true });
    const peer = lab.peer('192.0.2.2');
    const frames = Array.from({ length: count }, (_, index) => frame(MAC.a, MAC.b, 60 + index));
    for (const each of frames) peer.send(vtep.endpoint, concat(fromHex(VXLAN_100), each));
    receives = printed.length = 0;
    lab.run();
    same(t, port.take(), frames, `${count} frames`);
    t.strictSame([receives, printed.length], [1, count], 'of one receive, each seen on the way');
  }
  t.end();
});
