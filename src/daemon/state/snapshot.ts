/**
 * The snapshot: the facts that varpd knows about its overlays when it ends, saved for the next process. They
 * are the mode and destination of each overlay, its peers, its targets, and the settings of its ports that
 * varpd has made. With them an overlay works at once, even when its plugin cannot be started just now. The
 * snapshot is saved at the end, and read once at the start.
 *
 * For a minute the snapshot is used at once, while the plugin is asked about each target. An older snapshot
 * is only used where the plugin cannot be asked.
 */
import * as z from 'zod';
import { restorable } from '../../core/tables/target-rows.js';
import type { KnownTarget, OverlayDatapath } from '../../datapath/contract.js';
import { MAX_KNOWN_TARGETS } from '../../model/handover.js';
import {
  type Endpoint,
  family,
  formatEndpoint,
  type IpAddress,
  isSameEndpoint,
  parse as parseIp,
  parseEndpoint,
} from '../../wire/ip.js';
import { formatMac, isMulticast, type MacAddress, parseMac } from '../../wire/mac.js';
import type { Log } from '../log.js';
import { errnoName, systemErrorText } from '../system-error.js';
import { isRecent, readStamp, SNAPSHOT_VERSION, stamped } from './snapshot-format.js';
import type { StateDirectory } from './state-directory.js';
import { readOwnFile, replaceFile } from './state-file.js';

const FILE = 'snapshot';
/** Some hundred bytes for each target of four full overlays. */
const MAX_BYTES = 8 * 1024 * 1024;
/** Part of MAX_BYTES for everything but targets. */
const MAX_SETTINGS_BYTES = MAX_BYTES / 2;

const text = z.string();
const entrySchema = z.strictObject({
  /** MAC of the overlay's own port. An overlay that is created again under the same name has another one. */
  mac: text,
  mode: z.enum(['point', 'dynamic']),
  destination: text.nullable(),
  peers: z.array(text),
  ports: z.array(
    z.tuple([text, z.strictObject({ mtuBytes: z.int(), allowedIps: z.array(text).nullable() })]),
  ),
  /** MAC, destinations, and the time for which they may be used if that is bounded. A varpd from before targets had such
   * a bound wrote two members, and refuses a file with three: it asks the plugins again. */
  targets: z.array(z.tuple([text, z.array(text)]).or(z.tuple([text, z.array(text), z.number()]))),
});
const schema = z.strictObject({
  version: z.literal(SNAPSHOT_VERSION),
  savedAtMs: z.number(),
  overlays: z.array(z.tuple([text, entrySchema])),
});

type Entry = z.infer<typeof entrySchema>;

/**
 * Snapshot of a port: the MTU that varpd set, and the addresses that the plugin allowed its owner to send
 * from (null: the plugin did not decide about it). For the overlay's own port: whether the plugin decides about VNICs.
 */
export interface PortSnapshot {
  readonly mtuBytes: number;
  readonly allowedIps: readonly IpAddress[] | null;
}

/** Snapshot of one overlay, as far as it can be used from the overlay's listen address. */
export interface OverlaySnapshot {
  readonly mode: 'point' | 'dynamic';
  readonly destination: Endpoint | undefined;
  readonly peers: readonly IpAddress[];
  readonly ports: ReadonlyMap<string, PortSnapshot>;
  /** The target used last comes first. */
  readonly targets: readonly KnownTarget[];
  /** Whether it may be used at once, and not only as a last resort. */
  readonly isRecent: boolean;
}

/** The parts of a running overlay that are saved. */
export interface Snapshotted {
  readonly name: string;
  readonly mac: MacAddress;
  readonly datapath: Pick<OverlayDatapath, 'recentTargets' | 'namedPeers'>;
  readonly mode: 'point' | 'dynamic';
  readonly destination: Endpoint | undefined;
  portSnapshots(): Iterable<readonly [port: string, PortSnapshot]>;
}

export class Snapshot {
  readonly #overlays: Map<string, Entry>;
  readonly #savedAtMs: number;
  readonly #loadedAtMs: number;
  /** Undefined: nothing was loaded. */
  readonly #directory: StateDirectory | undefined;

  private constructor(
    overlays: Map<string, Entry>,
    savedAtMs: number,
    loadedAtMs: number,
    directory?: StateDirectory,
  ) {
    this.#directory = directory;
    this.#overlays = overlays;
    this.#savedAtMs = savedAtMs;
    this.#loadedAtMs = loadedAtMs;
  }

  static empty(): Snapshot {
    return new Snapshot(new Map(), 0, Infinity);
  }

  get #isRecent(): boolean {
    return isRecent({ savedAtMs: this.#savedAtMs }, this.#loadedAtMs);
  }

  /** Never rejects. A snapshot that cannot be read is logged, and counts as empty. */
  static async load(directory: StateDirectory, nowMs: number, log: Pick<Log, 'warn'>): Promise<Snapshot> {
    try {
      const { savedAtMs, overlays } = parse(await readOwnFile(directory, FILE, MAX_BYTES));
      return new Snapshot(new Map(overlays), savedAtMs, nowMs, directory);
    } catch (error) {
      if (errnoName(error) !== 'ENOENT')
        log.warn(
          'snapshot',
          `the snapshot is not usable, so the plugins are asked again: ${FILE}: ${systemErrorText(error)}`,
        );
      return Snapshot.empty();
    }
  }

  hasRecent(overlay: string, ownMac: MacAddress): boolean {
    return this.#isRecent && this.#overlays.get(overlay)?.mac === formatMac(ownMac);
  }

  /**
   * Snapshot of the overlay that has this MAC at its own port, without destinations that cannot be sent to
   * from `listen`.
   */
  of(overlay: string, ownMac: MacAddress, listen: Endpoint): OverlaySnapshot | undefined {
    const entry = this.#overlays.get(overlay);
    if (entry === undefined || entry.mac !== formatMac(ownMac)) return undefined;
    const usable = (one: string): Endpoint[] => {
      const to = parseEndpoint(one);
      return to !== undefined && family(to.ip) === family(listen.ip) ? [to] : [];
    };
    const agoMs = Math.max(0, this.#loadedAtMs - this.#savedAtMs);
    const ips = (list: readonly string[]): IpAddress[] => list.flatMap((one) => parseIp(one) ?? []);
    return {
      mode: entry.mode,
      destination: usable(entry.destination ?? '').find((to) => !isSameEndpoint(to, listen)),
      peers: ips(entry.peers),
      ports: new Map(
        entry.ports.map(([port, { mtuBytes, allowedIps }]) => [
          port,
          { mtuBytes, allowedIps: allowedIps && ips(allowedIps) },
        ]),
      ),
      targets: entry.targets.flatMap(([macText, destinations, usableMs = Infinity]) => {
        const mac = parseMac(macText);
        const to = destinations.flatMap(usable);
        const staleMs = usableMs - agoMs;
        const isGood = to.length > 0 && to.length === destinations.length && staleMs > 0;
        if (mac === undefined || isMulticast(mac) || !isGood) return [];
        return [{ mac, to, ...(staleMs !== Infinity && { staleMs }) }];
      }),
      isRecent: this.#isRecent,
    };
  }

  /**
   * Saves the present facts of the running overlays, and for the overlays in `others`, which do not run,
   * those of the earlier process. Rejects with the system's error.
   */
  async save(
    directory: StateDirectory,
    running: Iterable<Snapshotted>,
    others: Iterable<string>,
    nowMs: number,
  ): Promise<void> {
    const overlays: [string, Entry][] = [];
    let settingsBytes = 0;
    const add = (name: string, entry: Entry): void => {
      settingsBytes += JSON.stringify(entry).length;
      if (settingsBytes < MAX_SETTINGS_BYTES) overlays.push([name, entry]);
    };
    const datapaths = new Map<string, Snapshotted['datapath']>();
    for (const one of running) {
      const { mac, mode, destination, datapath } = one;
      datapaths.set(one.name, datapath);
      add(one.name, {
        mac: formatMac(mac),
        mode,
        destination: destination === undefined ? null : formatEndpoint(destination),
        peers: [...datapath.namedPeers],
        ports: [...one.portSnapshots()].map(([port, { mtuBytes, allowedIps }]) => [
          port,
          { mtuBytes, allowedIps: allowedIps && [...allowedIps] },
        ]),
        targets: [],
      });
    }
    let bytes = MAX_SETTINGS_BYTES;
    for (const [name, entry] of overlays) {
      for (const entryOfMac of await datapaths.get(name)!.recentTargets(MAX_KNOWN_TARGETS)) {
        const { mac, to, staleMs } = restorable(entryOfMac);
        const places = to.map(formatEndpoint);
        const row: Entry['targets'][number] =
          staleMs === undefined ? [formatMac(mac), places] : [formatMac(mac), places, Math.round(staleMs)];
        // Quotes, commas and brackets are 6 for the MAC and 3 for each destination; a time has 12 digits at most.
        bytes += row[0].length + 6 + 13 + places.reduce((sum, one) => sum + one.length + 3, 0);
        if (bytes > MAX_BYTES - 1024) break;
        entry.targets.push(row);
      }
    }
    for (const name of others) {
      const before = this.#overlays.get(name);
      if (before !== undefined && !datapaths.has(name)) add(name, { ...before, targets: [] });
    }
    // Facts from the earlier process alone stay as old as they were.
    const savedAtMs = datapaths.size === 0 ? this.#savedAtMs : nowMs;
    await write(directory, overlays, savedAtMs);
  }

  /**
   * Forgets an overlay, also on the disk, before it becomes another network: a process after this one must not believe
   * what the process before has saved. Rejects with the system's error.
   */
  async forget(overlay: string): Promise<void> {
    if (this.#overlays.delete(overlay) && this.#directory !== undefined)
      await write(this.#directory, [...this.#overlays], this.#savedAtMs);
  }
}

async function write(
  directory: StateDirectory,
  overlays: [string, Entry][],
  savedAtMs: number,
): Promise<void> {
  const content: z.input<typeof schema> = stamped({ overlays }, savedAtMs);
  await replaceFile(directory, FILE, JSON.stringify(content));
}

/** Throws an Error that says what is wrong, and where, without quoting the content. */
function parse(content: string): z.infer<typeof schema> {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (error) {
    throw new Error('it is not JSON', { cause: error });
  }
  readStamp(value);
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new Error(`it is not valid at ${parsed.error.issues[0].path.map(String).join('.') || 'its head'}`);
}
