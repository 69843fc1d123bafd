/**
 * Reads the target tables of the threads that carry an overlay. It reads in parts, so that it holds no thread
 * for long: first it finds the MACs, then it asks for their entries.
 */
import type { TargetDescription, TargetScan } from '../../../core/tables/target-rows.js';
import type { MacAddress } from '../../../wire/mac.js';
import type { TargetEntries, TargetEntry } from '../../contract.js';
import type { Link, Request } from './thread.js';

/** MACs described at a time: some 0.2 ms. */
const DESCRIBED_AT_ONCE = 256;
/** Destinations of one page, all its entries together: half a MiB as text. */
const MAX_PAGE_DESTINATIONS = 8192;
/** Higher than every MAC. */
const NO_MAC = 2 ** 48;
/** More than the candidates at a time: `limit` and those of one scan. */
const MAX_CANDIDATES = 2 ** 20;

/** If threads have different entries for a MAC, the state that comes first here is shown. */
const STATES = ['valid', 'drop', 'pending'] as const;

type Ask = (link: Link, request: Request) => Promise<unknown>;

const withoutHaste: Ask = (link, request) => link.inspect(request);
const atOnce: Ask = (link, request) => link.request(request);

/** Returns the next `limit` entries with MACs above `after`, in ascending order. There are fewer if they have
 * many destinations; entries that are gone meanwhile are left out. */
export async function readTargets(
  links: readonly Link[],
  overlay: number,
  after: MacAddress,
  limit: number,
): Promise<TargetEntries> {
  let nearest = new Float64Array(0);
  let before = NO_MAC;
  for (const link of links) {
    for (let from: number | undefined = 0; from !== undefined;) {
      const request = { kind: 'scan-targets', overlay, from, after, before } as const;
      const { macs, next } = (await withoutHaste(link, request)) as TargetScan;
      if (macs.length > 0) nearest = lowest(nearest, macs, limit);
      if (nearest.length === limit) before = nearest[limit - 1];
      from = next;
    }
  }
  const { entries, count } = await describe(links, overlay, nearest, MAX_PAGE_DESTINATIONS, withoutHaste);
  const isAll = count === nearest.length && count < limit;
  return { entries, next: isAll ? undefined : nearest[count - 1] };
}

/** Returns at most `limit` stations that frames are sent to, the latest used first. */
export async function readRecent(
  links: readonly Link[],
  overlay: number,
  limit: number,
): Promise<readonly TargetEntry[]> {
  let macs = new Float64Array(0);
  let idleTicks = new Int32Array(0);
  let maxIdleTicks = Infinity;
  for (const link of links) {
    for (let from: number | undefined = 0; from !== undefined;) {
      const request = { kind: 'scan-recent', overlay, from, maxIdleTicks } as const;
      const scan = (await atOnce(link, request)) as TargetScan;
      from = scan.next;
      if (scan.macs.length === 0) continue;
      const all = joined(macs, scan.macs);
      const idle = Int32Array.from(joined(Float64Array.from(idleTicks), Float64Array.from(scan.idleTicks)));
      const order = latest(all, idle, limit);
      macs = Float64Array.from(order, (index) => all[index]);
      idleTicks = Int32Array.from(order, (index) => idle[index]);
      if (macs.length === limit) maxIdleTicks = idleTicks[limit - 1];
    }
  }
  return (await describe(links, overlay, macs, Infinity, atOnce)).entries;
}

/** Returns the threads' entries for these MACs, in order. `count` of the MACs were asked about. */
async function describe(
  links: readonly Link[],
  overlay: number,
  macs: Float64Array,
  maxDestinations: number,
  ask: Ask,
): Promise<{ entries: TargetEntry[]; count: number }> {
  const entries: TargetEntry[] = [];
  let count = 0;
  for (let destinations = 0; count < macs.length && destinations < maxDestinations;) {
    const some = macs.slice(count, count + DESCRIBED_AT_ONCE);
    const request = { kind: 'describe-targets', overlay, macs: some } as const;
    const replies = (await Promise.all(links.map((link) => ask(link, request)))) as TargetDescription[];
    const asked = Math.min(...replies.map((reply) => reply.count));
    const known = combine(replies);
    for (const mac of some.subarray(0, asked)) {
      const entry = known.get(mac);
      if (entry === undefined) continue;
      entries.push(entry);
      destinations += entry.to.length;
    }
    count += asked;
  }
  return { entries, count };
}

/** If several threads have a MAC, it was last used when one of them last used it. */
function combine(replies: readonly TargetDescription[]): ReadonlyMap<MacAddress, TargetEntry> {
  const all = replies.flatMap(({ rows }) => rows);
  const known = new Map<MacAddress, TargetEntry>();
  for (const state of STATES)
    for (const row of all) {
      const { mac, facts } = row;
      const first = known.get(mac);
      if (first === undefined) {
        if (row.state === state) known.set(mac, row);
        continue;
      }
      const idleMs = facts?.idleMs;
      if (first.facts === undefined || idleMs === undefined || idleMs >= (first.facts.idleMs ?? Infinity))
        continue;
      known.set(mac, { ...first, facts: { ...first.facts, idleMs } });
    }
  return known;
}

/** Returns the lowest `limit` MACs, ascending, each once. */
function lowest(some: Float64Array, others: Float64Array, limit: number): Float64Array<ArrayBuffer> {
  const sorted = joined(some, others).sort();
  return sorted.filter((mac, index) => index === 0 || mac !== sorted[index - 1]).slice(0, limit);
}

/** Returns the places of the `limit` MACs used latest, each MAC once. */
function latest(macs: Float64Array, idleTicks: Int32Array, limit: number): number[] {
  // Time and place are in one number, since numbers are sorted ten times as fast as other values.
  const keys = Float64Array.from(idleTicks, (idle, place) => idle * MAX_CANDIDATES + place).sort();
  const seen = new Set<MacAddress>();
  const places: number[] = [];
  for (const key of keys) {
    const place = key % MAX_CANDIDATES;
    if (seen.has(macs[place])) continue;
    seen.add(macs[place]);
    if (places.push(place) === limit) break;
  }
  return places;
}

function joined(some: Float64Array, others: Float64Array): Float64Array<ArrayBuffer> {
  const all = new Float64Array(some.length + others.length);
  all.set(some);
  all.set(others, some.length);
  return all;
}
