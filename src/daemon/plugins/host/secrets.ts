/**
 * Secrets of plugins: small files, in the directory `secrets` of the configuration, or passed by systemd
 * (LoadCredential=, systemd.exec(5)). A secret is read when a plugin asks for it and is kept nowhere. Errors name the
 * file and never quote it.
 */
import { constants, mkdirSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import path from 'node:path';
import { refuseKind } from '../../../model/property-kinds.js';
import { printable } from '../../../model/properties.js';
import { trustedPlace, UntrustedPlace } from '../../../plugin/trusted-place.js';
import type { PluginFiles } from '../plugin-start.js';
import { errnoName, systemErrorText } from '../../system-error.js';

/** A key with its certificates has some kilobytes. */
const MAX_SECRET_BYTES = 64 * 1024;

export class Secrets {
  readonly #directory: string | null;
  readonly #credentials: string | undefined;

  /** `directory`: that of the configuration; `credentials`: that of systemd. Neither need exist. */
  constructor(directory: string | null, credentials: string | undefined) {
    this.#directory = directory;
    this.#credentials = credentials;
  }

  /** Reads the secret of this name, without the line feed at its end. Rejects with an Error that does not quote it. */
  async read(name: string): Promise<string> {
    const expected = typeof name === 'string' ? refuseKind('secret', name) : 'text';
    // The value itself may have been passed in place of the name.
    if (expected !== undefined) throw new Error(`a secret was asked for by a name that is not ${expected}`);
    for (const directory of [this.#directory, this.#credentials]) {
      if (directory === null || directory === undefined) continue;
      const found = await readSecret(path.join(directory, name));
      if (found !== undefined) return found;
    }
    const configured =
      this.#directory === null
        ? 'set the key secrets of the configuration to a directory with a file of this name'
        : `put it into the file ${path.join(this.#directory, name)}`;
    throw new Error(
      `there is no secret '${printable(name)}': ${configured}, or pass it with LoadCredential= of systemd`,
    );
  }
}

/** The files that plugins may use: a directory for each below the state directory, made when it is asked for; secrets. */
export function pluginFilesOf(stateDir: string, secrets: Secrets): PluginFiles {
  return {
    stateDir: (plugin) => {
      const directory = path.join(stateDir, 'plugins', plugin);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      return directory;
    },
    secret: (name) => secrets.read(name),
  };
}

/** Undefined when there is no such file. */
async function readSecret(file: string): Promise<string | undefined> {
  try {
    const place = await trustedPlace(file, { itself: true });
    return place.isMissing ? undefined : await secretIn(place.path, constants.O_NOFOLLOW);
  } catch (error) {
    if (errnoName(error) === 'ENOENT') return undefined;
    throw unreadable(file, error);
  }
}

/**
 * Reads a secret out of a file that the user of this process has named, without the line feed at its end. Other users may write
 * the file. Rejects with an Error that does not quote it.
 */
export async function readSecretFile(file: string): Promise<string> {
  try {
    return await secretIn(file, 0);
  } catch (error) {
    throw unreadable(file, error);
  }
}

async function secretIn(file: string, flags: number): Promise<string> {
  let handle: FileHandle | undefined;
  try {
    const { O_RDONLY, O_NONBLOCK, O_NOCTTY } = constants;
    handle = await open(file, O_RDONLY | O_NONBLOCK | O_NOCTTY | flags);
    if (!(await handle.stat()).isFile()) throw new Error('is no regular file');
    // One byte more shows that the file is larger, even if its size says otherwise.
    const bytes = Buffer.alloc(MAX_SECRET_BYTES + 1);
    let length = 0;
    for (let count = 1; count > 0 && length < bytes.length; length += count)
      ({ bytesRead: count } = await handle.read(bytes, length, bytes.length - length, length));
    if (length > MAX_SECRET_BYTES) throw new Error(`has more than ${MAX_SECRET_BYTES} bytes`);
    return textOf(bytes.subarray(0, length));
  } finally {
    await handle?.close();
  }
}

function unreadable(file: string, error: unknown): Error {
  const why = error instanceof UntrustedPlace ? `is refused: ${error.message}` : systemErrorText(error);
  const what =
    errnoName(error) === undefined || error instanceof UntrustedPlace ? why : `cannot be read: ${why}`;
  return new Error(`secret ${file} ${what}`, { cause: error });
}

function textOf(bytes: Uint8Array): string {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Error('is not UTF-8 text');
  }
  const value = text.replace(/\r?\n$/, '');
  if (value === '') throw new Error('is empty');
  return value;
}
