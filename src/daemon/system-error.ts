/** Errors of the system in the words of this program. */
import { asOverlayError, OverlayError } from '../core/errors.js';

/** The errno name of what was thrown, or nothing. */
export function errnoName(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/** `no such file or directory`: the sentence without the code before and the call behind it. */
export function systemErrorText(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return errnoName(error) === undefined ? message : message.replace(/^E[A-Z0-9]+: /, '').replace(/, \w+( '.*)?$/, '');
}

/** An OverlayError with the code of `error` and a sentence chosen by errno name; without one, the error's own. */
export function explain(error: unknown, sentences: Readonly<Record<string, string>>): OverlayError {
  const plain = asOverlayError(error);
  const sentence = sentences[errnoName(error) ?? ''];
  if (error instanceof OverlayError || sentence === undefined) return plain;
  return new OverlayError(plain.code, sentence, [sentence], error);
}
