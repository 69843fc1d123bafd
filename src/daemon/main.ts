#!/usr/bin/env node
/**
 * Start of varpd: listens to signals before anything is loaded that takes long. Node itself takes some 50 ms
 * to come this far, and a SIGHUP or SIGUSR2 in that time ends it.
 */
import { listenToSignals } from './process/signals.js';

listenToSignals();
import('./varpd.js').catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
