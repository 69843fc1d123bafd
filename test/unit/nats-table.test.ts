// The table of the nats plugin: it is read in slices, and changes meanwhile.
import fc from 'fast-check';
import t from 'tap';

import { Table } from '../../plugins/nats/table.js';
import type { Destination } from '../../src/plugin/index.js';
import type { MappingEntry } from '../../src/plugin/mapping/entry.js';

const ROWS = 20;
const ip = (number: number): string => `10.0.0.${number}`;

function entry(vtep: number, addresses: readonly number[]): MappingEntry {
  const to = { ip: `192.0.2.${vtep}`, port: 4789 } as Destination;
  return { to, arp: addresses.map(ip), ndp: [] } as unknown as MappingEntry;
}

/** Adds rows one at a time. varpd refuses a snapshot that has a MAC or an address twice. */
function* adding<Row, Key>(to: Map<Key, unknown>, rows: Iterable<Row>, split: (row: Row) => [Key, unknown]) {
  for (const row of rows) {
    const [key, value] = split(row);
    if (to.has(key)) throw new Error(`${String(key)} is in the snapshot twice`);
    to.set(key, value);
    yield;
  }
}

/** What varpd has of a table. */
class Snapshot {
  readonly targets = new Map<number, unknown>();
  readonly addresses = new Map<string, unknown>();
  readonly #readers: readonly Iterator<unknown>[];

  constructor(table: Table) {
    const { targets, addresses } = table.takeAll();
    this.#readers = [
      adding(this.targets, targets, ({ mac, to }) => [mac, to]),
      adding(this.addresses, addresses, ({ ip, mac }) => [ip, mac]),
    ];
  }

  /** Takes the next rows. Returns false after the last. */
  read(): boolean {
    return this.#readers.map((reader) => reader.next().done !== true).includes(true);
  }

  change(table: Table): void {
    while (table.hasChanges) {
      const { targets, removedMacs, addresses, removedIps } = table.takeChanges(3);
      for (const { mac, to } of targets) this.targets.set(mac, to);
      for (const mac of removedMacs) this.targets.delete(mac);
      for (const { ip, mac } of addresses) this.addresses.set(ip, mac);
      for (const ip of removedIps) this.addresses.delete(ip);
    }
  }
}

await t.test('a snapshot that is read while the table changes is whole with the changes after it', (t) => {
  const row = fc.integer({ min: 1, max: ROWS });
  const change = fc.oneof(
    fc.record({ mac: row, vtep: fc.integer({ min: 1, max: 3 }), addresses: fc.array(row, { maxLength: 2 }) }),
    fc.record({ gone: row }),
    fc.constant('read' as const),
  );
  fc.assert(
    fc.property(fc.array(change, { minLength: 10, maxLength: 120, size: 'max' }), (changes) => {
      const table = new Table(4);
      let revision = 0;
      for (let mac = 1; mac <= ROWS; mac++) table.set(mac, entry(1, [mac]), ++revision, 1);
      const snapshot = new Snapshot(table);
      for (const each of changes)
        if (each === 'read') snapshot.read();
        else if ('gone' in each) table.delete(each.gone);
        else table.set(each.mac, entry(each.vtep, each.addresses), ++revision, 1);
      while (snapshot.read());
      snapshot.change(table);
      const whole = new Snapshot(table);
      while (whole.read());
      t.strictSame(snapshot.targets, whole.targets);
      t.strictSame(snapshot.addresses, whole.addresses);
    }),
  );
  t.end();
});
