/**
 * The health of one overlay: online, or degraded with the sentences of all that is wrong.
 *
 * Each source of trouble speaks for itself and is silenced by itself, so that a plugin that is well again does not
 * hide a port that is gone. Link state is left alone: what is known still works.
 */
import type { OverlayHealth } from '../control/messages.js';
import { printable } from '../core/properties.js';
import type { Log } from './log.js';

/** Longer sentences are cut; illumos has 256 bytes for it (OVERLAY_STATUS_BUFLEN). */
const MAX_SENTENCE_CHARACTERS = 256;

/** `plugin` = it says so itself; `lookup` = its answers say so; else the port's name. */
export type Source = 'plugin' | 'lookup' | `port ${string}`;

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
    return [...this.#troubles.values()].join('; ');
  }
}
