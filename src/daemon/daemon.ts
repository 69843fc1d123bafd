/**
 * varpd as a whole: takes its places (state directory, socket), starts what there is, listens, and ends cleanly.
 *
 * Nothing is opened before both places are this daemon's alone, and nobody is answered before everything stored has been
 * brought up, so that a client never sees half of it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Failure, RestartInfo } from '../control/messages.js';
import type { Datapath, Retained } from '../datapath/contract.js';
import { DatapathControl } from '../datapath/userland/main/datapath.js';
import { portOfDescriptor } from '../datapath/userland/main/taps.js';
import { lockFile, peerCredentials, sdNotify } from '../dgram-extra/index.js';
import { asOverlayError, errorText } from '../model/errors.js';
import { placeOf } from './config-file.js';
import { type Config, configChanges, type Limits } from './config.js';
import { ControlServer } from './control/server.js';
import { createHandlers } from './handlers.js';
import type { InheritedDescriptors } from './handover/descriptors.js';
import type { Lifecycle, Recipient } from './handover/lifecycle.js';
import type { DaemonLog } from './log.js';
import { startDropNews } from './observe/drop-news.js';
import type { MetricSources } from './observe/metrics.js';
import type { RunningOverlay } from './overlays/running-overlay.js';
import { Registry } from './overlays/registry.js';
import { PluginCatalog } from './plugins/plugin-catalog.js';
import { groupId } from './process/accounts.js';
import { hasNetAdmin } from './process/privileges.js';
import { userRemark } from './process/user.js';
import { startWatchdog } from './process/watchdog.js';
import { claimSocket } from './socket-file.js';
import { StateStore } from './state/persistence.js';
import { PersistentLinks } from './state/persistent-links.js';
import { Snapshot } from './state/snapshot.js';
import type { StateDirectory } from './state/state-directory.js';
import { LinkWatch } from './underlay/link-watch.js';
import { hostKernel, hostLinks } from './underlay/links.js';
import { UndoStack } from './undo.js';
import { VERSION } from './version.js';

/** For overlays to come up before anybody is answered: with what loads before it, varpd is ready within 2 s. */
const RAISE_MS = 1000;

/** What a daemon tells the process that it is in. */
export interface DaemonEvents {
  /** The datapath is gone, after which only `stop` makes sense. */
  readonly failed: (error: Error) => void;
  /** Somebody wants varpd to restart. Resolves when it is about to; rejects with an OverlayError that has all reasons when it
   * would not come back. */
  readonly restart: () => Promise<RestartInfo>;
}

export class Daemon {
  #config: Config;
  readonly #log: DaemonLog;
  /** How to end: the last that was started ends first. */
  readonly #ending = new UndoStack();
  readonly #startedAt = new Date();
  #limits: Limits;
  #registry: Registry | undefined;

  readonly #readConfig: () => Config;
  #datapath: Datapath | undefined;
  #inherited: InheritedDescriptors | undefined;
  /** About its user. */
  #remark: string | undefined;
  /** Every overlay has been tried. */
  #isSettled = false;
  #recipient: Recipient | undefined;

  private constructor(config: Config, readConfig: () => Config, log: DaemonLog) {
    this.#config = config;
    this.#readConfig = readConfig;
    this.#limits = config.limits;
    this.#log = log;
  }

  /**
   * Rejects with an OverlayError, and then nothing is left behind but what is for a next attempt. `state` is closed at the end.
   * `readConfig` reads the configuration again, and throws when it is not valid.
   */
  static async start(
    config: Config,
    readConfig: () => Config,
    state: StateDirectory,
    log: DaemonLog,
    events: DaemonEvents,
    lifecycle: Lifecycle,
  ): Promise<Daemon> {
    const daemon = new Daemon(config, readConfig, log);
    try {
      await daemon.#start(state, events, lifecycle);
      return daemon;
    } catch (error) {
      await daemon.stop(lifecycle.nextAttempt);
      throw error;
    }
  }

  /** No TAP, no socket file, no thread is left but what `recipient` takes. May be called twice. */
  stop(recipient?: Recipient): Promise<void> {
    this.#recipient = recipient;
    return this.#ending.unwind((error) => {
      this.#log.error('stop', `while stopping: ${errorText(error)}`);
    });
  }

  /** Resolves when no change is under way, or the time is over. None begins any more. */
  async freeze(deadlineMs: number): Promise<void> {
    await Promise.race([this.#registry?.freeze(), delay(deadlineMs, undefined, { ref: false })]);
  }

  /** Once it is frozen. */
  retain(): Retained {
    return this.#datapath!.retain();
  }

  /** The log file, the configuration, and what plugins have read. What is not valid is logged, and leaves all as it was. */
  async reload(): Promise<Failure[]> {
    const failures: Failure[] = [];
    try {
      this.#log.reopen();
    } catch (error) {
      const { message } = asOverlayError(error);
      failures.push({ name: 'log', message: `not reopened, goes on where it went: ${message}` });
    }
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

  async #start(
    state: StateDirectory,
    { failed, restart }: DaemonEvents,
    lifecycle: Lifecycle,
  ): Promise<void> {
    const config = this.#config;
    const log = this.#log;
    const gid = config.group === null ? undefined : groupId(config.group, placeOf(config, 'group'));
    this.#remark = userRemark(config);
    if (this.#remark !== undefined) log.warn('user', this.#remark);
    if (!hasNetAdmin())
      log.warn(
        'start',
        'without CAP_NET_ADMIN no overlay can be created: start varpd as root or give it that',
      );

    this.#ending.push(() => state.close());
    await state.lock(lockFile);
    await claimSocket(config.socket, gid);
    const inherited = lifecycle.receive();
    this.#inherited = inherited;
    // For want of metrics no link is given up that is there.
    const mayLackMetrics = lifecycle.isRestart || !inherited.isEmpty;
    const links = await PersistentLinks.load(state, log);
    const { persistTaps } = config;
    const { hasStandIn } = lifecycle;
    const datapath = new DatapathControl(inherited.with({ links, persistTaps, hasStandIn }), failed);
    this.#datapath = datapath;
    this.#ending.push(() => this.#end(datapath));
    // Its thread starts meanwhile: after a restart, frames wait for it.
    const loading = PluginCatalog.load(config.pluginPath, log);
    // It is awaited below. Until then a failure is nobody's fault, least of all a bug that ends varpd.
    loading.catch(() => undefined);
    const store = await StateStore.load(state);
    // One topic each: none is left out, however many there are.
    for (const { name, message } of store.bad) log.error(`state ${name}`, message);
    const snapshot = await Snapshot.load(state, Date.now(), log);
    const plugins = await loading;

    const limits = (): Limits => this.#limits;
    const watch = new LinkWatch(hostKernel, log);
    this.#ending.push(() => {
      watch.close();
    });
    const services = { datapath, plugins, links: hostLinks, watch, log, limits, snapshot };
    const registry = new Registry(services, store, () => {
      this.#changed();
    });
    this.#registry = registry;
    this.#ending.push(() => registry.stop((overlays) => this.#save(state, snapshot, overlays, store)));
    const raised = registry.raise();
    // A plugin that hangs keeps no other overlay waiting, nor whoever waits for varpd.
    await Promise.race([raised, delay(RAISE_MS, undefined, { ref: false })]);
    await datapath.begin();

    await this.#serveMetrics({ directory: registry.directory, datapath }, gid, mayLackMetrics);
    const server = await ControlServer.listen({
      socket: config.socket,
      gid,
      handlers: createHandlers(registry, datapath, {
        startedAt: this.#startedAt,
        isSettled: () => this.#isSettled,
        reload: () => this.reload(),
        restart,
      }),
      credentials: peerCredentials,
      maxClients: () => this.#limits.clients,
      log,
    });
    this.#ending.push(() => server.close());
    this.#ending.push(startDropNews(registry.directory, log));
    this.#ending.push(startWatchdog(() => datapath.ping()));
    // Last: until here, a start that fails leaves the frames to the stand-in.
    await lifecycle.endStandIn((news) => {
      registry.leased(news);
    });
    const { overlays: count, vnics } = registry.directory.counts;
    log.info('start', `varpd ${VERSION} serves ${config.socket} with ${count} overlays and ${vnics} VNICs`);
    this.#settle(registry, raised, links);
  }

  /** When every overlay has been tried: what nothing wants goes, and whoever waits is told. */
  #settle(registry: Registry, raised: Promise<unknown>, links: PersistentLinks): void {
    raised
      .then(() => registry.settled())
      .then(() => {
        for (const name of registry.removeOrphans(links.ports))
          this.#log.info('orphans', `${name}: removed, it was left by an earlier varpd and nothing wants it`);
        this.#isSettled = true;
        this.#changed();
      })
      .catch((error: unknown) => {
        this.#log.error('start', `after the start: ${errorText(error)}`);
      });
  }

  /** Something was brought up, failed to come up, or was deleted. */
  #changed(): void {
    const registry = this.#registry;
    if (registry === undefined || !this.#isSettled) return;
    const isWanted = (name: string): boolean => {
      const port = portOfDescriptor(name);
      return port === undefined ? registry.directory.reasons.size > 0 : registry.mayWant(port);
    };
    const unwanted = this.#inherited?.closeUnwanted(isWanted) ?? [];
    if (unwanted.length > 0)
      this.#log.info('inherited', `closed, since nothing wants them: ${unwanted.join(', ')}`);
    sdNotify(`STATUS=${[registry.directory.summary, this.#remark].filter(Boolean).join('; ')}`);
  }

  /** What is stored and does not run, by name. */
  get offline(): ReadonlyMap<string, string> {
    return this.#registry?.directory.reasons ?? new Map<string, string>();
  }

  /** Without it nothing of it is loaded. */
  async #serveMetrics(sources: MetricSources, gid: number | undefined, mayWait: boolean): Promise<void> {
    const { metrics: address, metricsHosts: hosts } = this.#config;
    if (address === null) return;
    const { Metrics } = await import('./observe/metrics.js');
    const { startMetricsServer } = await import('./observe/metrics-server.js');
    const place = placeOf(this.#config, 'metrics');
    const options = { address, place, hosts, gid, source: new Metrics(sources), log: this.#log };
    this.#ending.push(await startMetricsServer(options, mayWait));
  }

  async #end(datapath: Datapath): Promise<void> {
    if (this.#recipient === undefined) {
      await datapath.close();
      return;
    }
    await this.#recipient.before?.();
    const { descriptors, lists } = await datapath.release();
    // What could not be brought up is for the next process, too.
    this.#recipient.take({ descriptors: [...descriptors, ...(this.#inherited?.rest ?? [])], lists });
  }

  /** Never rejects: without it, the next daemon asks for every target. */
  async #save(
    state: StateDirectory,
    snapshot: Snapshot,
    overlays: readonly RunningOverlay[],
    store: StateStore,
  ): Promise<void> {
    const lasting = overlays.filter(({ plan }) => !plan.temporary);
    try {
      await snapshot.save(state, lasting, store.overlays.keys(), Date.now());
    } catch (error) {
      this.#log.warn('snapshot', `what is known is not saved: ${asOverlayError(error).message}`);
    }
  }
}
