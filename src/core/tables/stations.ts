/**
 * Stations behind the overlay's own port, in mode point. They are learned from the frames that they send, as
 * by a learning bridge. Mode point has one destination for all frames, and no plugin is asked where a MAC
 * lives. Without this table a VNIC could not reach a guest behind a bridge on the own interface: its frames
 * would leave for the other host.
 *
 * The table has 512 rows of 8 places. The MAC chooses the row; in a full row the station heard longest ago
 * makes room. Its memory is shared by all threads of the overlay: a station may send through one thread and
 * receive through another. There is no lock: a MAC is one 64-bit store, and if two threads use a place at
 * once, a station has no place until it sends again.
 */
import type { MacAddress } from '../../wire/mac.js';
import { hash } from './mac-index.js';
import { TICK_MS } from './target-table.js';

/** As many as the hosts on a large segment; 64 KiB per overlay. */
export const MAX_STATIONS = 4096;
/** A station that is silent for this time is forgotten, as by a Linux bridge (IEEE 802.1Q 8.8.3: ageing
 * time). */
export const STATION_LIFE_MS = 300_000;

const LIFE_TICKS = STATION_LIFE_MS / TICK_MS;
const ROW_PLACES = 8;
const ROWS = MAX_STATIONS / ROW_PLACES;
/** MAC of a free place; no station has it. */
const FREE = 0;

/** The table of one overlay: MACs, ticks of their last frames, and whether there has ever been one. */
export type StationMemory = SharedArrayBuffer;

const TICKS_AT = MAX_STATIONS * Float64Array.BYTES_PER_ELEMENT;
const USED_AT = TICKS_AT + MAX_STATIONS * Int32Array.BYTES_PER_ELEMENT;

export function createStationMemory(): StationMemory {
  return new SharedArrayBuffer(USED_AT + Int32Array.BYTES_PER_ELEMENT);
}

export class Stations {
  readonly #macs: Float64Array;
  readonly #ticks: Int32Array;
  readonly #used: Int32Array;

  constructor(memory: StationMemory) {
    this.#macs = new Float64Array(memory, 0, MAX_STATIONS);
    this.#ticks = new Int32Array(memory, TICKS_AT, MAX_STATIONS);
    this.#used = new Int32Array(memory, USED_AT, 1);
  }

  /** Notes that a station has sent a frame through the own port. */
  learn(high: number, low: number, nowTick: number): void {
    const macs = this.#macs;
    const ticks = this.#ticks;
    const mac = high * 0x1_0000_0000 + (low >>> 0);
    const first = rowOf(high, low);
    let place = first;
    for (let at = first; at < first + ROW_PLACES; at++) {
      if (macs[at] === mac) {
        if (ticks[at] !== nowTick) ticks[at] = nowTick;
        return;
      }
      const isBetter = macs[place] !== FREE && (macs[at] === FREE || ((ticks[at] - ticks[place]) | 0) < 0);
      if (isBetter) place = at;
    }
    ticks[place] = nowTick;
    macs[place] = mac;
    this.#used[0] = 1;
  }

  has(high: number, low: number, nowTick: number): boolean {
    if (this.#used[0] === 0) return false;
    const at = this.#find(high, low);
    return at >= 0 && ((nowTick - this.#ticks[at]) | 0) < LIFE_TICKS;
  }

  /** Notes that a station has sent a frame from elsewhere. */
  forget(high: number, low: number): void {
    if (this.#used[0] === 0) return;
    const at = this.#find(high, low);
    if (at >= 0) this.#macs[at] = FREE;
  }

  /** Returns the stations that are there now, in no order. */
  list(nowTick: number): MacAddress[] {
    const isHere = (at: number): boolean => ((nowTick - this.#ticks[at]) | 0) < LIFE_TICKS;
    return [...this.#macs].filter((mac, at) => mac !== FREE && isHere(at));
  }

  /** Keeps old stations from coming back when ticks overflow; see TargetTable.age. */
  age(nowTick: number): void {
    for (let at = 0; at < MAX_STATIONS; at++)
      if (((nowTick - this.#ticks[at]) | 0) >= LIFE_TICKS) this.#macs[at] = FREE;
  }

  #find(high: number, low: number): number {
    const macs = this.#macs;
    const mac = high * 0x1_0000_0000 + (low >>> 0);
    if (mac === FREE) return -1;
    const first = rowOf(high, low);
    for (let at = first; at < first + ROW_PLACES; at++) if (macs[at] === mac) return at;
    return -1;
  }
}

function rowOf(high: number, low: number): number {
  return (hash(high, low) & (ROWS - 1)) * ROW_PLACES;
}
