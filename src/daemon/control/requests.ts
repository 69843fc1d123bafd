/**
 * Checks a request against the row of its method (control/methods.ts), before a handler gets it.
 *
 * Only shapes are checked here: the code that uses a MAC or a name reports what is wrong with it.
 */
import * as z from 'zod';
import type { Kind } from '../../control/kinds.js';
import { type Method, METHOD_NAMES, type MethodName, METHODS, type Methods } from '../../control/methods.js';
import { OverlayError } from '../../model/errors.js';

/**
 * Longer than any valid name, MAC, endpoint or value; a row may allow more. An invalid one that is shorter
 * passes here, and the code that uses it reports it.
 */
const MAX_TEXT_CHARACTERS = 1024;
/** A request of 64 KiB cannot hold more properties or names. */
const MAX_ITEMS = 4096;

/** Problems of one request that are reported. */
const MAX_ISSUES = 10;

function schemaOf(kind: Kind): z.ZodType {
  switch (kind.is) {
    case 'text':
      return z.string().max(kind.max ?? MAX_TEXT_CHARACTERS);
    case 'flag':
      return z.boolean();
    case 'whole': {
      const { min, max } = kind;
      const atLeast = min === undefined ? z.int() : z.int().min(min);
      return max === undefined ? atLeast : atLeast.max(max);
    }
    case 'list':
      return z.array(schemaOf(kind.of)).max(MAX_ITEMS);
    case 'pair':
      return z.tuple([schemaOf(kind.first), schemaOf(kind.second)]);
  }
}

/** The check of the parameters of one method; the schema in config/ is made of it. */
export function schemaOfParams(params: Method['params']): z.ZodType {
  const members = Object.entries(params).map(([name, param]) => {
    const schema = schemaOf(param);
    return [name, param.isOptional ? schema.exactOptional() : schema] as const;
  });
  return z.strictObject(Object.fromEntries(members));
}

const SCHEMAS = new Map(METHOD_NAMES.map((name) => [name, schemaOfParams(METHODS[name].params)]));

/** Throws an OverlayError that names each invalid member. */
export function checkParams<M extends MethodName>(method: M, params: unknown): Methods[M]['params'] {
  const checked = SCHEMAS.get(method)!.safeParse(params ?? {});
  // The type of the parameters and their schema are made of the same row.
  if (checked.success) return checked.data as Methods[M]['params'];
  const { issues } = checked.error;
  const lines = issues
    .slice(0, MAX_ISSUES)
    .map(({ path, message }) => `${path.map(String).join('.') || 'params'}: ${message}`);
  if (issues.length > MAX_ISSUES) lines.push(`${issues.length - MAX_ISSUES} more`);
  throw new OverlayError('INVALID', `${method}: ${lines.join('; ')}`);
}
