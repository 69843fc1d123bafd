/** Compares a new mapping with the old one: counts for the log, and lists for the target table and the neighbour
 * caches. */
import type { IpAddress, MacAddress } from '../../src/plugin/index.js';
import { MAC_WORDS, v4Text, V4_WORDS, v6Text, V6_WORDS } from '../../src/plugin/mapping/addresses.js';
import { NONE } from './key-index.js';
import type { AddressTable, Mapping } from './mapping.js';

/** Rows between two pauses. */
const STEP_ROWS = 256;
/** Each announcement is a frame into every local port. Without one, a neighbour cache notices the move within a minute. */
export const MAX_ANNOUNCED = 4096;

export interface Move {
  readonly ip: IpAddress;
  /** The MAC that has the address now. */
  readonly mac: MacAddress;
}

export interface Difference {
  /** Numbers of entries. */
  readonly added: number;
  readonly removed: number;
  readonly changed: number;
  /** MACs to take out of the target table: those that have moved or gone, and new ones, which may have a negative
   * answer. */
  readonly stale: readonly MacAddress[];
  /** The first MAX_ANNOUNCED addresses that have moved to another MAC. */
  readonly moves: readonly Move[];
}

/** `+3 -1 ~2 entries` */
export function differenceText({ added, removed, changed }: Difference): string {
  return `+${added} -${removed} ~${changed} entries`;
}

/** Yields every STEP_ROWS rows. */
export function* compare(old: Mapping, fresh: Mapping): Generator<undefined, Difference> {
  const stale: MacAddress[] = [];
  /** One byte for each new row: 1 = the entry has changed. */
  const changed = new Uint8Array(fresh.size);
  let added = 0;
  const isSameDestination = destinationComparer(old, fresh);
  const findOld = old.macs.finder();
  for (let row = 0; row < fresh.size; row++) {
    if (row % STEP_ROWS === 0) yield;
    const oldRow = findOld(fresh.macs.keys, row * MAC_WORDS);
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
  const findFresh = fresh.macs.finder();
  for (let row = 0; row < old.size; row++) {
    if (row % STEP_ROWS === 0) yield;
    if (findFresh(old.macs.keys, row * MAC_WORDS) !== NONE) continue;
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

/** Returns a function that compares two destinations by their rows. It looks into one array, since destinations are
 * few. */
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

/** Finds the addresses that an entry has and did not have before. An address that another entry had before has moved. */
function* gained(
  old: Mapping,
  fresh: Mapping,
  family: Family,
  changed: Uint8Array,
  moves: Move[],
): Generator<undefined, void> {
  const words = family === 'v4' ? V4_WORDS : V6_WORDS;
  const { index, owners } = fresh[family];
  const ownerBefore = ownerFinder(old, old[family]);
  for (let row = 0; row < owners.length; row++) {
    if (row % STEP_ROWS === 0) yield;
    const mac = fresh.macAt(owners[row]);
    const before = ownerBefore(index.keys, row * words);
    if (before === mac) continue;
    changed[owners[row]] = 1;
    if (before !== undefined && moves.length < MAX_ANNOUNCED)
      moves.push({ ip: addressAt(index.keys, row * words, family), mac });
  }
}

/** Finds the addresses that an entry had before and does not have now. */
function* lost(
  old: Mapping,
  fresh: Mapping,
  family: Family,
  changed: Uint8Array,
): Generator<undefined, void> {
  const words = family === 'v4' ? V4_WORDS : V6_WORDS;
  const { index, owners } = old[family];
  const ownerNow = ownerFinder(fresh, fresh[family]);
  for (let row = 0; row < owners.length; row++) {
    if (row % STEP_ROWS === 0) yield;
    if (ownerNow(index.keys, row * words) === old.macAt(owners[row])) continue;
    const entry = fresh.macs.find(old.macs.keys, owners[row] * MAC_WORDS);
    if (entry !== NONE) changed[entry] = 1;
  }
}

/** Counts the entries that both mappings have and that differ. A new entry does not count as changed. */
function* count(old: Mapping, fresh: Mapping, changed: Uint8Array): Generator<undefined, number> {
  let counted = 0;
  for (let row = 0; row < changed.length; row++) {
    if (row % STEP_ROWS === 0) yield;
    if (changed[row] === 1 && old.macs.find(fresh.macs.keys, row * MAC_WORDS) !== NONE) counted++;
  }
  return counted;
}

/** Returns a function that finds the MAC that has an address. */
function ownerFinder(
  mapping: Mapping,
  { index, owners }: AddressTable,
): (keys: Uint32Array, at: number) => MacAddress | undefined {
  const find = index.finder();
  return (keys, at) => {
    const row = find(keys, at);
    return row === NONE ? undefined : mapping.macAt(owners[row]);
  };
}

function addressAt(keys: Uint32Array, at: number, family: Family): IpAddress {
  return family === 'v4' ? v4Text(keys[at]) : v6Text(keys, at);
}
