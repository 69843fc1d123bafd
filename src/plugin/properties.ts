/** The properties that a plugin declares, and the types of their values (contract.ts has the rest of the contract). */
import type { IpAddress } from '../wire/ip.js';

/** Value of a property: a whole number, or text. The text of an address is an IpAddress. */
export type PropertyValue = number | string;

/** One property that a plugin owns. `dladm create-overlay -p` sets it, and `dladm show-overlay` shows it. */
export interface PropertySpec {
  /** `plugin/property`, at most 63 characters. */
  readonly name: string;
  readonly type: 'uint' | 'ip' | 'string' | 'choice';
  /** create-overlay fails without a required property. Its error names all that are missing. */
  readonly required: boolean;
  /** The text that an operator would type. */
  readonly default?: string;
  /** Bounds of a `uint`, inclusive. */
  readonly min?: number;
  readonly max?: number;
  /** Longest text of a `string`, at most 4096 bytes of UTF-8. Default 255. */
  readonly maxBytes?: number;
  /** The permitted words of a `choice`. */
  readonly choices?: readonly string[];
  /** A narrower meaning, which varpd checks before a plugin sees the value. */
  readonly kind?: PropertyKind;
  /** The value may change while the overlay runs (`Instance.change`). */
  readonly changeable?: boolean;
  /** One sentence about the property, for `dladm show-overlay` and the documents. */
  readonly about?: string;
}

/**
 * Kinds of values. For type `ip`: `host`, an address that another host can have. For type `string`: `path`, an absolute
 * path without empty, `.` or `..` parts; `url`, an http or https URL without user and password; `endpoint`, host and
 * port; `secret`, the name of a secret (`Host.secret`).
 */
export type PropertyKind = 'host' | 'path' | 'url' | 'endpoint' | 'secret';

/** The value of one property, as its spec says: `'string'` -> string, a choice -> its words. */
export type ValueOf<S extends PropertySpec> = S['type'] extends 'uint'
  ? number
  : S['type'] extends 'choice'
    ? S extends { readonly choices: readonly (infer Word)[] }
      ? Word
      : string
    : S['type'] extends 'ip'
      ? IpAddress
      : string;

type KeyOf<S extends PropertySpec> = S['name'] extends `${string}/${infer Key}` ? Key : never;
type IsAlwaysSet<S extends PropertySpec> = S extends
  { readonly required: true } | { readonly default: string }
  ? true
  : false;

/**
 * The properties of one overlay, checked against their specs: an object with the names behind the slash as keys. With
 * specs written in place (`definePlugin`), its type follows from them: `{ name: 'mine/url', type: 'string', required:
 * true }` makes `properties.url` a string. A property without a value is absent.
 */
export type Properties<Specs extends readonly PropertySpec[] = readonly PropertySpec[]> =
  string extends Specs[number]['name']
    ? Readonly<Record<string, PropertyValue | undefined>>
    : {
        readonly [S in Specs[number] as IsAlwaysSet<S> extends true ? KeyOf<S> : never]: ValueOf<S>;
      } & {
        readonly [S in Specs[number] as IsAlwaysSet<S> extends true ? never : KeyOf<S>]?: ValueOf<S>;
      };
