/**
 * The lookup plugins by name. The plugins of varpd are there at once. The others are imported meanwhile, so
 * that one that takes long keeps no overlay of another plugin waiting. A plugin that could not be imported is
 * tried again when its files have changed and an overlay asks for it.
 */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import type { LookupPlugin } from '../../plugin/contract.js';
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import { BUILT_IN_PLUGINS, entryFiles, importPlugin, leftOut } from './plugin-loader.js';

/** The plugins as an overlay sees them. */
export interface Plugins {
  get(name: string): LookupPlugin | undefined;
  /**
   * Returns the same as `get`, after all imports under way and those of files that have changed since. Never
   * rejects.
   */
  find(name: string): Promise<LookupPlugin | undefined>;
  keys(): Iterable<string>;
  /** The reason why there is no plugin of this name, when its own file is the reason. */
  failureOf(name: string): string | undefined;
}

interface Failure {
  /** Version of its files (versionOf). */
  readonly version: string;
  readonly reason: string;
}

export class PluginCatalog implements Plugins {
  readonly #directories: readonly string[];
  readonly #log: Log;
  readonly #plugins = new Map<string, LookupPlugin>();
  /** Entry files of the plugins that were imported. */
  readonly #loaded = new Set<string>();
  readonly #failures = new Map<string, Failure>();
  #importing: Promise<void> = Promise.resolve();

  private constructor(directories: readonly string[], log: Log) {
    this.#directories = directories;
    this.#log = log;
  }

  /**
   * Resolves when the plugins of varpd are there. Throws an OverlayError when one of the directories cannot
   * be read.
   */
  static async load(directories: readonly string[], log: Log): Promise<PluginCatalog> {
    const catalog = new PluginCatalog(directories, log);
    const files = directories.flatMap(entryFiles);
    await catalog.#import(entryFiles(BUILT_IN_PLUGINS));
    catalog.#importing = catalog.#import(files);
    return catalog;
  }

  get(name: string): LookupPlugin | undefined {
    return this.#plugins.get(name);
  }

  keys(): Iterable<string> {
    return this.#plugins.keys();
  }

  async find(name: string): Promise<LookupPlugin | undefined> {
    for (let attempt = 0; attempt < 2 && !this.#plugins.has(name); attempt++) {
      await this.#importing;
      if (!this.#plugins.has(name)) this.#importing = this.#import(this.#changedFiles());
    }
    await this.#importing;
    return this.#plugins.get(name);
  }

  failureOf(name: string): string | undefined {
    for (const [file, { reason }] of this.#failures)
      if (path.basename(path.dirname(file)) === name) return `${file}: ${reason}`;
    return undefined;
  }

  /**
   * Registers plugins in the order of `files`: the first of two with one name wins, so that none takes the
   * place of `direct` by accident. Never rejects.
   */
  async #import(files: readonly string[]): Promise<void> {
    const imports = files.map(async (file) => {
      const version = versionOf(file);
      try {
        return { file, plugin: await importPlugin(file, this.#log, this.#failures.has(file) ? version : '') };
      } catch (error) {
        return { file, failure: { version, reason: systemErrorText(error) } };
      }
    });
    for (const { file, plugin, failure } of await Promise.all(imports)) {
      if (failure !== undefined) {
        this.#failures.set(file, failure);
        this.#log.error(`plugin ${file}`, leftOut(file, failure.reason));
        continue;
      }
      this.#loaded.add(file);
      this.#failures.delete(file);
      if (this.#plugins.has(plugin.name)) {
        this.#log.warn(
          `plugin ${file}`,
          `${file}: there is a plugin '${plugin.name}' already, this one is left out`,
        );
      } else {
        this.#plugins.set(plugin.name, plugin);
        this.#log.debug('plugin', `${file}: plugin '${plugin.name}', mode ${plugin.mode}`);
      }
    }
  }

  #changedFiles(): string[] {
    try {
      return this.#directories
        .flatMap(entryFiles)
        .filter((file) => !this.#loaded.has(file) && this.#failures.get(file)?.version !== versionOf(file));
    } catch {
      return []; // a directory has gone: it may come back
    }
  }
}

/** Version of a plugin's directory. It changes with each of its files, and with the rights to change one. */
function versionOf(file: string): string {
  const directory = path.dirname(file);
  try {
    return ['.', ...readdirSync(directory)]
      .map((name) => {
        // The size is compared too, because the clock of a file system stands still for some milliseconds at
        // a time.
        const { ctimeMs, size } = statSync(path.join(directory, name));
        return `${name} ${ctimeMs} ${size}`;
      })
      .join();
  } catch {
    return '';
  }
}
