/**
 * Rules for the names of overlays and VNICs. dladm refuses an invalid name before it asks varpd, and varpd
 * refuses it from any client.
 *
 * The rules are those of the manual: letters, digits, `_` and `.`; the first character is a letter; at the
 * end is a number from 0 to 4294967294 without leading zeros. The manual allows 31 characters. Here fewer are
 * allowed, since the name becomes that of a network interface.
 */

/** IFNAMSIZ of <linux/if.h> is 16 with the NUL. */
export const MAX_NAME_CHARACTERS = 15;

/** One less than the largest 32-bit number, as on illumos. */
const MAX_INSTANCE = 4_294_967_294;

const NAME = /^[A-Za-z](?:[A-Za-z0-9_.]*[A-Za-z_.])?(0|[1-9][0-9]*)$/;

export const NAME_RULE =
  `a name has at most ${MAX_NAME_CHARACTERS} letters, digits, '_' and '.', starts with a letter ` +
  `and ends in a number from 0 to ${MAX_INSTANCE} without leading zeros`;

/** Returns undefined if the name is valid. */
export function checkName(name: string): 'too long' | 'invalid' | undefined {
  if (name.length > MAX_NAME_CHARACTERS) return 'too long';
  const instance = NAME.exec(name)?.[1];
  return instance === undefined || Number(instance) > MAX_INSTANCE ? 'invalid' : undefined;
}
