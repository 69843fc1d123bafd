/**
 * The health of one overlay: online, or degraded with the sentences of all that is wrong.
 *
 * Each source of trouble speaks for itself and is silenced by itself, so that a plugin that is well again does not
 * hide a port that is gone. What costs the most is said first, and the rest as far as there is room.
 */
import type { OverlayHealth } from '../control/messages.js';
import { printable } from '../model/properties.js';
import type { Log } from './log.js';

/** Longer sentences are cut; illumos has 256 bytes for it (OVERLAY_STATUS_BUFLEN). */
const MAX_SENTENCE_CHARACTERS = 256;
/** Of all sentences: an overlay may have hundreds of ports. The first is always whole. */
const MAX_DETAILS_CHARACTERS = 512;

/**
 * In the order in which they matter: nothing can be reached; nothing new is found out, so the plugin itself says
 * (`plugin`) or its answers do (`lookup`); one device has failed; one interface is not as varpd made it; a path is too narrow, or said to be (`path`); frames come from
 * where they should not (`source`).
 */
const RANKS = ['underlay', 'plugin', 'lookup', 'port', 'interface', 'path', 'source'] as const;

/** Ports and interfaces by name. */
export type Source =
  | 'underlay'
  | 'plugin start'
  | 'plugin'
  | 'lookup'
  | 'path'
  | 'source'
  | `port ${string}`
  | `interface ${string}`;

export class Health {
  readonly #troubles = new Map<Source, string>();
  #remark: string | null = null;

  constructor(
    readonly overlay: string,
    readonly log: Log,
  ) {}

  degrade(source: Source, sentence: string): void {
    const text = printable(sentence, MAX_SENTENCE_CHARACTERS);
    if (this.#troubles.get(source) === text) return;
    this.#troubles.set(source, text);
    this.log.warn(`health ${this.overlay}`, `${this.overlay}: degraded: ${text}`);
  }

  restore(source: Source): void {
    if (!this.#troubles.delete(source)) return;
    const rest = this.#troubles.size === 0 ? 'online' : `still degraded: ${this.#details()}`;
    this.log.info(`health ${this.overlay}`, `${this.overlay}: ${rest}`);
  }

  /** Shown while nothing is wrong; the latest one. */
  remark(sentence: string): void {
    this.#remark = printable(sentence, MAX_SENTENCE_CHARACTERS);
  }

  report(): OverlayHealth {
    return this.#troubles.size === 0
      ? { status: 'ONLINE', details: this.#remark }
      : { status: 'DEGRADED', details: this.#details() };
  }

  #details(): string {
    const sentences = [...this.#troubles]
      .sort(([a], [b]) => rankOf(a) - rankOf(b)) // stable: of equals, the older one first
      .map(([, sentence]) => sentence);
    let text = '';
    for (const [index, sentence] of sentences.entries()) {
      if (index > 0 && text.length + sentence.length > MAX_DETAILS_CHARACTERS)
        return `${text}; and ${sentences.length - index} more`;
      text += index === 0 ? sentence : `; ${sentence}`;
    }
    return text;
  }
}

function rankOf(source: Source): number {
  return RANKS.findIndex((rank) => source.startsWith(rank));
}
