/**
 * The plugin that runs at the moment. An error in its code, at once or later out of a timer, is the plugin's
 * trouble and not the daemon's.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface PluginCode {
  /** Never throws. */
  complain(error: unknown): void;
}

export const runningPlugin = new AsyncLocalStorage<PluginCode>();

/**
 * Plugins by the errors that were made in their contexts: an error thrown in a microtask is caught outside of
 * any context.
 */
const authors = new WeakMap<Error, PluginCode>();

/** Remembers for an error the plugin that was running when it was made. */
export function signed(error: Error): Error {
  const plugin = runningPlugin.getStore();
  if (plugin !== undefined) authors.set(error, plugin);
  return error;
}

/** The plugin that caused an uncaught error, if one did. Never throws. */
export function authorOf(error: unknown): PluginCode | undefined {
  return runningPlugin.getStore() ?? authors.get(error as Error);
}
