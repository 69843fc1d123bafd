/**
 * The process of one plugin over its lives: started when the first instance needs it, ended when no instance has needed it
 * for a while, started again with a growing pause when it has ended by itself.
 */
import { BackOff } from '../../plugin/back-off.js';
import type { Host } from '../../plugin/contract.js';
import type { Properties } from '../../plugin/properties.js';
import type { Description, InstanceId } from '../../plugin-process/messages.js';
import { PLUGIN_NAME } from '../../plugin-process/messages.js';
import type { Log } from '../log.js';
import { probableName } from './plugin-entry.js';
import { PluginProcess, type ProcessServices } from './plugin-process.js';

/** Time for the module to be evaluated. Reading tables and connecting belong into `start`. */
const LOAD_DEADLINE_MS = 5000;
/** A process that no instance has needed yet is kept that long: at a start of varpd the overlays come soon. */
const IDLE_MS = 10_000;
/** A process is kept that long after its last instance: it may do anything, and an overlay tries again within a second. */
const LEFT_MS = 2000;
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
/** A process that has run so long ran well: the next pause is the first one again. */
const WELL_MS = 60_000;
/** Part of the time that the stop of an instance has. */
const CLOSE_MS = 400;

export interface RunnerServices {
  readonly spawner: ProcessServices['spawner'];
  readonly limits: ProcessServices['limits'];
  readonly log: Log;
  /** The plugin is described, and makes no instance. */
  readonly isTrial?: boolean;
}

/** Hears the sentence about the end of the process. */
export type Gone = (cause: string) => void;

/** The members of a plugin that an overlay depends on. */
const shapeOf = (description: Description): string => JSON.stringify(description.plugin);

export class PluginRunner {
  readonly file: string;
  readonly #services: RunnerServices;
  /** Name of the state directory that the process may use; null = none. It is known before the plugin is loaded. */
  #state: string | null;
  #description: Description | undefined;
  #starting: Promise<PluginProcess> | undefined;
  #running: PluginProcess | undefined;
  #openedBy: PluginProcess | undefined;
  #startedMs = 0;
  readonly #backOff = new BackOff({ firstMs: FIRST_PAUSE_MS, maxMs: LONGEST_PAUSE_MS });
  /** No start before this time. */
  #notBeforeMs = 0;
  #cause = '';
  #isClosed = false;
  #idle: NodeJS.Timeout | undefined;
  readonly gone = new Set<Gone>();

  /** `name`: that of the plugin, where it is known. */
  constructor(file: string, services: RunnerServices, name = probableName(file)) {
    this.file = file;
    this.#services = services;
    this.#state = services.isTrial === true || !PLUGIN_NAME.test(name) ? null : name;
  }

  /** Starts the process for the first time. Rejects with the error of the plugin. */
  async describe(): Promise<Description> {
    const process = await this.#start();
    const description = this.#description!;
    const { name } = (description.plugin ?? {}) as { readonly name?: unknown };
    if (this.#services.isTrial !== true && typeof name === 'string' && name !== this.#state) {
      // The process for its instances is confined to the state directory of this name.
      this.#state = PLUGIN_NAME.test(name) ? name : null;
      this.#leave(process);
    } else this.#watchIdle(process);
    return description;
  }

  /** The process that runs at the moment. */
  get process(): PluginProcess | undefined {
    return this.#running;
  }

  /** Time until the process may be started again. */
  get pauseMs(): number {
    return this.#running === undefined ? Math.max(0, this.#notBeforeMs - performance.now()) : 0;
  }

  /** The process with an instance for this host. Rejects with an Error; then it is tried again after `pauseMs`. */
  async add(host: Host, signal: AbortSignal): Promise<{ process: PluginProcess; id: InstanceId }> {
    if (this.pauseMs > 0) throw new Error(this.#cause);
    const process = await this.#start();
    clearTimeout(this.#idle);
    const id = process.add(host);
    try {
      if (signal.aborted) throw new Error('the deadline has passed');
      await this.#open(process, signal);
    } catch (error) {
      this.remove(process, id);
      throw error;
    }
    return { process, id };
  }

  /** The sentence of the plugin about these properties. Rejects with an Error. */
  async refuse(properties: Properties): Promise<unknown> {
    if (this.pauseMs > 0) throw new Error(this.#cause);
    const process = await this.#start();
    const sentence = await process.call(0, 'refuse', [properties]);
    this.#watchIdle(process);
    return sentence;
  }

  /** The instance has been stopped. */
  remove(process: PluginProcess, id: InstanceId): void {
    if (process.instanceCount === 1 && this.#openedBy === process) this.#close(process);
    process.remove(id);
    if (process === this.#running) this.#watchIdle(process, LEFT_MS);
  }

  /** Ends the process. It is not started again. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#idle);
    this.#running?.kill('was ended by varpd');
  }

  #start(): Promise<PluginProcess> {
    if (this.#isClosed) return Promise.reject(new Error('the plugin has been replaced'));
    this.#starting ??= this.#begin().catch((error: unknown) => {
      this.#starting = undefined;
      this.#fail(error instanceof Error ? error.message : String(error));
      throw error;
    });
    return this.#starting;
  }

  async #begin(): Promise<PluginProcess> {
    const { log, isTrial = false, ...services } = this.#services;
    const printed = (isError: boolean, line: string): void => {
      log[isError ? 'warn' : 'info'](`printed ${this.file}`, `${this.file}: printed: ${line}`);
    };
    const { process, description } = await PluginProcess.start(
      { ...services, printed },
      { file: this.file, isTrial, state: this.#state },
      LOAD_DEADLINE_MS,
    );
    if (this.#description !== undefined && shapeOf(this.#description) !== shapeOf(description)) {
      process.kill('has other code');
      throw new Error(
        `${this.file}: its name, mode or properties are other ones than before: 'dladm reload-plugin' takes them`,
      );
    }
    this.#description = description;
    this.#running = process;
    this.#startedMs = performance.now();
    process.onEnded = (cause, instanceCount) => {
      this.#ended(process, cause, instanceCount);
    };
    if (this.#isClosed) process.kill('was ended by varpd');
    return process;
  }

  /** An end that no instance has felt calls for no pause. */
  #ended(process: PluginProcess, cause: string, instanceCount: number): void {
    if (process !== this.#running) return;
    this.#running = undefined;
    this.#starting = undefined;
    this.#openedBy = undefined;
    clearTimeout(this.#idle);
    if (this.#isClosed) return;
    if (performance.now() - this.#startedMs > WELL_MS) this.#backOff.reset();
    if (instanceCount > 0) this.#fail(cause);
    this.#services.log.warn(`plugin ${this.file}`, `${this.file}: ${cause}`);
    for (const gone of [...this.gone]) gone(cause);
  }

  #fail(cause: string): void {
    this.#cause = cause;
    // One record of a store may end the process of every host in the same moment.
    this.#notBeforeMs = performance.now() + this.#backOff.next();
  }

  /** Opens what the instances share, unless this process has done so. A failure is tried again by the next instance. */
  async #open(process: PluginProcess, signal: AbortSignal): Promise<void> {
    if (this.#openedBy === process || !this.#has('open')) return;
    await process.call(0, 'open', [], signal);
    this.#openedBy = process;
  }

  #close(process: PluginProcess): void {
    this.#openedBy = undefined;
    if (!this.#has('close')) return;
    process.call(0, 'close', [], AbortSignal.timeout(CLOSE_MS)).catch((error: unknown) => {
      this.#services.log.warn(`close ${this.file}`, `${this.file}: did not close: ${String(error)}`);
    });
  }

  #has(method: 'open' | 'close'): boolean {
    const plugin = this.#description?.plugin as Readonly<Record<string, unknown>> | undefined;
    return plugin?.[method] !== undefined;
  }

  #watchIdle(process: PluginProcess, keptMs = IDLE_MS): void {
    clearTimeout(this.#idle);
    if (process.instanceCount > 0) return;
    this.#idle = setTimeout(() => {
      if (this.#running !== process || process.instanceCount > 0) return;
      this.#leave(process);
    }, keptMs).unref();
  }

  /** It has done nothing wrong: the next start has no pause. */
  #leave(process: PluginProcess): void {
    this.#running = undefined;
    this.#starting = undefined;
    this.#openedBy = undefined;
    process.kill('had nothing to do');
  }
}
