/** Errors of the system in the words of this program. */
import { getSystemErrorMap } from 'node:util';
import { asOverlayError, errorCode, type ErrorCode, errorText, OverlayError } from '../model/errors.js';
import { notOfThisHost } from '../model/sentences.js';
import { ERRNO, type ErrnoName } from '../wire/errno.js';
import { type Endpoint, formatEndpoint } from '../wire/ip.js';

/** A sentence, with a code where the code of the errno would mislead. */
export type Explanation = string | { readonly code: ErrorCode; readonly line: string };

/** The errno name of a thrown value, or undefined. */
export function errnoName(error: unknown): string | undefined {
  const code = errorCode(error);
  return code !== undefined && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

/** The one errno of a file system that libuv, and so Node, has no name for. */
const NAMELESS_QUOTA = `Unknown system error ${-ERRNO.EDQUOT}`;

/**
 * The form of Node's messages, with the call before or after: `ENOENT: no such file or directory, open '/x'`,
 * and for sockets `listen EACCES: permission denied /x`.
 */
const NODE_ERROR = /^(?:\w+ )?(E[A-Z0-9]+): (.*?)(?:, \w+(?: '.*)?| \/\S*| \S+:\d+)?$/s;

/** Node's form without a sentence: `kill EPERM`, `connect ENOENT /x`. */
const BARE_ERROR = /^\w+ (E[A-Z0-9]+)(?: |$)/;
const SENTENCES: ReadonlyMap<string, string> = new Map(getSystemErrorMap().values());

/** The sentence alone: `no such file or directory`. Never fails, whatever was thrown. */
export function systemErrorText(error: unknown): string {
  const message = errorText(error);
  const errno = errnoName(error);
  if (message.startsWith(NAMELESS_QUOTA)) return 'disk quota exceeded';
  const [, name, sentence] = NODE_ERROR.exec(message) ?? [];
  if (errno !== undefined && BARE_ERROR.exec(message)?.[1] === errno) return SENTENCES.get(errno) ?? message;
  return errno !== undefined && name === errno ? sentence : message;
}

/** Causes that are followed: a library wraps an error two or three times. */
const MAX_CAUSES = 5;

/**
 * The sentence with those of its causes: `cannot read the table: connect ECONNREFUSED 127.0.0.1:80`. A cause that the
 * sentence has already is left out. Never fails, whatever was thrown: causes may go round, and reading one may throw.
 */
export function sentenceWithCauses(error: unknown): string {
  let sentence = systemErrorText(error);
  const seen = new Set<unknown>([error]);
  for (let cause = causeOf(error); cause !== undefined && !seen.has(cause); cause = causeOf(cause)) {
    if (seen.size > MAX_CAUSES) return `${sentence}: ...`;
    seen.add(cause);
    const text = systemErrorText(cause);
    if (!sentence.includes(text)) sentence = `${sentence}: ${text}`;
  }
  return sentence;
}

/** The cause of an error; without one, the first of the errors that it stands for (AggregateError). Never fails. */
function causeOf(error: unknown): unknown {
  try {
    if (!(error instanceof Error)) return undefined;
    if (error.cause !== undefined) return error.cause;
    return error instanceof AggregateError ? (error.errors as readonly unknown[]).at(0) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * An OverlayError with the sentence for the error's errno name; without such a sentence, with the error's
 * own.
 */
export function explain(
  error: unknown,
  sentences: Readonly<Partial<Record<ErrnoName, Explanation>>>,
): OverlayError {
  const plain = asOverlayError(error);
  const explanation = new Map<string, Explanation>(Object.entries(sentences)).get(errnoName(error) ?? '');
  if (OverlayError.is(error) || explanation === undefined) return plain;
  const { code, line } =
    typeof explanation === 'string' ? { code: plain.code, line: explanation } : explanation;
  return new OverlayError(code, line, [line], error);
}

/** For an address and port of TCP that a key of the configuration names. */
export function addressSentences(
  endpoint: Endpoint,
  key: string,
): Readonly<Partial<Record<ErrnoName, Explanation>>> {
  return {
    EADDRINUSE: `another program uses ${formatEndpoint(endpoint)}: choose another port for ${key}`,
    EADDRNOTAVAIL: notOfThisHost(endpoint.ip),
    EACCES: `varpd may not use port ${endpoint.port}: choose one above 1023`,
  };
}

/**
 * Directories that a service often has of its own, or not at all: systemd.exec(5), PrivateTmp= and
 * ProtectHome=.
 */
const HIDDEN = /(?:^|[\s'"])\/(?:tmp|var\/tmp|home|root|run\/user)\//;

/** Hint for a file that the operator can see and varpd cannot. Empty when the error has another cause. */
export function hiddenPathHint({ code, message }: OverlayError): string {
  return (code === 'NOT_FOUND' || code === 'DENIED') && HIDDEN.test(message)
    ? '; as a service, varpd may not see this path (PrivateTmp=, ProtectHome= of its unit): use /etc/varpd'
    : '';
}
