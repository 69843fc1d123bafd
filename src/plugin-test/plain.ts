/**
 * Values that cross a process: plain data. varpd runs a plugin in a process of its own, and a value that cannot be written
 * down does not arrive there. The kit looks at every value that crosses, in a process where it would pass.
 */

/** Deeper data is a mistake, or has no end. */
const MAX_DEPTH = 8;

/**
 * Returns where a value is not plain, and what was found: `to.ip: a function`. Undefined for plain data: text, finite numbers
 * (and Infinity), truth values, null, undefined, plain objects and lists of these.
 */
export function unplain(value: unknown, at = ''): string | undefined {
  return look(value, at, []);
}

function look(value: unknown, at: string, above: readonly object[]): string | undefined {
  const here = (what: string): string => (at === '' ? what : `${at}: ${what}`);
  if (value === null || ['string', 'boolean', 'undefined'].includes(typeof value)) return undefined;
  if (typeof value === 'number') return Number.isNaN(value) ? here('NaN') : undefined;
  if (typeof value !== 'object') return here(`a ${typeof value}`);
  if (above.includes(value)) return here('a cycle');
  if (above.length >= MAX_DEPTH) return here(`data of more than ${MAX_DEPTH} levels`);
  const inner = [...above, value];
  if (Array.isArray(value)) return first(value.entries(), (index) => `${at}[${index}]`, inner);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null)
    return here(`an object of class ${classOf(value)}`);
  const symbol = Object.getOwnPropertySymbols(value).at(0);
  if (symbol !== undefined) return here(`a property with a symbol as its name, ${String(symbol)}`);
  for (const [key, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(value)))
    if (!('value' in descriptor)) return `${join(at, key)}: a getter`;
  return first(Object.entries(value), (key) => join(at, key), inner);
}

function first<K extends string | number>(
  entries: Iterable<[K, unknown]>,
  name: (key: K) => string,
  above: readonly object[],
): string | undefined {
  for (const [key, value] of entries) {
    const found = look(value, name(key), above);
    if (found !== undefined) return found;
  }
  return undefined;
}

const join = (at: string, key: string): string => (at === '' ? key : `${at}.${key}`);

function classOf(value: object): string {
  const { constructor } = value as { constructor?: { name?: unknown } };
  return typeof constructor?.name === 'string' && constructor.name !== '' ? constructor.name : 'unknown';
}
