// Laws of src/core and of the devices around it: tables against models, and the conservation of frames.

import fc from 'fast-check';
import t from 'tap';
import * as addressTable from '../../src/core/address-table.js';
import { Destinations } from '../../src/core/destinations.js';
import { MacIndex, NONE } from '../../src/core/mac-index.js';
import { Peers } from '../../src/core/peers.js';
import { PendingBudget, PendingQueue } from '../../src/core/pending-queue.js';
import { type Linked, Shares } from '../../src/core/shares.js';
import { DROP, FREE, NOWHERE, PENDING, TargetTable, VALID } from '../../src/core/target-table.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { Capture } from '../helpers/device-capture.js';
import type { Device } from '../../src/io/contract.js';
import { Fault } from '../../src/io/fault.js';
import { MemoryHost, MemoryNetwork, WHOLE } from '../../src/io/memory.js';
import { Trace } from '../helpers/device-trace.js';
import { DESCRIPTOR_WORDS, LENGTH, OFFSET } from '../../src/wire/descriptor.js';
import { formatEndpoint, parse, readV6, toBytes, writeV6 } from '../../src/wire/ip.js';
import * as ipv4 from '../../src/wire/ipv4.js';
import { readCapture } from '../../src/wire/pcapng-read.js';
import {
  Lab,
  MAC,
  address,
  concat,
  dhcpFrame,
  endpoint,
  frame,
  hex,
  packet,
  tableOf,
  type Tag,
} from '../helpers/lab.js';
import { lieOf } from '../helpers/lies.js';
import { part } from '../helpers/whole.js';
import { equal, World } from '../helpers/world.js';
import { frame as vector, fromHex, vectors, type Name } from '../vectors/frames.js';

/** Throws, with the smallest counterexample, where the law does not hold. */
function law<Value>(arbitrary: fc.Arbitrary<Value>, predicate: (value: Value) => void, numRuns = 500): void {
  fc.assert(fc.property(arbitrary, predicate), { numRuns: part(numRuns) });
}

// -- Tables

/** Few of them, so that they meet; some that hash into the same slots. */
const halves = fc.tuple(
  fc.constantFrom(0, 1, 0x0200, 0xffff),
  fc.oneof(fc.integer({ min: -3, max: 40 }), fc.integer()),
);

await t.test('MacIndex is a Map', (t) => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ set: halves, value: fc.nat() }) },
    { weight: 4, arbitrary: fc.record({ delete: halves }) },
    { weight: 1, arbitrary: fc.constant({ clear: true } as const) },
  );
  law(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
    const index = new MacIndex();
    const model = new Map<string, number>();
    for (const each of steps) {
      if ('set' in each) {
        index.set(...each.set, each.value);
        model.set(each.set.join(), each.value);
      } else if ('delete' in each) {
        equal(index.delete(...each.delete), model.delete(each.delete.join()), 'delete');
      } else {
        index.clear();
        model.clear();
      }
      equal(index.size, model.size, 'size');
    }
    for (const each of steps) {
      const key: [number, number] = 'set' in each ? each.set : 'delete' in each ? each.delete : [5, 5];
      equal(index.get(...key), model.get(key.join()) ?? NONE, 'get');
    }
  });
  t.end();
});

await t.test('an address table is a Set', (t) => {
  // Few of them, and some that differ in one word alone.
  const ip = fc
    .tuple(fc.constantFrom('10.0.0.', '10.1.0.', 'fd00::', 'fd00:0:0:1::'), fc.nat(40))
    .map(([start, last]) => parse(`${start}${last}`)!);
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ put: ip }) },
    { weight: 5, arbitrary: fc.record({ remove: ip }) },
  );
  law(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
    let table = addressTable.createTable(1);
    const model = new Set<string>();
    for (const each of steps) {
      if ('put' in each) {
        model.add(each.put);
        if (model.size > addressTable.roomOf(table)) table = addressTable.grow(table);
        addressTable.put(table, each.put);
      } else {
        model.delete(each.remove);
        addressTable.remove(table, each.remove);
      }
    }
    for (const each of steps) {
      const known = 'put' in each ? each.put : each.remove;
      equal(addressTable.has(table, new Int32Array(toBytes(known).buffer), 0), model.has(known), 'has');
    }
    equal(addressTable.has(table, new Int32Array(4), 0), false, 'the address that no source has');
  });
  t.end();
});

await t.test('TargetTable is two Maps with times, bounded, that lose the least recently used', (t) => {
  const mac = fc.nat(12);
  const step = fc.oneof(
    fc.record({ kind: fc.constant('insert'), mac }),
    fc.record({
      kind: fc.constant('settle'),
      mac,
      state: fc.constantFrom<(typeof VALID | typeof DROP)[]>(VALID, DROP),
      ttlMs: fc.oneof(fc.nat(5000), fc.constant(Infinity)),
    }),
    fc.record({ kind: fc.constantFrom('touch', 'reopen', 'remove'), mac }),
    fc.record({
      kind: fc.constant('pass'),
      ticks: fc.oneof(fc.nat(300), fc.constantFrom(99, 100, 0x3fff_0000)),
    }),
  );
  const scenario = fc.record({
    maxKnown: fc.integer({ min: 1, max: 8 }),
    maxAsked: fc.integer({ min: 1, max: 8 }),
    start: fc.constantFrom(0, 0x7fff_fff0, -20),
    steps: fc.array(step, { maxLength: 150, size: 'max' }),
  });
  interface Row {
    state: number;
    /** Counted from the start: never runs over. */
    expiry: number;
    used: number;
  }
  law(scenario, ({ maxKnown, maxAsked, start, steps }) => {
    const evicted: number[] = [];
    const table: TargetTable = new TargetTable(maxKnown, maxAsked, (row) => evicted.push(table.macLow(row)));
    /** In order of use, the oldest first. */
    const model = new Map<number, Row>();
    let now = 0;
    const tick = () => (start + now) | 0;
    const asNewest = (key: number, row: Row) => {
      model.delete(key);
      model.set(key, row);
    };
    const isKnown = ({ state, expiry }: Row) => state === VALID || (state === DROP && expiry === Infinity);
    /** Changes an entry, or makes it, which may push another out. */
    const change = (key: number, row: Row, act: () => void) => {
      const before = model.get(key);
      const stays = before !== undefined && isKnown(before) === isKnown(row);
      const kin = [...model].filter(([other, one]) => other !== key && isKnown(one) === isKnown(row));
      const isFull = !stays && kin.length === (isKnown(row) ? maxKnown : maxAsked);
      evicted.length = 0;
      act();
      equal(evicted, isFull ? [kin[0][0]] : [], 'evicted');
      if (isFull) model.delete(kin[0][0]);
      if (stays) model.set(key, row);
      else asNewest(key, row);
    };
    for (const each of steps) {
      if ('ticks' in each) {
        now = Math.min(now + each.ticks, 0x3fff_ffff); // within the range that is promised
        continue;
      }
      const row = table.find(7, each.mac);
      const known = model.get(each.mac);
      equal(row !== NONE, known !== undefined, 'find');
      if (each.kind === 'insert' && known === undefined) {
        change(each.mac, { state: PENDING, expiry: 0, used: now }, () => {
          table.insert(7, each.mac, tick());
        });
      } else if (known === undefined) {
        continue;
      } else if ('ttlMs' in each) {
        change(each.mac, { ...known, state: each.state, expiry: now + Math.ceil(each.ttlMs / 10) }, () => {
          table.settle(row, each.state, 3, each.ttlMs, tick());
        });
      } else if (each.kind === 'touch') {
        table.touch(row, tick());
        if (now - known.used < 100) continue;
        known.used = now;
        asNewest(each.mac, known);
      } else if (each.kind === 'reopen') {
        change(each.mac, { ...known, state: PENDING }, () => {
          table.reopen(row);
        });
        equal(table.destination(row), NOWHERE, 'destination');
      } else if (each.kind === 'remove') {
        table.remove(row);
        model.delete(each.mac);
      }
      table.age(tick(), 0);
      equal(table.size, model.size, 'size');
      for (const [key, { state, expiry }] of model) {
        const expected = state === PENDING || expiry > now ? state : FREE;
        equal(table.state(table.find(7, key), tick()), expected, `state of ${key}`);
      }
      const rows = Array.from({ length: table.end }, (_, each) => each);
      const used = rows.filter((each) => table.find(7, table.macLow(each)) === each);
      equal(used.map((each) => table.macLow(each)).sort(), [...model.keys()].sort(), 'rows');
    }
  });
  t.end();
});

await t.test('Shares is a Map of lists, and knows whose is the largest, and the oldest of each', (t) => {
  interface Thing extends Linked<Thing> {
    readonly key: number;
    readonly amount: number;
  }
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ key: fc.nat(30), amount: fc.integer({ min: 1, max: 20 }) }) },
    { weight: 5, arbitrary: fc.record({ remove: fc.nat() }) },
    { weight: 1, arbitrary: fc.record({ forget: fc.nat(30) }) },
  );
  const sumOf = (things: readonly Thing[]): number => things.reduce((sum, { amount }) => sum + amount, 0);
  law(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
    const shares = new Shares<number, Thing>(1000);
    const model: Thing[] = [];
    for (const each of steps) {
      if ('forget' in each) {
        shares.forget(each.forget);
      } else if ('key' in each) {
        const thing = { ...each, older: undefined, newer: undefined };
        shares.add(each.key, thing, each.amount);
        model.push(thing);
      } else if (model.length > 0) {
        const [thing] = model.splice(each.remove % model.length, 1);
        shares.remove(thing.key, thing, thing.amount);
      }
      const amounts = new Map<number, number>();
      for (const key of new Set(model.map((thing) => thing.key))) {
        const things = model.filter((thing) => thing.key === key);
        amounts.set(key, sumOf(things));
        for (let thing = shares.oldest(key); thing !== undefined; thing = thing.newer)
          if (thing !== things.shift()) throw new Error('another one is next');
        equal(things, [], 'more of them');
      }
      equal(shares.used, sumOf(model), 'of all');
      if (model.length > 0)
        equal(amounts.get(shares.largest()), Math.max(...amounts.values()), 'the largest');
      for (let key = 0; key <= 30; key++) {
        equal(shares.of(key), amounts.get(key) ?? 0, 'what one has');
        equal(shares.part(key), 1000 / (amounts.size + (amounts.has(key) ? 0 : 1)), 'part');
        if (!amounts.has(key)) equal(shares.oldest(key), undefined, 'nothing');
      }
    }
  });
  t.end();
});

const addresses = fc
  .array(fc.constantFrom(0, 1, 0xff, 0x20), { minLength: 16, maxLength: 16 })
  .map((bytes) => readV6(Uint8Array.from(bytes), 0));
const some = fc.oneof(
  fc.constantFrom(endpoint('10.0.0.1').ip, endpoint('fd00::1').ip, endpoint('10.0.0.2').ip),
  addresses,
);

await t.test('Peers is a Map of counts, and a set that is replaced', (t) => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ add: fc.boolean(), ip: some }) },
    { weight: 1, arbitrary: fc.record({ named: fc.array(some, { maxLength: 20 }) }) },
  );
  law(
    fc.array(step, { maxLength: 100, size: 'max' }),
    (steps) => {
      const peers = new Peers();
      const counts = new Map<string, number>();
      let names = new Set<string>();
      const words = new Int32Array(4);
      const all = [...new Set(steps.flatMap((each) => ('named' in each ? each.named : [each.ip])))];
      for (const each of steps) {
        if ('named' in each) {
          peers.name(tableOf(each.named));
          names = new Set(each.named);
        } else {
          const { add, ip } = each;
          if (add) peers.add(ip);
          else peers.remove(ip);
          counts.set(ip, Math.max(0, (counts.get(ip) ?? 0) + (add ? 1 : -1)));
        }
        for (const ip of all) {
          writeV6(ip, new Uint8Array(words.buffer), 0);
          const expected = ((counts.get(ip) ?? 0) > 0 || names.has(ip)) && ip !== '::';
          equal(peers.has(words, 0), expected, `has ${ip}`);
        }
      }
    },
    100,
  );
  t.end();
});

await t.test('Destinations: one slot an endpoint, and the book knows it', (t) => {
  const step = fc.oneof(
    fc.record({ acquire: some, port: fc.constantFrom(1, 2) }),
    fc.record({ release: fc.nat() }),
  );
  law(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
    const book: string[] = [];
    const destinations = new Destinations({
      setAddress: (slot, address, port) => {
        book[slot] = formatEndpoint({ ip: readV6(address, 0), port });
      },
    });
    const held: { slot: number; name: string }[] = [];
    let most = 0;
    for (const each of steps) {
      if ('acquire' in each) {
        const to = { ip: each.acquire, port: each.port };
        held.push({ slot: destinations.acquire(to), name: formatEndpoint(to) });
      } else if (held.length > 0) {
        destinations.release(held.splice(each.release % held.length, 1)[0].slot);
      }
      most = Math.max(most, new Set(held.map(({ name }) => name)).size);
      for (const { slot, name } of held) {
        equal([formatEndpoint(destinations.endpoint(slot)), book[slot]], [name, name], 'slot');
      }
      if (book.length > most) throw new Error(`${book.length} slots, though never more than ${most} in use`);
    }
  });
  t.end();
});

interface Waiting {
  readonly overlay: number;
  readonly port: number;
  readonly row: number;
  readonly bytes: number;
  readonly cost: number;
}

const costOf = (frames: readonly Waiting[]): number => frames.reduce((sum, { cost }) => sum + cost, 0);

/** Frames by whose they are, the oldest first. */
class Groups {
  readonly #of = new Map<number, Waiting[]>();

  get all(): Waiting[] {
    return [...this.#of.values()].flat();
  }

  get count(): number {
    return this.#of.size;
  }

  of(key: number): readonly Waiting[] {
    return this.#of.get(key) ?? [];
  }

  /** Those of whoever has most. Of two that have as much either may give way, and then the rest differs: such a case is passed over. */
  get most(): readonly Waiting[] {
    const [most, second] = [...this.#of.values()].sort((one, other) => costOf(other) - costOf(one));
    fc.pre(this.count === 1 || costOf(most) > costOf(second));
    return most;
  }

  set(key: number, frames: Waiting[]): void {
    if (frames.length > 0) this.#of.set(key, frames);
    else this.#of.delete(key);
  }
}

/** What PendingQueue keeps, without a thought about time. */
class Model {
  readonly overlays = new Groups();
  readonly lost: Waiting[] = [];
  readonly #ports = new Map<number, Groups>();
  readonly #rows = new Map<string, Groups>();

  portsOf(overlay: number): Groups {
    return this.#groups(this.#ports, overlay);
  }

  rowOf({ overlay, row }: Pick<Waiting, 'overlay' | 'row'>): Groups {
    return this.#groups(this.#rows, `${overlay} ${row}`);
  }

  /** Puts it in, after others have given way. */
  put(frame: Waiting, rowBytes: number, bytes: number): void {
    const inRow = this.rowOf(frame);
    while (costOf(inRow.all) + frame.cost > rowBytes) this.#lose(inRow.most[0], frame);
    for (let over; (over = costOf(this.overlays.all) + frame.cost > bytes);) {
      const ports = this.portsOf(this.overlays.most[0].overlay);
      const { port } = ports.most[0];
      const part = costOf(ports.all) / ports.count;
      for (let left = frame.cost; left > 0 && over; over = costOf(ports.of(port)) > part) {
        left -= ports.of(port)[0].cost;
        this.#lose(ports.of(port)[0], frame);
      }
    }
    this.#regroup(frame, (frames) => [...frames, frame]);
  }

  remove(frame: Waiting): void {
    this.#regroup(frame, (frames) => frames.filter((each) => each !== frame));
  }

  #lose(frame: Waiting, by: Waiting): void {
    if (frame.overlay === by.overlay && frame.port === by.port) throw new Error('takes from itself');
    this.remove(frame);
    this.lost.push(frame);
  }

  #regroup(frame: Waiting, change: (frames: readonly Waiting[]) => Waiting[]): void {
    const { overlay, port } = frame;
    this.overlays.set(overlay, change(this.overlays.of(overlay)));
    const [ports, row] = [this.portsOf(overlay), this.rowOf(frame)];
    ports.set(port, change(ports.of(port)));
    row.set(port, change(row.of(port)));
  }

  #groups<Key>(map: Map<Key, Groups>, key: Key): Groups {
    const groups = map.get(key) ?? new Groups();
    map.set(key, groups);
    return groups;
  }
}

await t.test('PendingQueue: first in, first out, by row; bounded, and each has its share', (t) => {
  const [OVERLAYS, PORTS, BUDGET, ROW_BYTES] = [2, 3, 512 * 1024, 128 * 1024];
  const step = fc.record({
    kind: fc.constantFrom('hold', 'hold', 'hold', 'hold', 'hold', 'hold', 'discard', 'release'),
    overlay: fc.nat(OVERLAYS - 1),
    port: fc.nat(PORTS - 1),
    row: fc.integer({ min: -1, max: 4 }),
    bytes: fc.oneof(fc.integer({ min: 14, max: 100 }), fc.constantFrom(1514, 20_000, 40_000, 65_536)),
  });
  let [refused, gaveWay] = [0, 0];
  law(
    fc.array(step, { maxLength: 120, size: 'max' }),
    (steps) => {
      const budget = new PendingBudget(BUDGET);
      const model = new Model();
      const lost: string[] = [];
      const queues = Array.from({ length: OVERLAYS }, (_, overlay) => {
        let dropped = 0;
        const drops = { addHeld: (_: number, frames: number) => void (dropped = frames) };
        return new PendingQueue(budget, drops, (row) => lost.push(`${overlay} ${row} ${dropped}`));
      });
      const senders = queues.map(() => Array.from({ length: PORTS }, () => ({})));
      const host = new MemoryHost(new MemoryNetwork(), 4);
      const [batch, replay] = [host.createBatch(), host.createBatch()];
      const tap = host.openPort();
      let order: Waiting[] = [];
      for (const { kind, overlay, port, row, bytes } of steps) {
        const inside = order.filter((each) => each.overlay === overlay && each.row === row);
        if (kind === 'hold') {
          tap.send(new Uint8Array(bytes).fill(bytes));
          tap.receive(batch);
          const cost = bytes + 256;
          const before = lost.length;
          const isHeld = queues[overlay].hold(row, senders[overlay][port], batch, 0);
          const mine = costOf(model.portsOf(overlay).of(port)) + cost;
          const mineInRow = costOf(model.rowOf({ overlay, row }).of(port)) + cost;
          if (mine <= BUDGET / OVERLAYS / PORTS && mineInRow <= ROW_BYTES / PORTS)
            equal(isHeld, true, 'who keeps to its share is not refused');
          if (costOf(inside) + cost <= ROW_BYTES && costOf(order) + cost <= BUDGET)
            equal([isHeld, lost.length], [true, before], 'where there is room nobody gives way');
          if (isHeld) {
            const frame = { overlay, port, row, bytes, cost };
            model.put(frame, ROW_BYTES, BUDGET);
            order = [...order.filter((each) => !model.lost.includes(each)), frame];
          } else refused++;
          equal(
            lost,
            model.lost.map((each) => `${each.overlay} ${each.row} 1`),
            'who has most gives way, the oldest first',
          );
        } else {
          const found: number[] = [];
          if (kind === 'discard') {
            equal(queues[overlay].discard(row), inside.length, 'discard');
          } else {
            queues[overlay].release(row, replay, (count) => {
              for (let at = 0; at < count * DESCRIPTOR_WORDS; at += DESCRIPTOR_WORDS) {
                const [offset, length] = [replay.descriptors[at + OFFSET], replay.descriptors[at + LENGTH]];
                const part = replay.bytes.subarray(offset, offset + length);
                if (part.some((byte) => byte !== (length & 0xff)) || offset % 16 !== 0)
                  throw new Error('spoiled');
                found.push(length);
              }
            });
            const expected = inside.map((each) => each.bytes);
            equal(found, expected, 'release');
          }
          for (const frame of inside) model.remove(frame);
          order = order.filter((each) => !inside.includes(each));
        }
        equal(budget.used, costOf(order), 'budget');
        if (budget.used > BUDGET) throw new Error('more than the budget');
      }
      gaveWay += lost.length;
    },
    300,
  );
  t.ok(refused > 0 && gaveWay > 0, `${refused} were refused, ${gaveWay} gave way`);
  t.end();
});

// -- Conservation: a frame is delivered, or waits, or is counted under one reason

const MACS = [MAC.a, MAC.b, MAC.c, MAC.d, MAC.all, MAC.group, 0x3333_0000_0001, 0x0200_0000_0055, 0];
const anyMac = fc.constantFrom(...MACS);
const anyTags = fc.array(
  fc.oneof(fc.constantFrom<Tag[]>(0, 5, 6, 0x6005, 0xe000, [0x88a8, 5]), fc.nat(0xffff)),
  {
    maxLength: 6,
    size: 'small',
  },
);
const plain = fc
  .record({
    to: anyMac,
    from: anyMac,
    bytes: fc.oneof(fc.integer({ min: 14, max: 80 }), fc.nat(1600)),
    tags: anyTags,
  })
  .map(({ to, from, bytes, tags }) => frame(to, from, bytes, ...tags));
const packets = fc
  .record({
    to: anyMac,
    from: anyMac,
    tags: anyTags,
    version: fc.constantFrom<(4 | 6)[]>(4, 6),
    protocol: fc.constantFrom(ipv4.TCP, ipv4.UDP, ipv4.ICMP),
    trafficClass: fc.nat(255),
    payloadBytes: fc.oneof(fc.nat(100), fc.constantFrom(560, 1400, 1500, 9000)),
    checksum: fc.constantFrom<('full' | 'partial')[]>('full', 'partial'),
    extensions: fc.nat(9),
    fragment: fc.option(fc.constantFrom(1, 0x2000, 0x0100), { nil: 0 }),
  })
  .map(({ fragment, ...spec }) => packet(fragment === 0 ? spec : { ...spec, fragment }));
/** Good frames, frames cut short, frames with wrong bytes, and noise. */
const frames = fc
  .record({
    bytes: fc.oneof(plain, packets, fc.uint8Array({ maxLength: 120 })),
    keep: fc.option(fc.nat(100), { nil: Infinity, freq: 3 }),
    wrong: fc.array(fc.tuple(fc.nat(100), fc.nat(255)), { maxLength: 3, size: 'small' }),
  })
  .map(({ bytes, keep, wrong }) => {
    const copy = bytes.slice(0, keep);
    for (const [at, value] of wrong) if (at < copy.length) copy[at] = value;
    return copy;
  });
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
