/**
 * What an overlay or a VNIC may be called. dladm refuses a bad name before it asks, varpd whoever asks.
 *
 * The manual's rules, all of them: letters, digits, `_` and `.`; a letter first; last a number from 0 to 4294967294
 * without leading zeros. The name becomes a network interface, so it is shorter than the 31 characters of the manual.
 */

/** IFNAMSIZ of <linux/if.h> is 16 with the NUL. */
export const MAX_NAME_CHARACTERS = 15;

/** One less than the largest 32-bit number, as on illumos. */
const MAX_INSTANCE = 4_294_967_294;

const NAME = /^[A-Za-z](?:[A-Za-z0-9_.]*[A-Za-z_.])?(0|[1-9][0-9]*)$/;

export const NAME_RULE =
  `a name has at most ${MAX_NAME_CHARACTERS} letters, digits, '_' and '.', starts with a letter ` +
  `and ends in a number from 0 to ${MAX_INSTANCE} without leading zeros`;

/** Undefined when the name is good. */
export function checkName(name: string): 'too long' | 'invalid' | undefined {
  if (name.length > MAX_NAME_CHARACTERS) return 'too long';
  const instance = NAME.exec(name)?.[1];
  return instance === undefined || Number(instance) > MAX_INSTANCE ? 'invalid' : undefined;
}
