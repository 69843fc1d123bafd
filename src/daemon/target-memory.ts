/**
 * Where frames went when varpd ended, for the one that begins: traffic goes on at once, and each target in use is asked
 * about meanwhile. Saved at the end, read once at the start, and only by a start that follows closely: what is older is
 * better asked for.
 */
import { z } from 'zod';
import { type Endpoint, family, formatEndpoint, parseEndpoint } from '../wire/ip.js';
import { formatMac, isMulticast, parseMac } from '../wire/mac.js';
import type { Datapath, KnownTarget } from './datapath/contract.js';
import { readOwnFile, replaceFile } from './state-file.js';
import type { StateDirectory } from './state-directory.js';

const FILE = 'targets.saved';
/** Raised when an older varpd would misread it. */
const VERSION = 1;
/** A restart is over by then, also of a host that is busy; a mapping has hardly changed. */
const MAX_AGE_MS = 60_000;
/** Of one overlay, those used last: the end of a daemon waits for them. The others are asked for, as ever. */
export const MAX_SAVED = 16_384;
/** Some hundred bytes each for four overlays that are full. */
const MAX_BYTES = 8 * 1024 * 1024;

const schema = z.strictObject({
  version: z.literal(VERSION),
  savedAtMs: z.number(),
  overlays: z.array(z.tuple([z.string(), z.array(z.tuple([z.string(), z.array(z.string())]))])),
});

type SavedRows = readonly (readonly [mac: string, to: readonly string[]])[];

export class TargetMemory {
  readonly #overlays: Map<string, SavedRows>;

  private constructor(overlays = new Map<string, SavedRows>()) {
    this.#overlays = overlays;
  }

  static empty(): TargetMemory {
    return new TargetMemory();
  }

  /** Never rejects: what cannot be read, or is too old, is forgotten. */
  static async load(directory: StateDirectory, nowMs: number): Promise<TargetMemory> {
    try {
      const text = await readOwnFile(directory, FILE, MAX_BYTES);
      const { savedAtMs, overlays } = schema.parse(JSON.parse(text));
      const ageMs = nowMs - savedAtMs;
      return ageMs >= 0 && ageMs <= MAX_AGE_MS ? new TargetMemory(new Map(overlays)) : TargetMemory.empty();
    } catch {
      return TargetMemory.empty();
    }
  }

  /** Once: an overlay that is made anew under the same name is another. Only what may be sent to from `listen`. */
  take(overlay: string, listen: Endpoint): KnownTarget[] {
    const rows = this.#overlays.get(overlay) ?? [];
    this.#overlays.delete(overlay);
    return rows.flatMap(([text, destinations]) => {
      const mac = parseMac(text);
      const to = destinations.map(parseEndpoint);
      const isGood = to.every((one) => one !== undefined && family(one.ip) === family(listen.ip));
      return mac === undefined || isMulticast(mac) || !isGood || to.length === 0
        ? []
        : [{ mac, to: to as Endpoint[] }];
    });
  }
}

/** Rejects with the system's error; then the next daemon asks for all. */
export async function saveTargets(
  directory: StateDirectory,
  overlays: Iterable<{ readonly name: string; readonly id: number }>,
  datapath: Pick<Datapath, 'recentTargets'>,
  nowMs: number,
): Promise<void> {
  const saved: [string, [string, string[]][]][] = [];
  let bytes = 0;
  for (const { name, id } of overlays) {
    const rows: [string, string[]][] = [];
    for (const { mac, to } of await datapath.recentTargets(id, MAX_SAVED)) {
      const row: [string, string[]] = [formatMac(mac), to.map(formatEndpoint)];
      // Quotes, commas and brackets are 6 for the MAC and 3 for each destination.
      bytes += row[0].length + 6 + row[1].reduce((sum, text) => sum + text.length + 3, 0);
      if (bytes > MAX_BYTES - 1024) break;
      rows.push(row);
    }
    if (rows.length > 0) saved.push([name, rows]);
  }
  const content: z.input<typeof schema> = { version: VERSION, savedAtMs: nowMs, overlays: saved };
  await replaceFile(directory, FILE, JSON.stringify(content));
}
