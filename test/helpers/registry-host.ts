// A registry with everything around it: a datapath and a kernel that a test plays, plugins that it answers for.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { OverlayInfo } from '../../src/control/messages.js';
import type { Methods } from '../../src/control/methods.js';
import { parseConfig } from '../../src/daemon/config-file.js';
import { Registry } from '../../src/daemon/overlays/registry.js';
import { PluginCatalog } from '../../src/daemon/plugins/plugin-catalog.js';
import { StateStore } from '../../src/daemon/state/persistence.js';
import { Snapshot } from '../../src/daemon/state/snapshot.js';
import { StateDirectory } from '../../src/daemon/state/state-directory.js';
import { LinkWatch } from '../../src/daemon/underlay/link-watch.js';
import {
  type AllowedIps,
  definePlugin,
  type Host as PluginHost,
  type IpAddress,
  type LookupPlugin,
  type MacAddress,
  parseIp,
} from '../../src/plugin/index.js';
import { FakeDatapath } from './fake-datapath.js';
import { FakeKernel } from './fake-kernel.js';
import { pluginServices } from './plugin-services.js';

export interface Context {
  teardown(work: () => unknown): unknown;
}

export function newDirectory(t: Context): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

export const LOG = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** What is expected of an error. */
export interface Refusal {
  code: string;
  message?: string | RegExp;
}

export interface Life {
  starts: number;
  stops: number;
  failStart: boolean;
  /** What a start waits for. */
  gate: Promise<void>;
  /** What every MAC may use, unless `allowedOf` has it. */
  allowed: unknown;
  readonly allowedOf: Map<MacAddress, readonly IpAddress[]>;
  /** MACs of the ports. */
  ports: readonly MacAddress[];
  /** Has the plugin set the addresses that the ports may use. */
  allow(): void;
  host?: PluginHost;
}

/** Answers with the address 10.0.0.9 always; `life` counts its starts and stops. */
export const dynamic = (life: Life): LookupPlugin =>
  definePlugin({
    apiVersion: 2,
    name: 'test',
    mode: 'dynamic',
    properties: [{ name: 'test/file', type: 'string', required: false }],
    create: (host) => {
      life.host = host;
      return {
        start: () => {
          life.starts++;
          return life.failStart ? Promise.reject(new Error('no table')) : life.gate;
        },
        stop: () => {
          life.stops++;
          return Promise.resolve();
        },
        resolve: () => ({ kind: 'target', to: { ip: parseIp('10.0.0.9')!, port: 4789 } }),
        ports: (macs) => {
          life.ports = macs;
          if (life.allowed !== undefined) life.allow();
        },
      };
    },
  });

export interface Host {
  readonly registry: Registry;
  readonly datapath: FakeDatapath;
  readonly links: Set<string>;
  readonly kernel: FakeKernel;
  readonly life: Life;
  readonly stateDir: string;
  /** The same state directory, as after a restart. */
  restart(): Promise<Host>;
}

export async function newHost(t: Context, stateDir = path.join(newDirectory(t), 'state')): Promise<Host> {
  const datapath = new FakeDatapath();
  const life: Life = {
    starts: 0,
    stops: 0,
    failStart: false,
    gate: Promise.resolve(),
    allowed: undefined,
    allowedOf: new Map(),
    ports: [],
    allow: () => {
      const { allowed, allowedOf, ports, host } = life;
      const rows = ports.map((mac) => ({ mac, ips: allowedOf.get(mac) ?? allowed ?? [] }));
      host?.setAllowedIps(allowed === undefined && allowedOf.size === 0 ? undefined : (rows as AllowedIps[]));
    },
  };
  const state = await StateDirectory.open(stateDir);
  t.teardown(() => state.close());
  const links = new Set<string>();
  const catalog = PluginCatalog.load([], LOG, pluginServices(t));
  const own = dynamic(life);
  const plugins = {
    get: (name: string) => (name === 'test' ? own : catalog.get(name)),
    find: (name: string) => Promise.resolve(plugins.get(name)),
    keys: () => [...catalog.keys(), 'test'],
    failureOf: () => undefined,
    loadAgain: (name: string) => catalog.loadAgain(name),
  };
  const limits = parseConfig('', '').limits;
  const kernel = new FakeKernel();
  kernel.setLink(1, 'under0');
  for (const ip of ['10.0.0.1', '2001:db8::1']) kernel.setAddress(parseIp(ip)!, 1);
  kernel.defaultRoute = 1;
  const watch = new LinkWatch(kernel, LOG);
  t.teardown(() => {
    watch.close();
  });
  const services = {
    datapath,
    plugins,
    pluginFiles: {
      stateDir: () => '/nonexistent',
      secret: () => Promise.reject(new Error('no secrets here')),
    },
    links: {
      exists: (name: string) => links.has(name),
      mtuBytesOf: () => 9000,
      isSilent: () => false,
      allowAutomaticAddress: () => undefined,
      takesTunnels: () => false,
    },
    watch,
    log: LOG,
    limits: () => limits,
    snapshot: Snapshot.empty(),
  };
  const registry = new Registry(services, await StateStore.load(state));
  return { registry, datapath, links, kernel, life, stateDir, restart: () => newHost(t, stateDir) };
}

export type Create = Methods['overlay.create']['params'];

export const point = (more: Partial<Create> = {}): Create => ({
  name: 'overlay0',
  encap: 'vxlan',
  search: 'direct',
  vnetid: 42,
  temporary: false,
  properties: [
    ['vxlan/listen_ip', '10.0.0.1'],
    ['direct/dest_ip', '10.0.0.2'],
    ['direct/dest_port', '4789'],
  ],
  ...more,
});
export const asked = (more: Partial<Create> = {}): Create =>
  point({ search: 'test', properties: [['vxlan/listen_ip', '10.0.0.1']], ...more });

export const vnic = (
  name: string,
  more: Partial<Methods['vnic.create']['params']> = {},
): Methods['vnic.create']['params'] => ({
  name,
  over: 'overlay0',
  temporary: false,
  ...more,
});

/** Of the overlays that run. */
export const names = ({ registry }: Host): string[] => [...registry.directory.overlays.keys()];
export const valueOf = (overlay: OverlayInfo | undefined, property: string): string | null | undefined =>
  overlay?.properties.find((row) => row.property === property)?.value;
