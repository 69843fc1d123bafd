/**
 * The log: one line an event, as text or JSON, to standard error or a file (log-file.ts). pino makes the
 * lines.
 *
 * A message may come from a plugin, a client or the network. So two rules hold for every line: no part of it
 * can look like the start of another line, and no kind of message can flood the file.
 */
import { fstatSync } from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';
import type { ErrorCode } from '../model/errors.js';
import { printable } from '../model/properties.js';
import { counted } from '../model/sentences.js';
import { userName, userText } from '../plugin/trusted-place.js';
import type { LogConfig } from './config.js';
import { type Change, DONE } from './control/audit.js';
import { journalStream } from './environment.js';
import { LogFile } from './log-file.js';

export type LogLevel = LogConfig['level'];

/** In the journal, which reads priorities and adds the time itself. */
type Style = LogConfig['format'] | 'journal' | 'journal json';

export interface Log {
  /**
   * Messages of one `kind`, such as `restore overlay0`, are counted together against floods; the kind is not
   * printed.
   */
  debug(kind: string, message: string): void;
  info(kind: string, message: string): void;
  warn(kind: string, message: string): void;
  error(kind: string, message: string): void;
}

/** A line as the JSON log has it; LOG_FIELDS says more. */
export interface LogLine {
  readonly level: LogLevel;
  readonly time: string;
  readonly msg: string;
}

/** Must neither throw nor log. */
type Listener = (line: LogLine) => void;

/** Lines of one kind in a second; those above are counted and the count is logged (conformance S22). */
const LINES_PER_SECOND = 10;
/**
 * Kinds counted at a time. They come out of a short list and the names of overlays; this only bounds the
 * memory.
 */
const MAX_KINDS = 1024;
/** The longest honest message names three addresses and a path. */
const MAX_LINE_CHARACTERS = 2000;

interface Window {
  startedMs: number;
  lines: number;
}

/** Takes a line that other code writes: the descriptor, and the text before and after the time. */
export type RawLine = (fd: number, before: string, after: string) => void;

export class DaemonLog implements Log {
  readonly #logger: Logger;
  readonly #format: Style;
  readonly #file: LogFile | undefined;
  readonly #nowMs: () => number;
  readonly #windows = new Map<string, Window>();
  readonly #heard: Set<Listener>;
  #tellLastWords: () => void = () => undefined;

  private constructor(
    logger: Logger,
    heard: Set<Listener>,
    format: Style,
    file: LogFile | undefined,
    nowMs: () => number,
  ) {
    this.#logger = logger;
    this.#heard = heard;
    this.#format = format;
    this.#file = file;
    this.#nowMs = nowMs;
  }

  /** `file` null = standard error. Throws an OverlayError when the file cannot be opened. */
  static open(config: LogConfig, name: string | null): DaemonLog {
    const style = name === null && isJournal(2) ? JOURNAL_STYLES[config.format] : config.format;
    const file = new LogFile(name, (count, why) => {
      const [before, after] = aroundTime(style, 'warn', `${counted(count, 'line')} missing here: ${why}`);
      return `${before}${new Date().toISOString()}${after}\n`;
    });
    return DaemonLog.to(file, { level: config.level, format: style }, file);
  }

  /** A log over any stream, and with any monotonic clock. */
  static to(
    stream: DestinationStream,
    config: { readonly level: LogLevel; readonly format: Style },
    file?: LogFile,
    nowMs: () => number = () => performance.now(),
  ): DaemonLog {
    const { level, format } = config;
    const form = format === 'json' ? (line: string) => line : FORMS[format];
    const heard = new Set<Listener>();
    const target = {
      write: (line: string): void => {
        stream.write(form(line));
        if (heard.size > 0) for (const listener of heard) listener(JSON.parse(line) as LogLine);
      },
    };
    const formatters = { level: (label: string) => ({ level: label }) };
    const timestamp = (): string => `,"time":"${new Date().toISOString()}"`;
    const logger = pino({ level, base: { pid: process.pid }, formatters, timestamp }, target);
    return new DaemonLog(logger, heard, format, file, nowMs);
  }

  /** Lines that are written from now on. Returns a function that ends it. */
  listen(listener: Listener): () => void {
    this.#heard.add(listener);
    return () => this.#heard.delete(listener);
  }

  debug(kind: string, message: string): void {
    this.#write('debug', kind, message);
  }

  info(kind: string, message: string): void {
    this.#write('info', kind, message);
  }

  warn(kind: string, message: string): void {
    this.#write('warn', kind, message);
  }

  error(kind: string, message: string): void {
    this.#write('error', kind, message);
  }

  /** Logs a change, in one line. Every change has its own, unless it is refused for want of rights. */
  change({ asker, command, result, message }: Change): void {
    const level = result === DONE ? 'info' : 'warn';
    const isDenied = result === ('DENIED' satisfies ErrorCode);
    if (!this.#logger.isLevelEnabled(level)) return;
    if (isDenied && !this.#admit(level, `denied ${asker?.uid}`)) return;
    const user = asker === undefined ? undefined : userName(asker.uid);
    const who = asker === undefined ? 'a signal' : `${userText(asker.uid)}, process ${asker.pid ?? '?'}`;
    const text = `change by ${who}: ${command}: ${result}${message === undefined ? '' : `: ${message}`}`;
    const fields = {
      event: 'change',
      ...(asker !== undefined && { uid: asker.uid, askerPid: asker.pid }),
      ...(user !== undefined && { user }),
      command: printable(command, MAX_LINE_CHARACTERS),
      result,
    } satisfies Partial<Record<keyof typeof LOG_FIELDS, unknown>>;
    this.#logger[level](fields, printable(text, MAX_LINE_CHARACTERS));
  }

  setLevel(level: LogLevel): void {
    this.#logger.level = level;
  }

  /**
   * Called after the file was renamed. Throws an OverlayError when the new one cannot be opened; then the log
   * goes on in the old one.
   */
  reopen(): void {
    this.#file?.reopen(this.#tellLastWords);
  }

  /**
   * Prepares an error line that other code (the native layer) writes at the end of the process. `tell` passes
   * it the line, now and after each `reopen`.
   */
  lastWords(message: string, tell: RawLine): void {
    const [before, after] = aroundTime(this.#format, 'error', message);
    this.#tellLastWords = () => {
      if (this.#file !== undefined) tell(this.#file.fd, before, after);
    };
    this.#tellLastWords();
  }

  #write(level: LogLevel, kind: string, message: string): void {
    if (!this.#logger.isLevelEnabled(level) || !this.#admit(level, kind)) return;
    this.#logger[level](printable(message, MAX_LINE_CHARACTERS));
  }

  /** Counts in whole seconds: simple, and at worst twice the limit across the border of two. */
  #admit(level: LogLevel, kind: string): boolean {
    const nowMs = this.#nowMs();
    const window = this.#windows.get(kind);
    if (window !== undefined && nowMs - window.startedMs < 1000) return ++window.lines <= LINES_PER_SECOND;
    const suppressed = window === undefined ? 0 : window.lines - LINES_PER_SECOND;
    if (suppressed > 0) this.#logger[level](`${suppressed} more like the following: ${kind}`);
    if (this.#windows.size >= MAX_KINDS) this.#windows.clear();
    this.#windows.set(kind, { startedMs: nowMs, lines: 1 });
    return true;
  }
}

/** `2026-01-31T12:00:00.000Z warn overlay0: ...` */
function asText(line: string): string {
  const { time, level, msg } = JSON.parse(line) as { time: string; level: string; msg: string };
  return `${time} ${level} ${msg}\n`;
}

/** sd-daemon(3), after syslog(3). `journalctl -p warning` shows warnings and errors. */
export const PRIORITIES: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, warn: 4, error: 3 };

/** `<4>overlay0: ...` */
function asJournal(line: string): string {
  const { level, msg } = JSON.parse(line) as { level: LogLevel; msg: string };
  return `<${PRIORITIES[level]}>${msg}\n`;
}

/** The journal takes the priority off, and the rest is JSON as in a file. */
function asJournalJson(line: string): string {
  const { level } = JSON.parse(line) as { level: LogLevel };
  return `<${PRIORITIES[level]}>${line}`;
}

const FORMS = { text: asText, journal: asJournal, 'journal json': asJournalJson } as const;
const JOURNAL_STYLES = { text: 'journal', json: 'journal json' } as const;

/** Every field of a line of the JSON log. The text log has `time`, `level` and `msg`, with blanks between. */
export const LOG_FIELDS = {
  level: '`debug`, `info`, `warn` or `error`',
  time: 'in UTC, as in ISO 8601, to the millisecond',
  pid: 'the process of varpd',
  event: '`change`: somebody has asked for a change, or a signal came. Other lines have no such field',
  uid: 'of a change: the number of the user that has asked, by the kernel (SO_PEERCRED); none for a signal',
  askerPid: 'of a change: the process that has asked; none for a signal',
  user: 'of a change: the name of that user, if it has one',
  command: 'of a change: what would be typed for it, without secrets; or the name of the signal',
  result: 'of a change: `done`, `failed` (in part), or the [reason](overlays.md#exit-statuses) of the error',
  msg: 'the sentence of the line',
} as const;

/**
 * Whether a descriptor goes to the journal. JOURNAL_STREAM of systemd.exec(5) has device and inode of the
 * stream. Child processes inherit the variable, even those with standard error elsewhere.
 */
function isJournal(fd: number): boolean {
  const named = journalStream();
  if (named === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd);
    return named === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** The text before and after the time of a line, in pino's form. */
function aroundTime(format: Style, level: LogLevel, message: string): [string, string] {
  const priority = format === 'text' || format === 'json' ? '' : `<${PRIORITIES[level]}>`;
  return format === 'json' || format === 'journal json'
    ? [`${priority}{"level":"${level}","time":"`, `","pid":${process.pid},"msg":${JSON.stringify(message)}}`]
    : [priority, ` ${level} ${message}`];
}
