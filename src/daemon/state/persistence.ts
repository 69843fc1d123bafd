/**
 * The state files: one JSON file per overlay, with its VNICs in it. So every change is one rename.
 *
 * A file is written beside its place, synced, renamed over the old one, and the directory is synced. After a
 * crash at any point either the old state or the new one is there. A file that is not valid is set aside as
 * `NAME.bad-N` and reported; it is never deleted, and it prevents no other overlay from starting.
 */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Failure } from '../../control/messages.js';
import { OverlayError } from '../../model/errors.js';
import { checkName } from '../../model/names.js';
import { explain, systemErrorText } from '../system-error.js';
import { ofStateDirectory, type StateDirectory } from './state-directory.js';
import { isTemporary, readOwnFile, replaceFile, type StateFiles, SYSTEM_FILES } from './state-file.js';
import { parseState, STATE_VERSION, StateProblem, type StoredOverlay } from './state-schema.js';

export const ENDING = '.json';
/** Name of a file that was set aside, with the name of its overlay. */
export const ASIDE = /^(.+)\.bad-\d+$/;
/** An overlay with a thousand VNICs takes a tenth of this; a larger file is not varpd's. */
export const MAX_FILE_BYTES = 1024 * 1024;

/**
 * The overlay of a file. A crash in the middle of a rename leaves a file that has its new name, and the old one in it.
 * `files`: the names of all files. Throws a StateProblem.
 */
export function readState(text: string, file: string, files: readonly string[]): StoredOverlay {
  const overlay = parseState(text);
  const name = path.basename(file, ENDING);
  const isRenamed = checkName(name) === undefined && !files.includes(overlay.name + ENDING);
  if (overlay.name !== name && !isRenamed)
    throw new StateProblem('it is about another overlay', { at: ['name'] });
  return { ...overlay, name };
}

const isAside = (aside: string, file: string): string =>
  `set aside as ${aside}: mend it and rename it to ${file}, or remove it`;

export class StateStore {
  readonly #directory: StateDirectory;
  readonly #files: StateFiles;
  readonly #overlays = new Map<string, StoredOverlay>();

  /** Stored overlays by name, whether they run or not. */
  readonly overlays: ReadonlyMap<string, StoredOverlay> = this.#overlays;
  /**
   * State files that are not valid, by the name of their overlay, with the reason. Files that an earlier
   * start has set aside are listed too, as long as no overlay of that name is stored again.
   */
  readonly bad: Failure[] = [];

  private constructor(directory: StateDirectory, files: StateFiles) {
    this.#directory = directory;
    this.#files = files;
  }

  /** Reads all state files. Half-written files of a crash are removed. */
  static async load(directory: StateDirectory, files: StateFiles = SYSTEM_FILES): Promise<StateStore> {
    const store = new StateStore(directory, files);
    const names = (await readdir(directory.path('.'))).sort();
    for (const name of names) {
      if (isTemporary(name)) await files.unlink(directory.path(name)).catch(() => undefined);
      else if (name.endsWith(ENDING)) await store.#load(name, names);
    }
    for (const name of names.toReversed()) store.#noteAside(name);
    return store;
  }

  /** Rejects with an OverlayError; the file is then as it was before. */
  async save(overlay: StoredOverlay): Promise<void> {
    const { name } = overlay;
    const before = this.#overlays.get(name);
    try {
      await this.#write(overlay);
    } catch (error) {
      // The rename may have been done and only the sync failed. Without going back, the next start would find
      // the change that was reported to the operator as failed.
      await (before === undefined ? this.#unlink(name) : this.#write(before)).catch(() => undefined);
      throw this.#error(`cannot save ${name}`, error);
    }
    this.#overlays.set(name, overlay);
  }

  /**
   * Gives an overlay another name, and does nothing when it is not stored. The name of the file counts, and it changes in
   * one step. Rejects with an OverlayError; the file is then as it was before.
   */
  async rename(from: string, to: string): Promise<void> {
    const overlay = this.#overlays.get(from);
    if (overlay === undefined) return;
    const [before, after] = [from, to].map((name) => this.#directory.path(name + ENDING));
    const renamed = { ...overlay, name: to };
    try {
      await this.#files.rename(before, after);
      await this.#directory.sync();
      await this.#write(renamed);
    } catch (error) {
      await this.#files.rename(after, before).catch(() => undefined);
      throw this.#error(`cannot rename ${from}`, error);
    }
    this.#overlays.delete(from);
    this.#overlays.set(to, renamed);
  }

  /** Does nothing when there is no such overlay. Rejects with an OverlayError. */
  async remove(name: string): Promise<void> {
    if (!this.#overlays.has(name)) return;
    try {
      await this.#unlink(name);
    } catch (error) {
      throw this.#error(`cannot remove ${name}`, error);
    }
    this.#overlays.delete(name);
  }

  #write(overlay: StoredOverlay): Promise<void> {
    const text = `${JSON.stringify({ version: STATE_VERSION, ...overlay }, null, 2)}\n`;
    return replaceFile(this.#directory, overlay.name + ENDING, text, this.#files);
  }

  async #unlink(name: string): Promise<void> {
    await this.#files.unlink(this.#directory.path(name + ENDING));
    await this.#directory.sync();
  }

  #error(what: string, error: unknown): OverlayError {
    const { directory } = this.#directory;
    const { code } = explain(error, {});
    const line = ofStateDirectory(directory, `${what}: ${systemErrorText(error)}`);
    return new OverlayError(code, line, [line], error);
  }

  async #load(file: string, names: string[]): Promise<void> {
    const name = path.basename(file, ENDING);
    try {
      const text = await readOwnFile(this.#directory, file, MAX_FILE_BYTES);
      this.#overlays.set(name, readState(text, file, names));
    } catch (error) {
      const aside = await this.#setAside(file, name, names);
      this.bad.push({ name, message: `${file}: ${systemErrorText(error)}; ${aside}` });
    }
  }

  /** Reports a file that an earlier start has set aside, until the operator has mended or removed it. */
  #noteAside(file: string): void {
    const name = ASIDE.exec(file)?.[1];
    if (name === undefined || this.#overlays.has(name) || this.bad.some((one) => one.name === name)) return;
    const message = `its state file was not valid and was ${isAside(file, name + ENDING)}`;
    this.bad.push({ name, message });
  }

  /** Sets a file aside, and returns a sentence about it for the report. */
  async #setAside(file: string, name: string, names: string[]): Promise<string> {
    let number = 1;
    while (names.includes(`${name}.bad-${number}`)) number++;
    const aside = `${name}.bad-${number}`;
    try {
      await this.#files.rename(this.#directory.path(file), this.#directory.path(aside));
      names.push(aside);
      return isAside(aside, file);
    } catch (error) {
      return `cannot be set aside: ${systemErrorText(error)}`;
    }
  }
}
