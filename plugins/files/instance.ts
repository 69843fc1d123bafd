/**
 * The files plugin at work for one overlay. It answers lookups out of its mapping, and replaces the mapping when the file
 * changes.
 *
 * The mapping is replaced as a whole, between two answers. An invalid file changes nothing: the last good mapping stays in
 * use, and the overlay is degraded with the place of the first error until a valid file comes.
 */
import {
  type Answer,
  type Endpoint,
  type Host,
  type Instance,
  type IpAddress,
  ipFamily,
  isMulticastMac,
  type Lookup,
  type MacAddress,
  MAX_FLOOD_DESTINATIONS,
  proxyFor,
} from '../../src/plugin/index.js';
import { compare, type Difference, differenceText, MAX_ANNOUNCED } from './difference.js';
import { type Loaded, loadMapping } from './load.js';
import { entries, type Mapping } from './mapping.js';
import { problemLine } from '../../src/plugin/mapping/problems.js';
import { FileError } from './read.js';
import { inSlices } from './slices.js';
import { FileWatch } from './watch.js';

const FLOOD = 'files/flood';

/** Errors of one file that the log shows. `dladm check-mapping` shows them all. */
const MAX_LOGGED = 5;
const UNKNOWN: Answer = { kind: 'drop', reason: 'the mapping has no such MAC' };
/** MACs, and calls of the host, between two pauses. */
const STEP_CALLS = 64;

/** The overlay cannot work with the file as it is. The message says why. */
class Refusal extends Error {
  override readonly name = 'Refusal';

  constructor(
    message: string,
    /** The name of an errno, for the status words of dladm. */
    readonly code = 'EINVAL',
    /** Further reasons. */
    readonly lines: readonly string[] = [],
  ) {
    super(message);
  }
}

/** The properties of the overlay. */
export interface FilesProperties {
  readonly config: string;
  readonly flood: 'on' | 'off';
  readonly protect: 'on' | 'off';
}

export class FilesInstance implements Instance<FilesProperties> {
  readonly #host: Host;
  readonly #ended = new AbortController();
  #file = '';
  #isFlooding = false;
  #isProtecting = false;
  readonly #family: 4 | 6;
  #mapping: Mapping | undefined;
  /** MACs of the ports of this host. */
  #ports: readonly MacAddress[] = [];
  #flood: readonly Endpoint[] = [];
  #watch: FileWatch | undefined;
  /** The reload under way, and the one that follows because `reload` was called meanwhile. */
  #reloading: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  /** Sentence: the file does not answer. */
  #silence: string | undefined;
  /** Sentence: the contents read last are refused. */
  #refusal: string | undefined;
  /** The last lines in the log about an invalid file, and about a valid one. */
  #complaint: string | undefined;
  #warned = '';
  /** Number of entries before the mapping lost most of them, while the overlay has a note about it. */
  #sizeBefore: number | undefined;

  constructor(host: Host) {
    this.#host = host;
    this.#family = ipFamily(host.listen.ip);
  }

  async start({ config, flood, protect }: FilesProperties, signal: AbortSignal): Promise<void> {
    this.#file = config;
    this.#isFlooding = flood === 'on';
    this.#isProtecting = protect === 'on';
    signal.throwIfAborted();
    const watch = this.#watchFile(config);
    this.#watch = watch;
    const loaded = await this.#load(watch, AbortSignal.any([signal, this.#ended.signal]));
    this.#use(loaded);
    this.#protect();
    this.#warn(loaded);
    this.#host.log.info(`${this.#file}: ${entries(loaded.mapping)}`);
    watch.begin();
  }

  #watchFile(file: string): FileWatch {
    return new FileWatch(file, {
      changed: () => {
        // `reload` has told the host already.
        this.reload().catch(() => undefined);
      },
      silent: (message) => {
        this.#silence = `${file} ${message}`;
        this.#tellHealth();
      },
      answers: () => {
        this.#silence = undefined;
        this.#tellHealth();
      },
      warn: (message) => {
        this.#host.log.warn(message);
      },
    });
  }

  /** Takes another file or other settings. Flows to MACs that are at the same place go on. */
  change(properties: FilesProperties, signal: AbortSignal): Promise<void> {
    // A reload that is asked for meanwhile comes after it.
    const changing = (this.#reloading ?? Promise.resolve())
      .catch(() => undefined)
      .then(() => this.#change(properties, AbortSignal.any([signal, this.#ended.signal])));
    const reloading = changing.finally(() => {
      if (this.#reloading === reloading) this.#reloading = undefined;
    });
    this.#reloading = reloading;
    reloading.catch(() => undefined);
    return changing;
  }

  async #change({ config, flood, protect }: FilesProperties, signal: AbortSignal): Promise<void> {
    const before = this.#watch!;
    const [file, isFlooding, isProtecting] = [this.#file, this.#isFlooding, this.#isProtecting];
    const watch = config === file ? before : this.#watchFile(config);
    this.#file = config;
    this.#isFlooding = flood === 'on';
    let loaded;
    try {
      loaded = await this.#load(watch, signal);
      signal.throwIfAborted();
    } catch (error) {
      this.#file = file;
      this.#isFlooding = isFlooding;
      if (watch !== before) await watch.close();
      throw error;
    }
    this.#watch = watch;
    this.#isProtecting = protect === 'on';
    if (watch !== before) {
      this.#silence = undefined;
      await before.close();
      watch.begin();
    }
    await this.#replace(loaded);
    if (isProtecting && !this.#isProtecting) this.#host.setAllowedIps();
    // The answers about group MACs are others now.
    if (isFlooding !== this.#isFlooding) this.#host.invalidate();
  }

  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#watch?.close();
  }

  // -- Answers

  resolve({ destinationMac, etherType }: Lookup): Answer {
    if (isMulticastMac(destinationMac)) return this.#group(destinationMac, etherType);
    const to = this.#mapping?.destinationOf(destinationMac);
    if (to === undefined) return UNKNOWN;
    if (ipFamily(to.ip) === this.#family) return { kind: 'target', to };
    return { kind: 'drop', reason: `${to.ip} is not of the family of the listen address` };
  }

  #group(mac: MacAddress, etherType: number): Answer {
    const what = proxyFor(mac, etherType);
    if (what !== undefined)
      return { kind: 'proxy', what, ...(this.#isFlooding && { otherwise: this.#flood }) };
    if (this.#isFlooding) return { kind: 'flood', to: this.#flood };
    return { kind: 'drop', reason: `other broadcast and multicast is dropped; ${FLOOD}=on floods it` };
  }

  neighbor(ip: IpAddress): MacAddress | null {
    return this.#mapping?.neighbor(ip) ?? null;
  }

  dhcpServer(client: MacAddress): MacAddress | null {
    return this.#mapping?.dhcpServer(client) ?? null;
  }

  ports(macs: readonly MacAddress[]): void {
    this.#ports = macs;
    this.#protect();
  }

  #protect(): void {
    const mapping = this.#mapping;
    if (!this.#isProtecting || mapping === undefined) return;
    this.#host.setAllowedIps(this.#ports.map((mac) => ({ mac, ips: mapping.addressesOf(mac) })));
  }

  placeOf(mac: MacAddress): Endpoint | null {
    return this.#mapping?.destinationOf(mac) ?? null;
  }

  // -- A new file

  /** Reads the file again. When the file is not valid, tells the host and rejects; the earlier mapping stays in use. */
  reload(): Promise<void> {
    if (this.#reloading === undefined) {
      this.#reloading = this.#reload().finally(() => {
        this.#reloading = undefined;
      });
      return this.#reloading;
    }
    // The reload under way may have read the file before its last change.
    this.#next ??= this.#reloading
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.reload();
      });
    return this.#next;
  }

  async #reload(): Promise<void> {
    const { signal } = this.#ended;
    try {
      await this.#replace(await this.#load(this.#watch!, signal));
    } catch (error) {
      if (signal.aborted) return;
      // A silent file has not been read, so there is no complaint about its contents. The health shows the silence
      // already.
      if (this.#silence === undefined) this.#complain(error);
      throw error;
    }
  }

  /** Rejects with a Refusal when the overlay cannot work with the file as it is. */
  async #load(watch: FileWatch, signal: AbortSignal): Promise<Loaded & { mapping: Mapping }> {
    const file = this.#file;
    let loaded;
    try {
      loaded = await loadMapping(watch.read(signal), signal);
    } catch (error) {
      throw error instanceof FileError ? new Refusal(`${file} ${error.message}`, error.code) : error;
    }
    watch.knows(loaded.version);
    const { mapping, errors, errorCount } = loaded;
    if (mapping === undefined) {
      const lines = errors.slice(0, MAX_LOGGED).map((problem) => problemLine(file, problem));
      const more = errorCount > 1 ? ` (and ${errorCount - 1} more: dladm check-mapping ${file})` : '';
      throw new Refusal(`${lines[0]}${more}`, 'EINVAL', lines.slice(1));
    }
    const count = mapping.destinationsOf(this.#family).length;
    if (this.#isFlooding && count > MAX_FLOOD_DESTINATIONS)
      throw new Refusal(`${file} has ${count} VTEPs, ${FLOOD}=on takes at most ${MAX_FLOOD_DESTINATIONS}`);
    return { ...loaded, mapping };
  }

  /** Puts the first reason into the health and the further ones into the log. The same complaint is logged only once. */
  #complain(error: unknown): void {
    const sentence = error instanceof Error ? error.message : String(error);
    const lines = error instanceof Refusal ? error.lines : [];
    this.#refusal = sentence;
    this.#tellHealth();
    const complaint = [sentence, ...lines].join('\n');
    if (complaint === this.#complaint) return;
    this.#complaint = complaint;
    this.#host.log.warn(`${this.#file} is refused: the mapping read before stays in use`);
    for (const line of lines) this.#host.log.error(line);
  }

  async #replace(loaded: Loaded & { mapping: Mapping }): Promise<void> {
    const { signal } = this.#ended;
    const old = this.#mapping!;
    const { mapping } = loaded;
    const difference = await inSlices(compare(old, mapping), signal);
    this.#use(loaded);
    this.#protect();
    await inSlices(this.#spread(difference), signal);
    this.#complaint = undefined;
    this.#refusal = undefined;
    this.#tellHealth();
    this.#warn(loaded);
    this.#report(difference, mapping);
  }

  /** Without a mapping the start fails, and so there is no health to tell. */
  #tellHealth(): void {
    if (this.#mapping === undefined) return;
    const sentence = this.#silence ?? this.#refusal;
    if (sentence === undefined) this.#host.restore();
    else this.#host.degrade(sentence);
  }

  #use({ mapping, revision }: Loaded & { mapping: Mapping }): void {
    this.#host.inForce(revision, mapping.size);
    const peers = mapping.peers();
    const before = this.#mapping?.peers().sort().join();
    this.#mapping = mapping;
    this.#flood = mapping.destinationsOf(this.#family);
    if (before !== [...peers].sort().join()) this.#host.setPeers(peers);
  }

  /** Tells the target table and the neighbour caches, after the mapping has been replaced. Flows to MACs that have not
   * moved go on. */
  *#spread({ stale, moves }: Difference): Generator<undefined, void> {
    for (let at = 0; at < stale.length; at += STEP_CALLS) {
      this.#host.invalidate(stale.slice(at, at + STEP_CALLS));
      yield;
    }
    let calls = 0;
    for (const { ip, mac } of moves) {
      this.#host.announce(ip, mac);
      if (++calls % STEP_CALLS === 0) yield;
    }
  }

  #report(difference: Difference, mapping: Mapping): void {
    const { added, removed, changed, moves } = difference;
    const many =
      moves.length === MAX_ANNOUNCED ? `; only ${MAX_ANNOUNCED} moved addresses were announced` : '';
    if (added + removed + changed === 0) {
      this.#host.log.info(`${this.#file} read again: the same ${entries(mapping)}`);
      return;
    }
    this.#noteLoss(removed + mapping.size - added, mapping);
    const text = `${this.#file} read again: ${differenceText(difference)}, ${mapping.size} now`;
    this.#host.log.info(`${text}${many}`);
    this.#host.remark(`${text}, at ${new Date().toISOString().replace(/\.\d+/, '')}`);
  }

  /** Begins the note of a mapping that has lost most of its entries, or ends it once the mapping has grown. */
  #noteLoss(before: number, mapping: Mapping): void {
    if (mapping.size * 2 < before) this.#sizeBefore ??= before;
    else if (mapping.size > before) this.#sizeBefore = undefined;
    const { size } = mapping;
    this.#host.note(
      this.#sizeBefore === undefined
        ? undefined
        : `${this.#file} has lost most of its entries: ${this.#sizeBefore} before, ${size} now; ` +
            'frames to the others are dropped; if that is a mistake, put them back (the note ends when the file grows)',
    );
  }

  /** Logs the warnings, unless they are the same as last time. */
  #warn({ warnings, warningCount }: Loaded): void {
    const lines = warnings.slice(0, MAX_LOGGED).map((warning) => problemLine(this.#file, warning));
    const more = warningCount - lines.length;
    if (more > 0) lines.push(`${more} more: dladm check-mapping ${this.#file}`);
    const text = lines.join('\n');
    if (text !== this.#warned) for (const line of lines) this.#host.log.warn(line);
    this.#warned = text;
  }
}
