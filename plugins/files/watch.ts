/**
 * Tells one overlay when its file may have changed: it was written, replaced by a rename, deleted and made again, or a
 * symbolic link on its path was switched. Also tells when the file is silent, and when it answers again.
 *
 * The reader process watches the directory with inotify. It also looks at the file twice a second, since inotify does
 * not see every change: links further up in the path, network file systems, a directory that was made again.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Follower } from './followed-file.js';
import type { Contents, Version } from './read.js';
import { type Following, readers } from './readers.js';

/** A change is reported after a pause of this length, so that all writes of an editor are one change. */
const QUIET_MS = 50;
/** A file that changes all the time is still read this often. */
const MAX_DELAY_MS = 250;

export interface Told {
  /** The file may have changed. Called also after a silence, since the file may have changed meanwhile. */
  readonly changed: () => void;
  /** `message` follows the name of the file. */
  readonly silent: (message: string) => void;
  readonly answers: () => void;
  readonly warn: (message: string) => void;
}

export class FileWatch implements Follower {
  readonly #told: Told;
  readonly #following: Following;
  /** The version that the caller has read. */
  #known: Version | undefined;
  #isTelling = false;
  #quiet: NodeJS.Timeout | undefined;
  #deadlineMs: number | undefined;

  constructor(file: string, { changed, silent, answers, warn }: Told) {
    // One reader serves all overlays. `bind` keeps the context of this overlay's plugin, so that an exception in a
    // callback counts as the trouble of this overlay.
    this.#told = {
      changed: AsyncResource.bind(changed),
      silent: AsyncResource.bind(silent),
      answers: AsyncResource.bind(answers),
      warn: AsyncResource.bind(warn),
    };
    this.#following = readers.follow(file, this);
  }

  /** Rejects with a FileError, or with the reason of the signal. */
  read(signal: AbortSignal): Promise<Contents> {
    return this.#following.read(signal);
  }

  /** The caller has read this version. */
  knows(version: Version): void {
    this.#known = version;
  }

  /** Reports changes from now on, each in its own turn of the event loop. */
  begin(): void {
    this.#isTelling = true;
  }

  /** Ends all reports. */
  close(): Promise<void> {
    this.#isTelling = false;
    clearTimeout(this.#quiet);
    return this.#following.close();
  }

  // -- Calls of the readers

  looked(version: Version): void {
    if (!this.#isTelling || version === this.#known) return;
    this.#known = version;
    this.changed();
  }

  changed(): void {
    if (!this.#isTelling) return;
    const nowMs = performance.now();
    this.#deadlineMs ??= nowMs + MAX_DELAY_MS;
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(
      () => {
        this.#deadlineMs = undefined;
        this.#told.changed();
      },
      Math.max(0, Math.min(QUIET_MS, this.#deadlineMs - nowMs)),
    );
  }

  silent(message: string): void {
    this.#told.silent(message);
  }

  answers(): void {
    this.#told.answers();
    this.changed();
  }

  warn(message: string): void {
    this.#told.warn(message);
  }
}
