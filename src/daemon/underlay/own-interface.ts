/**
 * The overlay's own interface. It belongs to the host, whatever the host is to the virtual network: varpd makes it silent
 * (datapath/userland/main/taps.ts), and it becomes a station when somebody uses it as one, by an address or a bridge. Then it gets the
 * automatic IPv6 address that any other link has. Once: what the operator sets afterwards is his.
 */
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import type { SilentLinks } from './links.js';

export class OwnInterface {
  readonly #name: string;
  readonly #links: SilentLinks;
  readonly #log: Log;
  #isSilent: boolean;

  /** It has just been made, or taken over: one that has an address already is as it should be. */
  constructor(name: string, links: SilentLinks, log: Log) {
    this.#name = name;
    this.#links = links;
    this.#log = log;
    this.#isSilent = this.#safely(() => links.isSilent(name)) ?? false;
  }

  /** It has an address or a master. */
  used(): void {
    if (!this.#isSilent) return;
    this.#isSilent = false;
    this.#safely(() => {
      this.#links.allowAutomaticAddress(this.#name);
    });
  }

  /** It may be gone. */
  #safely<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#log.warn(`own interface ${this.#name}`, `${this.#name}: ${systemErrorText(error)}`);
      return undefined;
    }
  }
}
