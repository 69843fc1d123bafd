/**
 * The entry file of a plugin in a directory: the file that `"varpd": {"plugin": "./dist/index.js"}` in its package.json names,
 * otherwise index.js or index.mjs.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const ENTRIES = ['index.js', 'index.mjs'];
/** A package of this name has the plugin `x`. */
const PREFIX = 'varpd-plugin-';

/**
 * The entry file of the plugin that a directory has; undefined if it has none. A directory of node_modules is a plugin only if
 * its package.json says so. The file that a package.json names is returned even if it does not exist: its absence is an error
 * of the plugin.
 */
export function entryOf(directory: string): string | undefined {
  const named = packageEntry(directory);
  if (named !== undefined) return named;
  const parents = directory.split(path.sep).slice(0, -1);
  if (parents.at(-1) === 'node_modules' || parents.at(-2) === 'node_modules') return undefined;
  return ENTRIES.map((entry) => path.join(directory, entry)).find(existsSync);
}

/** The entry file that the package.json of a directory names as that of a plugin. */
export function packageEntry(directory: string): string | undefined {
  let plugin: unknown;
  try {
    const text = readFileSync(path.join(directory, 'package.json'), 'utf8');
    const { varpd } = JSON.parse(text) as { varpd?: { plugin?: unknown } | null };
    plugin = varpd?.plugin;
  } catch {
    // Without a package.json that can be read, the directory is no package.
    return undefined;
  }
  if (typeof plugin !== 'string') return undefined;
  const file = path.resolve(directory, plugin);
  // A package has its own files alone: a path that leads elsewhere would escape the check of its place.
  return file.startsWith(`${path.resolve(directory)}${path.sep}`) ? file : path.join(directory, 'index.js');
}

/** The name that the plugin of this entry file most probably has: that of its package, or of its directory. */
export function probableName(file: string): string {
  const above = [1, 2, 3].map((levels) => path.resolve(file, ...Array<string>(levels).fill('..')));
  const directory = above.find((one) => packageEntry(one) === file) ?? path.dirname(file);
  return path.basename(directory).replace(PREFIX, '');
}

/** Whether an operator may mean the plugin of this entry file by `name`, although it could not be loaded. */
export function mayBeNamed(file: string, name: string): boolean {
  const directories = file.split(path.sep).slice(-4, -1);
  return directories.some((directory) => directory === name || directory === `${PREFIX}${name}`);
}
