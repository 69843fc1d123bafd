/** A plugin under test cannot end the process of the test: a call that would, throws, and is noted. */
import { AsyncLocalStorage } from 'node:async_hooks';

const inside = new AsyncLocalStorage<(call: string) => void>();
const CALLS = ['exit', 'abort'] as const;
const real = { exit: process.exit.bind(process), abort: process.abort.bind(process) };

let users = 0;

/** Runs code that must not end the process. `note` gets the name of the call. */
export function runForbidden<T>(note: (call: string) => void, code: () => T): T {
  return inside.run(note, code);
}

/** From now on such calls throw inside. Returns the function that ends this. */
export function forbidExit(): () => void {
  if (users++ === 0)
    for (const name of CALLS)
      process[name] = ((...args: never[]) => {
        const note = inside.getStore();
        if (note === undefined)
          return Reflect.apply(real[name] as (...given: never[]) => unknown, process, args) as unknown;
        note(`process.${name}`);
        throw new Error(`called process.${name}, which a plugin must not do`);
      }) as never;
  return () => {
    if (--users === 0) Object.assign(process, real);
  };
}
