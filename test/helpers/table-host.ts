// Stands for varpd beside one instance of a plugin: the target table and the snapshot as varpd would have them, and what
// the overlay has been told. The tests of all plugins use it.
import type {
  AllowedIps,
  Destination,
  Difference,
  Host,
  IpText,
  MacAddress,
  Snapshot,
  SnapshotChange,
  Target,
} from '../../src/plugin/index.js';
import { parseIp } from '../../src/plugin/index.js';

const textOf = ({ to }: Target): string => JSON.stringify(to);

export class TableHost implements Host {
  readonly overlay = 'overlay0';
  readonly vnetid = 23;
  readonly listen = { ip: parseIp('10.88.88.69')!, port: 4789 };
  readonly stateDir: string;
  readonly #ended = new AbortController();
  readonly signal: AbortSignal = this.#ended.signal;
  /** Secrets by name. */
  readonly secrets = new Map<string, string>();
  /** The targets that varpd would use without a question: a MAC that is not there is asked about. */
  readonly targets = new Map<MacAddress, Target>();
  snapshot:
    { targets: Map<MacAddress, Target>; addresses: Map<IpText, MacAddress>; revision: string } | undefined;
  /** How often there was a whole one. */
  snapshots = 0;
  readonly changes: SnapshotChange[] = [];
  readonly invalidated: MacAddress[] = [];
  /** Number of facts that the overlay has been told: one for each row, except those of a snapshot. */
  told = 0;
  readonly announced: (readonly [ip: IpText, mac: MacAddress])[] = [];
  allowed: readonly AllowedIps[] | undefined;
  /** How often the rule about addresses of ports was set. */
  rules = 0;
  peers: readonly IpText[] = [];
  degraded: string | undefined;
  /** Every sentence that the overlay was degraded with. */
  readonly troubles: string[] = [];
  remarked: string | undefined;
  noted: string | undefined;
  mapping: { readonly revision: string; readonly entries: number } | undefined;
  readonly lines: string[] = [];
  /** Refuses the next snapshot or change, as varpd does with an invalid row. */
  refuses = false;
  /** A snapshot is in force, or a change of it. */
  onSnapshot: () => void = () => undefined;
  /** The overlay may ask about the MAC again, now. */
  onInvalidate: (mac: MacAddress) => void = () => undefined;

  readonly log = {
    info: (message: string): void => void this.lines.push(`info ${message}`),
    warn: (message: string): void => void this.lines.push(`warn ${message}`),
    error: (message: string): void => void this.lines.push(`error ${message}`),
  };

  /** Without a directory the plugin cannot save its state. */
  constructor(stateDir = '/nonexistent') {
    this.stateDir = stateDir;
  }

  now(): number {
    return performance.now();
  }

  end(): void {
    this.#ended.abort();
  }

  every(): void {
    throw new Error('not used');
  }

  secret(name: string): Promise<string> {
    const secret = this.secrets.get(name);
    return secret === undefined
      ? Promise.reject(new Error(`there is no secret ${name}`))
      : Promise.resolve(secret);
  }

  setTargets(targets: readonly Target[]): void {
    this.told += targets.length;
    for (const target of targets) this.targets.set(target.mac, target);
  }

  invalidate(macs?: readonly MacAddress[]): void {
    this.told += macs?.length ?? 1;
    for (const mac of macs ?? [...this.targets.keys()]) {
      this.targets.delete(mac);
      this.invalidated.push(mac);
      this.onInvalidate(mac);
    }
  }

  replaceAll({ targets, addresses, revision }: Snapshot): Promise<Difference> {
    if (this.refuses) return this.#refuse();
    const before = this.snapshot?.targets ?? new Map<MacAddress, Target>();
    const now = new Map(Array.from(targets, (target) => [target.mac, target]));
    this.told++;
    this.snapshots++;
    this.snapshot = {
      targets: now,
      addresses: new Map(Array.from(addresses, ({ ip, mac }) => [ip, mac])),
      revision,
    };
    this.onSnapshot();
    let [added, changed, kept] = [0, 0, 0];
    for (const [mac, target] of now) {
      const old = before.get(mac);
      if (old === undefined) added++;
      else kept++;
      if (old !== undefined && textOf(old) !== textOf(target)) changed++;
    }
    return Promise.resolve({ added, changed, removed: before.size - kept, moved: 0 });
  }

  changeSnapshot(change: SnapshotChange): Promise<Difference> {
    const { targets = [], removedMacs = [], addresses = [], removedIps = [], revision } = change;
    const { snapshot } = this;
    if (snapshot === undefined || this.refuses) return this.#refuse();
    this.told++;
    this.changes.push(change);
    for (const mac of removedMacs) snapshot.targets.delete(mac);
    for (const target of targets) snapshot.targets.set(target.mac, target);
    for (const ip of removedIps) snapshot.addresses.delete(ip);
    for (const { ip, mac } of addresses) snapshot.addresses.set(ip, mac);
    snapshot.revision = revision;
    this.onSnapshot();
    return Promise.resolve({ added: 0, changed: 0, removed: 0, moved: 0 });
  }

  #refuse(): Promise<never> {
    this.refuses = false;
    return Promise.reject(new Error('a row is invalid'));
  }

  announce(ip: IpText, mac: MacAddress): void {
    this.told++;
    this.announced.push([ip, mac]);
  }

  setPeers(peers: readonly IpText[]): void {
    this.told++;
    this.peers = peers;
  }

  setAllowedIps(rows?: readonly AllowedIps[]): void {
    this.told++;
    this.rules++;
    this.allowed = rows;
  }

  degrade(sentence: string): void {
    this.degraded = sentence;
    this.troubles.push(sentence);
  }

  restore(): void {
    this.degraded = undefined;
  }

  remark(sentence: string): void {
    this.remarked = sentence;
  }

  inForce(revision: string, entries: number): void {
    this.mapping = { revision, entries };
  }

  note(sentence?: string): void {
    this.noted = sentence;
  }

  /** The destination of a MAC in the snapshot, as `10.88.88.70:4789`. */
  destinationOf(mac: MacAddress): string | undefined {
    const to = this.snapshot?.targets.get(mac)?.to as Destination | undefined;
    return to === undefined ? undefined : `${to.ip}:${to.port}`;
  }
}
