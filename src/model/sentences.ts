/** Sentences, and parts of them, that several places say: each is spelled here alone. */
import { OverlayError } from './errors.js';

// -- What may be typed; behind "expected"

export const oneOf = (words: readonly string[]): string => `one of ${words.join(', ')}`;

export const wholeNumber = (min: number, max: number): string => `a whole number from ${min} to ${max}`;

// -- What is wrong

/** `name` is fit for a message. */
export const failedToSet = (name: string, why: string): string => `failed to set property ${name}: ${why}`;

export const GIVEN_TWICE = 'it is given twice';

export const notOfThisHost = (ip: string): string => `${ip} is not an address of this host`;

export const otherFamily = (text: string, listenIp: string): string =>
  `${text} is not of the same family as the listen address ${listenIp}`;

export const notASocket = (file: string): string => `${file} is there and is not a socket`;

/** How a program has ended. */
export const howEnded = (status: number | null, signal: string | null): string =>
  signal ?? `exit status ${status ?? '?'}`;

// -- Errors

/** `where` names the overlay that has it. */
export const inUse = (what: string, where: string): OverlayError =>
  new OverlayError('EXISTS', `${what} is in use on ${where}`);

/** `name` ends with varpd, so what is `doneToIt` cannot stay. */
export const isTemporary = (name: string, doneToIt: string): OverlayError =>
  new OverlayError('INVALID', `${name} is temporary, so must be what is ${doneToIt} it: use -t`);
