/** What a new mapping changes about an old one: counted for people, listed for the target table and for neighbours. */
import { type IpAddress, type MacAddress, parseIp } from '../../src/plugin/index.js';
import { MAC_WORDS, v4Text, V4_WORDS, v6Text, V6_WORDS } from './addresses.js';
import { NONE } from './key-index.js';
import type { AddressTable, Mapping } from './mapping.js';

/** Rows between two pauses. */
const STEP_ROWS = 256;
/** Each is a frame into every local port; beyond it, neighbour caches find out by themselves, in a minute. */
export const MAX_ANNOUNCED = 4096;

export interface Move {
  readonly ip: IpAddress;
  /** Where it is now. */
  readonly mac: MacAddress;
}

export interface Difference {
  /** Entries. */
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
  /** MACs that do not live where they did, or nowhere any more; and new ones, which may have been asked for in vain. */
  readonly stale: readonly MacAddress[];
  /** Addresses that are at another MAC; the first MAX_ANNOUNCED. */
  readonly moves: readonly Move[];
}

/** `+3 -1 ~2 entries` */
export function differenceText({ added, removed, changed }: Difference): string {
  return `+${added} -${removed} ~${changed} entries`;
}

/** Yields now and then. */
export function* compare(old: Mapping, fresh: Mapping): Generator<undefined, Difference> {
  const stale: MacAddress[] = [];
  /** Of the new rows: 1 = something about the entry has changed. */
  const changed = new Uint8Array(fresh.size);
  let added = 0;
  const isSameDestination = destinationComparer(old, fresh);
  for (let row = 0; row < fresh.size; row++) {
    if (row % STEP_ROWS === 0) yield;
    const oldRow = old.macs.find(fresh.macs.keys, row * MAC_WORDS);
    if (oldRow === NONE) {
      added++;
      stale.push(fresh.macAt(row));
      continue;
    }
    const hasMoved = !isSameDestination(old.destinationRows[oldRow], fresh.destinationRows[row]);
    if (hasMoved) stale.push(fresh.macAt(row));
    if (hasMoved || serverOf(old, oldRow) !== serverOf(fresh, row)) changed[row] = 1;
  }
  let removed = 0;
  for (let row = 0; row < old.size; row++) {
    if (row % STEP_ROWS === 0) yield;
    if (fresh.macs.find(old.macs.keys, row * MAC_WORDS) !== NONE) continue;
    removed++;
    stale.push(old.macAt(row));
  }
  const moves: Move[] = [];
  for (const family of ['v4', 'v6'] as const) {
    yield* gained(old, fresh, family, changed, moves);
    yield* lost(old, fresh, family, changed);
  }
  const counted = yield* count(old, fresh, changed);
  return { added, removed, changed: counted, stale, moves };
}

/** Destinations are few: each pair of rows costs a look into an array. */
function destinationComparer(old: Mapping, fresh: Mapping): (oldRow: number, row: number) => boolean {
  const key = ({ ip, port }: { ip: IpAddress; port: number }): string => `${ip} ${port}`;
  const oldRows = new Map(old.destinations.map((to, row): [string, number] => [key(to), row]));
  const rows = Int32Array.from(fresh.destinations, (to) => oldRows.get(key(to)) ?? NONE);
  return (oldRow, row) => rows[row] === oldRow;
}

function serverOf(mapping: Mapping, row: number): MacAddress {
  const server = mapping.serverRows[row];
  return server === NONE ? NONE : mapping.macAt(server);
}

type Family = 'v4' | 'v6';

/** Addresses that an entry has and had not. Those that another one had have moved. */
function* gained(
  old: Mapping,
  fresh: Mapping,
  family: Family,
  changed: Uint8Array,
  moves: Move[],
): Generator<undefined, void> {
  const words = family === 'v4' ? V4_WORDS : V6_WORDS;
  const { index, owners } = fresh[family];
  for (let row = 0; row < owners.length; row++) {
    if (row % STEP_ROWS === 0) yield;
    const mac = fresh.macAt(owners[row]);
    const before = ownerIn(old, old[family], index.keys, row * words);
    if (before === mac) continue;
    changed[owners[row]] = 1;
    if (before !== undefined && moves.length < MAX_ANNOUNCED)
      moves.push({ ip: addressAt(index.keys, row * words, family), mac });
  }
}

/** Addresses that an entry had and has not. */
function* lost(
  old: Mapping,
  fresh: Mapping,
  family: Family,
  changed: Uint8Array,
): Generator<undefined, void> {
  const words = family === 'v4' ? V4_WORDS : V6_WORDS;
  const { index, owners } = old[family];
  for (let row = 0; row < owners.length; row++) {
    if (row % STEP_ROWS === 0) yield;
    if (ownerIn(fresh, fresh[family], index.keys, row * words) === old.macAt(owners[row])) continue;
    const entry = fresh.macs.find(old.macs.keys, owners[row] * MAC_WORDS);
    if (entry !== NONE) changed[entry] = 1;
  }
}

/** Entries that were there before and are not the same; a new one is not "changed". */
function* count(old: Mapping, fresh: Mapping, changed: Uint8Array): Generator<undefined, number> {
  let counted = 0;
  for (let row = 0; row < changed.length; row++) {
    if (row % STEP_ROWS === 0) yield;
    if (changed[row] === 1 && old.macs.find(fresh.macs.keys, row * MAC_WORDS) !== NONE) counted++;
  }
  return counted;
}

function ownerIn(
  mapping: Mapping,
  { index, owners }: AddressTable,
  keys: Uint32Array,
  at: number,
): MacAddress | undefined {
  const row = index.find(keys, at);
  return row === NONE ? undefined : mapping.macAt(owners[row]);
}

function addressAt(keys: Uint32Array, at: number, family: Family): IpAddress {
  return parseIp(family === 'v4' ? v4Text(keys[at]) : v6Text(keys, at))!;
}
