// Loaded into varpd before its own code, by the soak: has V8 collect all garbage of the control side once a minute.
//
// Left to itself, V8 looks through its old space when some 20 MB more are in it, which takes a night at the soak's pace: until
// then, garbage cannot be told from what is held. The datapath thread makes next to none, and is left alone.
import { isMainThread } from 'node:worker_threads';

const EVERY_MS = 60_000;

const { gc } = globalThis;
if (gc === undefined) throw new Error('collect.js wants node --expose-gc');
if (isMainThread)
  setInterval(() => {
    gc();
  }, EVERY_MS).unref();
