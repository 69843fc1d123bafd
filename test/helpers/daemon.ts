// One varpd on one host, with its own configuration, socket and state directory, and dladm to speak to it.
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { dladm } from '../../src/cli/dladm.js';
import { readPages } from '../../src/control/pages.js';
import { type Call, createClient } from '../../src/control/client.js';
import type { DaemonStatus } from '../../src/control/daemon-messages.js';
import type { RunningOverlayInfo, VnicInfo } from '../../src/control/messages.js';
import { encapsulation, type EncapsulationName } from '../../src/encap/index.js';
import { asDaemonUser, giveToDaemon, startable } from './daemon-user.js';
import { fromRoot } from './need.js';
import type { Bed, Namespace } from './netns.js';
import { type Child, CommandError, type Exit, isRunning, type Result, waitUntil } from './process.js';
import { cpuSeconds, descriptorsOf, residentKib } from './procfs.js';

export const VARPD_MAIN = fromRoot('dist/src/daemon/main.js');
export const DLADM_MAIN = fromRoot('dist/src/cli/main.js');

export interface DaemonOptions {
  readonly pluginPath?: readonly string[];
  /** More keys of the configuration file. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** More command line arguments for varpd. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Arguments for node. */
  readonly nodeArgs?: readonly string[];
  /** False: where the socket is, the configuration alone says. */
  readonly socketFlag?: false;
  /** A line of shell that is run first. What it mounts is seen by this varpd alone, and goes with it. */
  readonly before?: string;
  /** Another tree of the project, built, whose varpd and dladm these are. */
  readonly tree?: string;
  /** True: of the time when varpd stayed root, and knew no key `user`. */
  readonly staysRoot?: boolean;
  /** True: root has no part in the start, unless another option wants that. For tests that are not about processes; flows are not
   * steered to queues then. */
  readonly withoutRoot?: boolean;
}

/** The part of tap's test object that is used here. */
interface TestContext {
  teardown(fn: () => Promise<void>): unknown;
  passing(): boolean;
  comment(text: string): unknown;
}

const START_TIMEOUT_MS = 60_000;
/** For what was sent to be counted, however busy the machine is. */
const COUNT_MS = 30_000;

export class Daemon {
  readonly directory: string;
  socket: string;
  readonly stateDir: string;
  readonly configFile: string;
  readonly logFile: string;
  /** Asks the daemon directly. */
  call: Call;
  #child: Child | undefined;
  readonly #bed: Bed;

  /** Prepares the directory; start() runs it. Several may stand on one host. */
  constructor(
    bed: Bed,
    readonly host: Namespace,
    readonly options: DaemonOptions = {},
  ) {
    this.directory = bed.directory();
    this.socket = path.join(this.directory, 'varpd.sock');
    this.stateDir = path.join(this.directory, 'state');
    this.configFile = path.join(this.directory, 'varpd.yaml');
    this.logFile = path.join(this.directory, 'varpd.log');
    this.call = createClient(this.socket);
    this.#bed = bed;
    writeFileSync(this.logFile, '');
    chmodSync(this.directory, 0o755);
    if (options.staysRoot !== true && options.config?.['user'] !== 'root')
      giveToDaemon(this.directory, this.logFile);
    this.writeConfig(options.config);
  }

  static async start(bed: Bed, host: Namespace, options?: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(bed, host, options);
    await daemon.start();
    return daemon;
  }

  /** JSON is YAML: each key on a line of its own, its value in JSON. */
  writeConfig(more: Readonly<Record<string, unknown>> = {}): void {
    const { pluginPath } = this.options;
    const keys = { socket: this.socket, stateDir: this.stateDir, ...(pluginPath && { pluginPath }), ...more };
    const lines = Object.entries(keys).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
    writeFileSync(this.configFile, lines.join(''));
  }

  /** Where varpd is asked from now on. */
  useSocket(file: string): void {
    this.socket = file;
    this.call = createClient(file);
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** What its file system looks like, mounts of its own included. */
  inside(file: string): string {
    return `/proc/${this.pid}/root${file}`;
  }

  get descriptors(): number {
    return descriptorsOf(this.pid);
  }

  /**
   * The fewest that are open within half a second, or within 5 s while they are more than `expected`: a client that is
   * being answered, or has just gone, has one too.
   */
  async descriptorsAtRest(expected = Infinity): Promise<number> {
    const startedMs = performance.now();
    let fewest = Infinity;
    for (let ms = 0; ms < 500 || (ms < 5000 && fewest > expected); ms = performance.now() - startedMs) {
      fewest = Math.min(fewest, this.descriptors);
      await sleep(20);
    }
    return fewest;
  }

  /** Resolves when it has ended, however it does. */
  ended(): Promise<Exit> | undefined {
    return this.#child?.exited;
  }

  get running(): boolean {
    return this.#child !== undefined && !this.#child.ended;
  }

  #program(main: string): string {
    const { tree } = this.options;
    return tree === undefined ? main : path.join(tree, path.relative(fromRoot('.'), main));
  }

  /** A command that starts varpd, with what is to be done before. */
  startable(varpd: readonly string[]): string[] {
    return startable(this.#bed, varpd, this.options.before);
  }

  get #isForRoot(): boolean {
    const { withoutRoot, staysRoot, tree, config } = this.options;
    return withoutRoot !== true || staysRoot === true || tree !== undefined || config?.['user'] !== undefined;
  }

  /** Resolves once the daemon answers, and has tried every stored overlay. */
  async start(): Promise<void> {
    await this.startAnswering();
    await this.settled();
  }

  /** Resolves once the daemon answers. After a second at most it does so before it has tried every stored overlay. */
  async startAnswering(): Promise<void> {
    // One that another program has ended may not be known to have ended.
    if (this.#child !== undefined && !isRunning(this.pid)) await this.#child.exited;
    if (this.running) throw new Error('this varpd is running');
    const socket = this.options.socketFlag === false ? [] : ['--socket', this.socket];
    const own = ['--config', this.configFile, ...socket, '--foreground', ...(this.options.args ?? [])];
    const varpd = [process.execPath, ...(this.options.nodeArgs ?? []), this.#program(VARPD_MAIN), ...own];
    const child = this.host.spawn(this.startable(this.#isForRoot ? varpd : asDaemonUser(varpd)), {
      logFile: this.logFile,
      cwd: this.directory,
      ...(this.options.env && { env: this.options.env }),
    });
    this.#child = child;
    const answers = async (): Promise<boolean> => {
      if (child.ended) return true;
      if (!existsSync(this.socket)) return false;
      const status = await this.call('daemon.status', {}).catch(() => undefined);
      return status?.pid === child.pid;
    };
    try {
      await waitUntil(answers, { timeoutMs: START_TIMEOUT_MS, what: 'varpd to answer' });
      if (child.ended) throw new Error('varpd ended at once');
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${this.log()}`, { cause: error });
    }
  }

  /** SIGTERM and a wait: the clean end. */
  async stop(): Promise<Exit | undefined> {
    return this.#child?.stop('SIGTERM');
  }

  /** SIGKILL: the end without a chance to tidy up. */
  async kill(): Promise<Exit | undefined> {
    return this.#child?.stop('SIGKILL');
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.signal(name);
  }

  async restart(how: 'stop' | 'kill' = 'stop'): Promise<void> {
    await this[how]();
    await this.start();
  }

  /** Resolves when it has tried every stored overlay, after `startAnswering` or `dladm restart`. */
  async settled(): Promise<void> {
    // A version of another tree may not say it.
    const isSettled = async (): Promise<boolean> =>
      ((await this.call('daemon.status', {})) as Partial<DaemonStatus>).isSettled ?? true;
    await waitUntil(isSettled, { timeoutMs: START_TIMEOUT_MS, what: 'varpd to have tried all overlays' });
  }

  /**
   * Runs dladm against this daemon: dladm('show-overlay', '-t'). In this process, as it needs nothing of the host but the socket,
   * and a program of its own would take more time than most of what is tested. That of another tree is a program.
   */
  async dladm(...args: string[]): Promise<Result> {
    const env = { VARPD_SOCKET: this.socket };
    if (this.options.tree !== undefined)
      return this.host.run([process.execPath, this.#program(DLADM_MAIN), ...args], { env });
    const written = { stdout: '', stderr: '' };
    const code = await dladm(args, {
      out: (text) => (written.stdout += text),
      err: (text) => (written.stderr += text),
      env,
    });
    return { command: `dladm ${args.join(' ')}`, code, signal: null, timedOut: false, ...written };
  }

  /** The same as one line, which must succeed; resolves with what it printed. ok('create-vnic -l overlay0 foo0') */
  async ok(line: string): Promise<string> {
    const result = await this.dladm(...line.split(/\s+/).filter((word) => word !== ''));
    if (result.code !== 0) throw new CommandError(result);
    return result.stdout;
  }

  /** What `show-overlay --json` prints of those that run: of all, or those named. */
  async overlays(...names: string[]): Promise<readonly RunningOverlayInfo[]> {
    const params = names.length === 0 ? {} : { names };
    const pages = await readPages(this.call, 'overlay.list', params);
    const overlays = pages.flatMap((page) => page.overlays);
    const missing = pages.flatMap((page) => page.missing);
    if (missing.length > 0) throw new Error(`${missing[0].name}: ${missing[0].message}`);
    const offline = overlays.find(({ health }) => health.status === 'OFFLINE');
    if (names.length > 0 && offline !== undefined)
      throw new Error(`${offline.name} is OFFLINE: ${offline.health.details}`);
    return overlays.filter((one): one is RunningOverlayInfo => one.health.status !== 'OFFLINE');
  }

  /** What `show-vnic --json` prints of those that run. */
  async vnics(): Promise<readonly VnicInfo[]> {
    const pages = await readPages(this.call, 'vnic.list', {});
    const vnics = pages.flatMap((page) => page.vnics);
    return vnics.filter(({ state }) => !state.startsWith('OFFLINE'));
  }

  /**
   * By how much each counter of an overlay grew while something was done; those that did not are left out. What was sent may
   * still be in a queue then: until those `expected` have grown by as much, it waits, and after 10 s it is as it is.
   */
  async counted(
    work: () => unknown,
    overlay = 'overlay0',
    expected: Readonly<Record<string, number>> = {},
  ): Promise<Record<string, number>> {
    const [before] = await this.overlays(overlay);
    await work();
    let grown: Record<string, number> = {};
    const isCounted = async (): Promise<boolean> => {
      const [after] = await this.overlays(overlay);
      grown = Object.fromEntries(
        Object.entries(after.counters)
          .map(([name, value]) => [name, value - before.counters[name]] as const)
          .filter(([, by]) => by !== 0),
      );
      return Object.entries(expected).every(([name, by]) => (grown[name] ?? 0) >= by);
    };
    await waitUntil(isCounted, { timeoutMs: COUNT_MS, what: 'the counters' }).catch(() => undefined);
    return grown;
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  /** CPU time used so far, all threads. */
  cpuSeconds(): number {
    return cpuSeconds(this.pid);
  }

  residentKib(): number {
    return residentKib(this.pid);
  }

  /** The state directory of a plugin, where its process may write; varpd that root starts makes it. */
  pluginState(name: string): string {
    return path.join(`${this.stateDir}-plugins`, name);
  }

  /** Removes what the daemon keeps over restarts. */
  forget(): void {
    rmSync(this.stateDir, { recursive: true, force: true });
  }

  /** Puts the log among the diagnostics of a test that fails. */
  explain(t: TestContext): this {
    t.teardown(() => {
      if (!t.passing()) t.comment(`log of varpd ${this.pid} on ${this.host.name}:\n${this.log()}`);
      return Promise.resolve();
    });
    return this;
  }
}

/** A module for `--import`: SIGWINCH has the main thread of the process hang for ever. */
export function hangingPreload(directory: string): string {
  const file = path.join(directory, 'hanging.mjs');
  writeFileSync(file, `process.on('SIGWINCH', () => { for (;;); });`);
  return file;
}

/** The usual overlay: direct plugin, one vnetid, from this host to another. */
export function directOverlay(
  { from, to, vnetid = 42, name = 'overlay0', encap = 'vxlan' }: DirectOverlay,
  more = '',
): string {
  const { defaultPort } = encapsulation(encap);
  const properties = `-p ${encap}/listen_ip=${from} -p direct/dest_ip=${to} -p direct/dest_port=${defaultPort}`;
  return `create-overlay -e ${encap} -s direct -v ${vnetid} ${properties} ${more} ${name}`;
}

interface DirectOverlay {
  readonly from: string;
  readonly to: string;
  readonly vnetid?: number;
  readonly name?: string;
  readonly encap?: EncapsulationName;
}
