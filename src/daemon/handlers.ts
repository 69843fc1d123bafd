/** The handlers of the methods that dladm may call: one for each row of control/methods.ts. */
import type { Failure, RestartInfo } from '../control/messages.js';
import type { Datapath } from '../datapath/contract.js';
import { userName } from '../plugin/trusted-place.js';
import type { Handlers } from './control/rpc.js';
import { Streamed } from './control/streamed.js';
import type { Captures } from './observe/captures.js';
import type { Explanations } from './observe/explanations.js';
import type { PluginCatalog } from './plugins/plugin-catalog.js';
import type { Probes } from './observe/probes.js';
import type { Statistics } from './observe/statistics.js';
import { peerPage } from './overlays/overlay-peers.js';
import type { PeerNews } from './underlay/peer-news.js';
import type { RunningOverlay } from './overlays/running-overlay.js';
import type { Watches } from './watch/watches.js';
import type { Registry } from './overlays/registry.js';
import { VERSION } from './version.js';

/** The daemon as its handlers see it. */
export interface DaemonControl {
  readonly startedAt: Date;
  readonly captures: Captures;
  readonly explanations: Explanations;
  readonly probes: Pick<Probes, 'run'>;
  /** The configuration file that was read at the start, if there is one. */
  readonly configuration: string | null;
  /** The user of plugin processes, and how they are confined. */
  readonly plugins: Pick<PluginCatalog, 'user' | 'confinement' | 'lack'>;
  /** Everything stored has been tried. */
  readonly isSettled: () => boolean;
  readonly statistics: Pick<Statistics, 'of'>;
  readonly peers: Pick<PeerNews, 'troubles'>;
  readonly watches: Pick<Watches<RunningOverlay>, 'start'>;
  readonly reload: () => Promise<Failure[]>;
  readonly restart: () => Promise<RestartInfo>;
  /** varpd ends, a moment after the answer. */
  readonly stop: () => void;
}

export function createHandlers(
  registry: Registry,
  datapath: Pick<Datapath, 'features'>,
  daemon: DaemonControl,
): Handlers {
  const { directory, linkProperties, properties } = registry;
  const done = async (change: Promise<void> | undefined): Promise<null> => {
    await change;
    return null;
  };
  const ownUid = process.geteuid?.() ?? 0;
  return {
    'overlay.create': (params) => registry.createOverlay(params),
    'overlay.delete': (params) => done(registry.deleteOverlay(params)),
    'overlay.up': (params) => registry.up(params),
    'overlay.list': (params) => directory.list(params),
    'overlay.statistics': (params) =>
      directory.statistics(params, (overlay) => daemon.statistics.of(overlay)),
    'overlay.export': (params) => registry.declared.export(params),
    'overlay.apply': (params) => registry.declared.apply(params),
    'overlay.prune': (params) => registry.declared.prune(params),
    'overlay.targets': (params) => registry.targets(params),
    'overlay.peers': ({ name, after }) => {
      const overlay = directory.need(name);
      return peerPage(overlay, after, daemon.peers.troubles(overlay.id));
    },
    'overlay.setTarget': (params) => {
      registry.setTarget(params);
      return null;
    },
    'overlay.deleteTarget': (params) => done(registry.deleteTarget(params)),
    'overlay.flushTargets': (params) => {
      registry.flushTargets(params);
      return null;
    },
    'overlay.explain': (params) => daemon.explanations.explain(params),
    'vnic.create': (params) => registry.createVnic(params),
    'vnic.delete': (params) => done(registry.deleteVnic(params)),
    'link.rename': (params) => done(registry.renameLink(params)),
    'vnic.list': (params) => directory.listVnics(params),
    'overlayprop.set': (params) => done(properties.set(params)),
    'overlayprop.reset': (params) => done(properties.reset(params)),
    'linkprop.set': (params) => done(linkProperties.set(params)),
    'linkprop.reset': (params) => done(linkProperties.reset(params)),
    'linkprop.list': (params) => linkProperties.list(params),
    'capture.start': async (params) => {
      const { result, run } = await daemon.captures.start(params);
      return new Streamed(result, run);
    },
    'overlay.probe': (params) => daemon.probes.run(params),
    'plugin.list': () => ({ plugins: directory.pluginList() }),
    'watch.start': (params, { mayChange }) => {
      const { result, run } = daemon.watches.start(params, mayChange);
      return new Streamed(result, run);
    },
    'daemon.restart': () => daemon.restart(),
    'daemon.stop': () => {
      daemon.stop();
      return null;
    },
    'daemon.reloadPlugin': (params) => done(registry.reloadPlugin(params)),
    'daemon.reload': async () => ({ failures: await daemon.reload() }),
    'daemon.status': () => ({
      version: VERSION,
      pid: process.pid,
      startedAt: daemon.startedAt.toISOString(),
      uptimeSeconds: Math.floor(process.uptime()),
      user: userName(ownUid) ?? String(ownUid),
      pluginUser: daemon.plugins.user ?? null,
      pluginConfinement: daemon.plugins.confinement ?? null,
      pluginLack: daemon.plugins.lack ?? null,
      configuration: daemon.configuration,
      isSettled: daemon.isSettled(),
      ...directory.counts,
      features: datapath.features,
    }),
  };
}
