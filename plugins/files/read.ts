/**
 * Reads a whole file without being held up by what is not a file: a FIFO nobody writes to, a device, a directory.
 * Nothing is opened before it is known to be a regular file, and nothing read before it is known to be small enough.
 *
 * A file system that does not answer holds it up all the same, and a thread with it. Inside varpd this runs in the reader
 * process (reader-process.ts) alone.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { trustedPlace, UntrustedPlace } from '../../src/plugin/index.js';

/** Twice what a million entries take. All of it is in memory while it is read. */
export const MAX_FILE_BYTES = 256 * 1024 * 1024;

/** A sign of life each: the slowest file system that is not taken for a dead one gives 32 KiB a second. */
const PIECE_BYTES = 64 * 1024;
/** A file that is being written is waited for this often and this long, then refused; whoever watches it will try again. */
const ATTEMPTS = 10;
const BETWEEN_ATTEMPTS_MS = 100;

/** The file cannot be read; the message follows its name. */
export class FileError extends Error {
  override readonly name = 'FileError';

  constructor(
    message: string,
    /** The name of an errno. */
    readonly code = 'EINVAL',
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

export interface Contents {
  readonly bytes: Buffer;
  readonly version: Version;
}

/** Where the bytes of a file go. */
export interface Sink {
  /** As many bytes follow. Called again when the file has changed meanwhile: what came before means nothing then. */
  begin(byteCount: number): void;
  /** The next ones; the buffer is used again afterwards. */
  piece(bytes: Uint8Array): void;
}

/** Tells one content of a file from another: equal means that nothing was written. */
export type Version = string;

/** Never rejects: a file that is not there has a version, too. */
export async function versionOf(file: string): Promise<Version> {
  try {
    return versionFrom(await stat(file, { bigint: true }));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

interface Identity {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

function versionFrom({ dev, ino, size, mtimeNs, ctimeNs }: Identity): Version {
  return [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

/** For whoever asks with rights of his own. Rejects with a FileError, or with what the signal was aborted for. */
export async function readWhole(file: string, signal?: AbortSignal): Promise<Contents> {
  const whole = new Whole();
  const version = await readInto(file, whole, true, signal);
  return { bytes: whole.bytes, version };
}

/** Everything in one piece of memory. */
export class Whole implements Sink {
  bytes: Buffer = Buffer.alloc(0);
  #length = 0;

  begin(byteCount: number): void {
    if (this.bytes.length !== byteCount) this.bytes = Buffer.allocUnsafeSlow(byteCount);
    this.#length = 0;
  }

  piece(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }
}

/**
 * `isTrusting`: wherever it is; else a file that others than root, the user of this process and its owner could replace is
 * refused. Rejects with a FileError, or with what the signal was aborted for.
 */
export async function readInto(
  file: string,
  sink: Sink,
  isTrusting: boolean,
  signal?: AbortSignal,
): Promise<Version> {
  for (let attempt = 1; ; attempt++) {
    signal?.throwIfAborted();
    const version = await readOnce(file, sink, isTrusting, signal);
    if (version !== undefined) return version;
    if (attempt === ATTEMPTS) throw new FileError('is being written: it changes while it is read');
    await sleep(BETWEEN_ATTEMPTS_MS);
  }
}

/** undefined = it has changed meanwhile. */
async function readOnce(
  file: string,
  sink: Sink,
  isTrusting: boolean,
  signal: AbortSignal | undefined,
): Promise<Version | undefined> {
  let handle: FileHandle | undefined;
  try {
    // Opening some devices does something. O_NONBLOCK is for what takes the file's place in between.
    checkType(await stat(file));
    handle = await open(...(await wayTo(file, isTrusting)));
    const before = await handle.stat({ bigint: true });
    checkType(before);
    if (before.size > BigInt(MAX_FILE_BYTES))
      throw new FileError(`has ${before.size} bytes, at most ${MAX_FILE_BYTES} are read`);
    const length = await readBytes(handle, Number(before.size), sink, signal);
    const after = await handle.stat({ bigint: true });
    const version = versionFrom(after);
    return length === Number(after.size) && versionFrom(before) === version ? version : undefined;
  } catch (error) {
    if (error instanceof FileError || signal?.aborted === true) throw error;
    if (error instanceof UntrustedPlace)
      throw new FileError(`is refused: ${error.message}`, error.code, error);
    const { code = 'EIO', message } = error as NodeJS.ErrnoException;
    throw new FileError(SENTENCES[code] ?? `cannot be read: ${message}`, code, error);
  } finally {
    await handle?.close();
  }
}

/** Without a link on it, where links are not trusted. */
async function wayTo(file: string, isTrusting: boolean): Promise<[string, number]> {
  const flags = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;
  if (isTrusting) return [file, flags];
  const place = await trustedPlace(file, { owner: true, sticky: true });
  return [place.path, place.isDescriptor ? flags : flags | constants.O_NOFOLLOW];
}

interface Typed {
  isFile(): boolean;
  isDirectory(): boolean;
  isFIFO(): boolean;
}

function checkType(found: Typed): void {
  if (found.isFile()) return;
  const kind = found.isDirectory() ? 'a directory' : found.isFIFO() ? 'a FIFO' : 'a device or a socket';
  throw new FileError(`is ${kind}, not a file`);
}

/** How many there were. */
async function readBytes(
  handle: FileHandle,
  size: number,
  sink: Sink,
  signal: AbortSignal | undefined,
): Promise<number> {
  const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, size));
  let length = 0;
  sink.begin(size);
  while (length < size) {
    signal?.throwIfAborted();
    const { bytesRead } = await handle.read(piece, 0, Math.min(piece.length, size - length), length);
    if (bytesRead === 0) break;
    sink.piece(piece.subarray(0, bytesRead));
    length += bytesRead;
  }
  return length;
}

const SENTENCES: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  ENOTDIR: 'is not there: a part of its path is no directory',
  EACCES: `cannot be read: permission denied to user ${process.geteuid?.() ?? 0}`,
  ELOOP: 'cannot be read: too many symbolic links',
  ENAMETOOLONG: 'cannot be read: its path is too long',
};
