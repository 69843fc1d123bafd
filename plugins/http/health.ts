/** The health of one overlay out of several parts (the store, the stream, the snapshot): the first trouble is shown. */
import type { Host } from '../../src/plugin/index.js';

/** In the order in which they are shown: a store that is away explains the rest. */
const PARTS = ['store', 'snapshot', 'stream', 'flood'] as const;
export type Part = (typeof PARTS)[number];

export class StoreHealth {
  readonly #host: Host;
  readonly #troubles = new Map<Part, string>();
  #shown: string | undefined;

  constructor(host: Host) {
    this.#host = host;
  }

  degrade(part: Part, sentence: string): void {
    this.#troubles.set(part, sentence);
    this.#show();
  }

  restore(part: Part): void {
    if (this.#troubles.delete(part)) this.#show();
  }

  #show(): void {
    const sentence = PARTS.map((part) => this.#troubles.get(part)).find((each) => each !== undefined);
    if (sentence === this.#shown) return;
    this.#shown = sentence;
    if (sentence === undefined) this.#host.restore();
    else this.#host.degrade(sentence);
  }
}
