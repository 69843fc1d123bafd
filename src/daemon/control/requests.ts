/**
 * The shape of every request, checked before anything looks at it, and which of them change something.
 *
 * Only shapes: whether a MAC is a MAC and a name a name is said by those who use them, in their own words.
 */
import { z } from 'zod';
import type { MethodName, Methods } from '../../control/messages.js';
import { OverlayError } from '../../model/errors.js';
import { VNI_MAX } from '../../wire/vxlan.js';

/** Longer than any name, MAC, endpoint or value that is accepted; what does not fit is reported as it is. */
const MAX_TEXT_CHARACTERS = 1024;
/** A request of 64 KiB cannot hold more properties or names than this. */
const MAX_ITEMS = 4096;
/** Rows of the target table in one answer. illumos takes 500 (OVERLAY_TARGET_ITER_MAX) and asks for 100; here each page is a
 * walk over the whole table, so few are better. */
const MAX_TARGET_ROWS = 4096;

/** Of one request that are told of. */
const MAX_ISSUES = 10;

const text = z.string().max(MAX_TEXT_CHARACTERS);
const names = z.array(text).max(MAX_ITEMS).exactOptional();
const after = text.exactOptional();
const name = z.strictObject({ name: text });
const linkProperties = z.array(z.tuple([text, z.array(text).max(MAX_ITEMS)])).max(MAX_ITEMS);

type Schemas = { readonly [M in MethodName]: z.ZodType<Methods[M]['params']> };

const SCHEMAS: Schemas = {
  'overlay.create': z.strictObject({
    name: text,
    encap: text,
    search: text,
    vnetid: z.int().min(0).max(VNI_MAX),
    temporary: z.boolean(),
    properties: z.array(z.tuple([text, text])).max(MAX_ITEMS),
  }),
  'overlay.delete': z.strictObject({ name: text, temporary: z.boolean() }),
  'overlay.up': z.strictObject({ name: text.exactOptional() }),
  'overlay.list': z.strictObject({ names, after }),
  'overlay.targets': z.strictObject({
    name: text,
    after,
    limit: z.int().min(1).max(MAX_TARGET_ROWS).exactOptional(),
  }),
  'overlay.setTarget': z.strictObject({ name: text, mac: text, destination: text }),
  'overlay.deleteTarget': z.strictObject({ name: text, mac: text }),
  'overlay.flushTargets': name,
  'vnic.create': z.strictObject({
    name: text,
    over: text,
    mac: text.exactOptional(),
    vid: z.int().exactOptional(),
    properties: linkProperties.exactOptional(),
    temporary: z.boolean(),
  }),
  'vnic.delete': z.strictObject({ name: text, temporary: z.boolean() }),
  'vnic.list': z.strictObject({ names, over: text.exactOptional(), after }),
  'linkprop.set': z.strictObject({ name: text, temporary: z.boolean(), properties: linkProperties }),
  'linkprop.reset': z.strictObject({ name: text, temporary: z.boolean(), properties: names }),
  'linkprop.list': z.strictObject({ names, properties: names, persistent: z.boolean(), after }),
  'daemon.reload': z.strictObject({}),
  'daemon.restart': z.strictObject({}),
  'daemon.status': z.strictObject({}),
};

export const METHOD_NAMES = Object.keys(SCHEMAS) as readonly MethodName[];

/** Open to whoever reaches the socket; everything else is for root and the configured group. */
const READING: ReadonlySet<MethodName> = new Set([
  'overlay.list',
  'overlay.targets',
  'vnic.list',
  'linkprop.list',
  'daemon.status',
] satisfies MethodName[]);

export function changesSomething(method: MethodName): boolean {
  return !READING.has(method);
}

/** Throws an OverlayError that names each member that is not as it should be. */
export function checkParams<M extends MethodName>(method: M, params: unknown): Methods[M]['params'] {
  const checked = SCHEMAS[method].safeParse(params ?? {});
  if (checked.success) return checked.data;
  const { issues } = checked.error;
  const lines = issues
    .slice(0, MAX_ISSUES)
    .map(({ path, message }) => `${path.map(String).join('.') || 'params'}: ${message}`);
  if (issues.length > MAX_ISSUES) lines.push(`${issues.length - MAX_ISSUES} more`);
  throw new OverlayError('INVALID', `${method}: ${lines.join('; ')}`);
}
