/**
 * varpd as a whole: takes its places (state directory, socket), starts what there is, listens, and ends cleanly.
 *
 * Nothing is opened before both places are this daemon's alone, and nobody is answered before everything stored has been
 * brought up, so that a client never sees half of it.
 */
import { readFileSync } from 'node:fs';
import type { DaemonStatus, Failure } from '../control/messages.js';
import { asOverlayError } from '../core/errors.js';
import { lockFile, peerCredentials } from '../dgram-extra/index.js';
import { type Config, configChanges, type Limits } from './config.js';
import type { Datapath, DatapathEvents } from './datapath/contract.js';
import { DatapathControl } from './datapath/control.js';
import { groupId } from './groups.js';
import { LinkWatch } from './link-watch.js';
import { hostKernel, hostLinks } from './links.js';
import type { DaemonLog } from './log.js';
import { StateStore } from './persistence.js';
import { BUILT_IN_PLUGINS, loadPlugins } from './plugin-loader.js';
import { Registry } from './registry.js';
import type { Handlers } from './rpc.js';
import { ControlServer } from './server.js';
import { claimSocket } from './socket-file.js';
import type { StateDirectory } from './state-directory.js';
import { UndoStack } from './undo.js';
import { VERSION } from './version.js';

/** CAP_NET_ADMIN of capabilities(7) as a bit of CapEff. */
const CAP_NET_ADMIN = 1n << 12n;

export class Daemon {
  #config: Config;
  readonly #log: DaemonLog;
  /** How to end: the last that was started ends first. */
  readonly #ending = new UndoStack();
  readonly #startedAt = new Date();
  #limits: Limits;
  /** The datapath is there before it, but has nothing to tell until there is an overlay. */
  #registry: Registry | undefined;

  readonly #readConfig: () => Config;

  private constructor(config: Config, readConfig: () => Config, log: DaemonLog) {
    this.#config = config;
    this.#readConfig = readConfig;
    this.#limits = config.limits;
    this.#log = log;
  }

  /**
   * Rejects with an OverlayError, and then nothing is left behind. `state` is closed at the end.
   * `failed` hears that the datapath is gone, after which only `stop` makes sense.
   * `readConfig` reads the configuration again, and throws when it is no good.
   */
  static async start(
    config: Config,
    readConfig: () => Config,
    state: StateDirectory,
    log: DaemonLog,
    failed: (error: Error) => void,
  ): Promise<Daemon> {
    const daemon = new Daemon(config, readConfig, log);
    try {
      await daemon.#start(state, failed);
      return daemon;
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  /** No TAP, no socket file, no thread is left. May be called twice. */
  stop(): Promise<void> {
    return this.#ending.unwind((error) => {
      this.#log.error('stop', `while stopping: ${String(error)}`);
    });
  }

  /** The log file, the configuration, and what plugins have read. What is no good is logged, and leaves all as it was. */
  async reload(): Promise<Failure[]> {
    this.#log.reopen();
    const failures: Failure[] = [];
    try {
      this.#apply(this.#readConfig());
    } catch (error) {
      const { message, details } = asOverlayError(error);
      for (const line of details.length > 0 ? details : [message])
        failures.push({ name: 'configuration', message: `not reloaded: ${line}` });
    }
    failures.push(...((await this.#registry?.reload()) ?? []));
    // Each a kind of its own: however many there are, all are told.
    for (const { name, message } of failures)
      this.#log.error(`reload ${name} ${message}`, `${name} ${message}`);
    return failures;
  }

  /** Applies what can be applied; says what cannot. */
  #apply(config: Config): void {
    const changes = configChanges(this.#config, config);
    if (changes.length === 0) this.#log.info('reload', 'configuration read again: nothing has changed');
    for (const { key, reloadable } of changes) {
      const what = reloadable ? 'applied' : 'takes effect at the next start';
      this.#log.info(`reload ${key}`, `configuration: ${key} has changed: ${what}`);
    }
    this.#limits = config.limits;
    this.#log.setLevel(config.log.level);
    // What was not applied stays in the comparison: the next reload will say so again.
    this.#config = {
      ...this.#config,
      limits: config.limits,
      log: { ...this.#config.log, level: config.log.level },
    };
  }

  async #start(state: StateDirectory, failed: (error: Error) => void): Promise<void> {
    const config = this.#config;
    const log = this.#log;
    const gid = config.group === null ? undefined : groupId(config.group);
    if (!hasNetAdmin())
      log.warn(
        'start',
        'without CAP_NET_ADMIN no overlay can be created: start varpd as root or give it that',
      );

    this.#ending.push(() => state.close());
    await state.lock(lockFile);
    await claimSocket(config.socket, gid);
    const plugins = await loadPlugins([BUILT_IN_PLUGINS, ...config.pluginPath], log);
    const store = await StateStore.load(state);
    // One topic each: none is left out, however many there are.
    for (const { name, message } of store.bad) log.error(`state ${name}`, message);

    const events: DatapathEvents = {
      lookup: (request) => this.#registry?.lookup(request),
      portFault: (overlay, port, code) => this.#registry?.portFault(overlay, port, code),
      leased: (news) => this.#registry?.linkProperties.leased(news),
      peers: (overlay, added, removed) => this.#registry?.peersChanged(overlay, added, removed),
      failed,
    };
    const datapath: Datapath = await DatapathControl.start(events);
    this.#ending.push(() => datapath.close());
    const limits = (): Limits => this.#limits;
    const watch = new LinkWatch(hostKernel, log);
    this.#ending.push(() => {
      watch.close();
    });
    const registry = new Registry({ datapath, plugins, links: hostLinks, watch, log, limits }, store);
    this.#registry = registry;
    this.#ending.push(() => registry.stop());
    await registry.up({});

    const server = await ControlServer.listen({
      socket: config.socket,
      gid,
      handlers: this.#handlers(registry, datapath),
      credentials: peerCredentials,
      maxClients: () => this.#limits.clients,
      log,
    });
    this.#ending.push(() => server.close());
    const { overlays: count, vnics } = registry.roster.counts;
    log.info('start', `varpd ${VERSION} serves ${config.socket} with ${count} overlays and ${vnics} VNICs`);
  }

  #handlers(registry: Registry, datapath: Datapath): Handlers {
    const done = async (change: Promise<void> | undefined): Promise<null> => {
      await change;
      return null;
    };
    return {
      'overlay.create': (params) => done(registry.createOverlay(params)),
      'overlay.delete': (params) => done(registry.deleteOverlay(params)),
      'overlay.up': (params) => registry.up(params),
      'overlay.list': (params) => registry.roster.list(params),
      'overlay.targets': (params) => registry.targets(params),
      'overlay.setTarget': (params) => {
        registry.setTarget(params);
        return null;
      },
      'overlay.deleteTarget': (params) => done(registry.deleteTarget(params)),
      'overlay.flushTargets': (params) => {
        registry.flushTargets(params);
        return null;
      },
      'vnic.create': (params) => done(registry.createVnic(params)),
      'vnic.delete': (params) => done(registry.deleteVnic(params)),
      'vnic.list': (params) => registry.roster.listVnics(params),
      'linkprop.set': (params) => done(registry.linkProperties.set(params)),
      'linkprop.reset': (params) => done(registry.linkProperties.reset(params)),
      'linkprop.list': (params) => registry.linkProperties.list(params),
      'daemon.reload': async () => ({ failures: await this.reload() }),
      'daemon.status': (): DaemonStatus => ({
        version: VERSION,
        pid: process.pid,
        startedAt: this.#startedAt.toISOString(),
        ...registry.roster.counts,
        features: datapath.features,
      }),
    };
  }
}

function hasNetAdmin(): boolean {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return hex !== undefined && (BigInt(`0x${hex}`) & CAP_NET_ADMIN) !== 0n;
}
