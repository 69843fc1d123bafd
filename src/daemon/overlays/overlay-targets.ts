/**
 * The target table of one overlay, as an operator reads and changes it. A point overlay has no table: its one
 * destination is shown as a row for all MACs, and cannot be changed.
 */
import type { TargetPage } from '../../control/messages.js';
import type { OverlayDatapath } from '../../datapath/contract.js';
import { OverlayError } from '../../model/errors.js';
import { type Endpoint, formatEndpoint } from '../../wire/ip.js';
import { formatMac } from '../../wire/mac.js';
import { needDestination, needMac } from './overlay-errors.js';

/** Rows of `show-overlay -t` in one answer, as illumos fetches them. */
const TARGET_PAGE_ROWS = 100;

const POINT_TARGET = '*:*:*:*:*:*';

const NO_FACTS = { origin: null, ageMs: null, idleMs: null, ttlMs: null, isStale: false, staleMs: null };

/** The overlay that has the table. Its mode and its destination may come later. */
export interface TableOwner {
  readonly name: string;
  readonly datapath: Pick<OverlayDatapath, 'targets' | 'setTarget' | 'deleteTarget' | 'invalidate'>;
  readonly listen: Endpoint;
  readonly mode: 'point' | 'dynamic';
  readonly destination: Endpoint | undefined;
}

export class OverlayTargets {
  readonly #owner: TableOwner;

  constructor(owner: TableOwner) {
    this.#owner = owner;
  }

  /** `after` and the `next` of the answer are MACs as text. */
  async page(after: string | undefined, limit = TARGET_PAGE_ROWS): Promise<TargetPage> {
    const { datapath, destination } = this.#owner;
    if (destination !== undefined) {
      const destinations = [formatEndpoint(destination)];
      return { rows: [{ mac: POINT_TARGET, state: 'valid', destinations, ...NO_FACTS }], next: null };
    }
    const start = after === undefined ? -1 : needMac(after);
    const { entries, next } = await datapath.targets(start, limit);
    const rows = entries.map(({ mac, state, to, facts }) => ({
      mac: formatMac(mac),
      state: state === 'valid' && to.length > 1 ? ('flood' as const) : state,
      destinations: to.map(formatEndpoint),
      origin: facts?.origin ?? null,
      ageMs: facts?.ageMs ?? null,
      idleMs: facts?.idleMs ?? null,
      ttlMs: facts?.ttlMs ?? null,
      isStale: facts?.isStale === true,
      staleMs: facts?.staleMs ?? null,
    }));
    return { rows, next: next === undefined ? null : formatMac(next) };
  }

  /** `destination` is an endpoint or `drop`. Throws an OverlayError. */
  set(mac: string, destination: string): void {
    this.#needTable();
    const address = needMac(mac);
    const to = destination.toLowerCase() === 'drop' ? [] : [needDestination(destination, this.#owner)];
    this.#owner.datapath.setTarget(address, to, Infinity, 'set');
  }

  /** Rejects with an OverlayError when the MAC is not in the table. */
  async delete(mac: string): Promise<void> {
    this.#needTable();
    const { name, datapath } = this.#owner;
    if (await datapath.deleteTarget(needMac(mac))) return;
    throw new OverlayError('NOT_FOUND', `${mac} is not in the target table of ${name}`);
  }

  flush(): void {
    this.#needTable();
    this.#owner.datapath.invalidate();
  }

  #needTable(): void {
    const { name, mode } = this.#owner;
    if (mode !== 'point') return;
    throw new OverlayError('UNSUPPORTED', `${name} has one destination for all and no target table`);
  }
}
