/**
 * Sends one request to varpd and waits for the answer.
 *
 * Every call has a connection of its own. A local connection costs next to nothing, and with one request on
 * it there are no answers to sort. So this is plain code instead of the client of json-rpc-2.0, which would
 * still need the socket, the framing, the time-out and the messages about failures.
 */
import { connect } from 'node:net';

import { encodeMessage, MessageReader } from './framing.js';
import { type ErrorData, MAX_REQUEST_BYTES } from './messages.js';
import type { MethodName, Methods } from './methods.js';

/** varpd has answered with an error. */
export class ControlError extends Error implements ErrorData {
  override readonly name = 'ControlError';
  readonly reason: string;
  readonly status: number;
  readonly words: string;
  readonly details: readonly string[];
  readonly hint: string | null;

  constructor(message: string, { reason, status, words, details, hint }: ErrorData) {
    super(message);
    this.reason = reason;
    this.status = status;
    this.words = words;
    this.details = details;
    this.hint = hint;
  }
}

export type ConnectionFailure =
  'NO_DAEMON' | 'DENIED' | 'CLOSED' | 'TIMEOUT' | 'PROTOCOL' | 'TOO_LONG' | 'UNREACHABLE';

/**
 * There is no answer, and the message says why. Except for NO_DAEMON and DENIED the request may have been
 * carried out.
 */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError';

  /** The message is the problem, and what to do about it, if there is a hint. */
  constructor(
    readonly code: ConnectionFailure,
    readonly problem: string,
    readonly hint: string | null = null,
    cause?: unknown,
  ) {
    super(hint === null ? problem : `${problem}: ${hint}`, { cause });
  }
}

export type Call = <M extends MethodName>(
  method: M,
  params: Methods[M]['params'],
) => Promise<Methods[M]['result']>;

export interface ClientOptions {
  /**
   * Time without a byte from the daemon, which sends one every few seconds as long as it works on the answer.
   */
  readonly silenceMs?: number;
  /** From the connection's start to the whole answer. */
  readonly timeoutMs?: number;
  readonly maxAnswerBytes?: number;
  /** Ends a call that is under way, which rejects. */
  readonly signal?: AbortSignal;
}

/** Six missed signs of life mean that the daemon's control thread hangs. */
const DEFAULT_SILENCE_MS = 30_000;
/**
 * Time for ten plugins to start one after the other, each with its whole deadline, so that the daemon can
 * report its failure before this clock ends the wait.
 */
const DEFAULT_TIMEOUT_MS = 600_000;
/** A thousand overlays with all their properties and counters are about 4 MiB. */
const DEFAULT_MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** sun_path of <sys/un.h> has 108 with the NUL; libuv cuts a longer path, and would find another file. */
const MAX_PATH_BYTES = 107;
/** Each call has its own connection, so any number does. */
export const REQUEST_ID = 1;
/** Exit status for an error that comes without one. */
const FAILED = 1;

export function createClient(socketPath: string, options: ClientOptions = {}): Call {
  return async <M extends MethodName>(method: M, params: Methods[M]['params']) => {
    const request = encodeMessage({ jsonrpc: '2.0', id: REQUEST_ID, method, params });
    const bytes = Buffer.byteLength(request) - 1;
    if (bytes > MAX_REQUEST_BYTES) {
      const limit = `varpd takes at most ${MAX_REQUEST_BYTES}`;
      throw new ConnectionError('TOO_LONG', `the request is too long: ${bytes} bytes, ${limit}`);
    }
    if (Buffer.byteLength(socketPath) > MAX_PATH_BYTES) {
      const limit = `the path of a socket has at most ${MAX_PATH_BYTES} bytes`;
      throw new ConnectionError('UNREACHABLE', `${cannotReach(socketPath)}: ${limit}`);
    }
    const answer = await exchange(socketPath, method, request, options);
    return resultOf(answer, socketPath) as Methods[M]['result'];
  };
}

/** Sends one line, and resolves with the value of the first line that comes back. */
function exchange(
  socketPath: string,
  method: MethodName,
  request: string,
  {
    silenceMs = DEFAULT_SILENCE_MS,
    timeoutMs = DEFAULT_TIMEOUT_MS,
    maxAnswerBytes = DEFAULT_MAX_ANSWER_BYTES,
    signal,
  }: ClientOptions,
): Promise<unknown> {
  // Not end(): a server that closes when its peer has finished writing would close before it has answered.
  const socket = connect({ path: socketPath }, () => socket.write(request));
  // Not the option of connect(), which keeps a listener for each connection.
  const abandon = (): void => {
    socket.destroy(new Error(`${method} was abandoned`));
  };
  if (signal?.aborted) abandon();
  signal?.addEventListener('abort', abandon);
  const timers: NodeJS.Timeout[] = [];
  return new Promise((resolve, reject) => {
    const fail = (code: ConnectionFailure, message: string): void => {
      reject(new ConnectionError(code, message));
    };
    const reader = new MessageReader(maxAnswerBytes, {
      message: (value) => {
        reader.stop();
        resolve(value);
      },
      problem: (problem) => {
        if (problem === 'ends inside a line') fail('CLOSED', `varpd at ${socketPath} broke off its answer`);
        else fail('PROTOCOL', `cannot read the answer from ${socketPath}: ${problem}; is that varpd?`);
      },
    });
    const giveUp = (what: string) => () => {
      fail('TIMEOUT', `varpd at ${socketPath} ${what}; it may still carry it out`);
    };
    const silence = setTimeout(
      giveUp(`did not answer ${method}, and gave no sign of life for ${silenceMs / 1000} s`),
      silenceMs,
    );
    const whole = setTimeout(giveUp(`did not answer ${method} within ${timeoutMs / 1000} s`), timeoutMs);
    timers.push(silence, whole);
    socket.on('data', (chunk) => {
      silence.refresh();
      reader.push(chunk);
    });
    socket.on('end', () => {
      reader.end();
      fail('CLOSED', closedText(socketPath));
    });
    socket.on('error', (error) => {
      reject(connectionError(socketPath, error));
    });
  }).finally(() => {
    timers.forEach(clearTimeout);
    signal?.removeEventListener('abort', abandon);
    socket.destroy();
  });
}

const cannotReach = (socketPath: string): string => `cannot reach varpd at ${socketPath}`;

export function closedText(socketPath: string): string {
  return `varpd at ${socketPath} closed the connection without an answer`;
}

export function connectionError(socketPath: string, error: NodeJS.ErrnoException): ConnectionError {
  const cannot = cannotReach(socketPath);
  switch (error.code) {
    case 'ENOENT':
      return new ConnectionError('NO_DAEMON', `${cannot}: no such socket`, 'is varpd running?', error);
    case 'ECONNREFUSED':
      return new ConnectionError('NO_DAEMON', `${cannot}: no program listens there`, 'start varpd', error);
    case 'EACCES':
    case 'EPERM': {
      const who = "only root and the group named in varpd's configuration may";
      return new ConnectionError('DENIED', `${cannot}: permission denied`, who, error);
    }
    case 'EPIPE':
    case 'ECONNRESET':
      return new ConnectionError('CLOSED', closedText(socketPath), null, error);
    default:
      return new ConnectionError('UNREACHABLE', `${cannot}: ${error.message}`, null, error);
  }
}

/**
 * The result of a JSON-RPC 2.0 response; throws its error as a ControlError. The content of the result is
 * trusted.
 */
export function resultOf(answer: unknown, socketPath: string): unknown {
  if (isRecord(answer) && answer['jsonrpc'] === '2.0') {
    const { id, error } = answer;
    // A request that the daemon could not read is answered without its id (JSON-RPC 2.0, section 5).
    if (isRecord(error) && (id === REQUEST_ID || id === null)) throw controlError(error);
    if ('result' in answer && id === REQUEST_ID) return answer['result'];
  }
  throw new ConnectionError(
    'PROTOCOL',
    `the answer from ${socketPath} is no JSON-RPC 2.0 response; is that varpd?`,
  );
}

/** An answer of a program that is not varpd may lack any member. */
function controlError({ message, data }: Record<string, unknown>): ControlError {
  const { reason, status, words, details, hint } = inPresentForm(isRecord(data) ? data : {});
  return new ControlError(typeof message === 'string' ? message : 'varpd gave no reason: see its log', {
    reason: typeof reason === 'string' ? reason : 'INTERNAL',
    status: typeof status === 'number' ? status : FAILED,
    words: typeof words === 'string' ? words : 'operation failed',
    details: Array.isArray(details) ? details.map(String) : [],
    hint: typeof hint === 'string' ? hint : null,
  });
}

/**
 * A varpd that was started before dladm was replaced has `code` for `reason`, the words in `status`, and no
 * number.
 */
function inPresentForm(data: Record<string, unknown>): Record<string, unknown> {
  return typeof data['status'] === 'string'
    ? { ...data, reason: data['code'], status: undefined, words: data['status'] }
    : data;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
