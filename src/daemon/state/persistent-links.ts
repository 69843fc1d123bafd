/**
 * Finds the persistent TAPs of this varpd. No descriptor passes from one daemon to the next here, so the
 * state directory keeps the number (ifindex) of each TAP, and the boot and network namespace that the numbers
 * belong to. A device counts as ours if it has the recorded number and is a TAP of this user, or of root, as
 * which an older varpd ran. Its name, MAC and alias do not count, since other programs may change them.
 */
import { renameSync, statSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { linkInfo, type LinkInfo, renameLink } from '../../dgram-extra/index.js';
import type { Log } from '../log.js';
import { errnoName, systemErrorText } from '../system-error.js';
import { bootId, isSameBoot } from './boot.js';
import type { StateDirectory } from './state-directory.js';
import { readOwnFile } from './state-file.js';

const FILE = 'links';
/** Name while it is written. After a crash the next start removes it. */
const TEMPORARY = '.links.tmp';
/** Some 40 bytes for each of 10,000 links. */
const MAX_BYTES = 1 << 20;

const schema = z.strictObject({
  version: z.literal(1),
  boot: z.string(),
  namespace: z.string(),
  /** Port, and number of its device. */
  links: z.array(z.tuple([z.string(), z.int().min(1)])),
  /** Ports that are being renamed, and their new names. */
  renames: z.array(z.tuple([z.string(), z.string()])).optional(),
});

/** A rename in the middle of which the previous process was killed. */
export interface UnfinishedRename {
  /** The name that is stored. */
  readonly port: string;
  readonly other: string;
}

export class PersistentLinks {
  readonly #directory: StateDirectory;
  readonly #log: Log;
  readonly #numbers: Map<string, number>;
  /** Name -> new name of a port that is being renamed. Its number is recorded under the first. */
  readonly #renames: Map<string, string>;

  private constructor(directory: StateDirectory, log: Log, found?: z.output<typeof schema>) {
    this.#directory = directory;
    this.#log = log;
    this.#numbers = new Map(found?.links);
    this.#renames = new Map(found?.renames);
  }

  /** Never rejects: a record that cannot be read, or is of another boot or namespace, names no device. */
  static async load(directory: StateDirectory, log: Log): Promise<PersistentLinks> {
    try {
      const found = schema.parse(JSON.parse(await readOwnFile(directory, FILE, MAX_BYTES)));
      const isNow = isSameBoot(found.boot, bootId()) && found.namespace === namespaceId();
      return new PersistentLinks(directory, log, isNow ? found : undefined);
    } catch (error) {
      if (errnoName(error) !== 'ENOENT')
        log.error(
          'links file',
          `${FILE} in the state directory: ${error instanceof z.ZodError ? 'it is not as varpd writes it' : systemErrorText(error)}: persistent links are not known again`,
        );
      return new PersistentLinks(directory, log);
    }
  }

  /** The device of a port, under whatever name it has now; undefined when no device is ours. */
  find(port: string): LinkInfo | undefined {
    const number = this.#numbers.get(port);
    const link = number === undefined ? undefined : linkInfo(number);
    const owners = [process.geteuid?.(), 0];
    return link?.tun !== undefined && owners.includes(link.tun.ownerUid) ? link : undefined;
  }

  get ports(): string[] {
    return [...this.#numbers.keys()];
  }

  /**
   * Called before the device becomes persistent, so that a crash in between leaves no unrecorded device; and when a rename
   * of the port is complete.
   */
  record(port: string, number: number): void {
    if (this.#numbers.get(port) === number && this.#renames.size === 0) return;
    this.#endRenames(port);
    this.#numbers.set(port, number);
    this.#save();
  }

  forget(port: string): void {
    const isRenamed = this.#endRenames(port);
    if (this.#numbers.delete(port) || isRenamed) this.#save();
  }

  /** Called before the device is renamed. Until `record` or `forget` of either name the device is known by both. */
  rename(from: string, to: string, number: number): void {
    this.#numbers.set(from, number);
    this.#renames.set(from, to);
    this.#save();
  }

  /** Removes the renames of a port, with the other name of its device. Returns whether there were any. */
  #endRenames(port: string): boolean {
    const ended = [...this.#renames].filter((names) => names.includes(port));
    for (const [from] of ended) {
      this.#renames.delete(from);
      if (from !== port) this.#numbers.delete(from);
    }
    return ended.length > 0;
  }

  /**
   * Called once all stored overlays are known: completes the renames in which the previous process was killed, or takes
   * them back. The name that is stored counts.
   */
  settleRenames(isStored: (port: string) => boolean): UnfinishedRename[] {
    return [...this.#renames].flatMap(([from, to]) => {
      const [port, other] = isStored(to) ? [to, from] : [from, to];
      const device = this.find(from);
      if (device === undefined || !isStored(port)) return [];
      try {
        if (device.name === other) renameLink(device.index, port);
        this.#log.info(
          `rename ${port}`,
          `${port}: its rename was interrupted; ${port} is the name that is stored`,
        );
      } catch (error) {
        const failed = `${port}: its interface is still called ${device.name}: ${systemErrorText(error)}`;
        this.#log.warn(`rename ${port}`, `${failed}: 'ip link set ${device.name} name ${port}' renames it`);
      }
      this.record(port, device.index);
      return [{ port, other }];
    });
  }

  /**
   * Saves without a sync: the links end with this boot, and the kernel has the file even if this process is
   * killed.
   */
  #save(): void {
    try {
      const content: z.input<typeof schema> = {
        version: 1,
        boot: bootId(),
        namespace: namespaceId(),
        links: [...this.#numbers],
        ...(this.#renames.size > 0 && { renames: [...this.#renames] }),
      };
      const temporary = this.#directory.path(TEMPORARY);
      writeFileSync(temporary, JSON.stringify(content), { mode: 0o600 });
      renameSync(temporary, this.#directory.path(FILE));
    } catch (error) {
      this.#log.error(
        'links file',
        `cannot save ${FILE} in the state directory: ${systemErrorText(error)}: the next varpd will not know its persistent links`,
      );
    }
  }
}

const namespaceId = (): string => {
  const { dev, ino } = statSync('/proc/self/ns/net');
  return `${dev}:${ino}`;
};
