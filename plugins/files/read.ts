/**
 * Reads a whole file. A path may lead to a FIFO without a writer, a device or a directory, where an open or a read could
 * wait for ever. So the path must be a regular file before it is opened, and small enough before it is read.
 *
 * A file system that does not answer still holds up the thread that reads. So varpd itself never calls these functions;
 * its reader process does (reader-process.ts).
 */
import { constants } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { trustedPlace, UntrustedPlace } from '../../src/plugin/index.js';

/** Twice the size of a file with a million entries. The whole file is in memory while it is read. */
export const MAX_FILE_BYTES = 256 * 1024 * 1024;

/** Each piece is a sign of life. So a file system that gives 32 KiB a second is slow, and a slower one is silent. */
const PIECE_BYTES = 64 * 1024;
/** A file that changes during every attempt is refused. Its next change starts a read again. */
const ATTEMPTS = 10;
const BETWEEN_ATTEMPTS_MS = 100;

/** The file cannot be read. The message follows the file's name. */
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

/** Receives the bytes of a file. */
export interface Sink {
  /** `byteCount` bytes follow. A further call means that the file has changed: the sink throws the earlier bytes away. */
  begin(byteCount: number): void;
  /** The next bytes. The buffer belongs to the caller and is used again. */
  piece(bytes: Uint8Array): void;
}

/** Identifies a version of a file. Two equal versions mean that nothing was written in between. */
export type Version = string;

/** Never rejects: for an absent file the version is the name of the error. */
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

/** Reads a file for a user that has called `dladm check-mapping`, and accepts any path. Rejects with a FileError, or
 * with the reason of the signal. */
export async function readWhole(file: string, signal?: AbortSignal): Promise<Contents> {
  const whole = new Whole();
  const version = await readInto(file, whole, true, signal);
  return { bytes: whole.bytes, version };
}

const tooLarge = (byteCount: string): FileError =>
  new FileError(`has ${byteCount} bytes, at most ${MAX_FILE_BYTES} are read`);

/** Reads bytes that have no file. Rejects with a FileError when there are too many. */
export async function readStream(pieces: AsyncIterable<Uint8Array>): Promise<Contents> {
  const kept: Uint8Array[] = [];
  let byteCount = 0;
  for await (const piece of pieces) {
    byteCount += piece.length;
    if (byteCount > MAX_FILE_BYTES) throw tooLarge(`more than ${MAX_FILE_BYTES}`);
    kept.push(piece);
  }
  return { bytes: Buffer.concat(kept), version: '' };
}

/** Keeps the whole file in one buffer. */
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
 * Reads a file into the sink. Without `isTrusting`, a file is refused if anyone but root, the user of this process and the
 * owner of the file could replace it. Rejects with a FileError, or with the reason of the signal.
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
    if (attempt === ATTEMPTS)
      throw new FileError('changes while it is read: write a new file and rename it over this one');
    await sleep(BETWEEN_ATTEMPTS_MS);
  }
}

/** Returns undefined when the file has changed during the read. */
async function readOnce(
  file: string,
  sink: Sink,
  isTrusting: boolean,
  signal: AbortSignal | undefined,
): Promise<Version | undefined> {
  let handle: FileHandle | undefined;
  try {
    // The type is checked before the open, since the open of some devices has an effect. Another file may take the
    // place of this one in between: O_NONBLOCK keeps the open of a FIFO from waiting.
    checkType(await stat(file));
    handle = await open(...(await wayTo(file, isTrusting)));
    const before = await handle.stat({ bigint: true });
    checkType(before);
    if (before.size > BigInt(MAX_FILE_BYTES)) throw tooLarge(String(before.size));
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

/** Returns the path and flags for the open. Without `isTrusting` the path has no symbolic link left in it. */
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

/** Returns the number of bytes read. */
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
