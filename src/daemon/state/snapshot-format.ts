/**
 * The format of everything that one varpd process saves for the next. There are two: the file `snapshot` of
 * the state directory (snapshot.ts, in JSON), and the orders of a stand-in (handover/orders.ts, as a
 * structured clone), either in a file that the service manager keeps or over a channel. Both share one
 * version, which is checked here.
 */
import { MAX_AGE_MS } from '../../model/handover.js';

/**
 * Raised when an older varpd would misread one of them. Older versions are converted where they are read, as
 * long as an upgrade in place from them has to work.
 */
export const SNAPSHOT_VERSION = 2;

/**
 * The version in the orders of an older varpd, from before the orders shared their version with the snapshot.
 * The content is that of version 2.
 */
export const OLDER_ORDERS = '0.1.0';

/** The head of a snapshot and of orders. */
export interface Stamp {
  readonly version: number | string;
  readonly savedAtMs: number;
}

/** Adds the head to content that is to be written. */
export function stamped<T extends object>(
  content: T,
  savedAtMs: number,
): T & Stamp & { readonly version: typeof SNAPSHOT_VERSION } {
  return { version: SNAPSHOT_VERSION, savedAtMs, ...content };
}

/** Throws an Error that names both versions when this varpd does not read this version. */
export function readStamp(value: unknown): Stamp {
  const { version, savedAtMs } = (value ?? {}) as Partial<Record<keyof Stamp, unknown>>;
  if (version !== SNAPSHOT_VERSION && version !== OLDER_ORDERS) {
    const found = typeof version === 'number' ? `version ${version}` : 'no known version';
    throw new Error(`it has ${found}, and this varpd reads version ${SNAPSHOT_VERSION}`);
  }
  if (typeof savedAtMs !== 'number') throw new Error('it does not say when it was saved');
  return { version, savedAtMs };
}

/**
 * Whether it may be used at once, and not only as a last resort. A time in the future comes from a clock that
 * was set back since.
 */
export function isRecent({ savedAtMs }: Pick<Stamp, 'savedAtMs'>, nowMs: number): boolean {
  const ageMs = nowMs - savedAtMs;
  return ageMs >= 0 && ageMs <= MAX_AGE_MS;
}
