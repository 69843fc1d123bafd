/** Errors as plain data, and back. None of these functions can fail, whatever a plugin has thrown. */
import { MAX_TEXT_CHARACTERS, type PlainError } from './messages.js';

/** Causes that are followed. */
const MAX_DEPTH = 5;

/** A text out of a value that may throw when it is read. */
function read(get: () => unknown): string | undefined {
  try {
    const value = get();
    return typeof value === 'string' ? value.slice(0, MAX_TEXT_CHARACTERS) : undefined;
  } catch {
    return undefined;
  }
}

function isError(value: unknown): value is Error {
  try {
    return value instanceof Error;
  } catch {
    return false; // a Proxy
  }
}

export function plainError(thrown: unknown, depth = 0): PlainError {
  if (!isError(thrown)) {
    const text = read(() => String(thrown)) ?? `a value of type ${typeof thrown} that cannot be shown`;
    return { name: 'Thrown', message: text };
  }
  const name = read(() => thrown.name) ?? 'Error';
  const code = read(() => (thrown as NodeJS.ErrnoException).code);
  const stack = name === 'SyntaxError' ? read(() => thrown.stack) : undefined;
  let cause: unknown;
  try {
    cause = thrown.cause;
  } catch {
    cause = undefined;
  }
  return {
    name,
    message: read(() => thrown.message) ?? 'a message that cannot be shown',
    ...(code !== undefined && { code }),
    ...(stack !== undefined && { stack }),
    ...(cause !== undefined && depth < MAX_DEPTH && { cause: plainError(cause, depth + 1) }),
  };
}

/** The error that varpd reports. `value` comes from a plugin process, and may be anything. */
export function errorOf(value: unknown, depth = 0): Error {
  const { name, message, code, stack, cause } = (
    typeof value === 'object' && value !== null ? value : {}
  ) as Partial<PlainError>;
  const text = typeof message === 'string' ? message : 'an error without a message';
  const rest = cause !== undefined && depth < MAX_DEPTH ? { cause: errorOf(cause, depth + 1) } : {};
  const error = new Error(text, rest);
  if (typeof name === 'string') error.name = name;
  if (typeof code === 'string') Object.assign(error, { code });
  error.stack = typeof stack === 'string' ? stack : '';
  return error;
}

/** JSON of a value of a plugin. Throws an Error when the value is no plain data. */
export function plainText(value: unknown): string {
  const text = JSON.stringify(value);
  // Values that JSON does not have have become null.
  return text.includes('null') ? JSON.stringify(value, (_key, member: unknown) => spelled(member)) : text;
}

function spelled(value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value))
    return Number.isNaN(value) ? 'NaN' : Math.sign(value) * Number.MAX_VALUE;
  return typeof value === 'function' ? '[function]' : value;
}
