/** The plugin and its instances, in the plugin's process: carries out the calls of varpd. */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Instance, LookupPlugin } from '../plugin/contract.js';
import type { Properties } from '../plugin/properties.js';
import { plainError, plainText } from './errors.js';
import { makeHost, makeLog, makeSecret, type Outlet, type Tick } from './host.js';
import type { CallId, HostFacts, InstanceId } from './messages.js';

/** Methods of an instance that may be absent. */
const OPTIONAL = [
  'change',
  'reload',
  'defaultDestination',
  'resolve',
  'neighbor',
  'dhcpServer',
  'ports',
  'placeOf',
] as const satisfies readonly (keyof Instance)[];

interface Kept {
  readonly instance: Instance;
  readonly ended: AbortController;
  readonly ticks: readonly Tick[];
}

/** The instance that is running, for errors that no call returns. */
export const running = new AsyncLocalStorage<InstanceId>();

export class Instances {
  readonly #plugin: LookupPlugin;
  readonly #stateDir: string;
  readonly #outlet: Outlet;
  readonly #instances = new Map<InstanceId, Kept>();
  readonly #calls = new Map<CallId, AbortController>();
  #shared: unknown;

  constructor(plugin: LookupPlugin, stateDir: string, outlet: Outlet) {
    this.#plugin = plugin;
    this.#stateDir = stateDir;
    this.#outlet = outlet;
  }

  /** Never throws. The result is sent, unless the call was aborted. */
  call(call: CallId, id: InstanceId, method: string, args: readonly unknown[]): void {
    const controller = new AbortController();
    this.#calls.set(call, controller);
    const succeed = (value: unknown): void => {
      if (!this.#calls.delete(call)) return;
      let text: string;
      try {
        text = plainText(value === undefined ? ['done', call] : ['done', call, value]);
      } catch (error) {
        this.#sendFailure(call, new TypeError('gave a value that is no plain data', { cause: error }));
        return;
      }
      this.#outlet.send(text);
    };
    const fail = (error: unknown): void => {
      if (this.#calls.delete(call)) this.#sendFailure(call, error);
    };
    try {
      const value = running.run(id, () => this.#carryOut(id, method, args, controller.signal));
      if (typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function')
        Promise.resolve(value).then(succeed, fail);
      else succeed(value);
    } catch (error) {
      fail(error);
    }
  }

  abort(call: CallId): void {
    const controller = this.#calls.get(call);
    this.#calls.delete(call);
    if (controller !== undefined) controller.abort(new Error('the deadline has passed'));
  }

  /** A call without a result. Never throws; its error is sent. */
  tell(id: InstanceId, method: string, args: readonly unknown[]): void {
    const kept = this.#instances.get(id);
    if (kept === undefined || method !== 'ports') return;
    running
      .run(id, async () => kept.instance.ports?.(args[0] as number[]))
      .catch((error: unknown) => {
        this.#outlet.send(JSON.stringify(['uncaught', id, plainError(error)]));
      });
  }

  #sendFailure(call: CallId, error: unknown): void {
    this.#outlet.send(JSON.stringify(['failed', call, plainError(error)]));
  }

  #carryOut(id: InstanceId, method: string, args: readonly unknown[], signal: AbortSignal): unknown {
    if (id === 0) return this.#ofPlugin(method, args);
    if (method === 'start') return this.#start(id, args[0] as HostFacts, args[1] as Properties, signal);
    const kept = this.#instances.get(id);
    if (kept === undefined) {
      if (method === 'stop') return undefined;
      throw new Error('has no such instance');
    }
    const { instance, ended, ticks } = kept;
    if (method === 'stop') {
      this.#instances.delete(id);
      ended.abort();
      return instance.stop();
    }
    if (method === 'tick') return ticks[args[0] as number]?.();
    const call = (instance as unknown as Record<string, (...args: unknown[]) => unknown>)[method];
    return call.apply(instance, [...args, signal]);
  }

  /** `open` keeps what the instances share, since it need not be plain data. */
  #ofPlugin(method: string, args: readonly unknown[]): unknown {
    const plugin = this.#plugin;
    switch (method) {
      case 'open':
        return plugin
          .open?.({
            log: makeLog(0, this.#outlet),
            stateDir: this.#stateDir,
            secret: makeSecret(0, this.#outlet),
          })
          .then((shared) => {
            this.#shared = shared;
          });
      case 'close': {
        const shared = this.#shared;
        this.#shared = undefined;
        return plugin.close?.(shared);
      }
      default:
        return plugin.refuse?.(args[0] as Properties);
    }
  }

  async #start(
    id: InstanceId,
    facts: HostFacts,
    properties: Properties,
    signal: AbortSignal,
  ): Promise<string[]> {
    const ended = new AbortController();
    const { host, ticks } = makeHost(id, facts, this.#stateDir, ended.signal, this.#outlet);
    try {
      const instance = this.#plugin.create(host, this.#shared) as unknown;
      const has = (name: string): boolean =>
        typeof (instance as Record<string, unknown> | null | undefined)?.[name] === 'function';
      const absent = ['start', 'stop'].filter((name) => !has(name));
      if (absent.length > 0) throw new TypeError(`its instance has no ${absent.join(', ')}`);
      this.#instances.set(id, { instance: instance as Instance, ended, ticks });
      await (instance as Instance).start(properties, signal);
      return OPTIONAL.filter(has);
    } catch (error) {
      ended.abort();
      throw error;
    }
  }
}
