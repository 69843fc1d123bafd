/**
 * Loads a lookup plugin from its file. A plugin is a sub-directory of a plugin directory with an index.js (or
 * index.mjs), and the default export of that file is a LookupPlugin. plugin-catalog.ts has all of them.
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as z from 'zod';
import { ENCAPSULATION_NAMES } from '../../encap/index.js';
import { errorText, OverlayError } from '../../model/errors.js';
import { MAX_NAME_CHARACTERS, parseValue } from '../../model/properties.js';
import type { LookupPlugin, PropertySpec } from '../../plugin/contract.js';
import { trustedPlaceNow, UntrustedPlace } from '../../plugin/trusted-place.js';
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import { Deadlines } from './deadline.js';
import { runningPlugin } from './plugin-context.js';

/** The directory dist/plugins, beside dist/src. */
export const BUILT_IN_PLUGINS = fileURLToPath(new URL('../../../plugins/', import.meta.url));

const ENTRIES = ['index.js', 'index.mjs'];
/** Time for the module to be evaluated. Reading tables and connecting belong into `start`. */
const IMPORT_DEADLINE_MS = 5000;

const NAME = /^[a-z][a-z0-9_-]{0,30}$/i; // 31 characters, as illumos has it
/** Prefixes of properties that do not belong to a plugin. */
const RESERVED_NAMES = [...ENCAPSULATION_NAMES, 'varpd'];

/** Sentence about a plugin that cannot be imported. */
export const leftOut = (file: string, why: string): string => `${file}: left out: ${why}`;

/**
 * Entry files in the order of their names, so that "the first" means the same everywhere. Throws an
 * OverlayError when the directory cannot be read.
 */
export function entryFiles(directory: string): string[] {
  try {
    checkPlace(directory);
    return readdirSync(directory)
      .sort()
      .flatMap((name) =>
        ENTRIES.map((entry) => path.join(directory, name, entry))
          .filter(existsSync)
          .slice(0, 1),
      );
  } catch (error) {
    const line = `pluginPath: failed to load from ${directory}: ${systemErrorText(error)}`;
    throw new OverlayError(error instanceof UntrustedPlace ? 'DENIED' : 'NOT_FOUND', line, [line], error);
  }
}

/**
 * A user with the right to change a plugin can run code as varpd. The plugins of varpd are part of its own
 * program and need no check. Throws an UntrustedPlace.
 */
function checkPlace(place: string): void {
  if (!place.startsWith(BUILT_IN_PLUGINS)) trustedPlaceNow(place, { itself: true });
}

/**
 * Rejects with an Error that says what is wrong with the plugin, which includes a file that other users could
 * change. Work that the module starts while it is evaluated, and that fails later, is reported in the log.
 * Node imports a file once for each `version`.
 */
export async function importPlugin(
  file: string,
  log: Pick<Log, 'error'>,
  version = '',
): Promise<LookupPlugin> {
  checkPlace(file);
  const url = pathToFileURL(file);
  if (version !== '') url.searchParams.set('version', version);
  const code = {
    complain: (error: unknown): void => {
      log.error(`plugin ${file}`, `${file}: ${errorText(error)}`);
    },
  };
  const load = (): Promise<unknown> => runningPlugin.run(code, () => import(url.href) as Promise<unknown>);
  const module = (await new Deadlines().within(IMPORT_DEADLINE_MS, load)) as { default?: unknown };
  return checkPlugin(module.default);
}

const specSchema = z.object({
  name: z.string().max(MAX_NAME_CHARACTERS, `a name of at most ${MAX_NAME_CHARACTERS} characters`),
  type: z.enum(['uint', 'ip', 'string', 'choice']),
  required: z.boolean(),
  default: z.string().optional(),
  min: z.int().min(0).optional(),
  max: z.int().min(0).optional(),
  choices: z.array(z.string()).min(1).optional(),
  refuse: z.custom((value) => value === undefined || typeof value === 'function', 'a function').optional(),
});

const pluginSchema = z.object({
  apiVersion: z.literal(1, 'apiVersion 1: this is the only one there is'),
  name: z
    .string()
    .regex(NAME, 'a letter and at most 30 letters, digits, _ or -')
    .refine((name) => !RESERVED_NAMES.includes(name), `a name other than ${RESERVED_NAMES.join(', ')}`),
  mode: z.enum(['point', 'dynamic']),
  properties: z.array(specSchema),
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
  const wrong = plugin.properties.flatMap((spec, index) => specProblems(plugin, spec, index));
  if (wrong.length > 0) throw new Error(wrong.join('; '));
  return plugin;
}

function specProblems({ name, properties }: LookupPlugin, spec: PropertySpec, index: number): string[] {
  const problems: string[] = [];
  if (!/^[a-z0-9_-]+$/i.test(spec.name.slice(name.length + 1)) || !spec.name.startsWith(`${name}/`))
    problems.push(`property ${spec.name}: its name must begin with '${name}/'`);
  if (properties.findIndex((other) => other.name === spec.name) < index)
    problems.push(`property ${spec.name}: named twice`);
  if (spec.type === 'choice' && spec.choices === undefined)
    problems.push(`property ${spec.name}: a choice without choices`);
  if (spec.default !== undefined) {
    const parsed = parseValue(spec, spec.default);
    if ('expected' in parsed) problems.push(`property ${spec.name}: its default is not ${parsed.expected}`);
  }
  return problems;
}
