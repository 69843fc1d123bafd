/**
 * Tells one overlay when its file may have changed, in whatever way: written, renamed over, made again, or reached by a
 * symbolic link that was switched; and when the file is silent, and answers again.
 *
 * The reader process watches the directory, and looks at the file twice a second for what inotify cannot see: links
 * further up, network file systems, a directory made again.
 */
import { AsyncResource } from 'node:async_hooks';
import type { Follower } from './followed-file.js';
import type { Contents, Version } from './read.js';
import { type Following, readers } from './readers.js';

/** Long enough for the writes of an editor to be one change. */
const QUIET_MS = 50;
/** A file that changes all the time is read this often all the same. */
const MAX_DELAY_MS = 250;

export interface Told {
  /** It may have changed; or was silent, and nothing is known of that time. */
  readonly changed: () => void;
  /** The text follows the name of the file. */
  readonly silent: (message: string) => void;
  readonly answers: () => void;
  readonly warn: (message: string) => void;
}

export class FileWatch implements Follower {
  readonly #told: Told;
  readonly #following: Following;
  /** What the caller has read. */
  #known: Version | undefined;
  #isTelling = false;
  #quiet: NodeJS.Timeout | undefined;
  #deadlineMs: number | undefined;

  constructor(file: string, { changed, silent, answers, warn }: Told) {
    // One reader serves all overlays: what one of them does wrong is not another's fault.
    this.#told = {
      changed: AsyncResource.bind(changed),
      silent: AsyncResource.bind(silent),
      answers: AsyncResource.bind(answers),
      warn: AsyncResource.bind(warn),
    };
    this.#following = readers.follow(file, this);
  }

  /** Rejects with a FileError, or with what the signal was aborted for. */
  read(signal: AbortSignal): Promise<Contents> {
    return this.#following.read(signal);
  }

  /** The caller has read this version. */
  knows(version: Version): void {
    this.#known = version;
  }

  /** From here on changes are told, each in a turn of its own. */
  begin(): void {
    this.#isTelling = true;
  }

  /** Nothing is told afterwards. */
  close(): Promise<void> {
    this.#isTelling = false;
    clearTimeout(this.#quiet);
    return this.#following.close();
  }

  // -- What the readers say

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
