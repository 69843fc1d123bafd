/** The thread of disk-thread.ts: makes one call after the other. */
import * as fs from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { nameThread } from '../../dgram-extra/thread-name.js';
import type { DiskOrder, DiskResult } from './disk-thread.js';

nameThread('disk');
parentPort?.on('message', ({ number, call, args }: DiskOrder) => {
  let result: DiskResult;
  try {
    const make = fs[call] as (...args: readonly unknown[]) => unknown;
    result = { number, value: make(...args) };
  } catch (error) {
    const { message, code, errno } = error as NodeJS.ErrnoException;
    result = { number, error: { message, ...(code && { code }), ...(errno && { errno }) } };
  }
  parentPort?.postMessage(result);
});
