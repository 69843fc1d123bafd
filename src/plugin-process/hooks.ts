/**
 * The imports of a plugin: `varpd/plugin` is the module of this varpd, from any directory, and an index.js that is
 * written as an ES module is one, even if no package.json says so. Node calls these functions in a thread of its own
 * (module.register).
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

export interface HookData {
  /** URL of the module `varpd/plugin`. */
  readonly plugin: string;
  /** URL of the plugin's directory, with a slash at the end. */
  readonly directory: string;
}

interface Resolved {
  readonly url: string;
  readonly format?: string | null | undefined;
}

let data: HookData;

export function initialize(given: HookData): void {
  data = given;
}

/** A line of a module that only an ES module has. */
const ES_MODULE = /^\s*(?:import\s*[\w{*'"]|export\s*(?:default|const|let|function|async|class|\{|\*))/m;

export async function resolve(
  specifier: string,
  context: unknown,
  next: (specifier: string, context: unknown) => Promise<Resolved>,
): Promise<Resolved & { readonly shortCircuit?: boolean }> {
  if (specifier === 'varpd/plugin') return { url: data.plugin, format: 'module', shortCircuit: true };
  const found = await next(specifier, context);
  const { url, format } = found;
  const isOwn = url.startsWith(data.directory) && !url.includes('/node_modules/');
  if (!isOwn || !/\.js(?:\?.*)?$/.test(url) || format === 'module') return found;
  try {
    const text = await readFile(fileURLToPath(url), 'utf8');
    return ES_MODULE.test(text) ? { ...found, format: 'module' } : found;
  } catch {
    return found; // Node says what is wrong with the file
  }
}
