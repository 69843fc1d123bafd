/**
 * Finds what a plugin opens: sockets, servers, file watchers, child processes, workers. Every such handle that was made inside
 * (`run`) is known, with the place in the source that has made it, until it is closed. Requests, as for a file or a name, are
 * known until they are answered.
 *
 * A handle that keeps no process alive (`unref`) counts as closed. The idle connections of fetch and of http.Agent are such:
 * they belong to no plugin.
 */
import { AsyncLocalStorage, createHook, executionAsyncId } from 'node:async_hooks';

import { placesIn } from './places.js';

/** Types of handles that live until they are closed (async_hooks), and what they are called. */
const HANDLES: Readonly<Record<string, string>> = {
  TCPWRAP: 'a connection',
  TCPSERVERWRAP: 'a server',
  PIPEWRAP: 'a connection to a local socket or process',
  PIPESERVERWRAP: 'a server on a local socket',
  UDPWRAP: 'a UDP socket',
  FSEVENTWRAP: 'a file watcher (fs.watch)',
  STATWATCHER: 'a file watcher (fs.watchFile)',
  PROCESSWRAP: 'a child process',
  WORKER: 'a worker thread',
  SIGNALWRAP: 'a listener for a signal',
  FILEHANDLE: 'an open file',
};
/** Handles that may stay open without any work being under way. */
const PASSIVE = new Set([
  'TCPSERVERWRAP',
  'PIPESERVERWRAP',
  'FSEVENTWRAP',
  'STATWATCHER',
  'SIGNALWRAP',
  'FILEHANDLE',
]);
/** Work that ends by itself. */
const REQUEST = /REQ(?:WRAP|UEST|CALLBACK|PROMISE)?$|^FSREQ|^QUERYWRAP$|^WRITEWRAP$|^SHUTDOWNWRAP$/;
/** Places that are kept for asynchronous resources; then all are forgotten. */
const MAX_PLACES = 100_000;

interface Handle {
  readonly type: string;
  readonly name: string;
  readonly place: string;
  readonly resource: WeakRef<{ hasRef?: () => boolean }>;
}

const inside = new AsyncLocalStorage<HandleWatch>();
const watches = new Set<HandleWatch>();

const hook = createHook({
  init: (id, type, _trigger, resource) => {
    inside.getStore()?.add(id, type, resource);
  },
  after: (id) => {
    for (const watch of watches) watch.answered(id);
  },
  destroy: (id) => {
    for (const watch of watches) watch.delete(id);
  },
});

export class HandleWatch {
  readonly #handles = new Map<number, Handle>();
  readonly #requests = new Set<number>();
  /** Asynchronous resource -> the place in the source that it goes back to. */
  readonly #places = new Map<number, string>();

  constructor() {
    watches.add(this);
    hook.enable();
  }

  /** Runs code, and notes its handles and those of everything that it starts. */
  run<T>(code: () => T): T {
    return inside.run(this, code);
  }

  add(id: number, type: string, resource: object): void {
    // Promises are many, and each goes back to the work that has made it.
    const place = (type === 'PROMISE' ? undefined : callerNow()) ?? this.#places.get(executionAsyncId());
    if (place !== undefined) {
      if (this.#places.size > MAX_PLACES) this.#places.clear();
      this.#places.set(id, place);
    }
    const name = HANDLES[type] as string | undefined;
    if (name !== undefined)
      this.#handles.set(id, {
        type,
        name,
        place: place ?? 'an unknown place',
        resource: new WeakRef(resource),
      });
    else if (REQUEST.test(type)) this.#requests.add(id);
  }

  answered(id: number): void {
    this.#requests.delete(id);
  }

  delete(id: number): void {
    this.#handles.delete(id);
    this.#requests.delete(id);
    this.#places.delete(id);
  }

  /** The handles that are open: `a server, made at /dir/x.js:3:5`. */
  get open(): readonly string[] {
    return [...this.#handles.values()]
      .filter(({ resource }) => isAlive(resource.deref()))
      .map(({ name, place }) => `${name}, made at ${place}`);
  }

  /** Numbers of the requests, connections and processes that may bring something. */
  get work(): readonly number[] {
    const alive = [...this.#handles].filter(
      ([, { type, resource }]) => !PASSIVE.has(type) && isAlive(resource.deref()),
    );
    return [...this.#requests, ...alive.map(([id]) => id)];
  }

  end(): void {
    watches.delete(this);
    if (watches.size === 0) hook.disable();
  }
}

/** The place in the source of the program, not in Node nor in this file, that runs now. */
function callerNow(): string | undefined {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 50;
  const places = placesIn(new Error().stack);
  Error.stackTraceLimit = limit;
  // The first frames are those of this function, of `add` and of the hook.
  return places.find((place, index) => index > 2 && !place.startsWith('node:'));
}

function isAlive(resource: { hasRef?: () => boolean; fd?: number } | undefined): boolean {
  if (resource === undefined) return false;
  // A file handle has no reference count; a closed one has the descriptor -1.
  if (typeof resource.hasRef !== 'function') return resource.fd !== -1;
  return resource.hasRef();
}
