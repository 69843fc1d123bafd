/** Reads typed values strictly: a value is valid as it is, or it is refused. */
import { checkName, NAME_RULE } from '../model/names.js';
import { formatMac, parseMac } from '../wire/mac.js';
import { type Arguments, UsageError, ValueError } from './command.js';

/** Decimal digits: no sign, no blanks, no leading zeros. The number may be too large to be exact. */
export function parseDecimal(text: string): number | undefined {
  return /^(?:0|[1-9][0-9]*)$/.test(text) ? Number(text) : undefined;
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

/** DLADM_STRSIZE of illumos less the NUL. */
const MAX_PROPERTY_LIST = 2047;

/** Checks the length of a list of properties, the argument of -p. */
export function refuseLongList(list: string): void {
  if (list.length > MAX_PROPERTY_LIST) throw new ValueError(`property list too long '${list}'`);
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

const ETHER_TYPES: Readonly<Partial<Record<string, number>>> = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd };

/** A whole number of this range; undefined if there is none. */
export function wholeFrom(
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

/** An EtherType by name or number; undefined if there is none. */
export function etherTypeFrom(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = /^0x[0-9a-f]{1,4}$/i.test(text) ? Number(text) : (ETHER_TYPES[text] ?? parseDecimal(text));
  if (value !== undefined && value <= 0xffff) return value;
  throw new ValueError(`invalid EtherType '${text}'`, [
    'an EtherType is ipv4, ipv6, arp, or a number: 0x8902',
  ]);
}
