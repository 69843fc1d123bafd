/**
 * The lookup plugins by name. The plugins of varpd are there at once. The others are loaded meanwhile, each by a process
 * of its own, so that one that takes long keeps no overlay of another plugin waiting. A plugin that could not be loaded
 * is tried again when an overlay asks for it and its files have changed; if its process did not start, with the same files,
 * too.
 */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { OverlayError } from '../../model/errors.js';
import { didYouMean } from '../../model/suggest.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import type { Confinement } from '../../plugin-process/messages.js';
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import { BUILT_IN_PLUGINS, entryFiles, importPlugin, leftOut } from './plugin-loader.js';
import { mayBeNamed } from './plugin-entry.js';
import { NotStarted } from './plugin-process.js';
import type { RunnerServices } from './plugin-runner.js';
import { ProcessPlugin } from './plugin-stub.js';
import { Spawner, type SpawnerPlace } from './spawner.js';

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
  /** Loads the code of a plugin again, beside the one in use. Rejects with an OverlayError. */
  loadAgain(name: string): Promise<LoadedAgain>;
}

/** New code of a plugin. One of the two functions is to be called. */
export interface LoadedAgain {
  readonly plugin: LookupPlugin;
  /** From now on this is the plugin of that name, and the one before is ended. */
  readonly commit: () => void;
  readonly abandon: () => void;
}

export interface CatalogServices {
  readonly limits: RunnerServices['limits'];
  readonly place: SpawnerPlace;
}

interface Failure {
  /** Version of its files (versionOf). */
  readonly version: string;
  readonly reason: string;
  /** Next time the same files may be loaded. */
  readonly mayPass: boolean;
}

export class PluginCatalog implements Plugins {
  readonly #directories: readonly string[];
  readonly #log: Log;
  readonly #services: RunnerServices;
  readonly #plugins = new Map<string, LookupPlugin>();
  /** Entry files of the plugins that were imported. */
  readonly #loaded = new Set<string>();
  readonly #failures = new Map<string, Failure>();
  #importing: Promise<void> = Promise.resolve();

  private constructor(directories: readonly string[], log: Log, services: CatalogServices) {
    this.#directories = directories;
    this.#log = log;
    const lacks = (sentence: string): void => {
      log.warn('plugin user', sentence);
    };
    this.#services = { log, limits: services.limits, spawner: new Spawner(services.place, lacks) };
  }

  /**
   * Resolves when the plugins of varpd are there. Throws an OverlayError when one of the directories cannot
   * be read.
   */
  static async load(
    directories: readonly string[],
    log: Log,
    services: CatalogServices,
  ): Promise<PluginCatalog> {
    const catalog = new PluginCatalog(directories, log, services);
    const files = directories.flatMap(entryFiles);
    await catalog.#import(entryFiles(BUILT_IN_PLUGINS));
    // A spawner that others have started ends when no varpd comes.
    if (services.place.begin === undefined) catalog.#services.spawner.hold();
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
      if (!this.#plugins.has(name)) this.#importing = this.#import(this.#worthTrying(name));
    }
    await this.#importing;
    return this.#plugins.get(name);
  }

  failureOf(name: string): string | undefined {
    for (const [file, { reason }] of this.#failures)
      if (mayBeNamed(file, name)) return reason.startsWith(file) ? reason : `${file}: ${reason}`;
    return undefined;
  }

  async loadAgain(name: string): Promise<LoadedAgain> {
    const before = this.#plugins.get(name);
    if (before === undefined) {
      // It could not be loaded until now, and no overlay uses it.
      const plugin = await this.find(name);
      if (plugin !== undefined) return { plugin, commit: () => undefined, abandon: () => undefined };
      const failure = this.failureOf(name);
      throw failure === undefined
        ? new OverlayError(
            'NOT_FOUND',
            `there is no plugin '${name}'`,
            [],
            undefined,
            didYouMean(name, [...this.keys()]),
          )
        : new OverlayError('INVALID', failure, [failure]);
    }
    if (!(before instanceof ProcessPlugin))
      throw new OverlayError(
        'UNSUPPORTED',
        `plugin '${name}' is a part of varpd: 'dladm restart' loads it again`,
      );
    const { file } = before.runner;
    let plugin: LookupPlugin;
    try {
      plugin = await importPlugin(file, this.#services);
    } catch (error) {
      const line = leftOut(file, systemErrorText(error)).replace(': left out: ', ': not loaded: ');
      throw new OverlayError('INVALID', line, [line], error);
    }
    const abandon = (): void => {
      if (plugin instanceof ProcessPlugin) plugin.runner.close();
    };
    if (plugin.name !== name) {
      abandon();
      throw new OverlayError(
        'INVALID',
        `${file}: not loaded: its name is '${plugin.name}' now, and was '${name}'`,
      );
    }
    const commit = (): void => {
      this.#plugins.set(name, plugin);
      before.runner.close();
    };
    return { plugin, commit, abandon };
  }

  /** The user that the processes of plugins run as; undefined while there was none. */
  get user(): string | undefined {
    return this.#services.spawner.user;
  }

  /** As `Spawner.lack`. */
  get lack(): string | undefined {
    return this.#services.spawner.lack;
  }

  /** How they are confined; undefined while there was none. */
  get confinement(): Confinement | undefined {
    return this.#services.spawner.confinement;
  }

  /** Ends all processes of plugins. `isRestart`: the next varpd starts them again, by the same spawner. */
  close(isRestart: boolean): void {
    for (const plugin of this.#plugins.values()) if (plugin instanceof ProcessPlugin) plugin.runner.close();
    if (isRestart) this.#services.spawner.leave();
    else this.#services.spawner.close();
  }

  /**
   * Registers plugins in the order of `files`: the first of two with one name wins, so that none takes the
   * place of `direct` by accident. Never rejects.
   */
  async #import(files: readonly string[]): Promise<void> {
    const imports = files.map(async (file) => {
      const version = versionOf(file);
      try {
        return { file, plugin: await importPlugin(file, this.#services) };
      } catch (error) {
        const mayPass = error instanceof NotStarted;
        return { file, failure: { version, reason: systemErrorText(error), mayPass } };
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
        if (plugin instanceof ProcessPlugin) plugin.runner.close();
      } else {
        this.#plugins.set(plugin.name, plugin);
        this.#log.debug('plugin', `${file}: plugin '${plugin.name}', mode ${plugin.mode}`);
      }
    }
  }

  /** Files that may have the plugin of this name now. */
  #worthTrying(name: string): string[] {
    const mayLoad = (file: string): boolean => {
      const failure = this.#failures.get(file);
      if (failure?.version !== versionOf(file)) return true;
      return failure.mayPass && mayBeNamed(file, name);
    };
    try {
      return this.#directories.flatMap(entryFiles).filter((file) => !this.#loaded.has(file) && mayLoad(file));
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
