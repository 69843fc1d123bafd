/**
 * Finds the persistent TAPs of this varpd. No descriptor passes from one daemon to the next here, so the
 * state directory keeps the number (ifindex) of each TAP, and the boot and network namespace that the numbers
 * belong to. A device counts as ours if it has the recorded number and is a TAP of this user, or of root, as
 * which an older varpd ran. Its name, MAC and alias do not count, since other programs may change them.
 */
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import * as z from 'zod';
import { linkInfo, type LinkInfo } from '../../dgram-extra/index.js';
import type { Log } from '../log.js';
import { errnoName, systemErrorText } from '../system-error.js';
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
});

export class PersistentLinks {
  readonly #directory: StateDirectory;
  readonly #log: Log;
  readonly #numbers: Map<string, number>;

  private constructor(directory: StateDirectory, log: Log, numbers: Iterable<[string, number]>) {
    this.#directory = directory;
    this.#log = log;
    this.#numbers = new Map(numbers);
  }

  /** Never rejects: a record that cannot be read, or is of another boot or namespace, names no device. */
  static async load(directory: StateDirectory, log: Log): Promise<PersistentLinks> {
    try {
      const found = schema.parse(JSON.parse(await readOwnFile(directory, FILE, MAX_BYTES)));
      const isNow = found.boot === bootId() && found.namespace === namespaceId();
      return new PersistentLinks(directory, log, isNow ? found.links : []);
    } catch (error) {
      if (errnoName(error) !== 'ENOENT')
        log.error(
          'links file',
          `${FILE} in the state directory: ${error instanceof z.ZodError ? 'it is not as varpd writes it' : systemErrorText(error)}: persistent links are not known again`,
        );
      return new PersistentLinks(directory, log, []);
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

  /** Called before the device becomes persistent, so that a crash in between leaves no unrecorded device. */
  record(port: string, number: number): void {
    if (this.#numbers.get(port) === number) return;
    this.#numbers.set(port, number);
    this.#save();
  }

  forget(port: string): void {
    if (this.#numbers.delete(port)) this.#save();
  }

  /**
   * Saves without a sync: the links end with this boot, and the kernel has the file even if this process is
   * killed.
   */
  #save(): void {
    const content: z.input<typeof schema> = {
      version: 1,
      boot: bootId(),
      namespace: namespaceId(),
      links: [...this.#numbers],
    };
    try {
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

const bootId = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();

const namespaceId = (): string => {
  const { dev, ino } = statSync('/proc/self/ns/net');
  return `${dev}:${ino}`;
};
