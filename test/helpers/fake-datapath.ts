// A datapath that moves nothing: it remembers what is there, and fails where it is told to.
import type { ProtectionRules } from '../../src/core/link-protection.js';
import type {
  Datapath,
  KnownTarget,
  Handover,
  Retained,
  LookupAnswer,
  Offload,
  OverlayConfig,
  PortConfig,
  PortDeviceInfo,
  PortFindings,
  TargetEntries,
  TargetEntry,
} from '../../src/datapath/contract.js';
import type { RouteMtu } from '../../src/model/underlay-state.js';
import type { Destination, MacAddress } from '../../src/plugin/index.js';
import type { IpAddress } from '../../src/wire/ip.js';

/** As the system reports it. */
export function systemError(code: string, text = 'from the fake'): Error {
  return Object.assign(new Error(`${code}: ${text}`), { code });
}

export class FakeDatapath implements Datapath {
  features: Record<string, boolean> = { fake: true, tapCarrier: true, tapSteering: true };
  readonly overlays = new Map<number, OverlayConfig>();
  /** By name. */
  readonly ports = new Map<string, PortConfig>();
  readonly answers: { overlay: number; lookup: number; answer: LookupAnswer }[] = [];
  readonly table = new Map<MacAddress, readonly Destination[]>();
  readonly calls: string[] = [];
  peers: readonly IpAddress[] = [];
  /** Devices of an earlier daemon. */
  readonly left = new Set<string>();
  /** Call -> errno name it fails with. */
  readonly failures = new Map<keyof Datapath, string>();
  routeMtu = 1500;
  /** Called after each answer. */
  onAnswer: () => void = () => undefined;

  addOverlay(config: OverlayConfig): void {
    this.#call('addOverlay', String(config.id));
    this.overlays.set(config.id, config);
  }

  async removeOverlay(id: number): Promise<void> {
    await Promise.resolve();
    this.#call('removeOverlay', String(id));
    this.overlays.delete(id);
    for (const port of [...this.ports.values()]) if (port.overlay === id) this.ports.delete(port.name);
  }

  async withdrawOverlay(id: number): Promise<void> {
    await Promise.resolve();
    this.#call('withdrawOverlay', String(id));
    this.overlays.delete(id);
    for (const port of [...this.ports.values()]) if (port.overlay === id) this.ports.delete(port.name);
  }

  setDestination(id: number, { ip, port }: Destination): void {
    this.#call('setDestination', `${id} ${ip} ${port}`);
  }

  hasLeft(port: string): boolean {
    return this.left.has(port);
  }

  namedPeers(): readonly IpAddress[] {
    return this.peers;
  }

  addPort(config: PortConfig): MacAddress {
    this.#call('addPort', config.name);
    if (!this.overlays.has(config.overlay)) throw new Error(`no overlay ${config.overlay}`);
    this.ports.set(config.name, config);
    return config.mac ?? 0;
  }

  async removePort(_overlay: number, name: string): Promise<void> {
    await Promise.resolve();
    this.#call('removePort', name);
    this.ports.delete(name);
  }

  setCarrier(_overlay: number, on: boolean): void {
    this.#call('setCarrier', on ? 'on' : 'off');
  }

  setPortDown(_overlay: number, name: string, isDown: boolean): void {
    this.#call('setPortDown', `${name} ${isDown}`);
  }

  setProtection(_overlay: number, name: string, rules: ProtectionRules | undefined): void {
    this.#call('setProtection', name);
    const port = this.ports.get(name);
    if (port !== undefined) this.ports.set(name, { ...port, protection: rules });
  }

  setMac(_overlay: number, name: string, mac: MacAddress, rules: ProtectionRules | undefined): void {
    this.#call('setMac', `${name} ${mac.toString(16)}`);
    const port = this.ports.get(name);
    if (port !== undefined) this.ports.set(name, { ...port, mac, protection: rules });
  }

  setLoops(_overlay: number, destinations: readonly IpAddress[]): void {
    this.#call('setLoops', destinations.join());
  }

  setRouteMtus(_overlay: number, routes: readonly RouteMtu[]): void {
    this.#call('setRouteMtus', routes.map(({ to, mtuBytes }) => `${to} ${mtuBytes}`).join());
  }

  answer(overlay: number, lookup: number, answer: LookupAnswer): void {
    this.answers.push({ overlay, lookup, answer });
    this.onAnswer();
  }

  setTarget(_overlay: number, mac: MacAddress, to: readonly Destination[], ttlMs: number): void {
    this.#call(
      'setTarget',
      `${mac.toString(16)} ${to.map(({ ip, port }) => `${ip} ${port}`).join()} ${ttlMs}`,
    );
    this.table.set(mac, to);
  }

  invalidate(_overlay: number, mac?: MacAddress): void {
    this.#call('invalidate', mac?.toString(16));
    if (mac === undefined) this.table.clear();
    else this.table.delete(mac);
  }

  setPeers(_overlay: number, peers: readonly IpAddress[]): void {
    this.peers = peers;
    this.#call('setPeers', peers.join());
  }

  announce(_overlay: number, frame: Uint8Array): void {
    this.#call('announce', Buffer.from(frame).toString('hex'));
  }

  async deleteTarget(_overlay: number, mac: MacAddress): Promise<boolean> {
    await Promise.resolve();
    return this.table.delete(mac);
  }

  async targets(_overlay: number, after: MacAddress, limit: number): Promise<TargetEntries> {
    await Promise.resolve();
    const entries = [...this.table]
      .filter(([mac]) => mac > after)
      .sort(([a], [b]) => a - b)
      .slice(0, limit)
      .map(([mac, to]) => ({ mac, state: to.length === 0 ? ('drop' as const) : ('valid' as const), to }));
    return { entries, next: entries.length < limit ? undefined : entries.at(-1)?.mac };
  }

  routeMtuBytes(): number {
    this.#call('routeMtuBytes');
    return this.routeMtu;
  }

  overlayOffloads(id: number): readonly Offload[] {
    return this.overlays.get(id)?.offload === 'off' ? ['checksum'] : ['checksum', 'tso', 'gso'];
  }

  overlayCounters(): Record<string, number> {
    return { tx_frames: 1 };
  }

  socketCounters(): ReadonlyMap<string, Record<string, number>> {
    return new Map();
  }

  portCounters(): Record<string, number> {
    return { tx_frames: 2 };
  }

  portDevice(_overlay: number, name: string): PortDeviceInfo | undefined {
    const port = this.ports.get(name);
    return port && { name, mac: port.mac ?? 0, isHere: true };
  }

  /** Port -> what others have set on its device, and what of it was set right. */
  readonly troubles = new Map<string, string[]>();
  readonly mended = new Map<string, string[]>();

  checkPort(_overlay: number, name: string): PortFindings {
    return { mended: this.mended.get(name) ?? [], noted: [], troubles: this.troubles.get(name) ?? [] };
  }

  discard(name: string): void {
    this.#call('discard', name);
    this.left.delete(name);
  }

  async recentTargets(_overlay: number, limit: number): Promise<readonly TargetEntry[]> {
    await Promise.resolve();
    return [...this.table].slice(0, limit).map(([mac, to]) => ({ mac, state: 'valid', to }));
  }

  targetCounts(): Promise<ReadonlyMap<number, number>> {
    return Promise.resolve(new Map([...this.overlays.keys()].map((id) => [id, this.table.size])));
  }

  restoreTargets(_overlay: number, targets: readonly KnownTarget[]): void {
    this.#call('restoreTargets');
    for (const { mac, to } of targets) this.table.set(mac, to);
  }

  async ping(): Promise<void> {
    await Promise.resolve();
    this.#call('ping');
  }

  async begin(): Promise<void> {
    await Promise.resolve();
    this.#call('begin');
  }

  retain(): Retained {
    return { descriptors: [], named: () => [], threads: 1, lists: () => Promise.resolve([[]]) };
  }

  release(): Promise<Handover> {
    return Promise.resolve({ descriptors: [], lists: [] });
  }

  async close(): Promise<void> {
    for (const id of [...this.overlays.keys()]) await this.removeOverlay(id);
  }

  #call(name: keyof Datapath, detail = ''): void {
    this.calls.push(`${name} ${detail}`.trimEnd());
    const code = this.failures.get(name);
    if (code !== undefined) throw systemError(code);
  }
}
