/**
 * The last state of a plugin, on disk, so that a host that starts while the store is away still knows its network.
 *
 * The file is lines of JSON: a header, any number of further lines, and the checksum of all that. It is written beside its
 * place and renamed, so that it is whole or absent. Both ways go in slices, with one chunk of the file in memory.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { inSlices } from './slices.js';

/** A million entries take some 80 MB. */
const MAX_FILE_BYTES = 512 * 1024 * 1024;
const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 0x0a;
/** SHA-256 in hexadecimal, in quotes, and the end of the line. */
const CHECKSUM_BYTES = 64 + 3;
/** Pause between two writes of the state, at least; and this many times the duration of the last one. */
const PAUSE_MS = 5000;
const PAUSE_TIMES = 20;

/** The header of a state file has this, beside what its plugin adds. */
export interface StateHeader {
  readonly format: string;
  readonly version: number;
  /** A digest: names of stores may have passwords in them. */
  readonly source: string;
  readonly savedAt: string;
}

/** The form of the state files of a plugin. */
export class StateFormat {
  readonly #name: string;
  readonly #version: number;

  constructor(name: string, version: number) {
    this.#name = name;
    this.#version = version;
  }

  /** The header of a state that is written now. `source` names the store. */
  header(source: string): StateHeader {
    const savedAt = new Date().toISOString();
    return { format: this.#name, version: this.#version, source: digestOf(source), savedAt };
  }

  /** Whether a file with this header is of the source. Throws when another version of the plugin has written it. */
  isOf({ format, version, source: digest }: StateHeader, source: string): boolean {
    if (format !== this.#name || version !== this.#version) throw new Error('it is of another version');
    return digest === digestOf(source);
  }
}

const digestOf = (source: string): string => createHash('sha256').update(source).digest('hex');

export class StateFile {
  readonly #file: string;

  /** `file`: an absolute path in the state directory of the plugin. */
  constructor(file: string) {
    this.#file = file;
  }

  /**
   * Reads the file, if there is one: `begin` gets the header, and `take` each further line, unless `begin` has returned false.
   * Resolves to whether `take` has got everything. Rejects when the file is not whole: what `take` has got counts for
   * nothing then.
   */
  async read(
    begin: (header: unknown) => boolean,
    take: (line: unknown) => void,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const file = await openIfThere(this.#file);
    if (file === undefined) return false;
    try {
      const { size } = await file.stat();
      if (size > MAX_FILE_BYTES) throw new Error(`it has more than ${MAX_FILE_BYTES} bytes`);
      const hash = createHash('sha256');
      const seen = { header: false, end: false };
      const takeLine = (text: string): void => {
        if (seen.end) return;
        if (seen.header) take(JSON.parse(text));
        else seen.end = !begin(JSON.parse(text));
        seen.header = true;
      };
      const lines = new Lines();
      for (let at = 0; at < size - CHECKSUM_BYTES && !seen.end;) {
        const chunk = await readAt(file, at, Math.min(CHUNK_BYTES, size - CHECKSUM_BYTES - at));
        hash.update(chunk);
        at += chunk.length;
        await inSlices(lines.of(chunk), takeLine, signal);
      }
      if (seen.end) return false;
      const end = await readAt(file, size - CHECKSUM_BYTES, CHECKSUM_BYTES);
      if (
        !seen.header ||
        lines.hasRest ||
        end.toString('latin1') !== `${JSON.stringify(hash.digest('hex'))}\n`
      )
        throw new Error('its checksum is wrong');
      return true;
    } finally {
      await file.close();
    }
  }

  /** Writes the values, the first of which is the header. Rejects when the file cannot be written; the one before stays. */
  async write(values: Iterable<unknown>, signal?: AbortSignal): Promise<void> {
    const fresh = `${this.#file}.tmp`;
    const file = await open(fresh, 'w', 0o600);
    try {
      const hash = createHash('sha256');
      let text = '';
      let written: Promise<unknown> = Promise.resolve();
      const flush = (): void => {
        const chunk = Buffer.from(text);
        hash.update(chunk);
        text = '';
        // A full disk may take a part of a write; `appendFile` goes on until it takes none.
        written = written.then(() => file.appendFile(chunk));
        // The error comes out of `await` below, perhaps some slices later.
        written.catch(() => undefined);
      };
      const add = (value: unknown): void => {
        text += `${JSON.stringify(value)}\n`;
        if (text.length > CHUNK_BYTES) flush();
      };
      await inSlices(values, add, signal);
      flush();
      await written;
      await file.appendFile(`${JSON.stringify(hash.digest('hex'))}\n`);
      await file.datasync();
      await file.close();
      await rename(fresh, this.#file);
    } catch (error) {
      await file.close().catch(() => undefined);
      await rm(fresh, { force: true }).catch(() => undefined);
      throw error;
    }
  }
}

async function openIfThere(file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Rejects when the file ends before. */
async function readAt(file: FileHandle, at: number, bytes: number): Promise<Buffer> {
  const chunk = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(chunk, 0, bytes, at);
  if (bytesRead === 0) throw new Error('it ends too early');
  return chunk.subarray(0, bytesRead);
}

/** Lines out of chunks. */
class Lines {
  #rest: Buffer[] = [];

  get hasRest(): boolean {
    return this.#rest.length > 0;
  }

  *of(chunk: Buffer): Generator<string> {
    let at = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
      const line = chunk.subarray(at, end);
      at = end + 1;
      yield this.#rest.length === 0 ? line.toString() : Buffer.concat([...this.#rest, line]).toString();
      this.#rest = [];
    }
    if (at < chunk.length) this.#rest.push(chunk.subarray(at));
  }
}

/** Writes a state soon after it has changed, with pauses between the writes that grow with the state. */
export class StateSaver {
  readonly #write: () => Promise<void>;
  readonly #failed: (error: Error) => void;
  #isChanged = false;
  #isEnded = false;
  /** Message of the last write, if it has failed. */
  #trouble: string | undefined;
  #saving: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = 0;

  /** `write` writes the present state; `failed` hears of a write that has failed, and not again of the same trouble. */
  constructor(write: () => Promise<void>, failed: (error: Error) => void) {
    this.#write = write;
    this.#failed = failed;
  }

  /** The state has changed. */
  changed(): void {
    this.#isChanged = true;
    if (this.#timer !== undefined || this.#saving !== undefined || this.#isEnded) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#saving = this.#save();
    }, this.#pauseMs);
  }

  /** Nothing is written any more. With `isLast`, a change that is not on disk yet is written first. */
  async end(isLast: boolean): Promise<void> {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    await this.#saving;
    if (this.#isChanged && isLast) await this.#save();
  }

  async #save(): Promise<void> {
    this.#isChanged = false;
    const beginMs = performance.now();
    try {
      await this.#write();
      this.#trouble = undefined;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#trouble) this.#failed(error as Error);
      this.#trouble = message;
    }
    this.#pauseMs = Math.max(PAUSE_MS, PAUSE_TIMES * (performance.now() - beginMs));
    this.#saving = undefined;
    if (this.#hasChanged()) this.changed();
  }

  #hasChanged(): boolean {
    return this.#isChanged;
  }
}
