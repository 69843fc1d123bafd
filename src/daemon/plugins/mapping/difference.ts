/** Compares two mappings: counts for the plugin and the log, and lists for the target table and the neighbour caches. */
import type { Difference } from '../../../plugin/contract.js';
import type { IpAddress } from '../../../wire/ip.js';
import type { MacAddress } from '../../../wire/mac.js';
import type { Mapping } from './mapping.js';
import { PARTS } from './word-table.js';

/** Each announcement is a frame into every local port. Without one, a neighbour cache notices the move within a minute. */
export const MAX_ANNOUNCED = 4096;
/** MACs that the datapath is told of at a time. */
export const BATCH = 256;

/** Effects of a change of the mapping that have to be spread. */
export class Effects {
  added = 0;
  changed = 0;
  removed = 0;
  moved = 0;
  /** MACs to take out of the target table, in batches: moved ones, those that have gone, and new ones, which may have
   * a negative answer. */
  readonly stale: MacAddress[][] = [];
  /** The first MAX_ANNOUNCED addresses that have moved to another MAC. */
  readonly moves: { readonly ip: IpAddress; readonly mac: MacAddress }[] = [];

  get counts(): Difference {
    const { added, changed, removed, moved } = this;
    return { added, changed, removed, moved };
  }

  forget(mac: MacAddress): void {
    const last = this.stale.at(-1);
    if (last !== undefined && last.length < BATCH) last.push(mac);
    else this.stale.push([mac]);
  }

  move(ip: IpAddress, mac: MacAddress): void {
    this.moved++;
    if (this.moves.length < MAX_ANNOUNCED) this.moves.push({ ip, mac });
  }
}

/** Yields after every part of a mapping. */
export function* compare(old: Mapping, fresh: Mapping): Generator<undefined, Effects> {
  const effects = new Effects();
  const isSamePlace = placeComparer(old, fresh);
  for (let part = 0; part < PARTS; part++) {
    fresh.visitMacs(part, (mac, place) => {
      const before = old.placeOf(mac);
      if (before >= 0 && isSamePlace(before, place)) return;
      if (before < 0) effects.added++;
      else effects.changed++;
      effects.forget(mac);
    });
    yield;
  }
  for (let part = 0; part < PARTS; part++) {
    old.visitMacs(part, (mac) => {
      if (fresh.placeOf(mac) >= 0) return;
      effects.removed++;
      effects.forget(mac);
    });
    yield;
  }
  for (let part = 0; part < PARTS; part++) {
    fresh.visitMoved(part, old, (ip, mac) => {
      effects.move(ip, mac);
    });
    yield;
  }
  return effects;
}

/** Returns a function that compares two places by their numbers; the texts are compared once for each place. */
function placeComparer(old: Mapping, fresh: Mapping): (before: number, now: number) => boolean {
  const known = new Map<number, number>();
  return (before, now) => {
    let same = known.get(now);
    if (same === undefined) {
      same = old.placeNumber(fresh.placeKey(now));
      known.set(now, same);
    }
    return same === before;
  };
}
