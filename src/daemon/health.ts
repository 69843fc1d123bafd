/**
 * The health of one overlay: online, or degraded with a sentence for each trouble.
 *
 * Each source reports and ends its own trouble, so that a plugin that has recovered does not hide a port that
 * is gone. The most serious trouble comes first, and the others follow as far as there is room.
 */
import type { OverlayHealth } from '../control/messages.js';
import { printable } from '../model/properties.js';
import type { Log } from './log.js';

/** Longer sentences are cut; illumos has 256 bytes for it (OVERLAY_STATUS_BUFLEN). */
const MAX_SENTENCE_CHARACTERS = 256;
/**
 * Limit of all sentences together, since an overlay may have hundreds of ports. The first is always whole.
 */
const MAX_DETAILS_CHARACTERS = 512;

/**
 * Sources in the order of their weight. `underlay`: nothing can be reached. `plugin`, `lookup`: no new target
 * is found, as the plugin reports itself, or as its answers show. `port`: one device has failed. `interface`:
 * one interface is not as varpd made it. `path`: a path is too narrow, or is said to be. `source`: frames
 * from the underlay have a source MAC that they must not have.
 */
export const RANKS = ['underlay', 'plugin', 'lookup', 'port', 'interface', 'path', 'source'] as const;
export type Rank = (typeof RANKS)[number];

/**
 * A note is no trouble of the overlay itself: it stays ONLINE. Reasons of drops by name; `places`: where the
 * mapping has its ports; `mtu`: that of the underlay; `path`: that of a path, by ICMP; `source`: frames from elsewhere with a MAC of a port;
 * `plugin`: as the plugin says; `peers`: those that cannot be reached, or are silent.
 */
export type NoteSource =
  `drops ${string}` | 'places' | 'mtu' | 'path' | 'source' | 'plugin' | `peers ${string}`;

/** Ports and interfaces by name. */
export type Source =
  | 'underlay'
  | 'plugin start'
  | 'plugin'
  | 'plugin timer'
  | 'plugin call'
  | 'lookup'
  | 'path'
  | 'source'
  | `port ${string}`
  | `interface ${string}`;

export class Health {
  readonly #troubles = new Map<Source, string>();
  readonly #notes = new Map<NoteSource, string>();
  #remark: string | null = null;

  constructor(
    public overlay: string,
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
    const rest = this.#troubles.size === 0 ? 'online' : `still degraded: ${joined(this.#sentences())}`;
    this.log.info(`health ${this.overlay}`, `${this.overlay}: ${rest}`);
  }

  /** Shown until `endNote`, while nothing is wrong: drops are often the effect of a trouble. The log is the caller's. */
  note(source: NoteSource, sentence: string): void {
    this.#notes.set(source, printable(sentence, MAX_SENTENCE_CHARACTERS));
  }

  endNote(source: NoteSource): void {
    this.#notes.delete(source);
  }

  /** A note that lasts until another call for its source. The log has a line when it begins, changes or ends. */
  tell(source: NoteSource, sentence: string | undefined): void {
    const before = this.#notes.get(source);
    if (sentence === undefined) this.endNote(source);
    else this.note(source, sentence);
    const now = this.#notes.get(source);
    const kind = `note ${this.overlay} ${source}`;
    if (now === before) return;
    if (now === undefined) this.log.info(kind, `${this.overlay}: no longer so: ${before}`);
    else this.log.warn(kind, `${this.overlay}: ${now}`);
  }

  /** The latest remark; shown before the notes while nothing is wrong. */
  remark(sentence: string): void {
    this.#remark = printable(sentence, MAX_SENTENCE_CHARACTERS);
  }

  /** Number of troubles by the first word of their sources, zero ones included. */
  troubleCounts(): ReadonlyMap<Rank, number> {
    const counts = new Map<Rank, number>(RANKS.map((rank) => [rank, 0]));
    for (const source of this.#troubles.keys()) {
      const rank = RANKS[rankOf(source)];
      counts.set(rank, (counts.get(rank) ?? 0) + 1);
    }
    return counts;
  }

  report(): OverlayHealth {
    const troubles = this.#sentences();
    if (troubles.length > 0) return { status: 'DEGRADED', details: joined(troubles) };
    const notes = [...this.#notes.values()];
    const remarks = [...(this.#remark === null ? [] : [this.#remark]), ...notes];
    return {
      status: 'ONLINE',
      details: remarks.length > 0 ? joined(remarks) : null,
      ...(notes.length > 0 && { notes: joined(notes) }),
    };
  }

  /** The troubles, the most serious first. */
  #sentences(): string[] {
    return [...this.#troubles]
      .sort(([a], [b]) => rankOf(a) - rankOf(b)) // stable: of equals, the older one first
      .map(([, sentence]) => sentence);
  }
}

/** The first sentence, and the others as far as there is room. */
function joined(sentences: readonly string[]): string {
  let text = '';
  for (const [index, sentence] of sentences.entries()) {
    if (index > 0 && text.length + sentence.length > MAX_DETAILS_CHARACTERS)
      return `${text}; and ${sentences.length - index} more (see the log)`;
    text += index === 0 ? sentence : `; ${sentence}`;
  }
  return text;
}

function rankOf(source: Source): number {
  return RANKS.findIndex((rank) => source.startsWith(rank));
}
