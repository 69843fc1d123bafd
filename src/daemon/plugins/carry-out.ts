/** Makes a checked answer for the datapath out of the value that a plugin has given, with the work of proxies. */
import type { LookupAnswer } from '../../datapath/contract.js';
import type { Instance, MacAddress, ProxyKind } from '../../plugin/contract.js';
import type { Endpoint } from '../../wire/ip.js';
import { andThen, DeadlineError, type Eventually } from './deadline.js';
import { AnswerError, checkAnswer, checkStation } from './plugin-answer.js';
import { type Facts, orFlood, proxy } from './proxy.js';

/** Puts a question to the plugin within the time that is left. */
export type Ask = <T>(call: (signal: AbortSignal) => T | Promise<T>) => Eventually<T>;

export interface AskedPlugin {
  readonly instance: Instance;
  readonly ask: Ask;
  /** The listen endpoint of its overlay. */
  readonly listen: Endpoint;
  /** Gets sentences for the operator, perhaps often. */
  readonly warn?: ((message: string) => void) | undefined;
}

/** `frame`: the beginning of a frame to a group MAC, which the question is about. Throws an AnswerError. */
export function carryOut(
  { instance, ask, listen, warn = () => undefined }: AskedPlugin,
  frame: Uint8Array | undefined,
  value: unknown,
): Eventually<LookupAnswer> {
  const answer = checkAnswer(value, listen, frame !== undefined);
  if (answer.kind !== 'proxy') return answer;
  if (frame === undefined) throw new AnswerError('gave a unicast frame to a proxy');
  const proxied = proxy(answer.what, frame, factsOf(instance, answer.what, ask), warn);
  return andThen(proxied, (done) => orFlood(done, answer.otherwise));
}

/** The facts of a plugin, for the proxy `what`. */
export function factsOf(instance: Instance, what: ProxyKind, ask: Ask): Facts {
  const fact = (
    name: 'neighbor' | 'dhcpServer',
    call: (signal: AbortSignal) => MacAddress | null | undefined | Promise<MacAddress | null>,
  ): Eventually<MacAddress | null> => {
    if (typeof instance[name] !== 'function')
      throw new AnswerError(`gives frames to the ${what} proxy, but has no ${name}`);
    return andThen(ask<unknown>(call), (found) => (found === null ? null : checkStation(found)));
  };
  return {
    neighbor: (ip) => fact('neighbor', (signal) => instance.neighbor?.(ip, signal)),
    dhcpServer: (client) => fact('dhcpServer', (signal) => instance.dhcpServer?.(client, signal)),
  };
}

/** The answer of a plugin that has failed to give one. */
export function failure(error: unknown): LookupAnswer {
  return { kind: 'drop', reason: error instanceof DeadlineError ? 'lookup_timeout' : 'lookup_failed' };
}
