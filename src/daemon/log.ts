/**
 * The log: one line an event, as text or JSON, to standard error or a file. pino does the writing.
 *
 * What is logged may come from a plugin, a client or the network, so two things hold for every line: nothing in it
 * can look like the start of another line, and no kind of message can flood the file.
 */
import { fstatSync } from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';
import { printable } from '../core/properties.js';
import type { LogConfig } from './config.js';

export type LogLevel = LogConfig['level'];

export interface Log {
  /** `kind` names what is counted together when it comes too often, `restore overlay0`; it is not printed. */
  debug(kind: string, message: string): void;
  info(kind: string, message: string): void;
  warn(kind: string, message: string): void;
  error(kind: string, message: string): void;
}

/** Lines of one kind in a second; those above are counted and the count is logged (conformance S22). */
const LINES_PER_SECOND = 10;
/** Kinds counted at a time. They come out of a short list and the names of overlays; this only bounds the memory. */
const MAX_KINDS = 1024;
/** The longest honest message names three addresses and a path. */
const MAX_LINE_CHARACTERS = 2000;

interface Window {
  startedMs: number;
  lines: number;
}

export class DaemonLog implements Log {
  readonly #logger: Logger;
  readonly #reopen: () => void;
  readonly #nowMs: () => number;
  readonly #windows = new Map<string, Window>();

  private constructor(logger: Logger, reopen: () => void, nowMs: () => number) {
    this.#logger = logger;
    this.#reopen = reopen;
    this.#nowMs = nowMs;
  }

  /** `file` null = standard error. Throws the system's error when the file cannot be opened. */
  static open(config: LogConfig, file: string | null): DaemonLog {
    // Synchronous, so that the line that explains the end of the process is written before it.
    const destination = pino.destination({ dest: file ?? 2, sync: true, mode: 0o640 });
    // A disk that is full costs log lines, not the daemon.
    destination.on('error', () => undefined);
    const reopen = (): void => {
      if (file !== null) destination.reopen();
    };
    return DaemonLog.to(destination, config, reopen, undefined, file === null && isJournal(2));
  }

  /** The same over any stream, and any monotonic clock; `journal`: its other end notes the time, and reads priorities. */
  static to(
    stream: DestinationStream,
    config: Pick<LogConfig, 'level' | 'format'>,
    reopen: () => void = () => undefined,
    nowMs: () => number = () => performance.now(),
    journal = false,
  ): DaemonLog {
    const { level, format } = config;
    const target =
      format === 'json'
        ? stream
        : {
            write: (line: string): void => {
              stream.write(journal ? asJournal(line) : asText(line));
            },
          };
    const formatters = { level: (label: string) => ({ level: label }) };
    const timestamp = (): string => `,"time":"${new Date().toISOString()}"`;
    return new DaemonLog(
      pino({ level, base: { pid: process.pid }, formatters, timestamp }, target),
      reopen,
      nowMs,
    );
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

  /** For a file that was renamed away. */
  reopen(): void {
    this.#reopen();
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
const PRIORITIES: Readonly<Record<string, number>> = { debug: 7, info: 6, warn: 4, error: 3 };

/** `<4>overlay0: ...` */
function asJournal(line: string): string {
  const { level, msg } = JSON.parse(line) as { level: string; msg: string };
  return `<${PRIORITIES[level]}>${msg}\n`;
}

/** JOURNAL_STREAM of systemd.exec(5): device and inode of the stream that goes to the journal. It is inherited, also by those
 * whose standard error goes elsewhere. */
function isJournal(fd: number): boolean {
  const named = process.env['JOURNAL_STREAM'];
  if (named === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd);
    return named === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
