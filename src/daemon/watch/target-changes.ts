/** Changes of target tables, collected for a moment: a plugin may push a million rows, or answer thousands of lookups a second. */
import type { TargetChange, TargetsEvent } from '../../control/watch-messages.js';
import type { TargetNews, WatchedDatapath } from '../../datapath/watch-contract.js';
import { formatEndpoint } from '../../wire/ip.js';
import { formatMac, type MacAddress } from '../../wire/mac.js';

/** Time for which changes are collected. */
const COLLECT_MS = 200;
/** More changes than this are told by one line without rows: a reader gets the table sooner by reading it. */
const MAX_ROWS = 4096;
/** Rows of one line. */
const LINE_ROWS = 256;

interface WatchedTable {
  readonly id: number;
  readonly name: string;
  readonly datapath: WatchedDatapath;
}

interface Followed {
  readonly table: WatchedTable;
  /** Undefined: too many, or all were forgotten. */
  changed: Map<MacAddress, TargetNews> | undefined;
  readonly end: () => void;
}

export class TargetChanges {
  readonly #tell: (event: TargetsEvent) => void;
  /** By id of the overlay: one that was deleted and created again is another one. */
  readonly #followed = new Map<number, Followed>();
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: (event: TargetsEvent) => void) {
    this.#tell = tell;
  }

  /** Follows these tables, and no others. A table that is not the first of its watch may have changed before. */
  follow(tables: Iterable<WatchedTable>, areFirst: boolean): void {
    const there = new Set<number>();
    for (const table of tables) {
      there.add(table.id);
      if (this.#followed.has(table.id)) continue;
      const followed: Followed = {
        table,
        changed: areFirst ? new Map() : undefined,
        end: table.datapath.watchTargets((news) => {
          keep(followed, news);
          this.#collect();
        }),
      };
      this.#followed.set(table.id, followed);
      if (!areFirst) this.#collect();
    }
    for (const [id, { end }] of this.#followed)
      if (!there.has(id)) {
        end();
        this.#followed.delete(id);
      }
  }

  stop(): void {
    this.follow([], true);
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #collect(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const followed of this.#followed.values()) this.#flush(followed);
    }, COLLECT_MS).unref();
  }

  #flush(followed: Followed): void {
    const { table, changed } = followed;
    const event = { kind: 'targets', at: new Date().toISOString(), overlay: table.name } as const;
    followed.changed = new Map();
    if (changed === undefined) {
      this.#tell({ ...event, rows: null });
      return;
    }
    const rows = [...changed.values()].map(rowOf);
    for (let from = 0; from < rows.length; from += LINE_ROWS)
      this.#tell({ ...event, rows: rows.slice(from, from + LINE_ROWS) });
  }
}

function keep(followed: Followed, news: readonly TargetNews[] | undefined): void {
  if (news === undefined) followed.changed = undefined;
  for (const one of news ?? []) {
    if (followed.changed === undefined) return;
    followed.changed.set(one.mac, one);
    if (followed.changed.size > MAX_ROWS) followed.changed = undefined;
  }
}

function rowOf({ mac, to, origin }: TargetNews): TargetChange {
  const address = formatMac(mac);
  if (to === undefined) return { mac: address, state: 'gone', destinations: [], origin: null };
  const state = to.length === 0 ? 'drop' : to.length === 1 ? 'valid' : 'flood';
  return { mac: address, state, destinations: to.map(formatEndpoint), origin };
}
