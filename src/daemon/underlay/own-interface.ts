/**
 * The overlay's own interface. It belongs to the host, whatever part the host plays in the virtual network.
 * varpd makes the interface silent (datapath/userland/main/taps.ts). It becomes a station when it is used as
 * one, by an address or a bridge. Then it gets the automatic IPv6 address that any other link has. varpd does
 * this once; the operator's later settings stay.
 */
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import type { SilentLinks } from './links.js';

export class OwnInterface {
  readonly #name: string;
  readonly #links: SilentLinks;
  readonly #log: Log;
  #isSilent: boolean;

  /** The interface has just been made, or taken over. One that has an address already needs no change. */
  constructor(name: string, links: SilentLinks, log: Log) {
    this.#name = name;
    this.#links = links;
    this.#log = log;
    this.#isSilent = this.#safely(() => links.isSilent(name)) ?? false;
  }

  /** Whether it has not been used. */
  get isSilent(): boolean {
    return this.#isSilent;
  }

  /** The interface has an address or a master. */
  used(): void {
    if (!this.#isSilent) return;
    this.#isSilent = false;
    this.#safely(() => {
      this.#links.allowAutomaticAddress(this.#name);
    });
  }

  /** Catches errors: the interface may be gone. */
  #safely<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#log.warn(`own interface ${this.#name}`, `${this.#name}: ${systemErrorText(error)}`);
      return undefined;
    }
  }
}
