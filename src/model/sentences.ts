/** Sentences, and parts of them, that are used in several places, so that each is spelled only here. */
import { OverlayError } from './errors.js';

/** `1 overlay`, `2 overlays`, `2 entries`. `many` is the plural, if it does not end with an s alone. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

// -- Expected values; they follow "expected"

export const oneOf = (words: readonly string[]): string => `one of ${words.join(', ')}`;

export const wholeNumber = (min: number, max: number): string => `a whole number from ${min} to ${max}`;

// -- Problems

/** `name` has been made safe for a message. */
export const failedToSet = (name: string, why: string): string => `failed to set property ${name}: ${why}`;

export const GIVEN_TWICE = 'it occurs twice: give it once';

export const notOfThisHost = (ip: string): string => `${ip} is not an address of this host`;

export const otherFamily = (text: string, listenIp: string): string =>
  `${text} is not of the same family as the listen address ${listenIp}`;

export const notASocket = (file: string): string =>
  `${file} exists and is not a socket: remove it, or choose another path`;

/** Says how a program ended. */
export const howEnded = (status: number | null, signal: string | null): string =>
  signal ?? `exit status ${status ?? '?'}`;

// -- Errors

/** `where`: the name of the overlay that uses it. */
export const inUse = (what: string, where: string): OverlayError =>
  new OverlayError('EXISTS', `${what} is in use on ${where}`);

/** `name` is temporary: it ends with varpd. So anything that is `doneToIt` must be temporary too. */
export const isTemporary = (name: string, doneToIt: string): OverlayError =>
  new OverlayError(
    'INVALID',
    `${name} is temporary, so everything ${doneToIt} it must be temporary too: use -t`,
  );
