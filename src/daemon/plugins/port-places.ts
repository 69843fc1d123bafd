/** Where a plugin places the MACs of ports (`placeOf`): its last answers, since it may answer later. */
import type { MacAddress } from '../../plugin/contract.js';
import type { Destination } from '../../wire/ip.js';
import type { Eventually } from './deadline.js';
import { checkPlace } from './plugin-answer.js';

/** Null: the plugin does not know the MAC. Undefined: it cannot tell, or has not answered yet. */
export type PortPlace = Destination | null | undefined;

export class PortPlaces {
  readonly #places = new Map<MacAddress, PortPlace>();
  readonly #complain: (error: unknown) => void;

  /** `complain` gets the error of a plugin that does not give a place. */
  constructor(complain: (error: unknown) => void) {
    this.#complain = complain;
  }

  /** Asks, and returns the answer if it is there at once; otherwise the answer before. Never throws. */
  ask(mac: MacAddress, call: () => Eventually<unknown>): PortPlace {
    const keep = (value: unknown): void => {
      this.#places.set(mac, value === undefined || value === null ? value : checkPlace(value));
    };
    const fail = (error: unknown): void => {
      this.#places.delete(mac);
      this.#complain(error);
    };
    try {
      const given = call();
      if (given instanceof Promise) given.then(keep).catch(fail);
      else keep(given);
    } catch (error) {
      fail(error);
    }
    return this.#places.get(mac);
  }

  /** Forgets the answers about all other MACs. */
  retain(macs: readonly MacAddress[]): void {
    const ports = new Set(macs);
    for (const mac of this.#places.keys()) if (!ports.has(mac)) this.#places.delete(mac);
  }
}
