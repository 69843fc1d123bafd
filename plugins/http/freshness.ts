/** How long an answer may be used, out of its header (RFC 9111, RFC 5861) or out of the properties of the overlay. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Age } from '../../src/plugin/index.js';

/** The shortest time that varpd keeps an answer: a store cannot make every host ask about every MAC all the time. */
export const LEAST_TTL_MS = 1000;
/** The longest one, that of a timer. */
const MAX_MS = 2 ** 31 - 1;

/** `ttlMs` and `staleMs` of a store that sends no Cache-Control. */
export interface DefaultAge {
  readonly ttlMs: number;
  readonly staleMs: number | undefined;
}

/**
 * Returns the age of an answer that has just arrived.
 *   max-age less Age               ttlMs
 *   no-store, no-cache             ttlMs is the least that there is
 *   stale-while-revalidate, stale-if-error   staleMs, the longer of both
 *   must-revalidate                staleMs 0
 */
export function ageOf(headers: IncomingHttpHeaders, defaults: DefaultAge): Age & { readonly ttlMs: number } {
  const control = directives(headers['cache-control'] ?? '');
  const maxAge = control.get('max-age');
  const isShort = control.has('no-store') || control.has('no-cache');
  const ageMs = seconds(headers.age) ?? 0;
  const ttlMs = isShort ? 0 : maxAge === undefined ? defaults.ttlMs : (seconds(maxAge) ?? 0) - ageMs;
  const staleMs = staleOf(control) ?? defaults.staleMs;
  return {
    ttlMs: Math.max(LEAST_TTL_MS, ttlMs),
    ...(staleMs !== undefined && { staleMs }),
  };
}

function staleOf(control: ReadonlyMap<string, string>): number | undefined {
  if (control.has('must-revalidate')) return 0;
  const given = ['stale-while-revalidate', 'stale-if-error']
    .map((name) => seconds(control.get(name)))
    .filter((each) => each !== undefined);
  return given.length === 0 ? undefined : Math.max(...given);
}

function directives(text: string): Map<string, string> {
  const parts = text.split(',').map((part): [string, string] => {
    const [name = '', value = ''] = part.split('=', 2);
    return [name.trim().toLowerCase(), value.trim().replace(/^"(.*)"$/, '$1')];
  });
  return new Map(parts);
}

/** Reads whole seconds (RFC 9111 1.2.2) as milliseconds. */
function seconds(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Math.min(Number(text) * 1000, MAX_MS) : undefined;
}
