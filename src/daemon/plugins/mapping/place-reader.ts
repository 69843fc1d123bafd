/**
 * Reads the destinations of targets, with the checks of single answers (plugin-answer.ts). Rows with the same
 * destination share one place, so that no object is made for a row and no address is parsed twice.
 */
import { type Destination, type Endpoint, formatEndpoint } from '../../../wire/ip.js';
import { checkPushedPlace } from '../plugin-answer.js';

/** Places that are remembered; a mapping has no more (places.ts). */
const MAX_KNOWN = 65_536;
/** Longer than any endpoint. */
const MAX_IP_CHARACTERS = 64;

/** A destination, or a list of them, with a text that is the same for the same ones. */
export interface Place {
  readonly key: string;
  readonly to: readonly Destination[];
}

export class PlaceReader {
  /** Number of destinations that were parsed: some 40 us for an IPv6 address. */
  parsed = 0;
  readonly #listen: Endpoint;
  /** Places by the text of the plugin, which has few spellings of few places. */
  readonly #known = new Map<string, Place>();

  /** `listen`: the endpoint of the overlay. */
  constructor(listen: Endpoint) {
    this.#listen = listen;
  }

  /** Returns the place of `to`: one destination, or a list. Throws an AnswerError. */
  read(to: unknown, isGroup: boolean): Place {
    const raw = Array.isArray(to) ? undefined : rawKey(to, isGroup);
    const known = raw === undefined ? undefined : this.#known.get(raw);
    if (known !== undefined) return known;
    const list = checkPushedPlace(to, this.#listen, isGroup);
    this.parsed += list.length;
    const place = { key: list.map(formatEndpoint).join(' '), to: list };
    if (raw !== undefined && this.#known.size < MAX_KNOWN) this.#known.set(raw, place);
    return place;
  }
}

/** The text of one destination as the plugin spells it; undefined for what cannot be one. */
function rawKey(to: unknown, isGroup: boolean): string | undefined {
  if (typeof to !== 'object' || to === null) return undefined;
  const { ip, port } = to as Readonly<Record<string, unknown>>;
  return typeof ip === 'string' && typeof port === 'number' && ip.length < MAX_IP_CHARACTERS
    ? `${isGroup ? 'group ' : ''}${ip} ${port}`
    : undefined;
}
