// Laws of the tables of src/core, against models of them.

import fc from 'fast-check';
import t from 'tap';
import * as addressTable from '../../src/core/tables/address-table.js';
import { Destinations } from '../../src/core/tables/destinations.js';
import { MacIndex, NONE } from '../../src/core/tables/mac-index.js';
import { Peers } from '../../src/core/peers/peers.js';
import { PendingBudget, PendingQueue } from '../../src/core/queues/pending-queue.js';
import { type Linked, Shares } from '../../src/core/queues/shares.js';
import { DROP, FREE, NOWHERE, PENDING, TargetTable, VALID } from '../../src/core/tables/target-table.js';
import { MemoryHost, MemoryNetwork } from '../../src/io/memory.js';
import { DESCRIPTOR_WORDS, LENGTH, OFFSET } from '../../src/wire/descriptor.js';
import { formatEndpoint, parse, readV6, toBytes, writeV6 } from '../../src/wire/ip.js';
import { endpoint, tableOf } from '../helpers/lab.js';
import { equal } from '../helpers/world.js';
import { law } from '../helpers/law.js';

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
        // The next use of a target with a ttl counts, however recent the last one was.
        const isAgeing = each.state === VALID && each.ttlMs !== Infinity;
        const used = isAgeing ? Math.min(known.used, now - 100) : known.used;
        const expiry = now + Math.ceil(each.ttlMs / 10);
        change(each.mac, { state: each.state, expiry, used }, () => {
          table.settle(row, each.state, 3, { ttlMs: each.ttlMs }, tick(), 'set');
        });
      } else if (each.kind === 'touch') {
        table.touch(row, tick());
        if (now - known.used < 100) continue;
        known.used = now;
        asNewest(each.mac, known);
      } else if (each.kind === 'reopen') {
        change(each.mac, { ...known, state: PENDING }, () => {
          table.reopen(row, tick(), false);
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
          if (add) peers.add(ip, 1, 0);
          else peers.remove(ip);
          counts.set(ip, Math.max(0, (counts.get(ip) ?? 0) + (add ? 1 : -1)));
        }
        for (const ip of all) {
          writeV6(ip, new Uint8Array(words.buffer), 0);
          const expected = ((counts.get(ip) ?? 0) > 0 || names.has(ip)) && ip !== '::';
          equal(peers.has(words, 0), expected, `has ${ip}`);
          equal(peers.admit(words, 0, 0) !== NONE, expected, `admits ${ip}`);
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
