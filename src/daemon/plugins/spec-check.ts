/**
 * Checks the properties that a plugin declares, before any overlay uses one. A mistake here would show only when an
 * operator types a value, or never: a bound that no value can satisfy, a member with a typing error.
 */
import { ENCAPSULATION_NAMES } from '../../encap/index.js';
import { LARGEST_TEXT_BYTES, MAX_NAME_CHARACTERS, parseValue, printable } from '../../model/properties.js';
import type { PropertyKind, PropertySpec } from '../../plugin/properties.js';

/** Prefixes of properties that do not belong to a plugin. */
export const RESERVED_NAMES: readonly string[] = [...ENCAPSULATION_NAMES, 'varpd'];

const TYPES = ['uint', 'ip', 'string', 'choice'] as const;
/** Kind -> the type that it narrows. */
const TYPE_OF_KIND: Readonly<Record<PropertyKind, PropertySpec['type']>> = {
  host: 'ip',
  path: 'string',
  url: 'string',
  endpoint: 'string',
  secret: 'string',
};
/** Member -> what its value is, and the types that it goes with; no types: all. */
const MEMBERS = {
  name: { is: isText, expected: 'text' },
  type: {
    is: (value: unknown) => TYPES.some((type) => type === value),
    expected: `one of ${TYPES.join(', ')}`,
  },
  required: { is: isFlag, expected: 'true or false' },
  default: { is: isText, expected: 'text, as an operator would type it' },
  min: { is: isWhole, expected: 'a whole number', types: ['uint'] },
  max: { is: isWhole, expected: 'a whole number', types: ['uint'] },
  maxBytes: {
    is: (value: unknown) => isWhole(value) && value >= 1 && value <= LARGEST_TEXT_BYTES,
    expected: `a whole number from 1 to ${LARGEST_TEXT_BYTES}`,
    types: ['string'],
  },
  choices: { is: areWords, expected: 'a list of words, at least one', types: ['choice'] },
  kind: {
    is: (value: unknown) => typeof value === 'string' && Object.hasOwn(TYPE_OF_KIND, value),
    expected: `one of ${Object.keys(TYPE_OF_KIND).join(', ')}`,
  },
  changeable: { is: isFlag, expected: 'true or false' },
  about: { is: isText, expected: 'a sentence' },
} satisfies Record<
  string,
  { is: (value: unknown) => boolean; expected: string; types?: readonly PropertySpec['type'][] }
>;
const NEEDED = ['name', 'type', 'required'] as const;

/** Every problem of the properties of this plugin, each as a sentence that names the property. */
export function specProblems(plugin: string, specs: readonly unknown[]): string[] {
  const names = specs.map((spec) => (isRecord(spec) ? spec['name'] : undefined));
  return specs.flatMap((spec, index) => {
    const name = names[index];
    const problems = problemsOf(plugin, spec);
    if (typeof name === 'string' && names.indexOf(name) < index) problems.push('is named twice');
    const what =
      typeof name === 'string' && name !== '' ? `property ${printable(name)}` : `properties[${index}]`;
    return problems.map((problem) => `${what} ${problem}`);
  });
}

function problemsOf(plugin: string, spec: unknown): string[] {
  if (!isRecord(spec)) return ['is no object'];
  const problems: string[] = [];
  for (const member of NEEDED) if (spec[member] === undefined) problems.push(`has no ${member}`);
  for (const [member, value] of Object.entries(spec)) {
    if (!Object.hasOwn(MEMBERS, member)) {
      problems.push(
        `has an unknown member ${printable(member)}, expected one of ${Object.keys(MEMBERS).join(', ')}`,
      );
      continue;
    }
    const { is, expected, ...rest } = MEMBERS[member as keyof typeof MEMBERS];
    if (value === undefined) continue;
    if (!is(value)) problems.push(`has a ${member} that is not ${expected}`);
    const types = 'types' in rest ? rest.types : TYPES;
    if (!types.some((type) => type === spec['type']) && isType(spec['type']))
      problems.push(`has a ${member}, which goes with type ${types.join(', ')} alone`);
  }
  // The members have their types from here on.
  return problems.length > 0 ? problems : contradictions(plugin, spec as unknown as PropertySpec);
}

function contradictions(plugin: string, spec: PropertySpec): string[] {
  const { name, type, min = 0, max = Number.MAX_SAFE_INTEGER, choices = [], kind } = spec;
  const problems: string[] = [];
  if (name.length > MAX_NAME_CHARACTERS) problems.push(`has more than ${MAX_NAME_CHARACTERS} characters`);
  if (!name.startsWith(`${plugin}/`) || !/^[a-z0-9_-]+$/i.test(name.slice(plugin.length + 1)))
    problems.push(`must begin with '${plugin}/' and go on with letters, digits, _ or -`);
  if (min > max) problems.push(`has a min of ${min} above its max of ${max}`);
  if (type === 'choice' && choices.length === 0) problems.push('is a choice without choices');
  const doubled = choices.find((word, index) => choices.indexOf(word) < index);
  if (doubled !== undefined) problems.push(`has the choice '${printable(doubled)}' twice`);
  if (kind !== undefined && TYPE_OF_KIND[kind] !== type)
    problems.push(`has the kind ${kind}, which goes with type ${TYPE_OF_KIND[kind]} alone`);
  if (problems.length === 0 && spec.default !== undefined) {
    const parsed = parseValue(spec, spec.default);
    if ('expected' in parsed) problems.push(`has a default that is not ${parsed.expected}`);
  }
  return problems;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function isType(value: unknown): value is PropertySpec['type'] {
  return TYPES.some((type) => type === value);
}

/** Text that can be shown in one line. */
function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '' && !/\p{Cc}/u.test(value);
}

function isFlag(value: unknown): boolean {
  return typeof value === 'boolean';
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Words that an operator can type: not empty, and without control characters. */
function areWords(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(isText);
}
