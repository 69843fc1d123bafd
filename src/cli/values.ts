/** Reads typed values strictly: a value is valid as it is, or it is refused. */
import { checkName, NAME_RULE } from '../model/names.js';
import { printable } from '../model/properties.js';
import { formatMac, parseMac } from '../wire/mac.js';
import { type Arguments, UsageError, ValueError } from './command.js';

/** Decimal digits: no sign, no blanks, no leading zeros. The number may be too large to be exact. */
export function parseDecimal(text: string): number | undefined {
  return /^(?:0|[1-9][0-9]*)$/.test(text) ? Number(text) : undefined;
}

/** A whole number in a range; undefined when the option is missing. */
export function wholeOf(
  text: string | undefined,
  what: string,
  min: number,
  max: number,
): number | undefined {
  if (text === undefined) return undefined;
  const value = parseDecimal(text);
  if (value !== undefined && value >= min && value <= max) return value;
  throw new ValueError(`invalid ${what} '${text}'; valid range: ${min} - ${max}`);
}

/** A valid name for something new. */
export function requireName(name: string): string {
  const problem = checkName(name);
  if (problem === 'too long') throw new ValueError(`link name too long '${name}'`, [NAME_RULE]);
  if (problem === 'invalid') throw new ValueError(`invalid link name '${name}'`, [NAME_RULE]);
  return name;
}

/** A MAC in the form that varpd expects: lower case and padded. */
export function requireMac(text: string): string {
  const mac = parseMac(text);
  if (mac !== undefined) return formatMac(mac);
  throw new ValueError(`invalid mac address: ${text}`, [
    'a MAC address is six groups of one or two hexadecimal digits: 02:00:5e:00:53:1',
  ]);
}

/** Four values of the greatest length (LARGEST_TEXT_BYTES); illumos takes 2,047 bytes (DLADM_STRSIZE). */
const MAX_PROPERTY_LIST = 16_384;

/** The rule of `splitList`, for the texts of help. */
export const ESCAPES = String.raw`\, is a comma inside a value, \\ a backslash`;

/**
 * The pieces of a list of properties, the argument of -p. A comma separates two pieces; `\,` is a comma inside a
 * piece, and `\\` a backslash. An empty list has one piece, the empty one. Throws a ValueError.
 */
export function splitList(list: string): string[] {
  if (list.length > MAX_PROPERTY_LIST) throw new ValueError(`property list too long '${printable(list)}'`);
  const pieces = [''];
  for (let index = 0; index < list.length; index++) {
    const isEscape = list[index] === '\\';
    if (isEscape && list[++index] !== ',' && list[index] !== '\\')
      throw new ValueError(`stray backslash in property list '${printable(list)}'`, [
        `a backslash stands before a comma or a backslash: ${ESCAPES}`,
      ]);
    if (!isEscape && list[index] === ',') pieces.push('');
    else pieces[pieces.length - 1] += list[index];
  }
  return pieces;
}

/** One piece of such a list as name and value. `what` is in the error: `overlay property`. Throws a ValueError. */
export function parseProperty(piece: string, what: string): [name: string, value: string] {
  const match = /^([^=]+)=(.+)$/s.exec(piece);
  if (match === null) throw new ValueError(`invalid ${what}`, [`expected prop=value, got: ${piece}`]);
  return [match[1], match[2]];
}

export function refuseOperands({ operands }: Arguments<never>): void {
  if (operands.length > 0) throw new UsageError(`expected no operand, got: ${operands.join(' ')}`);
}

export function requireOneOperand(args: Arguments<never>, what: string): string {
  const { operands } = args;
  if (operands.length === 0) throw new UsageError(`missing ${what} name`);
  if (operands.length > 1) throw new UsageError(`expected one ${what} name, got: ${operands.join(' ')}`);
  return operands[0];
}

export const MAX_VID = 4094; // IEEE 802.1Q-2018 table 9-2

export const ETHER_TYPES: Readonly<Partial<Record<string, number>>> = {
  ipv4: 0x0800,
  arp: 0x0806,
  ipv6: 0x86dd,
};

/** An EtherType by name or number; undefined if there is none. */
export function etherTypeFrom(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = /^0x[0-9a-f]{1,4}$/i.test(text) ? Number(text) : (ETHER_TYPES[text] ?? parseDecimal(text));
  if (value !== undefined && value <= 0xffff) return value;
  throw new ValueError(`invalid EtherType '${text}'`, [
    'an EtherType is ipv4, ipv6, arp, or a number: 0x8902',
  ]);
}
