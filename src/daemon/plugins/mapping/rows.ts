/**
 * Reads the rows of snapshots, with the checks of single answers (plugin-answer.ts), in slices. A row becomes numbers
 * and a place (place-reader.ts), and no object.
 */
import type { Endpoint } from '../../../wire/ip.js';
import { isMulticast, type MacAddress } from '../../../wire/mac.js';
import { AnswerError, checkMac, checkStaleMs, checkStation, checkTtlMs, shown } from '../plugin-answer.js';
import { canonicalIp } from './mapping.js';
import { type Place, PlaceReader } from './place-reader.js';
import { listOf } from './sent-rows.js';

/** Most targets, and most addresses, of one snapshot: far more than a host's network has. 600 MB of memory. */
export const MAX_ROWS = 4_194_304;
/** Rows, and destinations, that are read between two pauses. */
const STEP = 32;

/** Reads targets and addresses for the overlay that listens at `listen`. */
export class RowReader {
  readonly #places: PlaceReader;

  constructor(listen: Endpoint) {
    this.#places = new PlaceReader(listen);
  }

  /** Calls `take` for each target. Throws an AnswerError that names the row. */
  *targets(value: unknown, take: (mac: MacAddress, place: Place) => void): Generator<undefined, void> {
    yield* this.#each('targets', value, (row) => {
      const { mac: given, to, ttlMs, staleMs } = record(row);
      const mac = checkMac(given);
      checkTtlMs(ttlMs);
      checkStaleMs(staleMs);
      take(mac, this.#places.read(to, isMulticast(mac)));
    });
  }

  /** Calls `take` for each address, in its canonical spelling. */
  *addresses(value: unknown, take: (ip: string, mac: MacAddress) => void): Generator<undefined, void> {
    yield* this.#each('addresses', value, (row) => {
      const { ip, mac } = record(row);
      take(checkIp(ip), checkStation(mac));
    });
  }

  *macs(value: unknown, take: (mac: MacAddress) => void): Generator<undefined, void> {
    yield* this.#each('removedMacs', value, (row) => {
      take(checkMac(row));
    });
  }

  *ips(value: unknown, take: (ip: string) => void): Generator<undefined, void> {
    yield* this.#each('removedIps', value, (row) => {
      take(checkIp(row));
    });
  }

  *#each(what: string, value: unknown, read: (row: unknown) => void): Generator<undefined, void> {
    let [index, pausedAt] = [0, 0];
    for (const row of listOf(value, what)) {
      if (index === MAX_ROWS) throw new AnswerError(`gave more than ${MAX_ROWS} ${what}`);
      try {
        read(row);
      } catch (error) {
        if (error instanceof AnswerError) throw new AnswerError(`${error.message}, in ${what}[${index}]`);
        throw error;
      }
      // A list of destinations counts as so many rows.
      if (++index + this.#places.parsed - pausedAt < STEP) continue;
      pausedAt = index + this.#places.parsed;
      yield;
    }
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
}

function checkIp(value: unknown): string {
  const ip = typeof value === 'string' ? canonicalIp(value) : undefined;
  if (ip !== undefined) return ip;
  throw new AnswerError(`gave ${shown(value)} where the address of one station was expected`);
}
