/** Whose code is running: what goes wrong in it, now or later out of a timer, is the plugin's trouble and not the daemon's. */
import { AsyncLocalStorage } from 'node:async_hooks';

export interface PluginCode {
  /** Never throws. */
  complain(error: unknown): void;
}

export const runningPlugin = new AsyncLocalStorage<PluginCode>();
