/**
 * varpd as a whole: takes its state directory and socket, starts everything, listens, and ends cleanly.
 *
 * Nothing is opened before the state directory and the socket belong to this daemon alone. No client is
 * answered before everything stored has been brought up, so that a client never sees half of it.
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Failure, RestartInfo } from '../control/messages.js';
import type { Datapath, Retained } from '../datapath/contract.js';
import { DatapathControl } from '../datapath/userland/main/datapath.js';
import { portOfDescriptor } from '../datapath/userland/main/taps.js';
import { lockFile, peerCredentials, sdNotify } from '../dgram-extra/index.js';
import { asOverlayError, errorText } from '../model/errors.js';
import { counted } from '../model/sentences.js';
import { fileOf, placeOf } from './config-file.js';
import { type Config, configChanges, type Limits } from './config.js';
import { ControlServer } from './control/server.js';
import { credentialsDirectory, hasManager } from './environment.js';
import { createHandlers } from './handlers.js';
import type { InheritedDescriptors } from './handover/descriptors.js';
import type { Lifecycle, Recipient } from './handover/lifecycle.js';
import type { DaemonLog } from './log.js';
import { Captures } from './observe/captures.js';
import { Explanations } from './observe/explanations.js';
import type { MetricSources } from './observe/metrics.js';
import { Observer } from './observe/observer.js';
import { Probes } from './observe/probes.js';
import type { RunningOverlay } from './overlays/running-overlay.js';
import { PeerNews } from './underlay/peer-news.js';
import { Registry } from './overlays/registry.js';
import { PluginCatalog } from './plugins/plugin-catalog.js';
import { pluginFilesOf, Secrets } from './plugins/host/secrets.js';
import type { SpawnerPlace } from './plugins/spawner.js';
import { groupId } from './process/accounts.js';
import { hasNetAdmin, spawnerOfOthers } from './process/privileges.js';
import { lackOfSpawner, SPAWNER_SOCKET, startSpawner } from './process/spawner-start.js';
import { userRemark } from './process/user.js';
import { startWatchdog } from './process/watchdog.js';
import { claimSocket } from './socket-file.js';
import { StateStore } from './state/persistence.js';
import { PersistentLinks } from './state/persistent-links.js';
import { Snapshot } from './state/snapshot.js';
import type { StateDirectory } from './state/state-directory.js';
import { LinkWatch } from './underlay/link-watch.js';
import { hostKernel, hostLinks } from './underlay/links.js';
import { UndoStack } from '../model/undo.js';
import { VERSION } from './version.js';
import { Watches } from './watch/watches.js';

/**
 * Time for overlays to come up before clients are answered. With the loading before it, varpd is ready within
 * 2 s.
 */
const RAISE_MS = 1000;

/** Events that a daemon reports to its process. */
export interface DaemonEvents {
  /** The datapath has failed; afterwards only `stop` makes sense. */
  readonly failed: (error: Error) => void;
  /**
   * varpd is asked to restart. Resolves when it is about to. Rejects with an OverlayError with all reasons
   * when the next process would not come up.
   */
  readonly restart: () => Promise<RestartInfo>;
  /** varpd is asked to end, which it does a moment later. */
  readonly stop: () => void;
}

export class Daemon {
  #config: Config;
  readonly #log: DaemonLog;
  /** Steps of the end: the part that was started last ends first. */
  readonly #ending = new UndoStack();
  readonly #startedAt = new Date();
  #limits: Limits;
  #registry: Registry | undefined;

  readonly #readConfig: () => Config;
  #datapath: Datapath | undefined;
  #inherited: InheritedDescriptors | undefined;
  /** Remark about the user that varpd runs as. */
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
   * Rejects with an OverlayError; then nothing is left behind except for a next attempt. `state` is closed at
   * the end. `readConfig` reads the configuration again, and throws when it is not valid.
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

  /** Leaves no TAP, socket file or thread behind, except what `recipient` takes. May be called twice. */
  stop(recipient?: Recipient): Promise<void> {
    this.#recipient = recipient;
    return this.#ending.unwind((error) => {
      this.#log.error('stop', `while stopping: ${errorText(error)}`);
    });
  }

  /** Resolves when no change is under way, or the time is over. No further change begins. */
  async freeze(deadlineMs: number): Promise<void> {
    await Promise.race([this.#registry?.freeze(), delay(deadlineMs, undefined, { ref: false })]);
  }

  /** Called after `freeze`. */
  retain(): Retained {
    return this.#datapath!.retain();
  }

  /**
   * Reopens the log file, and reads the configuration and the files of plugins again. An invalid one is
   * logged, and changes nothing.
   */
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
    // Each failure has a kind of its own, so that all are logged, however many there are.
    for (const { name, message } of failures)
      this.#log.error(`reload ${name} ${message}`, `${name} ${message}`);
    return failures;
  }

  /** Applies the changes that can be applied, and logs the others. */
  #apply(config: Config): void {
    const changes = configChanges(this.#config, config);
    if (changes.length === 0) this.#log.info('reload', 'configuration read again: nothing has changed');
    for (const { key, reloadable } of changes) {
      const what = reloadable ? 'applied' : 'takes effect at the next start';
      this.#log.info(`reload ${key}`, `configuration: ${key} has changed: ${what}`);
    }
    this.#limits = config.limits;
    this.#log.setLevel(config.log.level);
    // A change that was not applied stays in the comparison, so that the next reload logs it again.
    this.#config = {
      ...this.#config,
      limits: config.limits,
      log: { ...this.#config.log, level: config.log.level },
    };
  }

  async #start(
    state: StateDirectory,
    { failed, restart, stop }: DaemonEvents,
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
    // Existing links are not given up for want of metrics.
    const mayLackMetrics = lifecycle.isRestart || !inherited.isEmpty;
    const links = await PersistentLinks.load(state, log);
    const { persistTaps } = config;
    const { hasStandIn } = lifecycle;
    const datapath = new DatapathControl(inherited.with({ links, persistTaps, hasStandIn }), failed);
    this.#datapath = datapath;
    this.#ending.push(() => this.#end(datapath));
    const plugins = PluginCatalog.load(config.pluginPath, log, {
      limits: () => this.#limits,
      place: this.#spawnerPlace(state),
    });
    this.#ending.push(() => {
      plugins.close(this.#recipient !== undefined);
    });
    const store = await StateStore.load(state);
    // Each has a topic of its own, so that all are logged, however many there are.
    for (const { name, message } of store.bad) log.error(`state ${name}`, message);
    const snapshot = await Snapshot.load(state, Date.now(), log);

    const limits = (): Limits => this.#limits;
    const watch = new LinkWatch(hostKernel, log);
    this.#ending.push(() => {
      watch.close();
    });
    const secrets = new Secrets(config.secrets, credentialsDirectory());
    const pluginFiles = pluginFilesOf(config.stateDir, secrets);
    const services = { datapath, plugins, pluginFiles, links: hostLinks, watch, log, limits, snapshot };
    const registry = new Registry(services, store, () => {
      this.#changed();
    });
    this.#registry = registry;
    for (const rename of links.settleRenames((name) => registry.directory.isStored(name)))
      inherited.rename(rename);
    this.#ending.push(() => registry.stop((overlays) => this.#save(state, snapshot, overlays, store)));
    const raised = registry.raise();
    // A plugin that hangs delays neither the other overlays nor the start of varpd.
    await Promise.race([raised, delay(RAISE_MS, undefined, { ref: false })]);
    await datapath.begin();

    const peers = new PeerNews(log);
    const observer = new Observer(registry.directory, log, peers);
    this.#ending.push(() => {
      observer.stop();
    });
    const { directory } = registry;
    await this.#serveMetrics({ directory, datapath, peers }, gid, mayLackMetrics);
    const server = await ControlServer.listen({
      socket: config.socket,
      gid,
      handlers: createHandlers(registry, datapath, {
        startedAt: this.#startedAt,
        captures: new Captures(registry.directory, log),
        explanations: new Explanations(registry.directory),
        probes: new Probes(registry.directory),
        configuration: fileOf(config),
        plugins,
        isSettled: () => this.#isSettled,
        statistics: observer.statistics,
        peers,
        watches: new Watches({
          places: directory,
          statistics: (overlay) => observer.statistics.of(overlay),
          listen: (heard) => log.listen(heard),
          about: { version: VERSION, pid: process.pid, startedAt: this.#startedAt.toISOString() },
        }),
        reload: () => this.reload(),
        restart,
        stop,
      }),
      credentials: peerCredentials,
      maxClients: () => this.#limits.clients,
      changed: (change) => {
        log.change(change);
      },
      log,
    });
    this.#ending.push(() => server.close());
    await this.#servePage(secrets, gid, mayLackMetrics);
    this.#ending.push(startWatchdog(() => datapath.ping()));
    // This comes last: if the start fails before, the stand-in goes on moving frames.
    await lifecycle.endStandIn((news) => {
      registry.leased(news);
    });
    const { overlays, vnics } = registry.directory.counts;
    const served = `${counted(overlays, 'overlay')} and ${counted(vnics, 'VNIC')}`;
    log.info('start', `varpd ${VERSION} serves ${config.socket} with ${served}`);
    this.#settle(registry, raised, links);
  }

  /** Where plugin processes are started; `spawner` of a start as root, or of the service manager, comes first. */
  #spawnerPlace(state: StateDirectory): SpawnerPlace {
    const order = {
      socket: state.path(SPAWNER_SOCKET),
      stateRoot: path.join(this.#config.stateDir, 'plugins'),
    };
    const own = { socket: order.socket, begin: () => startSpawner(order) };
    const inUnit = hasManager() ? { ...own, lack: lackOfSpawner(spawnerOfOthers) } : own;
    if (spawnerOfOthers === undefined) return inUnit;
    // That of a start as root cannot come again. The unit of a service manager may be missing after an upgrade.
    const isOfUnit = hasManager() && spawnerOfOthers !== path.join(this.#config.stateDir, SPAWNER_SOCKET);
    return { socket: spawnerOfOthers, ...(isOfUnit && { otherwise: inUnit }) };
  }

  /** When every overlay has been tried: removes links that nothing wants, and reports the state. */
  #settle(registry: Registry, raised: Promise<unknown>, links: PersistentLinks): void {
    raised
      .then(() => registry.settled())
      .then(() => {
        for (const name of registry.removeOrphans(links.ports))
          this.#log.info(
            'orphans',
            `${name}: removed: an earlier varpd left it, and no stored overlay or VNIC uses it`,
          );
        this.#isSettled = true;
        this.#changed();
      })
      .catch((error: unknown) => {
        this.#log.error('start', `after the start: ${errorText(error)}`);
      });
  }

  /** An overlay or VNIC was brought up, failed to come up, or was deleted. */
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

  /** Reasons why stored overlays and VNICs do not run, by name. */
  get offline(): ReadonlyMap<string, string> {
    return this.#registry?.directory.reasons ?? new Map<string, string>();
  }

  /** Without metrics in the configuration their code is not loaded. */
  async #serveMetrics(sources: MetricSources, gid: number | undefined, mayWait: boolean): Promise<void> {
    const { metrics: address, metricsHosts: hosts } = this.#config;
    if (address === null) return;
    const { Metrics } = await import('./observe/metrics.js');
    const { startMetricsServer } = await import('./observe/metrics-server.js');
    const place = placeOf(this.#config, 'metrics');
    const options = { address, place, hosts, gid, source: new Metrics(sources), log: this.#log };
    this.#ending.push(await startMetricsServer(options, mayWait));
  }

  /** The same for the live page. */
  async #servePage(secrets: Secrets, gid: number | undefined, mayWait: boolean): Promise<void> {
    const { web: address, webToken, metricsHosts: hosts, socket } = this.#config;
    if (address === null) return;
    const { startPage } = await import('./web/page-thread.js');
    const place = placeOf(this.#config, 'web');
    const token = webToken === null ? undefined : () => secrets.read(webToken);
    const options = { address, place, hosts, token, gid, socket, log: this.#log };
    this.#ending.push(await startPage(options, mayWait));
  }

  async #end(datapath: Datapath): Promise<void> {
    if (this.#recipient === undefined) {
      await datapath.close();
      return;
    }
    await this.#recipient.before?.();
    const { descriptors, lists } = await datapath.release();
    // Descriptors that could not be used are left to the next process, too.
    this.#recipient.take({ descriptors: [...descriptors, ...(this.#inherited?.rest ?? [])], lists });
  }

  /** Never rejects: without a snapshot, the next daemon looks up every target. */
  async #save(
    state: StateDirectory,
    snapshot: Snapshot,
    overlays: readonly RunningOverlay[],
    store: StateStore,
  ): Promise<void> {
    // With another `vnetid` until varpd ends (`-t`), what is known is not of the overlay that comes back.
    const lasting = overlays.filter(
      ({ plan: { name, vnetid } }) => store.overlays.get(name)?.vnetid === vnetid,
    );
    try {
      await snapshot.save(state, lasting, store.overlays.keys(), Date.now());
    } catch (error) {
      this.#log.warn(
        'snapshot',
        `cannot save the snapshot of targets; the next varpd will ask the plugins again: ${asOverlayError(error).message}`,
      );
    }
  }
}
