/**
 * Tells when a file may have changed, in whatever way: written, renamed over, made anew, or reached by a symbolic link
 * that was switched.
 *
 * The directory is watched, not the file, whose inode is another one after a rename. What inotify cannot see (links
 * further up, network file systems, a directory made anew) is found by looking at the file twice a second.
 */
import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { type Version, versionOf } from './read.js';

/** Twice in the second within which a change is to be in force. */
const POLL_MS = 500;
/** Long enough for the writes of an editor to be one change. */
const QUIET_MS = 50;
/** A file that changes all the time is read this often all the same. */
const MAX_DELAY_MS = 250;

export class FileWatch {
  readonly #file: string;
  readonly #directory: string;
  readonly #changed: () => void;
  #known: Version;
  #watcher: FSWatcher | undefined;
  /** Device and inode of the directory that `#watcher` sees. */
  #watched: string | undefined;
  #poll: NodeJS.Timeout | undefined;
  #quiet: NodeJS.Timeout | undefined;
  #deadlineMs: number | undefined;
  #closed = false;

  /** `changed` is called in a turn of its own. `known`: what the caller has read. */
  constructor(file: string, known: Version, changed: () => void) {
    this.#file = file;
    this.#directory = path.dirname(file);
    this.#known = known;
    this.#changed = changed;
    this.#look();
  }

  /** The caller has read this version. */
  knows(version: Version): void {
    this.#known = version;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#poll);
    clearTimeout(this.#quiet);
    this.#unwatch();
  }

  /** One look at a time: a file system that hangs gets no further questions. */
  #look(): void {
    const lookLater = (): void => {
      if (!this.#closed)
        this.#poll = setTimeout(() => {
          this.#look();
        }, POLL_MS);
    };
    // A look that failed is followed by another like any.
    this.#compare().then(lookLater, lookLater);
  }

  async #compare(): Promise<void> {
    await this.#watchDirectory();
    const version = await versionOf(this.#file);
    if (version === this.#known) return;
    this.#known = version;
    this.#tell();
  }

  async #watchDirectory(): Promise<void> {
    const identity = await stat(this.#directory).then(
      ({ dev, ino }) => `${dev}:${ino}`,
      () => undefined,
    );
    if (identity === this.#watched || this.#closed) return;
    this.#unwatch();
    if (identity === undefined) return;
    try {
      const watcher = watch(this.#directory, { persistent: false }, (_, name) => {
        if (name === null || name === path.basename(this.#file)) this.#tell();
      });
      watcher.on('error', () => {
        this.#unwatch();
      });
      this.#watcher = watcher;
      this.#watched = identity;
    } catch {
      // Out of inotify watches, or not to be had here: the next look tries again, and looking alone is enough.
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#watched = undefined;
  }

  #tell(): void {
    if (this.#closed) return;
    const nowMs = performance.now();
    this.#deadlineMs ??= nowMs + MAX_DELAY_MS;
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(
      () => {
        this.#deadlineMs = undefined;
        this.#changed();
      },
      Math.max(0, Math.min(QUIET_MS, this.#deadlineMs - nowMs)),
    );
  }
}
