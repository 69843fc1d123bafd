/**
 * The lookup plugins by name. The plugins of varpd are there at once, as a part of its program: to find and link their modules
 * took longer than the rest of a start. The others are loaded meanwhile, each by a process
 * of its own, so that one that takes long keeps no overlay of another plugin waiting. A plugin that could not be loaded
 * is tried again when an overlay asks for it and its files have changed; if its process did not start, with the same files,
 * too.
 */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import direct from '../../../plugins/direct/index.js';
import files from '../../../plugins/files/index.js';
import { specs as httpSpecs } from '../../../plugins/http/specs.js';
import { specs as natsSpecs } from '../../../plugins/nats/specs.js';
import { OverlayError } from '../../model/errors.js';
import { didYouMean } from '../../model/suggest.js';
import type { LookupPlugin } from '../../plugin/contract.js';
import type { PropertySpec } from '../../plugin/properties.js';
import type { Confinement } from '../../plugin-process/messages.js';
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import { NameClaims } from './name-claims.js';
import { mayBeNamed } from './plugin-entry.js';
import { entryFiles, importPlugin, leftOut } from './plugin-loader.js';
import { NotStarted } from './plugin-process.js';
import { PluginRunner, type RunnerServices } from './plugin-runner.js';
import { ProcessPlugin } from './plugin-stub.js';
import { Spawner, type SpawnerPlace } from './spawner.js';

/** The plugins as an overlay sees them. */
export interface Plugins {
  get(name: string): LookupPlugin | undefined;
  /**
   * Returns the same as `get`, once there is a plugin of this name, or the imports under way and those of files that have
   * changed since are over. Never rejects.
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

/** The plugins of varpd that answer out of memory, and run in the daemon. */
const INSIDE: readonly LookupPlugin[] = [direct, files];
/** Those that ask servers, with their properties: each runs in a process of its own, which alone loads its code. */
const IN_PROCESSES: readonly [name: string, properties: readonly PropertySpec[]][] = [
  ['http', httpSpecs],
  ['nats', natsSpecs],
];
export const BUILT_IN_NAMES: readonly string[] = [
  ...INSIDE.map(({ name }) => name),
  ...IN_PROCESSES.map(([name]) => name),
];

/** The plugins of varpd by their entry files. */
function builtInPlugins(services: RunnerServices): [file: string, plugin: LookupPlugin][] {
  const entryOf = (name: string): string =>
    fileURLToPath(new URL(`../../../plugins/${name}/index.js`, import.meta.url));
  const others = IN_PROCESSES.map(([name, properties]) => {
    // Its process is asked whether it refuses.
    const facts = { name, mode: 'dynamic', properties, refuse: () => undefined } as const;
    return new ProcessPlugin(new PluginRunner(entryOf(name), services, name), facts);
  });
  return [...INSIDE, ...others].map((plugin) => [entryOf(plugin.name), plugin]);
}

export class PluginCatalog implements Plugins {
  readonly #directories: readonly string[];
  readonly #log: Log;
  readonly #services: RunnerServices;
  readonly #plugins = new Map<string, LookupPlugin>();
  /** Entry files of the plugins that have been loaded, or are being loaded. */
  readonly #loaded = new Set<string>();
  readonly #failures = new Map<string, Failure>();
  /** All imports under way. */
  #importing: Promise<void> = Promise.resolve();
  /** Calls of `find` that wait for imports. */
  readonly #waiting = new Set<{ readonly name: string; readonly wake: () => void }>();

  private constructor(directories: readonly string[], log: Log, services: CatalogServices) {
    this.#directories = directories;
    this.#log = log;
    const lacks = (sentence: string): void => {
      log.warn('plugin user', sentence);
    };
    this.#services = { log, limits: services.limits, spawner: new Spawner(services.place, lacks) };
  }

  /** Throws an OverlayError when one of the directories cannot be read. */
  static load(directories: readonly string[], log: Log, services: CatalogServices): PluginCatalog {
    const catalog = new PluginCatalog(directories, log, services);
    const files = directories.flatMap(entryFiles);
    for (const [file, plugin] of builtInPlugins(catalog.#services)) catalog.#register(file, plugin);
    // A spawner that others have started ends when no varpd comes.
    if (services.place.begin === undefined) catalog.#services.spawner.hold();
    catalog.#begin(files);
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
      await this.#settled(name);
      if (!this.#plugins.has(name)) this.#begin(this.#worthTrying(name));
    }
    await this.#settled(name);
    return this.#plugins.get(name);
  }

  /** Resolves when there is a plugin of this name, or no import is under way that may bring it. */
  async #settled(name: string): Promise<void> {
    if (this.#plugins.has(name)) return;
    let wake!: () => void;
    const arrival = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const waiting = { name, wake };
    this.#waiting.add(waiting);
    await Promise.race([arrival, this.#importing]);
    this.#waiting.delete(waiting);
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

  #begin(files: readonly string[]): void {
    // The result would hold that of every import before.
    this.#importing = Promise.all([this.#importing, this.#import(files)]).then(() => undefined);
  }

  /**
   * Loads these files, and registers each plugin as soon as it is decided that it has its name (name-claims.ts). One that is
   * registered already keeps it, so that none takes the place of `direct` by accident. Never rejects.
   */
  async #import(files: readonly string[]): Promise<void> {
    const claims = new NameClaims(files);
    const imports = files.map(async (file) => {
      const plugin = await this.#load(file);
      for (const decided of claims.settle(file, plugin)) this.#register(decided.file, decided.plugin);
    });
    await Promise.all(imports);
  }

  /** Undefined: it could not be loaded, and the reason has been noted. */
  async #load(file: string): Promise<LookupPlugin | undefined> {
    const version = versionOf(file);
    this.#loaded.add(file);
    try {
      const plugin = await importPlugin(file, this.#services);
      this.#failures.delete(file);
      return plugin;
    } catch (error) {
      const reason = systemErrorText(error);
      this.#loaded.delete(file);
      this.#failures.set(file, { version, reason, mayPass: error instanceof NotStarted });
      this.#log.error(`plugin ${file}`, leftOut(file, reason));
      return undefined;
    }
  }

  #register(file: string, plugin: LookupPlugin): void {
    const { name, mode } = plugin;
    if (this.#plugins.has(name)) {
      this.#log.warn(`plugin ${file}`, `${file}: there is a plugin '${name}' already, this one is left out`);
      if (plugin instanceof ProcessPlugin) plugin.runner.close();
      return;
    }
    this.#plugins.set(name, plugin);
    this.#log.debug('plugin', `${file}: plugin '${name}', mode ${mode}`);
    for (const waiting of this.#waiting) if (waiting.name === name) waiting.wake();
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
