/** Stores of mappings that import-mapping and export-mapping know: the plugin that reads such a store does the work. */
import { asOverlayError } from '../model/errors.js';
import type { LookupPlugin } from '../plugin/contract.js';
import type { MappingStore, StoreTarget } from '../plugin/mapping-store.js';
import { CommandError, UsageError } from './command.js';
import { ESCAPES, parseProperty, splitList } from './values.js';

/** Scheme of a URL -> plugin. */
const PLUGINS: ReadonlyMap<string, string> = new Map([
  ['nats', 'nats'],
  ['tls', 'nats'],
]);

export const storeProperties = {
  name: 'prop',
  short: 'p',
  value: 'prop=value[,...]',
  repeatable: true,
  about:
    'access to the store: user; the files password, nkey, creds, ca, cert, key; for an import also create=on, which makes the bucket, and replicas; ' +
    ESCAPES,
} as const;

/** Loads the plugin that has the store. */
export async function storeOf(url: string): Promise<MappingStore> {
  const scheme = /^([a-z]+):\/\//.exec(url)?.[1];
  const name = PLUGINS.get(scheme ?? '');
  if (name === undefined)
    throw new UsageError(`expected the URL of a store, such as nats://host:4222/varpd-23, got: ${url}`);
  const plugin = await loadPlugin(name);
  if (plugin.store === undefined) throw new CommandError(`the plugin ${name} has no store`);
  return plugin.store;
}

/** Loads a plugin of varpd by its path, as varpd does. */
export async function loadPlugin(name: string): Promise<LookupPlugin> {
  const url = new URL(`../../plugins/${name}/index.js`, import.meta.url);
  return ((await import(url.href)) as { default: LookupPlugin }).default;
}

/** The version of the shape of `--json` of import-mapping and export-mapping (plugins/nats/README.md). */
export const TRANSFER_SHAPE = 1;

/** `lists` are the arguments of -p, as create-overlay takes them. Throws a ValueError. */
export function storeTarget(url: string, lists: readonly string[]): StoreTarget {
  const pairs = lists.flatMap(splitList).map((piece) => parseProperty(piece, 'store property'));
  return { url, properties: Object.fromEntries(pairs) };
}

/** Waits for the store, and turns its error into one of the command. */
export async function fromStore<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const own = asOverlayError(error);
    const { code } = own.code === 'INTERNAL' ? asOverlayError((error as Error).cause ?? error) : own;
    throw new CommandError((error as Error).message, [], code);
  }
}
