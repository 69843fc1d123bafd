/** The parts of the checks of conformance.ts. */
import type { Instance } from '../plugin/contract.js';
import { formatMac } from '../wire/mac.js';
import { arpRequest, dhcpDiscover, type Mac, macOf, solicitation } from './frames.js';
import { type Harness, harness } from './harness.js';
import type { AnyPlugin, ConformanceOptions } from './options.js';

/** Virtual time in which a plugin must have noticed that its backend works again. */
export const RECOVERY_MS = 120_000;
/** MACs that no plugin knows, for lookups beside those that it knows. */
export const STRANGERS = Array.from({ length: 20 }, (_, index) => 0x02fe_0000_0000 + index);

export interface CheckSpec {
  readonly about: string;
  readonly skip?: (plugin: AnyPlugin, options: ConformanceOptions) => string | undefined;
  readonly run: (plugin: AnyPlugin, options: ConformanceOptions) => Promise<void>;
}

/** Fails the check with a sentence. */
export function fail(sentence: string): never {
  throw new Error(sentence);
}

/** Runs `use` with a harness, which is ended in any case. */
export async function withHarness<T>(
  plugin: AnyPlugin,
  options: ConformanceOptions,
  use: (overlay: Harness) => Promise<T>,
): Promise<T> {
  const overlay = harness(plugin, options);
  try {
    return await use(overlay);
  } finally {
    await overlay.stopOnly();
    await overlay.end();
  }
}

/** The plugin, with a hook for each instance that it makes. */
export function observed(
  plugin: AnyPlugin,
  made: (instance: Instance, again: () => Instance) => void,
): AnyPlugin {
  return {
    ...plugin,
    create: (host, shared) => {
      const again = (): Instance => plugin.create(host, shared);
      const instance = again();
      made(instance, again);
      return instance;
    },
  };
}

/** Uses everything that a plugin has. Failures are of no interest here. */
export async function exercise(overlay: Harness, { known = [], changes }: ConformanceOptions): Promise<void> {
  const ignore = (): undefined => undefined;
  await overlay.start().catch(ignore);
  for (const mac of [...known, ...STRANGERS.slice(0, 2)]) await overlay.resolve(mac).catch(ignore);
  for (const mac of known) await overlay.send(mac).catch(ignore);
  for (const frame of [arpRequest('10.0.0.2', '10.0.0.1'), solicitation('fd00::2'), dhcpDiscover()])
    await overlay.frame(frame).catch(ignore);
  await overlay.reload().catch(ignore);
  if (changes !== undefined) await overlay.change(changes).catch(ignore);
  await overlay.advance(10_000);
}

/** Throws unless varpd has a destination for this MAC. */
export async function expectTarget(overlay: Harness, mac: Mac, when: string): Promise<string> {
  const answer = await overlay.resolve(mac);
  if (answer.kind === 'target') return JSON.stringify(answer.to);
  const { details } = overlay.health();
  const reason = answer.kind === 'drop' ? answer.reason : answer.kind;
  return fail(
    `${when} the answer for ${formatMac(macOf(mac))} is ${reason}${details === null ? '' : `: ${details}`}`,
  );
}

/** Throws when the overlay is degraded. */
export function expectOnline(overlay: Harness, when: string): void {
  const { status, details } = overlay.health();
  if (status !== 'ONLINE') fail(`${when} the overlay is ${status}: ${details ?? 'without a sentence'}`);
}
