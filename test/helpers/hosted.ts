// A plugin instance at an overlay of the fake datapath: what it tells, and what is answered.
import { parseConfig } from '../../src/daemon/config-file.js';
import { Health } from '../../src/daemon/health.js';
import type { Log } from '../../src/daemon/log.js';
import { PluginKnowledge } from '../../src/daemon/plugins/knowledge.js';
import { PluginInstance } from '../../src/daemon/plugins/plugin-host.js';
import type { LookupAnswer, LookupRequest } from '../../src/datapath/contract.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { type GivenProperty, PropertySet } from '../../src/model/properties.js';
import {
  definePlugin,
  type Host,
  type Instance,
  type LookupPlugin,
  parseIp,
  type PropertySpec,
} from '../../src/plugin/index.js';
import { type FakeOverlay, fakeOverlay } from './fake-datapath.js';

export const LISTEN = { ip: parseIp('10.0.0.1')!, port: 4789 };

export interface Behaviour extends Partial<Instance> {
  readonly mode?: 'point' | 'dynamic';
  readonly specs?: readonly PropertySpec[];
  readonly plugin?: Partial<Pick<LookupPlugin, 'open' | 'close' | 'refuse'>>;
  readonly onCreate?: (host: Host, shared: unknown) => void;
}

export interface Site {
  readonly overlay: FakeOverlay;
  readonly knowledge: PluginKnowledge;
  readonly health: Health;
  readonly lines: string[];
  /** Starts and attaches a new instance; rejects as its start does. */
  readonly start: (behaviour: Behaviour, given?: readonly GivenProperty[]) => Promise<Hosted>;
}

export interface Hosted {
  readonly instance: PluginInstance;
  readonly host: Host;
  readonly ask: (request: Partial<LookupRequest>) => Promise<LookupAnswer>;
}

export function pluginOf({
  mode = 'dynamic',
  specs = [],
  plugin,
  onCreate,
  ...behaviour
}: Behaviour): LookupPlugin {
  return definePlugin({
    apiVersion: 2,
    name: 'test',
    mode,
    properties: specs,
    ...plugin,
    create: (host, shared) => {
      onCreate?.(host, shared);
      return { start: () => Promise.resolve(), stop: () => Promise.resolve(), ...behaviour };
    },
  });
}

export function propertiesOf(plugin: LookupPlugin, given: readonly GivenProperty[] = []): PropertySet {
  const specs = overlaySpecs(VXLAN, plugin.properties, ['test']);
  return PropertySet.from(specs, [['vxlan/listen_ip', LISTEN.ip], ...given], {});
}

/** One overlay, for one instance after the other. */
export function newSite(): Site {
  const lines: string[] = [];
  const keep = (level: string) => (_kind: string, message: string) => void lines.push(`${level} ${message}`);
  const log: Log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  const health = new Health('overlay0', log);
  const served = { overlay: 'overlay0', vnetid: 42, listen: LISTEN };
  const knowledge = new PluginKnowledge(served, { log, health });
  const overlay = fakeOverlay();
  const limits = { ...parseConfig('', '').limits, lookupDeadlineMs: 1000, startDeadlineMs: 1000 };
  const services = {
    log,
    health,
    limits: () => limits,
    reprotect: () => undefined,
    files: {
      stateDir: (name: string) => `/state/${name}`,
      secret: (name: string) => Promise.resolve(`the ${name}`),
    },
  };
  let lookups = 0;
  const start = async (behaviour: Behaviour, given: readonly GivenProperty[] = []): Promise<Hosted> => {
    let host: Host | undefined;
    const { onCreate } = behaviour;
    const plugin = pluginOf({
      ...behaviour,
      onCreate: (created, shared) => {
        host = created;
        onCreate?.(created, shared);
      },
    });
    const instance = new PluginInstance(plugin, served, services, knowledge);
    await instance.start(propertiesOf(plugin, given));
    instance.attach(overlay);
    const ask = (request: Partial<LookupRequest>): Promise<LookupAnswer> => {
      const lookup = ++lookups;
      const answered = overlay.answerTo(lookup);
      instance.lookup({ lookup, destinationMac: 0, sourceMac: 2, etherType: 0x800, vlan: 0, ...request });
      return answered;
    };
    return { instance, host: host!, ask };
  };
  return { overlay, knowledge, health, lines, start };
}
