/**
 * A plugin in the hands of varpd, without varpd: no root, no daemon, no device. The part of varpd that calls plugins and checks
 * their answers is the real one, and so are the proxies and the path of a frame. The network is in memory (lab.ts), and time
 * stands still until a test moves it (virtual-clock.ts).
 *
 *   const overlay = harness(plugin, { properties: { 'mine/url': url } });
 *   await overlay.start();
 *   await overlay.resolve('02:00:00:00:00:07');     { kind: 'target', to: [{ ip: '192.0.2.7', port: 4789 }], ttlMs: Infinity }
 *   await overlay.stop();                           rejects when the plugin has left something behind
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { parseConfig } from '../daemon/config-file.js';
import { Health } from '../daemon/health.js';
import type { Log } from '../daemon/log.js';
import { PluginInstance } from '../daemon/plugins/plugin-host.js';
import { checkPlugin } from '../daemon/plugins/plugin-loader.js';
import { type PluginFiles, sharedContext } from '../daemon/plugins/plugin-start.js';
import { systemErrorText } from '../daemon/system-error.js';
import type { LookupAnswer } from '../datapath/contract.js';
import { type DropReason } from '../model/drops.js';
import { PropertySet } from '../model/properties.js';
import type { LookupPlugin } from '../plugin/contract.js';
import type { PropertySpec } from '../plugin/properties.js';
import { type Endpoint, formatEndpoint, type IpAddress } from '../wire/ip.js';
import { formatMac, type MacAddress } from '../wire/mac.js';
import * as vxlan from '../wire/vxlan.js';
import { endpoint } from './addresses.js';
import { dataFrame, GUEST, type Mac, macOf, neighborIn } from './frames.js';
import { Lab, type Net, type Vtep } from './lab.js';
import {
  type AnyPlugin,
  changedValues,
  filesOf,
  type HarnessOptions,
  propertiesOf,
  type Sent,
  type TargetRow,
  type TypedValues,
} from './options.js';
import { Sandbox } from './sandbox.js';
import { PluginLink } from './plugin-link.js';
import type { Tap } from './tap.js';
import { type Finding } from './watched.js';

/** Returns a harness for one overlay with this plugin. Throws an Error that lists all that is wrong with the plugin or with its
 * properties. */
export function harness(plugin: AnyPlugin, options: HarnessOptions = {}): Harness {
  return new Harness(plugin, options);
}

const OVERLAY = 'overlay0';
/** Lookups that the harness makes itself; those of the datapath have small numbers. */
const OWN_LOOKUPS = 0x4000_0000;

export class Harness {
  /** Lines of the log, as `warn overlay0: ...`. */
  readonly log: string[] = [];
  readonly vtep: Vtep;
  readonly net: Net;
  /** Everything that varpd shows to users of dladm: log, health, and errors of commands. */
  readonly shown: string[] = [];
  readonly #plugin: AnyPlugin;
  readonly #options: HarnessOptions;
  /** As they are typed. */
  #values: TypedValues;
  #properties: PropertySet;
  readonly #listen: Endpoint;
  readonly #lab = new Lab();
  readonly #sandbox: Sandbox;
  readonly #health: Health;
  readonly #link: PluginLink;
  readonly #ports = new Map<MacAddress, Tap>();
  readonly #stateDir: string;
  readonly #files: PluginFiles;
  #instance: PluginInstance | undefined;
  #shared: { readonly value: unknown } | undefined;
  #lookups = OWN_LOOKUPS;
  #isEnded = false;

  constructor(plugin: AnyPlugin, options: HarnessOptions) {
    this.#plugin = checkPlugin(plugin) as AnyPlugin;
    this.#options = options;
    const listen = endpoint(options.listen ?? '192.0.2.1');
    this.#listen = listen;
    this.#values = options.properties ?? {};
    this.#properties = propertiesOf(this.#plugin, options, listen.ip);
    this.#stateDir = options.stateDir ?? mkdtempSync(path.join(tmpdir(), 'varpd-plugin-'));
    this.#files = filesOf(this.#stateDir, options.secrets);
    const line = (level: string) => (_kind: string, message: string) => {
      this.log.push(`${level} ${message}`);
      this.shown.push(message);
    };
    const log: Log = { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
    this.#health = new Health(OVERLAY, log);
    this.vtep = this.#lab.vtep(listen.ip);
    this.net = this.vtep.overlay({ vnetid: options.vnetid ?? 100, listen });
    this.#link = new PluginLink(this.net);
    this.#sandbox = new Sandbox(
      () => this.#pump(),
      (nowMs) => {
        this.vtep.engine.setTime(nowMs);
      },
    );
    for (const mac of options.ports ?? [GUEST]) this.#ports.set(macOf(mac), this.net.port(macOf(mac)));
    this.vtep.resolve = (question) => {
      this.#sandbox.inside(() => this.#instance?.lookup(question));
      return undefined;
    };
  }

  /** Mistakes that varpd itself would not see, or not as what they are. */
  get findings(): readonly Finding[] {
    return this.#sandbox.watch.findings;
  }

  /** Method of the plugin -> longest time that a call of it has held the thread, in milliseconds, waits for a processor left out. `a turn`: anything. */
  get heldMs(): ReadonlyMap<string, number> {
    return this.#sandbox.watch.heldMs;
  }

  /** Method of the plugin -> number of calls. */
  get calls(): ReadonlyMap<string, number> {
    return this.#sandbox.watch.calls;
  }

  /** Methods of the plugin that have been called and have not returned. */
  get openCalls(): readonly string[] {
    return this.#sandbox.watch.open;
  }

  /** Virtual time since the harness was made, in milliseconds. */
  get nowMs(): number {
    return this.#sandbox.nowMs;
  }

  /** Waits in virtual time, for the stand-in of a slow backend: `advance`, or a call that waits for it, ends the wait. */
  sleep(ms: number): Promise<void> {
    return this.#sandbox.inside(
      () =>
        new Promise((resolve) => {
          setTimeout(resolve, ms);
        }),
    );
  }

  /** Runs code of the plugin inside: in virtual time, and watched. The result may need virtual time. */
  run<T>(code: () => T | Promise<T>): Promise<T> {
    return this.#sandbox.finish(code);
  }

  /** Starts the plugin, as create-overlay does. Rejects with the error that dladm would show. */
  async start(): Promise<void> {
    const { vnetid = 100, limits: given } = this.#options;
    const limits = { ...parseConfig('', '').limits, ...given };
    const plugin = this.#plugin;
    if (this.#shared === undefined)
      this.#shared = {
        value: await this.#finish(() =>
          plugin.open?.(sharedContext(plugin.name, { files: this.#files, log: this.#health.log })),
        ),
      };
    const shared = this.#shared.value;
    const watched: LookupPlugin = {
      apiVersion: 2,
      name: plugin.name,
      mode: plugin.mode,
      properties: plugin.properties as readonly PropertySpec[],
      ...(plugin.refuse !== undefined && { refuse: (values) => plugin.refuse?.(values) }),
      create: (host) => {
        const own = { stateDir: this.#stateDir, secret: this.#files.secret };
        return this.#sandbox.watch.instance(plugin.create(this.#sandbox.watch.host(host, own), shared));
      },
    };
    const served = { overlay: OVERLAY, vnetid, listen: this.#listen };
    const services = {
      log: this.#health.log,
      health: this.#health,
      limits: () => limits,
      files: this.#files,
      reprotect: () => undefined,
    };
    const instance = this.#sandbox.inside(() => new PluginInstance(watched, served, services));
    await this.#finish(() => instance.start(this.#properties));
    this.#instance = instance;
    if (plugin.mode === 'point') {
      const destination = await this.#finish(() => instance.destination());
      this.vtep.obey({ kind: 'set-destination', overlay: this.net.id, destination });
    }
    this.#sandbox.inside(() => {
      instance.attach(this.#link);
      instance.ports([...this.#ports.keys()]);
    });
    await this.settle();
  }

  /**
   * Asks the plugin about a MAC, with all checks of varpd, and resolves to the answer that varpd would use. A frame that waits
   * is not needed. Virtual time moves on while the plugin waits for it, at most to the deadline.
   */
  async resolve(
    mac: Mac,
    more: { from?: Mac; vlan?: number; etherType?: number } = {},
  ): Promise<LookupAnswer> {
    const instance = this.#started();
    const { from = GUEST, vlan = 0, etherType = 0x88b5 } = more;
    const request = { destinationMac: macOf(mac), sourceMac: macOf(from), vlan, etherType };
    const lookup = this.#lookups++;
    return this.#finish(
      () =>
        new Promise<LookupAnswer>((resolve) => {
          this.#link.expect(lookup, resolve);
          instance.lookup({ lookup, ...request });
        }),
    );
  }

  /** Puts a lookup without waiting for its answer. */
  open(mac: Mac): void {
    const request = { destinationMac: macOf(mac), sourceMac: GUEST, vlan: 0, etherType: 0x88b5 };
    const lookup = this.#lookups++;
    this.#link.expect(lookup, () => undefined);
    this.#sandbox.inside(() => {
      this.#started().lookup({ lookup, ...request });
    });
  }

  /** Sends a frame from a port of this host (frames.ts makes some), and waits until it has arrived, or is dropped. */
  async frame(bytes: Uint8Array, port: Mac = GUEST): Promise<Sent> {
    const tap = this.#ports.get(macOf(port));
    if (tap === undefined) throw new Error(`there is no port with the MAC ${formatMac(macOf(port))}`);
    const before = this.net.drops;
    this.#takeAll();
    this.#lab.datagrams.length = 0;
    this.#sandbox.inside(() => {
      tap.send(bytes);
    });
    await this.#sandbox.until(() => (this.#instance?.lookupTimes.open ?? 0) === 0);
    await this.settle();
    return {
      tunnelled: this.#lab.datagrams.map(({ to, bytes: datagram }) => ({
        to: formatEndpoint(to),
        frame: datagram.slice(vxlan.HEADER_BYTES),
      })),
      delivered: this.#takeAll(),
      drops: this.#dropsSince(before),
    };
  }

  /** Sends a frame of 60 bytes to a MAC. */
  send(to: Mac, port: Mac = GUEST): Promise<Sent> {
    return this.frame(dataFrame(to, port), port);
  }

  /** A frame from another VTEP arrives. Resolves to the frames that the ports get, and to drops. */
  async receive(from: string, frame: Uint8Array): Promise<Omit<Sent, 'tunnelled'>> {
    const before = this.net.drops;
    this.#takeAll();
    const header = new Uint8Array(vxlan.HEADER_BYTES);
    vxlan.writeHeader(header, 0, this.#options.vnetid ?? 100);
    this.#link.send(from, Uint8Array.from([...header, ...frame]));
    await this.settle();
    return { delivered: this.#takeAll(), drops: this.#dropsSince(before) };
  }

  /** The target table of the overlay. */
  table(): readonly TargetRow[] {
    return this.net.targets().map(({ mac, state, to }) => ({
      mac: formatMac(mac),
      state,
      to: to.map(formatEndpoint),
    }));
  }

  /** The latest list of `host.setPeers`, without this host. */
  peers(): readonly IpAddress[] {
    return this.#instance?.peers ?? [];
  }

  /** The addresses of `host.announce` since the last call. */
  announced(): readonly { readonly ip: string; readonly mac: string }[] {
    return this.#link.announced.splice(0).flatMap((frame) => neighborIn(frame) ?? []);
  }

  /** STATUS and DETAILS of `dladm show-overlay -f`. */
  health(): { readonly status: string; readonly details: string | null; readonly notes?: string } {
    return this.#health.report();
  }

  /** Makes varpd forget targets, as the plugin can itself. */
  invalidate(...macs: readonly Mac[]): void {
    if (macs.length === 0) this.net.invalidate();
    for (const mac of macs) this.net.invalidate(macOf(mac));
  }

  /** As `dladm reload`. Rejects with the error that dladm would show. */
  async reload(): Promise<void> {
    await this.#finish(() => this.#started().reload());
    await this.settle();
  }

  /** Gives the running plugin new values of `changeable` properties; undefined takes a value away, and the others stay. Rejects
   * with the error that dladm would show: the values before stay in force then. */
  async change(properties: Readonly<Record<string, string | number | undefined>>): Promise<void> {
    const instance = this.#started();
    const values = changedValues(this.#plugin, this.#values, properties);
    const checked = propertiesOf(this.#plugin, { properties: values }, this.#listen.ip);
    await this.#finish(() => instance.change(checked));
    this.#values = values;
    this.#properties = checked;
    await this.settle();
  }

  /** Moves virtual time on by so many milliseconds. Timers run in their order, and after each everything comes to rest. */
  async advance(ms: number): Promise<void> {
    await this.#sandbox.advance(ms);
  }

  /** Resolves when nothing more happens without virtual time. */
  async settle(): Promise<void> {
    await this.#sandbox.settle();
  }

  /** Stops the plugin. It may be started again after it. */
  async stopOnly(): Promise<void> {
    const instance = this.#instance;
    this.#instance = undefined;
    if (instance !== undefined) await this.#finish(() => instance.stop());
    await this.settle();
  }

  /**
   * Stops the plugin, and ends the harness. Rejects with an Error that lists everything that the plugin has left behind:
   * timers, connections, servers, watchers, processes, and calls that have not returned.
   */
  async stop(): Promise<void> {
    if (this.#isEnded) return;
    await this.stopOnly();
    const left = await this.end();
    if (left.length > 0)
      throw new Error(`after stop, plugin ${this.#plugin.name} has left ${left.join('; ')}`);
  }

  /** Ends the harness. Resolves to a list of what the plugin has left behind. */
  async end(): Promise<readonly string[]> {
    if (this.#isEnded) return [];
    this.#isEnded = true;
    const shared = this.#shared;
    if (shared !== undefined) await this.#finish(() => this.#plugin.close?.(shared.value));
    await this.settle();
    const left = this.left();
    this.#sandbox.end();
    if (this.#options.stateDir === undefined) rmSync(this.#stateDir, { recursive: true, force: true });
    return left;
  }

  /** Lists everything that the plugin has open now, each with the place in the source. */
  left(): readonly string[] {
    return this.#sandbox.left();
  }

  #pump(): boolean {
    const moved = (): number => this.#link.moved + this.#lab.datagrams.length;
    const before = moved();
    this.#lab.run();
    return moved() !== before;
  }

  /** Notes the error that dladm would show. */
  async #finish<T>(work: () => T | Promise<T>): Promise<T> {
    try {
      return await this.#sandbox.finish(work);
    } catch (error) {
      this.shown.push(systemErrorText(error));
      throw error;
    }
  }

  #dropsSince(before: Sent['drops']): Sent['drops'] {
    const more = Object.entries(this.net.drops).map(
      ([reason, count]) => [reason, count - (before[reason as DropReason] ?? 0)] as const,
    );
    return Object.fromEntries(more.filter(([, count]) => count > 0));
  }

  #takeAll(): { port: string; frame: Uint8Array }[] {
    return [...this.#ports].flatMap(([mac, tap]) =>
      tap.take().map((frame) => ({ port: formatMac(mac), frame })),
    );
  }

  #started(): PluginInstance {
    if (this.#instance === undefined) throw new Error('the plugin is not started: call start() first');
    return this.#instance;
  }
}
