/**
 * Properties: named, typed values of an overlay (overlay-specs.ts lists them). They are set when it is created, and many
 * of them while it runs.
 * The text that an operator typed is read strictly. All errors are reported at once: each property that is
 * unknown, read-only, malformed, given twice or missing has a line of its own. Typed values and defaults are
 * kept apart, so that only the former are persisted.
 */
import type { PropertySpec, PropertyValue } from '../plugin/properties.js';
import { type IpAddress, parse as parseIp } from '../wire/ip.js';
import { type ErrorCode, OverlayError, STATUS_WORDS } from './errors.js';
import { GIVEN_TWICE } from './sentences.js';
import { refuseKind } from './property-kinds.js';
import { unknownProperty } from './suggest.js';

/** One property as `show-overlay` prints it. */
export interface PropertyRow {
  readonly property: string;
  readonly permission: 'rw' | 'r-';
  readonly required: boolean;
  readonly value: string | null;
  readonly default: string | null;
  readonly possible: string | null;
}

/** The specification of an overlay's property. One that is `rw` may change while the overlay runs. */
export interface OwnedSpec extends PropertySpec {
  readonly permission: 'rw' | 'r-';
  /** The reason why an `r-` property does not change while the overlay runs, and what to do instead. */
  readonly fixed?: string;
  /** varpd sets it, by other options of create-overlay: `-p` does not take it. */
  readonly isOwn?: true;
  /** An option of create-overlay always gives it, so it has no default. */
  readonly hasOption?: true;
  /** The possible values, if the type does not tell them. */
  readonly possible?: string;
  /** Reads the text in place of the rules of the type: a list of words, with commas between them. */
  readonly readList?: (text: string) => Parsed;
  /**
   * A last check of a value that already has the right type and is within bounds. Returns undefined for a good value, and
   * for a bad one the words that follow "expected" in the error: 'an absolute path'.
   */
  readonly refuse?: (value: PropertyValue) => string | undefined;
}

/** As typed: name and text. */
export type GivenProperty = readonly [name: string, text: string];

export const MIN_MTU_BYTES = 576; // illumos overlay, OVERLAY_MIN_MTU; RFC 791 3.1: what every IPv4 host takes
export const MAX_MTU_BYTES = 8900; // illumos overlay, OVERLAY_MAX_MTU: a 9000 byte underlay less any overhead
export const MAX_NAME_CHARACTERS = 63; // illumos overlay, OVERLAY_PROP_NAMELEN less the NUL
/** Most that `maxBytes` of a plugin's property may be: a list of servers fits. */
export const LARGEST_TEXT_BYTES = 4096;
export const MAX_TEXT_BYTES = 255; // illumos overlay, OVERLAY_PROP_SIZEMAX less the NUL
export const MAX_ID = 0x7fff_ffff; // illumos varpd: an INT32

// -- One value

export type Parsed = { readonly value: PropertyValue } | { readonly expected: string };

export const DECIMAL = /^(?:0|[1-9][0-9]{0,14})$/; // no sign, no leading zero, and never more than a double holds exactly
const CONTROL = /\p{Cc}/u;

/** Reads text that an operator typed, strictly. */
export function parseValue(
  spec: PropertySpec & Pick<OwnedSpec, 'refuse' | 'readList'>,
  text: string,
): Parsed {
  const parsed = spec.readList?.(text) ?? parseType(spec, text);
  if ('expected' in parsed) return parsed;
  const expected = spec.refuse?.(parsed.value) ?? (spec.kind && refuseKind(spec.kind, parsed.value));
  return expected === undefined ? parsed : { expected };
}

function parseType(spec: PropertySpec, text: string): Parsed {
  switch (spec.type) {
    case 'uint': {
      const { min = 0, max = Number.MAX_SAFE_INTEGER } = spec;
      const value = DECIMAL.test(text) ? Number(text) : NaN;
      return value >= min && value <= max ? { value } : { expected: `a whole number from ${min} to ${max}` };
    }
    case 'ip': {
      const value = parseIp(text);
      return value === undefined ? { expected: 'an IPv4 or IPv6 address' } : { value };
    }
    case 'choice':
      return spec.choices?.includes(text) === true
        ? { value: text }
        : { expected: `one of ${spec.choices?.join(', ') ?? 'nothing'}` };
    case 'string': {
      const { maxBytes = MAX_TEXT_BYTES } = spec;
      const bytes = new TextEncoder().encode(text).length;
      return bytes > 0 && bytes <= maxBytes && !CONTROL.test(text)
        ? { value: text }
        : { expected: `1 to ${maxBytes} bytes of text without control characters` };
    }
  }
}

/** Returns the possible values: `1-65535`, a comma-separated list, or null. */
export function possible(spec: OwnedSpec): string | null {
  if (spec.possible !== undefined) return spec.possible;
  if (spec.type === 'choice') return spec.choices?.join(',') ?? null;
  return spec.type === 'uint' && spec.max !== undefined && spec.max < MAX_ID
    ? `${spec.min ?? 0}-${spec.max}`
    : null;
}

// -- The values of one overlay

/** One error in the typed text. */
export interface Problem {
  readonly code: ErrorCode;
  readonly line: string;
}

export class PropertySet {
  readonly #specs: readonly OwnedSpec[];
  readonly #given: ReadonlyMap<string, PropertyValue>;
  /** Values that varpd set, and defaults. */
  readonly #defaults = new Map<string, PropertyValue>();
  readonly #fixed: ReadonlyMap<string, PropertyValue>;

  private constructor(
    specs: readonly OwnedSpec[],
    given: ReadonlyMap<string, PropertyValue>,
    fixed: Readonly<Record<string, PropertyValue>>,
  ) {
    this.#specs = specs;
    this.#given = given;
    this.#fixed = new Map(Object.entries(fixed));
    for (const spec of specs) if (spec.default !== undefined) this.#setDefault(spec, spec.default);
  }

  /**
   * Checks all typed values. `fixed` has the values that the create command gives by other means; to give one
   * of them again is an error unless the value is the same. Throws an OverlayError; its details have one line
   * for every property that is wrong or missing.
   */
  static from(
    specs: readonly OwnedSpec[],
    given: readonly GivenProperty[],
    fixed: Readonly<Record<string, PropertyValue>>,
  ): PropertySet {
    const values = new Map<string, PropertyValue>();
    const problems: Problem[] = [];
    for (const [name, text] of given) {
      const problem = take(specs, values, fixed, name, text);
      if (problem !== undefined) problems.push(problem);
    }
    const named = new Set(given.map(([name]) => name));
    for (const { name, required, default: fallback } of specs) {
      if (!required || fallback !== undefined || named.has(name)) continue;
      problems.push({ code: 'INVALID', line: `unset required property: ${name}` });
    }
    if (problems.length > 0) throw problemsError(problems);
    return new PropertySet(specs, values, fixed);
  }

  has(name: string): boolean {
    return this.#value(name) !== undefined;
  }

  uint(name: string): number {
    const value = this.#need(name);
    if (typeof value !== 'number') throw new OverlayError('INTERNAL', `property ${name} is not a number`);
    return value;
  }

  ip(name: string): IpAddress {
    return this.#need(name) as IpAddress;
  }

  text(name: string): string {
    return String(this.#need(name));
  }

  /** The value of a choice, as one of its words. */
  word<Word extends string>(name: string, words: readonly Word[]): Word {
    const value = this.#need(name);
    const found = words.find((word) => word === value);
    if (found === undefined)
      throw new OverlayError('INTERNAL', `property ${name} must be one of ${words.join(', ')}`);
    return found;
  }

  /** The values of the properties `prefix/...`, by the rest of their names. */
  valuesOf(prefix: string): Record<string, PropertyValue> {
    return Object.fromEntries(
      this.#specs.flatMap(({ name }) => {
        const value = name.startsWith(`${prefix}/`) ? this.#value(name) : undefined;
        return value === undefined ? [] : [[name.slice(prefix.length + 1), value]];
      }),
    );
  }

  wasGiven(name: string): boolean {
    return this.#given.has(name);
  }

  /** Sets a default that depends on other properties. */
  setDefault(name: string, value: PropertyValue): void {
    this.#defaults.set(name, value);
  }

  /** Returns the typed values in canonical spelling: only these need to be kept. Those that were given by other means too
   * are kept by these. */
  given(): [name: string, text: string][] {
    return [...this.#given].flatMap(([name, value]) =>
      this.#fixed.has(name) ? [] : [[name, String(value)] as [string, string]],
    );
  }

  /**
   * Lines about the properties that `asked` has otherwise. One that was not given has its default. A line has no
   * secret: it may have been typed in place of its name.
   */
  differences(asked: PropertySet): string[] {
    const ofBoth = (name: string, set: PropertySet): string | null =>
      textOf(set.#value(name) ?? this.#defaults.get(name) ?? asked.#defaults.get(name));
    return this.#specs.flatMap(({ name, kind, isOwn }) => {
      const [found, wanted] = [ofBoth(name, this), ofBoth(name, asked)];
      if (isOwn === true || found === wanted) return [];
      return kind === 'secret' ? [`${name} is another one than was asked for`] : [isNot(name, found, wanted)];
    });
  }

  rows(): PropertyRow[] {
    return this.#specs.map((spec) => ({
      property: spec.name,
      permission: spec.permission,
      required: spec.required,
      value: textOf(this.#value(spec.name)),
      default: textOf(this.#defaults.get(spec.name)),
      possible: possible(spec),
    }));
  }

  #setDefault(spec: PropertySpec, text: string): void {
    const parsed = parseValue(spec, text);
    if ('value' in parsed) this.#defaults.set(spec.name, parsed.value);
  }

  #value(name: string): PropertyValue | undefined {
    return this.#fixed.get(name) ?? this.#given.get(name) ?? this.#defaults.get(name);
  }

  #need(name: string): PropertyValue {
    const value = this.#value(name);
    if (value === undefined) throw new OverlayError('INTERNAL', `property ${name} has no value`);
    return value;
  }
}

/** `mtu is 1400, and not 1500` */
export function isNot(name: string, found: string | null, wanted: string | null): string {
  const shown = (text: string | null): string => (text === null || text === '' ? 'unset' : printable(text));
  return `${name} is ${shown(found)}, and not ${shown(wanted)}`;
}

function textOf(value: PropertyValue | undefined): string | null {
  return value === undefined ? null : String(value);
}

/** Adds one typed property to the values, or returns the error in it. */
function take(
  specs: readonly OwnedSpec[],
  values: Map<string, PropertyValue>,
  fixed: Readonly<Record<string, PropertyValue>>,
  name: string,
  text: string,
): Problem | undefined {
  const problem = (code: ErrorCode, what: string): Problem => ({
    code,
    line: `failed to set property ${printable(name)}: ${what}`,
  });
  const spec = specs.find((candidate) => candidate.name === name);
  if (spec === undefined) {
    const settable = specs.filter(({ isOwn }) => isOwn !== true);
    return problem(
      'NOT_FOUND',
      unknownProperty(
        name,
        settable.map((one) => one.name),
      ),
    );
  }
  if (spec.isOwn === true) return problem('DENIED', 'permission denied: varpd sets it');
  if (values.has(name)) return problem('INVALID', GIVEN_TWICE);
  const parsed = parseValue(spec, text);
  // The operator may have typed the secret in place of its name.
  if ('expected' in parsed && spec.kind === 'secret')
    return problem('INVALID', `expected ${parsed.expected} (not quoted: it may be the secret itself)`);
  if ('expected' in parsed) return problem('INVALID', foundExpected(text, parsed.expected));
  const same = Object.hasOwn(fixed, name) ? fixed[name] : undefined;
  if (same !== undefined && same !== parsed.value)
    return problem('INVALID', foundExpected(text, String(same)));
  values.set(name, parsed.value);
  return undefined;
}

/** Checks values for an overlay that exists. Throws an OverlayError with a line for each that is wrong. */
export function checkChanges(specs: readonly OwnedSpec[], given: readonly GivenProperty[]): void {
  const values = new Map<string, PropertyValue>();
  const changeable = specs.filter(({ permission }) => permission === 'rw');
  const problems = given.flatMap(([name, text]) => {
    const problem = refuseFixed(specs, name, 'set') ?? take(changeable, values, {}, name, text);
    return problem === undefined ? [] : [problem];
  });
  if (problems.length > 0) throw problemsError(problems);
}

/** Refuses, for an overlay that exists, a declaration that differs in properties which cannot change. */
export function checkDeclared(specs: readonly OwnedSpec[], names: readonly string[]): void {
  const problems = names.flatMap((name) => refuseFixed(specs, name, 'set') ?? []);
  if (problems.length > 0) throw problemsError(problems);
}

/** Checks the names of properties that are to have their defaults again. Throws as `checkChanges`. */
export function checkResets(specs: readonly OwnedSpec[], names: readonly string[]): void {
  const problems = names.flatMap((name): Problem[] => {
    const fixed = refuseFixed(specs, name, 'reset');
    if (fixed !== undefined) return [fixed];
    const line = `failed to reset property ${printable(name)}`;
    const spec = specs.find((one) => one.name === name);
    if (spec === undefined)
      return [{ code: 'NOT_FOUND', line: `${line}: ${unknownProperty(name, resettable(specs))}` }];
    return resettable(specs).includes(name)
      ? []
      : [{ code: 'INVALID', line: `${line}: it is required and has no default; set it` }];
  });
  if (problems.length > 0) throw problemsError(problems);
}

/** Names of the properties that may have their defaults again while the overlay runs. */
export function resettable(specs: readonly OwnedSpec[]): string[] {
  return specs
    .filter(
      ({ permission, required, hasOption, default: fallback }) =>
        permission === 'rw' && hasOption !== true && !(required && fallback === undefined),
    )
    .map(({ name }) => name);
}

function refuseFixed(specs: readonly OwnedSpec[], name: string, verb: 'set' | 'reset'): Problem | undefined {
  const { permission, fixed } = specs.find((spec) => spec.name === name) ?? { permission: 'rw' };
  return permission === 'rw'
    ? undefined
    : {
        code: 'UNSUPPORTED',
        line: `failed to ${verb} property ${name}: it is read-only: ${fixed ?? 'varpd sets it'}`,
      };
}

/** `found 'x', expected a whole number from 1 to 65535` */
export function foundExpected(found: string, expected: string): string {
  return `found '${printable(found)}', expected ${expected}`;
}

const SHOWN_CHARACTERS = 80; // a line of a terminal

/** Returns text from outside in a form that is safe for one line of a message or a log: control characters
 * become `\xNN`, and long text is cut. */
export function printable(text: string, maxCharacters = SHOWN_CHARACTERS): string {
  const escaped = text
    .slice(0, maxCharacters)
    .replace(
      /[\p{C}\p{Zl}\p{Zp}]/gu,
      (character) => `\\x${character.codePointAt(0)!.toString(16).padStart(2, '0')}`,
    );
  return text.length > maxCharacters ? `${escaped}...` : escaped;
}

/** Returns one error for all problems. Its code is theirs if they have the same one. */
export function problemsError(problems: readonly Problem[]): OverlayError {
  const [{ code, line }] = problems as [Problem, ...Problem[]];
  const shared = problems.every((problem) => problem.code === code) ? code : 'INVALID';
  const message = problems.length === 1 ? line : STATUS_WORDS[shared];
  return new OverlayError(
    shared,
    message,
    problems.map((problem) => problem.line),
  );
}
