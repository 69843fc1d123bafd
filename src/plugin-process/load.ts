/** Imports the entry file of a plugin, and describes its default export. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { register } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { LookupPlugin } from '../plugin/contract.js';
import type { HookData } from './hooks.js';
import { type Description, FUNCTION, type LoadOrder, PLUGIN_NAME } from './messages.js';

/** Node takes 50 ms to read a file. */
const SYNTAX_MS = 3000;

/** Members of a plugin that varpd asks about. Those of a class are not its own, so they are named here. */
const MEMBERS = [
  'apiVersion',
  'name',
  'mode',
  'properties',
  'open',
  'close',
  'create',
  'refuse',
  'check',
] as const satisfies readonly (keyof LookupPlugin)[];

export interface Loaded {
  readonly plugin: LookupPlugin;
  readonly description: Description;
}

/** Rejects with the error of the import. `stateRoot`: the directory of all state directories. */
export async function load({ file, isTrial, state }: LoadOrder, stateRoot: string): Promise<Loaded> {
  const url = pathToFileURL(file);
  const hooks: HookData = {
    plugin: new URL('../plugin/index.js', import.meta.url).href,
    directory: pathToFileURL(`${path.dirname(file)}/`).href,
  };
  register('./hooks.js', import.meta.url, { data: hooks });
  let module: { readonly default?: unknown };
  try {
    module = (await import(url.href)) as { readonly default?: unknown };
  } catch (error) {
    throw placed(error, file, hooks.directory);
  }
  const plugin = module.default as LookupPlugin;
  const name: unknown = (module.default as { readonly name?: unknown } | null | undefined)?.name;
  const isNamed = typeof name === 'string' && PLUGIN_NAME.test(name);
  const isItsOwn = isNamed && isTrial !== true && (state === undefined || state === name);
  const stateDir = isItsOwn ? makeStateDir(path.join(stateRoot, name)) : stateRoot;
  return { plugin, description: { plugin: plainMembers(plugin), line: lineOfDefault(file), stateDir } };
}

/** Makes the directory, which becomes the working directory. */
function makeStateDir(directory: string): string {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  process.chdir(directory);
  return directory;
}

function plainMembers(plugin: unknown): unknown {
  if (typeof plugin !== 'object' || plugin === null) return plugin;
  const members = MEMBERS.map((name) => [name, (plugin as Record<string, unknown>)[name]] as const);
  const spell = (_key: string, value: unknown): unknown => (typeof value === 'function' ? FUNCTION : value);
  return JSON.parse(JSON.stringify(Object.fromEntries(members), spell)) as unknown;
}

/** An error with the place where it was thrown before its message, if that is in the plugin. */
function placed(thrown: unknown, file: string, directory: string): unknown {
  if (!(thrown instanceof Error)) return thrown;
  if (thrown.name === 'SyntaxError') {
    const place = syntaxPlace(file);
    return place === undefined ? thrown : new Error(`${place}: a syntax error`);
  }
  const line = String(thrown.stack)
    .split('\n')
    .find((each) => /^\s+at /.test(each) && each.includes(directory));
  const found = /\(?(file:\/\/[^\s()]+):(\d+):(\d+)\)?$/.exec(line ?? '');
  if (found === null) return thrown;
  const place = `${decodeURIComponent(new URL(found[1]).pathname)}:${found[2]}:${found[3]}`;
  const { code } = thrown as NodeJS.ErrnoException;
  return Object.assign(new Error(`${place}: ${thrown.message}`, { cause: thrown }), {
    ...(code !== undefined && { code }),
  });
}

/** The place of a syntax error in the file, which Node says on standard error alone. */
function syntaxPlace(file: string): string | undefined {
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '--check'], {
    encoding: 'utf8',
    input: readFileSync(file),
    timeout: SYNTAX_MS,
  });
  const found = /^\[stdin\]:(\d+)\n[^\n]*\n( *)\^/m.exec(stderr);
  return found === null ? undefined : `${file}:${found[1]}:${found[2].length + 1}`;
}

function lineOfDefault(file: string): number {
  try {
    const lines = readFileSync(file, 'utf8').split('\n');
    return (
      lines.findIndex((line) =>
        /^\s*export\s+(?:default\b|\{.*\bas\s+default\b)|^\s*module\.exports\b/.test(line),
      ) + 1
    );
  } catch {
    return 0;
  }
}
