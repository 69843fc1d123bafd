/**
 * The format of everything that a varpd writes down for the next one: the file `snapshot` of the state directory (snapshot.ts,
 * in JSON), and the orders of a stand-in (handover/orders.ts, as a structured clone), in a file that the service manager keeps
 * or over a channel. One version counts for all of them, and is read here.
 */
import { MAX_AGE_MS } from '../../model/handover.js';

/** Raised when an older varpd would misread one of them. Those before are converted where they are read, as long as an upgrade in
 * place from them has to work. */
export const SNAPSHOT_VERSION = 2;

/** The version in a stand-in's orders of a varpd from before they had one with the snapshot. The content is that of version 2. */
export const OLDER_ORDERS = '0.1.0';

/** The head of each. */
export interface Stamp {
  readonly version: number | string;
  readonly savedAtMs: number;
}

/** To be written. */
export function stamped<T extends object>(
  content: T,
  savedAtMs: number,
): T & Stamp & { readonly version: typeof SNAPSHOT_VERSION } {
  return { version: SNAPSHOT_VERSION, savedAtMs, ...content };
}

/** Throws an Error that names both versions when this varpd does not read this one. */
export function readStamp(value: unknown): Stamp {
  const { version, savedAtMs } = (value ?? {}) as Partial<Record<keyof Stamp, unknown>>;
  if (version !== SNAPSHOT_VERSION && version !== OLDER_ORDERS) {
    const found = typeof version === 'number' ? `version ${version}` : 'no known version';
    throw new Error(`it has ${found}, and this varpd reads version ${SNAPSHOT_VERSION}`);
  }
  if (typeof savedAtMs !== 'number') throw new Error('it does not say when it was saved');
  return { version, savedAtMs };
}

/** Whether it may be used without need. One of the future was written under a clock that was set back. */
export function isRecent({ savedAtMs }: Pick<Stamp, 'savedAtMs'>, nowMs: number): boolean {
  const ageMs = nowMs - savedAtMs;
  return ageMs >= 0 && ageMs <= MAX_AGE_MS;
}
