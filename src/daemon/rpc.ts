/**
 * JSON-RPC 2.0 between the framing and the handlers: what is a request, who may make it, what the answer looks like.
 *
 * Plain code and not json-rpc-2.0's server: that one throws on `null`, echoes ids that are none, and answers a batch of one
 * without its array, and with the framing already reading JSON there is nothing left for it to do.
 */
import { z } from 'zod';
import type { ErrorData, MethodName, Methods } from '../control/messages.js';
import { asOverlayError, OverlayError } from '../core/errors.js';
import { printable } from '../core/properties.js';
import { changesSomething, checkParams, METHOD_NAMES } from './requests.js';

export type Handlers = {
  readonly [M in MethodName]: (
    params: Methods[M]['params'],
  ) => Methods[M]['result'] | Promise<Methods[M]['result']>;
};

/** Who asks. */
export interface Caller {
  /** root, or a member of the configured group. */
  readonly mayChange: boolean;
}

/** JSON-RPC 2.0, section 5.1; what the overlay control path refuses has a number of its own. */
export const RPC_CODE = {
  PARSE: -32700,
  INVALID_REQUEST: -32600,
  METHOD_NOT_FOUND: -32601,
  INVALID_PARAMS: -32602,
  REFUSED: -32000,
} as const;

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
  const data = { code: error.code, status: error.status, details: error.details };
  return { jsonrpc: '2.0', id, error: { code, message: error.message, data } };
}

export function invalidRequest(message: string, code: RpcCode = RPC_CODE.INVALID_REQUEST): Response {
  return errorResponse(null, code, new OverlayError('INVALID', message));
}

/** Never rejects. `bug` hears of errors that are nobody's but ours. undefined = nothing to send. */
export async function answer(
  value: unknown,
  caller: Caller,
  handlers: Handlers,
  bug: (error: unknown) => void,
): Promise<Response | Response[] | undefined> {
  if (!Array.isArray(value)) return answerOne(value, caller, handlers, bug);
  if (value.length === 0) return invalidRequest('a batch of no requests');
  const responses: Response[] = [];
  for (const one of value) {
    const response = await answerOne(one, caller, handlers, bug);
    if (response !== undefined) responses.push(response);
  }
  return responses.length === 0 ? undefined : responses;
}

async function answerOne(
  value: unknown,
  caller: Caller,
  handlers: Handlers,
  bug: (error: unknown) => void,
): Promise<Response | undefined> {
  const parsed = requestSchema.safeParse(value);
  if (!parsed.success) return invalidRequest('not a JSON-RPC 2.0 request');
  const { id, method, params } = parsed.data;
  const response = await call(id ?? null, method, params, caller, handlers, bug);
  return id === undefined ? undefined : response;
}

async function call(
  id: Id,
  method: string,
  params: unknown,
  { mayChange }: Caller,
  handlers: Handlers,
  bug: (error: unknown) => void,
): Promise<Response> {
  if (!isMethod(method)) {
    const error = new OverlayError('UNSUPPORTED', `there is no method '${printable(method)}'`);
    return errorResponse(id, RPC_CODE.METHOD_NOT_FOUND, error);
  }
  if (changesSomething(method) && !mayChange) {
    const error = new OverlayError('DENIED', 'only root and the configured group may change something');
    return errorResponse(id, RPC_CODE.REFUSED, error);
  }
  let checked;
  try {
    checked = checkParams(method, params);
  } catch (error) {
    return errorResponse(id, RPC_CODE.INVALID_PARAMS, asOverlayError(error));
  }
  try {
    return { jsonrpc: '2.0', id, result: await dispatch(handlers, method, checked) };
  } catch (error) {
    if (!OverlayError.is(error)) bug(error);
    return errorResponse(id, RPC_CODE.REFUSED, asOverlayError(error));
  }
}

function isMethod(name: string): name is MethodName {
  return (METHOD_NAMES as readonly string[]).includes(name);
}

/** The handler and the parameters of one method belong together, which the compiler sees only for one at a time. */
function dispatch<M extends MethodName>(
  handlers: Handlers,
  method: M,
  params: Methods[M]['params'],
): Methods[M]['result'] | Promise<Methods[M]['result']> {
  return handlers[method](params);
}
