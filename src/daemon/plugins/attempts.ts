/** Attempts to start an instance of a plugin, and the pauses between them. */
import { setTimeout as delay } from 'node:timers/promises';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import type { PropertySet } from '../../model/properties.js';
import { BackOff, spread } from '../../plugin/back-off.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import type { Destination, IpAddress } from '../../wire/ip.js';
import { errnoName } from '../system-error.js';
import { DeadlineError } from './deadline.js';
import type { PluginInstance } from './plugin-host.js';

/** Ceiling of the pause after an attempt that failed at once: short, for an operator that has just mended something. */
export const SHORT_PAUSE_MS = 1000;
/** Ceiling of the pause as a multiple of the time of an attempt, so that a large invalid file costs a sixth of a processor. */
const PAUSE_FACTOR = 9;
/**
 * Ceiling of the pause while a service does not answer that the plugin needs. All hosts that use the service wait
 * for it, so their attempts must not come in step: 10,000 hosts make 900 attempts a second in the end, where a
 * fixed pause of a second makes 10,000.
 */
const MAX_WAIT_MS = 20_000;

/** Time between two looks whether an instance has answered everything. */
const DRAIN_LOOK_MS = 20;

/** An instance of new code, or of another name of the overlay, which has started beside the one in use. One of the two functions is to be called. */
export interface Swap {
  /** From now on it is the instance of the overlay. Resolves when the one before has been stopped. Never rejects. */
  readonly commit: () => Promise<void>;
  readonly abandon: () => Promise<void>;
}

/** An instance for another place of the overlay: another network, or another listen address. */
export interface Move extends Swap {
  /** The destination of a point overlay there. */
  readonly destination: Destination | undefined;
  /** Underlay addresses that the plugin has named there; undefined while it does not run. */
  readonly peers: readonly IpAddress[] | undefined;
}

export interface Started {
  /** Undefined: the plugin does not run, and goes on not to run. */
  readonly next: PluginInstance | undefined;
  readonly destination: Destination | undefined;
}

/** Starts an instance. Rejects with an OverlayError if it `isNeeded`; the instance has been stopped then. */
export async function startInstance(
  next: PluginInstance,
  { mode }: LookupPlugin,
  properties: PropertySet,
  isNeeded: boolean,
): Promise<Started> {
  try {
    await next.start(properties);
    return { next, destination: mode === 'point' ? await next.destination() : undefined };
  } catch (error) {
    await next.stop();
    if (isNeeded) throw asOverlayError(error);
    return { next: undefined, destination: undefined };
  }
}

/** Stops an instance that another one has replaced. Its open lookups are still of use, and are waited for. */
export async function stopDrained(before: PluginInstance | undefined, deadlineMs: number): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (before !== undefined && before.lookupTimes.open > 0 && performance.now() < endMs)
    await delay(DRAIN_LOOK_MS);
  await before?.stop();
}

/** Each pause has a random part, since one mistake in a store may fail the plugins of all hosts in the same moment. */
export class AttemptPauses {
  readonly #backOff = new BackOff({ firstMs: SHORT_PAUSE_MS, maxMs: MAX_WAIT_MS });

  /** Called after an attempt that has succeeded. */
  reset(): void {
    this.#backOff.reset();
  }

  /** The pause after an attempt that has failed, and has taken `workedMs`. */
  after(error: unknown, workedMs: number): number {
    const cause = error instanceof OverlayError ? error.cause : undefined;
    // The attempt has taken time, and no processor.
    if (errnoName(cause) === 'EAGAIN') return this.#backOff.next();
    // It may have waited for a service, as all other hosts, or it may have worked.
    if (cause instanceof DeadlineError)
      return Math.max(this.#backOff.next(), spread(PAUSE_FACTOR * workedMs));
    return spread(Math.max(SHORT_PAUSE_MS, PAUSE_FACTOR * workedMs));
  }
}
