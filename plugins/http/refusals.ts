/** Records of the store that are not valid: each is refused alone, and the overlay has a note about them. */
import { formatMac, type Host, type MacAddress, type ParsedEntries } from '../../src/plugin/index.js';

/** MACs that are remembered. */
const MAX_REMEMBERED = 1000;

export class Refusals {
  readonly #host: Host;
  readonly #store: string;
  readonly #refused = new Map<MacAddress, string>();
  #unnamed = 0;
  #note: string | undefined;

  constructor(host: Host, store: string) {
    this.#host = host;
    this.#store = store;
  }

  /** Begins the count at zero: a snapshot has everything. */
  clear(): void {
    this.#refused.clear();
    this.#unnamed = 0;
  }

  /** Takes the records of one change. A good record ends the refusal of an earlier one. */
  take({ changes, refused }: ParsedEntries): void {
    for (const { mac } of changes) this.#refused.delete(mac);
    for (const { mac, message } of refused) {
      if (mac === undefined) this.#unnamed++;
      else if (this.#refused.size < MAX_REMEMBERED || this.#refused.has(mac)) this.#refused.set(mac, message);
    }
  }

  /** Shows or ends the note. The log of varpd has a line about each. */
  show(): void {
    const count = this.#refused.size + this.#unnamed;
    const first = this.#refused.entries().next().value;
    const example =
      first === undefined ? 'its MAC address is not valid' : `${formatMac(first[0])} ${first[1]}`;
    const records = count === 1 ? '1 record' : `${count} records`;
    const note =
      count === 0
        ? undefined
        : `${this.#store} has ${records} that ${count === 1 ? 'is' : 'are'} not valid, and what was known before stays ` +
          `in use: ${example}`;
    if (note === this.#note) return;
    this.#note = note;
    this.#host.note(note);
  }
}
