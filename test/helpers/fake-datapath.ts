// A datapath that moves nothing: overlays and ports have what was last said to them, and fail where they are told to.
import type { ProtectionRules } from '../../src/core/protection/link-protection.js';
import type { PeerPlace } from '../../src/core/peers/peer-places.js';
import type { Offload } from '../../src/model/offloads.js';
import type {
  Datapath,
  DropReport,
  FrameCapture,
  Handover,
  LookupAnswer,
  LookupRequest,
  OverlayConfig,
  OverlayDatapath,
  OverlayListener,
  OverlaySettings,
  PortConfig,
  PortDeviceInfo,
  PortFindings,
  PortHandle,
  PushedTarget,
  Retained,
  TargetEntries,
  TargetEntry,
} from '../../src/datapath/contract.js';
import type { FrameProbe } from '../../src/datapath/probe-contract.js';
import type { PeerList, PeerReport, Sending } from '../../src/model/peer-report.js';
import type { RouteFacts } from '../../src/model/underlay-state.js';
import type { Endpoint as Destination, MacAddress } from '../../src/plugin/index.js';
import type { IpAddress } from '../../src/wire/ip.js';

/** As the system reports it. */
export function systemError(code: string, text = 'from the fake'): Error {
  return Object.assign(new Error(`${code}: ${text}`), { code });
}

export const SILENT: OverlayListener = {
  lookups: () => undefined,
  portFault: () => undefined,
  leased: () => undefined,
  peers: () => undefined,
  pathLearned: () => undefined,
  noticed: () => undefined,
};

export class FakePort implements PortHandle {
  /** As it was made, but for its MAC and its rules, which are those of now. */
  config: PortConfig;
  /** What the first look at its cable saw. */
  readonly firstCarrier: boolean;
  isDown = false;
  /** What others have set on its device, and what of it was set right. */
  troubles: readonly string[] = [];
  mended: readonly string[] = [];
  readonly #overlay: FakeOverlay;

  constructor(config: PortConfig, overlay: FakeOverlay) {
    this.config = config;
    this.firstCarrier = overlay.carrier;
    this.#overlay = overlay;
  }

  get name(): string {
    return this.config.name;
  }

  /** Its device no longer works. */
  fail(code: string): void {
    this.#overlay.listener?.portFault(this, code);
  }

  device(): PortDeviceInfo | undefined {
    return { name: this.name, mac: this.config.mac, isHere: true };
  }

  check(): PortFindings {
    return { mended: this.mended, noted: [], troubles: this.troubles };
  }

  rename(name: string): () => void {
    this.#overlay.touch();
    this.#overlay.failIfTold('rename');
    this.#overlay.ports.delete(this.config.name);
    this.config = { ...this.config, name };
    this.#overlay.ports.set(name, this);
    return () => undefined;
  }

  setMtu(mtuBytes: number): boolean {
    this.#overlay.touch();
    this.#overlay.failIfTold('setMtu');
    this.config = { ...this.config, mtuBytes };
    return true;
  }

  setAddress(mac: MacAddress): void {
    this.#overlay.touch();
    this.#overlay.failIfTold('setAddress');
    this.config = { ...this.config, mac };
  }

  setVid(vid: number): void {
    this.#overlay.touch();
    this.config = { ...this.config, vid };
  }

  setDown(isDown: boolean): void {
    this.isDown = isDown;
  }

  setProtection(protection: ProtectionRules | undefined): void {
    this.#overlay.touch();
    this.config = { ...this.config, protection };
  }

  setMac(mac: MacAddress, protection: ProtectionRules | undefined): void {
    this.#overlay.touch();
    this.config = { ...this.config, mac, protection };
  }

  counters(): Record<string, number> {
    return { tx_frames: 2 };
  }

  async remove(): Promise<void> {
    this.#overlay.touch();
    await Promise.resolve();
    this.#overlay.ports.delete(this.name);
  }
}

const NO_PLACE: PeerPlace = {
  port: undefined,
  mtuBytes: undefined,
  isMtuLearned: false,
  refusesSegmentation: false,
  tunnelUse: 'none',
  stationCount: 0,
  stations: [],
};

export class FakeOverlay implements OverlayDatapath {
  config: OverlayConfig;
  listener: OverlayListener | undefined;
  destination: Destination | undefined;
  carrier = true;
  loops: readonly IpAddress[] = [];
  routes: readonly RouteFacts[] = [];
  namedPeers: readonly IpAddress[] = [];
  readonly ports = new Map<string, FakePort>();
  readonly table = new Map<MacAddress, { readonly to: readonly Destination[]; readonly ttlMs: number }>();
  readonly answers: { readonly lookup: number; readonly answer: LookupAnswer }[] = [];
  readonly announced: Uint8Array[] = [];
  /** What it says of its peers. */
  peerReports: PeerReport[] = [];
  readonly peerPlaces = new Map<IpAddress, Partial<PeerPlace>>();
  readonly #datapath: FakeDatapath;
  readonly #waiting = new Map<number, (answer: LookupAnswer) => void>();

  constructor(config: OverlayConfig, listener: OverlayListener, datapath: FakeDatapath) {
    this.config = config;
    this.destination = config.destination;
    this.listener = listener;
    this.#datapath = datapath;
    this.namedPeers = config.known.peers;
    for (const { mac, to } of config.known.targets) this.table.set(mac, { to, ttlMs: Infinity });
  }

  /** No thread, so none says anything. */
  explain(): ReturnType<OverlayDatapath['explain']> {
    return Promise.resolve({ threads: [], sourcePorts: [] });
  }

  /** Nothing moves, so nothing is seen. */
  capture(): Promise<FrameCapture> {
    const nothing = {
      next: () => undefined,
      lost: () => new Map(),
      isOver: true,
      stop: () => Promise.resolve(),
    };
    return Promise.resolve(nothing);
  }

  watchTargets(): () => void {
    return () => undefined;
  }

  probe(): Promise<FrameProbe> {
    return Promise.resolve({ sourcePorts: [], send: () => undefined, stop: () => Promise.resolve() });
  }

  /** Something is said to it. */
  failIfTold(call: 'rename' | 'setAddress' | 'setMtu'): void {
    this.#datapath.failIfTold(call);
  }

  touch(): void {
    this.#datapath.changes++;
  }

  async change(settings: OverlaySettings): Promise<void> {
    await Promise.resolve();
    this.touch();
    this.#datapath.failIfTold('change');
    this.config = { ...this.config, ...settings };
  }

  /** A frame waits; resolves to what is answered. */
  ask(request: LookupRequest): Promise<LookupAnswer> {
    const answered = this.answerTo(request.lookup);
    this.listener?.lookups([request]);
    return answered;
  }

  /** The next answer to this lookup. */
  answerTo(lookup: number): Promise<LookupAnswer> {
    return new Promise((resolve) => this.#waiting.set(lookup, resolve));
  }

  addPort(config: PortConfig): FakePort {
    this.touch();
    this.#datapath.failIfTold('addPort');
    const port = new FakePort(config, this);
    this.ports.set(config.name, port);
    return port;
  }

  setCarrier(on: boolean): void {
    this.touch();
    this.carrier = on;
  }

  setDestination(destination: Destination): void {
    this.touch();
    this.destination = destination;
  }

  setLoops(destinations: readonly IpAddress[]): void {
    this.touch();
    this.loops = destinations;
  }

  setRoutes(routes: readonly RouteFacts[]): void {
    this.touch();
    this.routes = routes;
  }

  answer(lookup: number, answer: LookupAnswer): void {
    this.answers.push({ lookup, answer });
    this.#waiting.get(lookup)?.(answer);
  }

  setTarget(mac: MacAddress, to: readonly Destination[], ttlMs: number): void {
    this.touch();
    this.table.set(mac, { to, ttlMs });
  }

  setTargets(rows: readonly PushedTarget[]): void {
    this.touch();
    for (const { mac, to, ttlMs } of rows)
      if (to.length === 0) this.table.delete(mac);
      else this.table.set(mac, { to, ttlMs });
  }

  invalidate(macs?: readonly MacAddress[]): void {
    this.touch();
    if (macs === undefined) this.table.clear();
    for (const mac of macs ?? []) this.table.delete(mac);
  }

  setPeers(peers: readonly IpAddress[]): void {
    this.touch();
    this.namedPeers = peers;
  }

  announce(frame: Uint8Array): void {
    this.touch();
    this.announced.push(frame);
  }

  async deleteTarget(mac: MacAddress): Promise<boolean> {
    await Promise.resolve();
    return this.table.delete(mac);
  }

  async targets(after: MacAddress, limit: number): Promise<TargetEntries> {
    await Promise.resolve();
    const entries = [...this.table]
      .filter(([mac]) => mac > after)
      .sort(([a], [b]) => a - b)
      .slice(0, limit)
      .map(([mac, { to }]) => ({
        mac,
        state: to.length === 0 ? ('drop' as const) : ('valid' as const),
        to,
      }));
    return { entries, next: entries.length < limit ? undefined : entries.at(-1)?.mac };
  }

  async recentTargets(limit: number): Promise<readonly TargetEntry[]> {
    await Promise.resolve();
    return [...this.table].slice(0, limit).map(([mac, { to }]) => ({ mac, state: 'valid', to }));
  }

  targetCount(): Promise<number> {
    return Promise.resolve(this.table.size);
  }

  counters(): Record<string, number> {
    return { tx_frames: 1 };
  }

  drops(): readonly DropReport[] {
    return [];
  }

  peers(): PeerList {
    return { peers: this.peerReports, others: undefined };
  }

  recordedPeers(): readonly PeerReport[] {
    return this.peerReports;
  }

  get sending(): Sending {
    return { checksum: 'full', maySendTrains: this.config.offload.includes('train') };
  }

  describePeers(ips: readonly IpAddress[]): Promise<readonly PeerPlace[]> {
    return Promise.resolve(ips.map((ip) => ({ ...NO_PLACE, ...this.peerPlaces.get(ip) })));
  }

  get offloads(): readonly Offload[] {
    return this.config.offload.filter((offload) => ['checksum', 'tso', 'train', 'tunnel'].includes(offload));
  }

  mute(): void {
    this.listener = undefined;
  }

  async remove(): Promise<void> {
    this.mute();
    this.touch();
    await Promise.resolve();
    this.#datapath.overlays.delete(this.config.id);
  }

  withdraw(): Promise<void> {
    return this.remove();
  }
}

export class FakeDatapath implements Datapath {
  features: Record<string, boolean> = { fake: true, tapCarrier: true, tapSteering: true };
  readonly overlays = new Map<number, FakeOverlay>();
  /** Devices of an earlier daemon. */
  readonly left = new Set<string>();
  /** Call -> errno name it fails with. */
  readonly failures = new Map<
    'addOverlay' | 'addPort' | 'change' | 'rename' | 'routeMtuBytes' | 'setAddress' | 'setMtu',
    string
  >();
  /** How often something was said to it, its overlays or their ports that may change them. */
  changes = 0;
  routeMtu = 1500;

  /** Of all overlays, by name. */
  get ports(): ReadonlyMap<string, FakePort> {
    return new Map([...this.overlays.values()].flatMap(({ ports }) => [...ports]));
  }

  async addOverlay(config: OverlayConfig, listener: OverlayListener): Promise<FakeOverlay> {
    await Promise.resolve();
    this.changes++;
    this.failIfTold('addOverlay');
    return this.open(config, listener);
  }

  open(config: OverlayConfig, listener: OverlayListener): FakeOverlay {
    const overlay = new FakeOverlay(config, listener, this);
    this.overlays.set(config.id, overlay);
    return overlay;
  }

  failIfTold(
    call: 'addOverlay' | 'addPort' | 'change' | 'rename' | 'routeMtuBytes' | 'setAddress' | 'setMtu',
  ): void {
    const code = this.failures.get(call);
    if (code !== undefined) throw systemError(code);
  }

  hasLeft(port: string): boolean {
    return this.left.has(port);
  }

  discard(port: string): void {
    this.changes++;
    this.left.delete(port);
  }

  routeMtuBytes(): number {
    this.failIfTold('routeMtuBytes');
    return this.routeMtu;
  }

  socketCounters(): ReadonlyMap<string, Record<string, number>> {
    return new Map();
  }

  ping(): Promise<void> {
    return Promise.resolve();
  }

  begin(): Promise<void> {
    return Promise.resolve();
  }

  retain(): Retained {
    return { descriptors: [], named: () => [], threads: 1, lists: () => Promise.resolve([[]]) };
  }

  release(): Promise<Handover> {
    return Promise.resolve({ descriptors: [], lists: [] });
  }

  async close(): Promise<void> {
    for (const overlay of [...this.overlays.values()]) await overlay.remove();
  }
}

/** One overlay of a datapath, with nothing in its configuration that a test of its parts looks at. */
export function fakeOverlay(datapath = new FakeDatapath(), listener = SILENT): FakeOverlay {
  const known = { peers: [], targets: [] };
  return datapath.open({ id: 1, offload: [], known } as unknown as OverlayConfig, listener);
}
