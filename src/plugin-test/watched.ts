/**
 * A plugin as the kit watches it: every call into it, and every call that it makes, passes here. The values that cross must be
 * plain data, as between processes. How long a call holds the thread is measured in real time, and calls that have not
 * returned are known.
 */
import type { Host, Instance } from '../plugin/contract.js';
import { unplain } from './plain.js';
import { threadNowMs } from './thread-time.js';

/** A mistake that varpd itself would not see, or not as what it is. */
export interface Finding {
  readonly kind: 'plain' | 'timer' | 'exit';
  readonly sentence: string;
}

const METHODS = [
  'start',
  'stop',
  'change',
  'reload',
  'defaultDestination',
  'resolve',
  'neighbor',
  'dhcpServer',
  'ports',
  'placeOf',
] as const;

type Method = (typeof METHODS)[number];

export class Watch {
  readonly findings: Finding[] = [];
  /** Calls that have not returned, with the real time of their start. */
  readonly #open = new Map<symbol, string>();
  /** Method -> the longest time that one call has held the thread (thread-time.ts), in milliseconds. */
  readonly heldMs = new Map<string, number>();
  /** Number of calls, by method. */
  readonly calls = new Map<string, number>();
  readonly #run: <T>(code: () => T) => T;

  /** `run` runs the code of the plugin. */
  constructor(run: <T>(code: () => T) => T) {
    this.#run = run;
  }

  /** Names of the methods that have not returned. */
  get open(): readonly string[] {
    return [...this.#open.values()];
  }

  note(kind: Finding['kind'], sentence: string): void {
    if (!this.findings.some((one) => one.kind === kind && one.sentence === sentence))
      this.findings.push({ kind, sentence });
  }

  held(what: string, ms: number): void {
    this.heldMs.set(what, Math.max(ms, this.heldMs.get(what) ?? 0));
  }

  /** An instance that passes every call on. Methods that are absent stay absent. */
  instance(made: Instance): Instance {
    const passed: Partial<Record<Method, unknown>> = {};
    for (const name of METHODS) {
      const method = (made as Partial<Record<Method, unknown>> | null | undefined)?.[name];
      if (typeof method === 'function')
        passed[name] = (...args: unknown[]): unknown =>
          this.call(name, () => Reflect.apply(method, made, args) as unknown);
    }
    return passed as unknown as Instance;
  }

  /** The result of the call, with its failure or its plain value. */
  call(name: string, call: () => unknown): unknown {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    const startedMs = threadNowMs();
    let value: unknown;
    try {
      value = this.#run(call);
    } finally {
      this.held(name, threadNowMs() - startedMs);
    }
    if (!isThenable(value)) return this.#plain(name, value);
    const id = Symbol(name);
    this.#open.set(id, name);
    return Promise.resolve(value)
      .then((given) => this.#plain(name, given))
      .finally(() => {
        this.#open.delete(id);
      });
  }

  /** Throws when the value is not plain: it would not have crossed. */
  #plain(name: string, value: unknown): unknown {
    const found = unplain(value);
    if (found === undefined) return value;
    const sentence = `${name} gave a value that cannot cross a process: ${found}`;
    this.note('plain', sentence);
    throw new Error(sentence);
  }

  /** The host as the plugin sees it: `own` has the members that the kit itself gives. */
  host(given: Host, own: Partial<Host>): Host {
    const watch = this as Watch;
    return new Proxy(given, {
      get: (target, name): unknown => {
        if (Object.hasOwn(own, name)) return own[name as keyof Host];
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]): unknown => {
          if (name === 'every') return Reflect.apply(member, target, args) as unknown;
          return Reflect.apply(member, target, watch.#checkedArguments(String(name), args)) as unknown;
        };
      },
    });
  }

  /** The lists of a snapshot may be any iterables: their rows are checked when they are taken. */
  #checkedArguments(name: string, args: readonly unknown[]): unknown[] {
    if (name !== 'replaceAll' || typeof args[0] !== 'object' || args[0] === null) {
      for (const arg of args) this.#checkArgument(name, arg);
      return [...args];
    }
    const members = Object.entries(args[0]).map(([member, value]: [string, unknown]) => {
      if (isIterableObject(value)) return [member, this.#checkedRows(name, value, member)] as const;
      this.#checkArgument(name, value, member);
      return [member, value] as const;
    });
    return [Object.fromEntries(members)];
  }

  *#checkedRows(name: string, rows: Iterable<unknown>, at: string): Generator {
    let index = 0;
    for (const row of rows) {
      this.#checkArgument(name, row, `${at}[${index++}]`);
      yield row;
    }
  }

  #checkArgument(name: string, value: unknown, at = ''): void {
    const found = unplain(value, at);
    if (found === undefined) return;
    const sentence = `host.${name} was given a value that cannot cross a process: ${found}`;
    this.note('plain', sentence);
    throw new Error(sentence);
  }
}

function isIterableObject(value: unknown): value is Iterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as Partial<PromiseLike<unknown>> | null | undefined)?.then === 'function';
}
