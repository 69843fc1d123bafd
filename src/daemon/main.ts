#!/usr/bin/env node
/**
 * varpd, from its first line: signals are listened to before anything is loaded that takes long. Node itself takes some
 * 50 ms to come this far, and ends at a SIGHUP or SIGUSR2 in that time.
 */
import { listenToSignals } from './process/signals.js';

listenToSignals();
await import('./varpd.js');
