/**
 * Calls that change the disk, made on a thread of their own, so that state is written whatever hangs
 * elsewhere. The pool of libuv, which node:fs/promises uses, has four threads for the whole process. A plugin
 * with files on a file system that does not answer can block all four.
 */
import type * as fs from 'node:fs';
import { Worker } from 'node:worker_threads';

/** Functions of node:fs that the thread calls. */
export type DiskCall = 'openSync' | 'writeFileSync' | 'fsyncSync' | 'closeSync' | 'renameSync' | 'unlinkSync';

export interface DiskOrder {
  readonly number: number;
  readonly call: DiskCall;
  readonly args: readonly unknown[];
}

/**
 * An error loses the properties that Node adds to it when it passes between threads, so they are sent beside
 * it.
 */
export interface DiskResult {
  readonly number: number;
  readonly value?: unknown;
  readonly error?: { readonly message: string; readonly code?: string; readonly errno?: number };
}

interface Waiter {
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

class DiskThread {
  #worker: Worker | undefined;
  #count = 0;
  readonly #waiting = new Map<number, Waiter>();

  /** Rejects with the system's error. The first call starts the thread. */
  do<C extends DiskCall>(call: C, ...args: Parameters<(typeof fs)[C]>): Promise<ReturnType<(typeof fs)[C]>> {
    return new Promise((resolve, reject) => {
      const worker = (this.#worker ??= this.#start());
      const number = ++this.#count;
      this.#waiting.set(number, { resolve, reject });
      worker.ref();
      worker.postMessage({ number, call, args } satisfies DiskOrder);
    });
  }

  #start(): Worker {
    const worker = new Worker(new URL('./disk-thread-worker.js', import.meta.url), {
      name: 'disk',
      execArgv: [],
      resourceLimits: { maxYoungGenerationSizeMb: 1 },
    });
    worker.on('message', (result: DiskResult) => {
      this.#hear(result);
    });
    // The thread can only fail for want of memory. The next call starts another one.
    worker.on('error', (error) => {
      this.#worker = undefined;
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    });
    return worker;
  }

  #hear({ number, value, error }: DiskResult): void {
    const waiter = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (this.#waiting.size === 0) this.#worker?.unref();
    if (error === undefined) waiter?.resolve(value as never);
    else waiter?.reject(Object.assign(new Error(error.message), error));
  }
}

export const disk = new DiskThread();
