/**
 * The ports of one overlay: its own and those of its VNICs. Opens them, and opens them again when their
 * device was lost. Their rules, MAC and MTU come from the operator, the plugin and the device.
 */
import type { VnicInfo } from '../../control/messages.js';
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { ProtectionRules } from '../../core/protection/link-protection.js';
import type { OverlayDatapath, PortHandle } from '../../datapath/contract.js';
import type { MacAddress } from '../../plugin/contract.js';
import type { Destination, IpAddress } from '../../wire/ip.js';
import { formatMac } from '../../wire/mac.js';
import * as vlan from '../../wire/vlan.js';
import { OverlayError } from '../../model/errors.js';
import type { Health } from '../health.js';
import type { PortSnapshot } from '../state/snapshot.js';
import type { OverlayValues } from './change/overlay-values.js';
import { changeError, deviceFault, renameError, tapError } from './overlay-errors.js';
import type { OverlayLinks } from './overlay-links.js';
import type { OverlayPlan, Vnic, VnicChange, VnicPlan } from './overlay-plan.js';
import type { OverlayPlugin } from './overlay-plugin.js';
import { VnicProtection } from './vnic-protection.js';

export interface PortPlace {
  readonly port: string;
  readonly mac: MacAddress;
  readonly place: Destination | null | undefined;
}

export type PortInfo = Pick<VnicInfo, 'name' | 'state' | 'counters'>;

export interface PortContext {
  readonly links: OverlayLinks;
  readonly plugin: Pick<OverlayPlugin, 'allowedIps' | 'placeOf' | 'ports'>;
  readonly health: Health;
  /** Snapshots of the ports, for an overlay that goes on from an earlier daemon. */
  readonly before: ReadonlyMap<string, PortSnapshot> | undefined;
}

export class OverlayPorts {
  readonly #values: Pick<OverlayValues, 'plan'>;
  readonly #context: PortContext;
  readonly #vnics = new Map<string, Vnic>();
  readonly vnics: ReadonlyMap<string, Vnic> = this.#vnics;
  /** Ports that were opened, by name, also while their devices do not work. */
  readonly #handles = new Map<string, PortHandle>();
  #datapath: Pick<OverlayDatapath, 'addPort'> | undefined;
  /** MTU of the overlay. */
  #mtuBytes = 0;
  /** The largest MTU that the route carried when the overlay was started. */
  #largestMtuBytes = Infinity;
  /** The reason why the overlay's own device does not work. */
  #fault: string | undefined;

  /** Whether the plugin protected VNICs in the previous process. */
  readonly #wasProtecting: boolean;

  constructor(values: Pick<OverlayValues, 'plan'>, context: PortContext) {
    this.#values = values;
    this.#context = context;
    this.#wasProtecting = (context.before?.get(values.plan.name)?.allowedIps ?? null) !== null;
  }

  get #plan(): OverlayPlan {
    return this.#values.plan;
  }

  /**
   * Opens the overlay's own port; VNICs come after it. `largestMtuBytes`: MTU that the route carries, if it
   * is known.
   */
  openOwn(datapath: Pick<OverlayDatapath, 'addPort'>, mtuBytes: number, largestMtuBytes = Infinity): void {
    this.#datapath = datapath;
    this.#mtuBytes = mtuBytes;
    this.#largestMtuBytes = largestMtuBytes;
    this.#open(this.#plan.name, this.#plan.mac, 0, true);
  }

  /** Sets another MTU of the overlay. Throws an OverlayError at the first device that does not take it. */
  setMtu(mtuBytes: number, largestMtuBytes = this.#largestMtuBytes): void {
    const ports = [{ name: this.#plan.name, vid: 0 }, ...this.#vnics.values()];
    const before = new Map(ports.map(({ name, vid }) => [name, this.#mtuBytesOf(vid)]));
    this.#mtuBytes = mtuBytes;
    this.#largestMtuBytes = largestMtuBytes;
    for (const { name, vid } of ports) {
      const [was, is] = [before.get(name)!, this.#mtuBytesOf(vid)];
      if (was === is) continue;
      try {
        const isSet = this.#handles.get(name)?.setMtu(is, was) ?? false;
        this.#context.links.resized(name, is, isSet);
      } catch (error) {
        throw tapError(error, name);
      }
    }
  }

  addVnic({ properties, leases, ...plan }: VnicPlan): void {
    const { plugin } = this.#context;
    const protection = new VnicProtection(properties, leases, () => {
      for (const [name, vnic] of this.#vnics) if (vnic.protection === protection) this.protect(name);
    });
    this.#tellPorts(plan.mac);
    protection.setNamed(plugin.allowedIps(plan.mac, this.#allowedBefore(plan.name)));
    // The VNIC is stored first, since its interface may have another MAC, which is reported at once.
    this.#vnics.set(plan.name, { ...plan, protection, fault: undefined });
    try {
      this.#open(plan.name, plan.mac, plan.vid, false, protection.rules(), plan.temporary);
    } catch (error) {
      this.#vnics.delete(plan.name);
      this.#tellPorts();
      protection.stop();
      throw error;
    }
  }

  /** The list that the previous process had for a VNIC. A VNIC that it did not have is closed if the plugin protected
   * the others: until the plugin works, it cannot say what this one may send from. */
  #allowedBefore(name: string): readonly IpAddress[] | undefined {
    return this.#context.before?.get(name)?.allowedIps ?? (this.#wasProtecting ? [] : undefined);
  }

  async removeVnic(name: string): Promise<void> {
    const { links, health } = this.#context;
    this.#vnics.get(name)?.protection.stop();
    this.#vnics.delete(name);
    this.#tellPorts();
    links.forgetPort(name);
    health.restore(`port ${name}`);
    await this.#close(name);
  }

  /** The rules in force stay. No rule changes by itself any more. */
  stop(): void {
    for (const { protection } of this.#vnics.values()) protection.stop();
  }

  // -- Devices that were lost

  /** The datapath has closed a device after an error. */
  failed(port: PortHandle, code: string): void {
    const { name } = port;
    if (this.#handles.get(name) !== port) return;
    const fault = deviceFault(code);
    const vnic = this.#vnics.get(name);
    if (vnic === undefined) this.#fault = fault;
    else vnic.fault = fault;
    this.#context.links.forgetPort(name);
    this.#context.health.degrade(`port ${name}`, `port ${name}: ${fault}`);
  }

  /** As `PortHandle.rename`. Throws an OverlayError if its device cannot be renamed; nothing has changed then. */
  renameVnic(from: string, to: string): () => void {
    const vnic = this.#vnics.get(from);
    if (vnic === undefined) throw notWorking(from);
    const [port, stored] = this.#rename(from, to, vnic.fault);
    const vnics = [...this.#vnics.values()].map((one) => (one === vnic ? { ...one, name: to } : one));
    this.#vnics.clear();
    for (const one of vnics) this.#vnics.set(one.name, one);
    this.#follow(port, to, vnic.mac, vnic.vid);
    return stored;
  }

  /** As `renameVnic`, for the overlay's own port. `renamed` gives the overlay its name. */
  renameOwn(to: string, renamed: () => void): () => void {
    const [port, stored] = this.#rename(this.#plan.name, to, this.#fault);
    renamed();
    this.#follow(port, to, this.#plan.mac, 0);
    return stored;
  }

  #rename(from: string, to: string, fault: string | undefined): [PortHandle, () => void] {
    const port = this.#handles.get(from);
    if (port === undefined || fault !== undefined) throw notWorking(from);
    let stored;
    try {
      stored = port.rename(to);
    } catch (error) {
      throw renameError(error, from, to);
    }
    this.#handles.delete(from);
    this.#handles.set(to, port);
    this.#context.links.forgetPort(from);
    return [port, stored];
  }

  /** Gives a VNIC another MAC, another VLAN or both; its interface stays. Throws an OverlayError; nothing has changed then. */
  changeVnic(name: string, change: VnicChange): void {
    const [before, port] = [this.#vnics.get(name), this.#handles.get(name)];
    if (before === undefined || port === undefined || before.fault !== undefined) throw notWorking(name);
    const { plugin, links } = this.#context;
    const { mac, macType, vid, protection } = { ...before, ...change };
    const [was, is] = [this.#mtuBytesOf(before.vid), this.#mtuBytesOf(vid)];
    try {
      if (was !== is) port.setMtu(is, was);
      if (mac !== before.mac) port.setAddress(mac);
    } catch (error) {
      if (was !== is) port.setMtu(was, is);
      throw changeError(error, name);
    }
    this.#vnics.set(name, { ...before, mac, macType, vid });
    links.forgetPort(name);
    this.#tellPorts();
    protection.setNamed(plugin.allowedIps(mac, protection.named));
    if (vid !== before.vid) port.setVid(vid);
    if (mac !== before.mac) port.setMac(mac, protection.rules());
    this.#follow(port, name, mac, vid);
  }

  /** Opens lost devices again. Rejects with an OverlayError at the first that cannot be opened. */
  async mend(): Promise<void> {
    const { name, mac } = this.#plan;
    if (this.#fault !== undefined) {
      await this.#reopen(name, () => {
        this.#open(name, mac, 0, true);
      });
      this.#fault = undefined;
    }
    for (const vnic of this.#vnics.values()) {
      if (vnic.fault === undefined || vnic.attachment !== undefined) continue;
      const { name, mac, vid, protection, temporary } = vnic;
      await this.#reopen(name, () => {
        protection.setNamed(this.#context.plugin.allowedIps(mac, protection.named));
        this.#open(name, mac, vid, false, protection.rules(), temporary);
      });
      vnic.fault = undefined;
    }
  }

  /** `open` reads the rules of the port itself, since they may change while the old device is closed. */
  async #reopen(name: string, open: () => void): Promise<void> {
    await this.#close(name);
    open();
    this.#context.health.restore(`port ${name}`);
  }

  async #close(name: string): Promise<void> {
    const port = this.#handles.get(name);
    this.#handles.delete(name);
    await port?.remove();
  }

  #open(
    name: string,
    mac: MacAddress,
    vid: number,
    own: boolean,
    protection?: ProtectionRules,
    temporary = this.#plan.temporary,
  ): void {
    const { before } = this.#context;
    const mtuBytes = this.#mtuBytesOf(vid);
    const previousMtuBytes = before?.get(name)?.mtuBytes;
    let port: PortHandle;
    try {
      port = this.#datapath!.addPort({
        name,
        mac,
        vid,
        mtuBytes,
        previousMtuBytes,
        own,
        protection,
        temporary,
      });
    } catch (error) {
      throw tapError(error, name);
    }
    this.#handles.set(name, port);
    this.#follow(port, name, mac, vid);
  }

  #follow(port: PortHandle, name: string, mac: MacAddress, vid: number): void {
    const { links, plugin } = this.#context;
    const mtuBytes = this.#mtuBytesOf(vid);
    const isPinned = (): boolean => {
      const guard = this.#vnics.get(name)?.protection;
      if (guard === undefined) return false;
      return guard.restsOnMac || plugin.allowedIps(mac, guard.named) !== undefined;
    };
    const tagBytes = vid === 0 ? 0 : vlan.HEADER_BYTES;
    links.followPort(port, { name, configured: mac, isPinned, mtuBytes, tagBytes });
  }

  /** The frames of an access port get a tag on the overlay, and must fit the path with it. */
  #mtuBytesOf(vid: number): number {
    return vid === 0 ? this.#mtuBytes : Math.min(this.#mtuBytes, this.#largestMtuBytes - vlan.HEADER_BYTES);
  }

  // -- MACs, and rules

  hasMac(mac: MacAddress): boolean {
    const isConfigured = this.#plan.mac === mac || [...this.#vnics.values()].some((vnic) => vnic.mac === mac);
    return isConfigured || this.#context.links.hasMac(mac);
  }

  /** The port that has this MAC. */
  withMac(mac: MacAddress): string | undefined {
    return [this.#plan.name, ...this.#vnics.keys()].find((name) => this.#context.links.macOf(name) === mac);
  }

  /** The answer of the plugin depends on the MAC, so the rules change with it. */
  macChanged(port: string, mac: MacAddress): void {
    const { plugin } = this.#context;
    const protection = this.#vnics.get(port)?.protection;
    this.#tellPorts();
    protection?.setNamed(plugin.allowedIps(mac, protection.named));
    this.#handles.get(port)?.setMac(mac, protection?.rules());
  }

  /** `added`: the MAC of a port that is about to be opened. */
  #tellPorts(added?: MacAddress): void {
    const { links, plugin } = this.#context;
    const macs = [this.#plan, ...this.#vnics.values()].map(({ name, mac }) => links.macOf(name) ?? mac);
    plugin.ports(added === undefined ? macs : [...macs, added]);
  }

  /** The plugin's answers about its MACs may have changed. */
  reprotect(): void {
    const { links, plugin } = this.#context;
    for (const { name, mac, protection } of this.#vnics.values()) {
      protection.setNamed(plugin.allowedIps(links.macOf(name) ?? mac, protection.named));
      this.protect(name);
    }
  }

  /** Puts the present rules of a VNIC in force. */
  protect(name: string): void {
    const vnic = this.#vnics.get(name);
    if (vnic === undefined) return;
    this.#context.links.protectionChanged(name);
    this.#handles.get(name)?.setProtection(vnic.protection.rules());
  }

  /** Returns whether a lease has to be saved to the disk. */
  leased(news: readonly LeaseNews[]): boolean {
    let isToBeKept = false;
    for (const one of news) {
      const vnic = this.#vnics.get(one.port);
      if (vnic?.protection.hear(one) !== true) continue;
      this.protect(vnic.name);
      if (!vnic.temporary) isToBeKept = true;
    }
    return isToBeKept;
  }

  // -- Information about ports

  vnicInfo(vnic: Vnic): VnicInfo {
    const { links } = this.#context;
    return {
      ...this.#info(vnic),
      over: this.#plan.name,
      mac: formatMac(links.macOf(vnic.name) ?? vnic.mac),
      configuredMac: formatMac(vnic.mac),
      macType: vnic.macType,
      vid: vnic.vid,
      mtuBytes: links.mtuBytesOf(vnic.name) ?? this.#mtuBytesOf(vnic.vid),
      temporary: vnic.temporary,
      attachment: vnic.attachment ?? null,
    };
  }

  /** The place of each port by the plugin. The own interface counts once it is used as a station. */
  *places(): Generator<PortPlace> {
    const { links, plugin } = this.#context;
    const own = links.isOwnSilent ? [] : [this.#plan];
    for (const { name, mac } of [...own, ...this.#vnics.values()]) {
      const inForce = links.macOf(name) ?? mac;
      yield { port: name, mac: inForce, place: plugin.placeOf(inForce) };
    }
  }

  list(): PortInfo[] {
    return [{ name: this.#plan.name, fault: this.#fault }, ...this.#vnics.values()].map((port) =>
      this.#info(port),
    );
  }

  #info({ name, fault }: Pick<Vnic, 'name' | 'fault'>): PortInfo {
    const counters = fault === undefined ? this.#handles.get(name)?.counters() : undefined;
    return {
      name,
      state: fault ?? this.#context.links.portTrouble(name) ?? 'up',
      counters: counters ?? {},
    };
  }

  *snapshots(): Generator<[string, PortSnapshot]> {
    const { plugin } = this.#context;
    // No rule is about the own port. An empty list there says that the plugin protects VNICs.
    const isProtecting =
      plugin.allowedIps(this.#plan.mac, this.#allowedBefore(this.#plan.name)) !== undefined;
    yield [this.#plan.name, { mtuBytes: this.#mtuBytes, allowedIps: isProtecting ? [] : null }];
    for (const { name, vid, temporary, protection } of this.#vnics.values())
      if (!temporary) yield [name, { mtuBytes: this.#mtuBytesOf(vid), allowedIps: protection.named ?? null }];
  }
}

function notWorking(link: string): OverlayError {
  return new OverlayError('AGAIN', `${link}: its interface does not work; 'dladm up-overlay' opens it again`);
}
