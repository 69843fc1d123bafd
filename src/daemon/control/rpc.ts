/**
 * JSON-RPC 2.0 between the framing and the handlers: the check of a request and of the caller's rights, and
 * the form of the answer.
 *
 * This is plain code instead of json-rpc-2.0's server. That server throws on `null`, echoes ids that are
 * none, and answers a batch of one without its array; and the framing already reads JSON, so there is little
 * left for it to do.
 *
 * The answer to a batch is made and sent call by call, so no more than one call's answer is in memory.
 */
import * as z from 'zod';
import { type ErrorData, type Failure, MAX_BATCH_REQUESTS } from '../../control/messages.js';
import {
  METHOD_NAMES,
  type MethodName,
  METHODS,
  type Methods,
  type StreamingMethod,
} from '../../control/methods.js';
import { asOverlayError, OverlayError } from '../../model/errors.js';
import { printable } from '../../model/properties.js';
import { type Change, commandText, DONE, FAILED, isChange, sentenceText } from './audit.js';
import { checkParams } from './requests.js';
import { Streamed, type StreamedAnswer } from './streamed.js';

type Result<M extends MethodName> =
  Methods[M]['result'] | (M extends StreamingMethod ? Streamed<Methods[M]['result']> : never);

export type Handlers = {
  readonly [M in MethodName]: (
    params: Methods[M]['params'],
    rights: Rights,
  ) => Result<M> | Promise<Result<M>>;
};

export interface Rights {
  /** Whether the client is root or a member of the configured group. */
  readonly mayChange: boolean;
}

/** The client that sends a request. */
export interface Caller extends Rights {
  /** Hears of every change that the client asks for, with its result. */
  readonly changed?: (change: Omit<Change, 'asker'>) => void;
}

/** JSON-RPC 2.0, section 5.1. REFUSED is varpd's own code, for errors of a handler. */
export const RPC_CODE = {
  PARSE: -32700,
  INVALID_REQUEST: -32600,
  METHOD_NOT_FOUND: -32601,
  INVALID_PARAMS: -32602,
  REFUSED: -32000,
} as const;

/**
 * Limit of the answer to one call. A list comes in pages of at most half of it. Once the answers of a batch
 * have more in all, its other calls are refused.
 */
const MAX_ANSWER_CHARACTERS = 2 << 20;

type RpcCode = (typeof RPC_CODE)[keyof typeof RPC_CODE];
type Id = string | number | null;

export interface Response {
  readonly jsonrpc: '2.0';
  readonly id: Id;
  readonly result?: unknown;
  readonly error?: { readonly code: RpcCode; readonly message: string; readonly data: ErrorData };
}

const requestSchema = z.object({
  jsonrpc: z.literal('2.0'),
  /** Absent = a notification, which is carried out and not answered. */
  id: z.union([z.string(), z.number(), z.null()]).optional(),
  method: z.string(),
  params: z.unknown().optional(),
});

export function errorResponse(id: Id, code: RpcCode, error: OverlayError): Response {
  const { code: reason, exitStatus: status, words, details, hint } = error;
  const data = { reason, status, words, details, hint };
  return { jsonrpc: '2.0', id, error: { code, message: error.message, data } };
}

export function invalidRequest(message: string, code: RpcCode = RPC_CODE.INVALID_REQUEST): Response {
  return errorResponse(null, code, new OverlayError('INVALID', message));
}

/**
 * The pieces of the answer to one line, without its newline; none = nothing to send. An answer that goes on as
 * a stream is the only piece, and must be run. Never rejects. `bug` gets errors that are defects of varpd. `turn` resolves
 * when the next call may be made.
 */
export async function* answer(
  value: unknown,
  caller: Caller,
  handlers: Handlers,
  bug: (error: unknown) => void,
  turn: () => Promise<void>,
): AsyncGenerator<string | StreamedAnswer, void> {
  await turn();
  const refusal = Array.isArray(value) ? refuseBatch(value) : undefined;
  if (refusal !== undefined || !Array.isArray(value)) {
    let stream: Streamed | undefined;
    const keep = (streamed: Streamed): void => {
      stream = streamed;
    };
    const text = refusal ?? (await answerOne(value, caller, handlers, bug, keep));
    if (text !== undefined) yield stream === undefined ? text : { line: text, run: stream.run };
    return;
  }
  let characters = 0;
  for (const [index, one] of value.entries()) {
    if (index > 0) await turn();
    const text =
      characters > MAX_ANSWER_CHARACTERS ? refuseRest(one) : await answerOne(one, caller, handlers, bug);
    if (text === undefined) continue;
    yield characters === 0 ? `[${text}` : `,${text}`;
    characters += text.length;
  }
  if (characters > 0) yield ']';
}

function refuseBatch({ length }: readonly unknown[]): string | undefined {
  if (length === 0) return JSON.stringify(invalidRequest('an empty batch'));
  if (length <= MAX_BATCH_REQUESTS) return undefined;
  const limit = `a batch has at most ${MAX_BATCH_REQUESTS} requests, not ${length}: send several, one after the other`;
  return JSON.stringify(invalidRequest(limit));
}

/** Refuses a call of a batch after its answers have reached the limit. */
function refuseRest(value: unknown): string | undefined {
  const parsed = requestSchema.safeParse(value);
  if (parsed.success && parsed.data.id === undefined) return undefined;
  const limit = `the answer to this batch has ${MAX_ANSWER_CHARACTERS} characters already: ask again for this one`;
  const error = new OverlayError('AGAIN', limit);
  return JSON.stringify(errorResponse(parsed.data?.id ?? null, RPC_CODE.REFUSED, error));
}

async function answerOne(
  value: unknown,
  caller: Caller,
  handlers: Handlers,
  bug: (error: unknown) => void,
  keep?: (stream: Streamed) => void,
): Promise<string | undefined> {
  const parsed = requestSchema.safeParse(value);
  if (!parsed.success) return JSON.stringify(invalidRequest('not a JSON-RPC 2.0 request'));
  const { id, method, params } = parsed.data;
  // Without an id there is no answer, and so no place where the stream begins.
  const mayStream = id === undefined ? undefined : keep;
  const response = await call(id ?? null, method, params, caller, handlers, bug, mayStream);
  return id === undefined ? undefined : encode(response, bug);
}

/** Text of a response. If it is too long or not JSON, the client gets an error instead. */
function encode(response: Response, bug: (error: unknown) => void): string {
  try {
    const text = JSON.stringify(response);
    if (text.length <= MAX_ANSWER_CHARACTERS) return text;
    const limit = `the answer has more than ${MAX_ANSWER_CHARACTERS} characters: ask for less at a time`;
    return JSON.stringify(errorResponse(response.id, RPC_CODE.REFUSED, new OverlayError('INVALID', limit)));
  } catch (error) {
    bug(error);
    const reason = new OverlayError('INTERNAL', 'the answer cannot be sent: see the log of varpd');
    return JSON.stringify(errorResponse(response.id, RPC_CODE.REFUSED, reason));
  }
}

async function call(
  id: Id,
  method: string,
  params: unknown,
  { mayChange, changed }: Caller,
  handlers: Handlers,
  bug: (error: unknown) => void,
  keep: ((stream: Streamed) => void) | undefined,
): Promise<Response> {
  if (!isMethod(method)) {
    const error = new OverlayError('UNSUPPORTED', `there is no method '${printable(method)}'`);
    return errorResponse(id, RPC_CODE.METHOD_NOT_FOUND, error);
  }
  let checked: Methods[typeof method]['params'] | undefined;
  const tell = ({ result, message }: Pick<Change, 'result' | 'message'>): void => {
    if (!isChange(method)) return;
    const why = message === undefined ? {} : { message: sentenceText(checked, message) };
    changed?.({ command: commandText(method, checked), result, ...why });
  };
  const refuse = (code: RpcCode, error: OverlayError): Response => {
    tell({ result: error.code, message: error.sentences.join('; ') });
    return errorResponse(id, code, error);
  };
  if (isChange(method) && !mayChange) {
    const error = new OverlayError('DENIED', 'only root and the configured group may change something');
    return refuse(RPC_CODE.REFUSED, error);
  }
  if ('streams' in METHODS[method] && keep === undefined) {
    const error = new OverlayError('INVALID', `${method} must be sent alone, with an id, and not in a batch`);
    return refuse(RPC_CODE.INVALID_REQUEST, error);
  }
  try {
    checked = checkParams(method, params);
  } catch (error) {
    return refuse(RPC_CODE.INVALID_PARAMS, asOverlayError(error));
  }
  try {
    const result = await dispatch(handlers, method, checked, { mayChange });
    tell(outcomeOf(result));
    if (!(result instanceof Streamed)) return { jsonrpc: '2.0', id, result };
    keep?.(result);
    return { jsonrpc: '2.0', id, result: result.result };
  } catch (error) {
    if (!OverlayError.is(error)) bug(error);
    return refuse(RPC_CODE.REFUSED, asOverlayError(error));
  }
}

/** A change of several things says in `failures` what was not done. */
function outcomeOf(result: unknown): Pick<Change, 'result' | 'message'> {
  if (typeof result !== 'object' || result === null || !('failures' in result)) return { result: DONE };
  const failures = result.failures as readonly Failure[];
  if (failures.length === 0) return { result: DONE };
  return { result: FAILED, message: failures.map(({ name, message }) => `${name}: ${message}`).join('; ') };
}

function isMethod(name: string): name is MethodName {
  return (METHOD_NAMES as readonly string[]).includes(name);
}

/**
 * The handler and the parameters of one method belong together, which the compiler sees only for one at a
 * time.
 */
function dispatch<M extends MethodName>(
  handlers: Handlers,
  method: M,
  params: Methods[M]['params'],
  rights: Rights,
): unknown {
  return handlers[method](params, rights);
}
