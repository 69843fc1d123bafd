/**
 * Adds quotations to messages of varpd about the content of a file. varpd may read files that other users may
 * not, so its messages only name the place (src/plugin/content-problem.ts). dladm has the rights of the user
 * that started it, and adds a quotation if that user may read the file.
 */
import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';

/** `/etc/varpd/hosts.json:3:7: ` */
const PLACE = /:([1-9]\d{0,8}):([1-9]\d{0,8}): /g;
/** The possible beginning of a path; words of a sentence may come before it. */
const BEGIN = /(?<=^|[\s'"(=])\//g;
/** One message names one file, or a few. */
const MAX_PLACES = 8;
/** Size of the largest mapping. */
const MAX_FILE_BYTES = 256 * 1024 * 1024;
const PIECE_BYTES = 64 * 1024;
/** Characters of a line that are quoted, from the place on. */
const MAX_CHARACTERS = 48;
/** Bytes of a line that are read at most. */
const MAX_LINE_BYTES = 64 * 1024;
const NEWLINE = 0x0a;

/**
 * For example `FILE:3:7: at '"x",': found ...`. Never throws. Content of the file only goes into the result.
 */
export function withQuotations(text: string): string {
  let quoted = '';
  let done = 0;
  for (const match of [...text.matchAll(PLACE)].slice(0, MAX_PLACES)) {
    const [place, line, column] = match;
    const quotation = quote(text.slice(done, match.index), Number(line), Number(column));
    const end = match.index + place.length;
    quoted += text.slice(done, end);
    if (quotation !== undefined) quoted += `at '${quotation}': `;
    done = end;
  }
  return quoted + text.slice(done);
}

/** `before` ends with the path. A path may have blanks in it, so the longest one that is a file counts. */
function quote(before: string, line: number, column: number): string | undefined {
  for (const { index } of [...before.matchAll(BEGIN)].slice(-MAX_PLACES)) {
    const bytes = readLine(before.slice(index), line);
    if (bytes === undefined) continue;
    const rest = Array.from(bytes.toString('utf8'))
      .slice(column - 1)
      .join('')
      .trim();
    const shown = Array.from(rest).slice(0, MAX_CHARACTERS).join('');
    return rest === '' ? undefined : shown === rest ? rest : `${shown}...`;
  }
  return undefined;
}

/**
 * A line of a regular file within the size limit; undefined = there is none, or this user may not read it.
 */
function readLine(file: string, line: number): Buffer | undefined {
  let fd: number | undefined;
  try {
    if (!statSync(file).isFile()) return undefined;
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size <= MAX_FILE_BYTES ? findLine(fd, line) : undefined;
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function findLine(fd: number, line: number): Buffer | undefined {
  const piece = Buffer.alloc(PIECE_BYTES);
  const parts: Buffer[] = [];
  let current = 1;
  let length = 0;
  for (let read = readSync(fd, piece); read > 0; read = readSync(fd, piece)) {
    for (let at = 0; at < read;) {
      const found = piece.subarray(0, read).indexOf(NEWLINE, at);
      const end = found < 0 ? read : found;
      if (current === line) {
        parts.push(Buffer.from(piece.subarray(at, end)));
        length += end - at;
        if (found >= 0 || length >= MAX_LINE_BYTES) return Buffer.concat(parts);
      }
      if (found < 0) break;
      current++;
      at = found + 1;
    }
  }
  return current === line ? Buffer.concat(parts) : undefined;
}
