/**
 * The log: one line an event, as text or JSON, to standard error or a file (log-file.ts). pino makes the
 * lines.
 *
 * A message may come from a plugin, a client or the network. So two rules hold for every line: no part of it
 * can look like the start of another line, and no kind of message can flood the file.
 */
import { fstatSync } from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';
import { printable } from '../model/properties.js';
import type { LogConfig } from './config.js';
import { journalStream } from './environment.js';
import { LogFile } from './log-file.js';

export type LogLevel = LogConfig['level'];

/** `journal`: text for the journal, which adds the time itself and reads priorities. */
type Style = LogConfig['format'] | 'journal';

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
  #tellLastWords: () => void = () => undefined;

  private constructor(logger: Logger, format: Style, file: LogFile | undefined, nowMs: () => number) {
    this.#logger = logger;
    this.#format = format;
    this.#file = file;
    this.#nowMs = nowMs;
  }

  /** `file` null = standard error. Throws an OverlayError when the file cannot be opened. */
  static open(config: LogConfig, name: string | null): DaemonLog {
    const style = name === null && config.format === 'text' && isJournal(2) ? 'journal' : config.format;
    const file = new LogFile(name, (count, why) => {
      const [before, after] = aroundTime(style, 'warn', `${count} lines are missing here: ${why}`);
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
    const target =
      format === 'json'
        ? stream
        : {
            write: (line: string): void => {
              stream.write(format === 'journal' ? asJournal(line) : asText(line));
            },
          };
    const formatters = { level: (label: string) => ({ level: label }) };
    const timestamp = (): string => `,"time":"${new Date().toISOString()}"`;
    const logger = pino({ level, base: { pid: process.pid }, formatters, timestamp }, target);
    return new DaemonLog(logger, format, file, nowMs);
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

/** sd-daemon(3), after syslog(3). */
const PRIORITIES: Readonly<Record<LogLevel, number>> = { debug: 7, info: 6, warn: 4, error: 3 };

/** `<4>overlay0: ...` */
function asJournal(line: string): string {
  const { level, msg } = JSON.parse(line) as { level: LogLevel; msg: string };
  return `<${PRIORITIES[level]}>${msg}\n`;
}

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
  return format === 'json'
    ? [`{"level":"${level}","time":"`, `","pid":${process.pid},"msg":${JSON.stringify(message)}}`]
    : [format === 'journal' ? `<${PRIORITIES[level]}>` : '', ` ${level} ${message}`];
}
