/** Whose code is running: what goes wrong in it, now or later out of a timer, is the plugin's trouble and not the daemon's. */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface PluginCode {
  /** Never throws. */
  complain(error: unknown): void;
}

export const runningPlugin = new AsyncLocalStorage<PluginCode>();

/** Of errors that were made in a plugin's context: out of a microtask they are caught in none. */
const authors = new WeakMap<Error, PluginCode>();

/** The error knows whose code was running. */
export function signed(error: Error): Error {
  const plugin = runningPlugin.getStore();
  if (plugin !== undefined) authors.set(error, plugin);
  return error;
}

/** Whose an error is that nobody caught, if it is a plugin's. Never throws. */
export function authorOf(error: unknown): PluginCode | undefined {
  return runningPlugin.getStore() ?? authors.get(error as Error);
}
