/**
 * Loads a lookup plugin from its file. A plugin is a sub-directory of a plugin directory with an entry file
 * (plugin-entry.ts), and the default export of that file is a LookupPlugin. It is loaded by a process of its own, which
 * describes it. plugin-catalog.ts has all of them, and those of varpd itself.
 */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { OverlayError } from '../../model/errors.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import { trustedPlaceNow, UntrustedPlace } from '../../plugin/trusted-place.js';
import { type Description, FUNCTION, PLUGIN_NAME } from '../../plugin-process/messages.js';
import { systemErrorText } from '../system-error.js';
import { entryOf, packageEntry } from './plugin-entry.js';
import { PluginRunner, type RunnerServices } from './plugin-runner.js';
import { ProcessPlugin } from './plugin-stub.js';
import { RESERVED_NAMES, specProblems } from './spec-check.js';

/** The directory dist/plugins, beside dist/src. */
const BUILT_IN_PLUGINS = fileURLToPath(new URL('../../../plugins/', import.meta.url));

/** Sentence about a plugin that cannot be loaded. `why` may begin with a place in the file. */
export function leftOut(file: string, why: string): string {
  const place = why.startsWith(`${file}:`)
    ? (/^(?::\d+){1,2}(?=: )/.exec(why.slice(file.length))?.[0] ?? '')
    : '';
  return `${file}${place}: left out: ${place === '' ? why : why.slice(file.length + place.length + 2)}`;
}

/**
 * Entry files of a directory of plugins, or of one package that is a plugin (plugin-entry.ts). They are in the order of their
 * names, so that "the first" means the same everywhere. Throws an
 * OverlayError when the directory cannot be read.
 */
export function entryFiles(directory: string): string[] {
  try {
    checkPlace(directory);
    const own = packageEntry(directory);
    if (own !== undefined) return [own];
    return readdirSync(directory)
      .sort()
      .flatMap((name) => entryOf(path.join(directory, name)) ?? []);
  } catch (error) {
    const line = `pluginPath: failed to load from ${directory}: ${systemErrorText(error)}`;
    throw new OverlayError(error instanceof UntrustedPlace ? 'DENIED' : 'NOT_FOUND', line, [line], error);
  }
}

/**
 * A user with the right to change a plugin can run code as the user of all plugins. The plugins of varpd are part of its
 * own program and need no check. Throws an UntrustedPlace.
 */
function checkPlace(place: string): void {
  if (!place.startsWith(BUILT_IN_PLUGINS)) trustedPlaceNow(place, { itself: true });
}

/**
 * Rejects with an Error that says what is wrong with the plugin, which includes a file that other users could change.
 */
export async function importPlugin(file: string, services: RunnerServices): Promise<LookupPlugin> {
  checkPlace(file);
  const runner = new PluginRunner(file, services);
  try {
    return new ProcessPlugin(runner, describedPlugin(file, await runner.describe()));
  } catch (error) {
    runner.close();
    throw error;
  }
}

/** The plugin as its process describes it; its functions are not here. Throws an Error with file, line and all that is
 * wrong. */
export function describedPlugin(file: string, { plugin, line }: Description): LookupPlugin {
  const absent = (): never => {
    throw new Error('it is in another process');
  };
  const members = Object.entries((plugin ?? {}) as Readonly<Record<string, unknown>>);
  const whole = Object.fromEntries(
    members.map(([name, value]) => [name, value === FUNCTION ? absent : value]),
  );
  try {
    return checkPlugin(typeof plugin === 'object' && plugin !== null ? whole : plugin);
  } catch (error) {
    const place = line > 0 ? `${file}:${line}: ` : '';
    throw new Error(`${place}${systemErrorText(error)}`, { cause: error });
  }
}

const pluginSchema = z.object({
  apiVersion: z.literal(2, 'apiVersion 2; docs/plugins.md says what to change in a plugin of version 1'),
  name: z
    .string()
    .regex(PLUGIN_NAME, 'a letter and at most 30 letters, digits, _ or -')
    .refine((name) => !RESERVED_NAMES.includes(name), `a name other than ${RESERVED_NAMES.join(', ')}`),
  mode: z.enum(['point', 'dynamic']),
  properties: z.array(z.unknown(), 'a list'),
  create: z.custom((value) => typeof value === 'function', 'a function'),
});

/**
 * Returns the value itself, not a copy: it may be an instance of a class. Throws an Error that lists
 * everything that is wrong.
 */
export function checkPlugin(value: unknown): LookupPlugin {
  const checked = pluginSchema.safeParse(value);
  if (!checked.success) {
    const wrong = checked.error.issues.map(
      ({ path: at, message }) => `${at.join('.') || 'default export'}: ${message}`,
    );
    throw new Error(wrong.join('; '));
  }
  const plugin = value as LookupPlugin;
  const wrong = specProblems(plugin.name, plugin.properties);
  if (wrong.length > 0) throw new Error(wrong.join('; '));
  return plugin;
}
