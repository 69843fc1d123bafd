/** One plugin process, as the spawner starts, watches and ends it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Usage } from './messages.js';

const PROGRAM = fileURLToPath(new URL('./main.js', import.meta.url));
/** Puts a ruleset of Landlock into force, and becomes Node (confine.c). */
const CONFINE = fileURLToPath(new URL(`./confine-${process.arch}`, import.meta.url));
const NICE = 10;
/** Lines for each second that a plugin may print, and their length. The rest is read and thrown away. */
const LINES_PER_SECOND = 10;
const MAX_LINE_CHARACTERS = 1000;
/** A plugin that prints more than this in one go waits for a moment, so that it costs a bounded share of a processor. */
const MUCH_BYTES = 32 * 1024;
const PAUSE_MS = 5;
const PAGE_KIB = 4;
/** Processes of a plugin that are counted for its memory. */
const MAX_CHILDREN = 100;
const HEAP_FULL = /JavaScript heap out of memory/;

/** The variables of the spawner that a plugin process gets. */
const PASSED = ['LD_LIBRARY_PATH', 'TZ', 'LANG', 'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE'] as const;

/** How the process is started. */
export interface ChildPlace {
  /** The directory of all state directories, and the one of this process: null = it has none. */
  readonly stateRoot: string;
  readonly stateDir: string | null;
  /** Descriptor of a ruleset of Landlock, which stays open here; undefined = the process is not confined. */
  readonly ruleset: number | undefined;
}

export interface ChildEvents {
  readonly printed: (isError: boolean, line: string) => void;
  readonly ended: (code: number | null, signal: string | null, isHeapFull: boolean) => void;
  /** The process could not be started. */
  readonly failed: (message: string) => void;
}

export class PluginChild {
  readonly #child: ChildProcess;
  #isHeapFull = false;

  /** `channel` becomes descriptor 3 of the process, and stays open here until the caller closes it. Throws when the process
   * cannot be started. */
  constructor(channel: Socket, { stateRoot, stateDir, ruleset }: ChildPlace, events: ChildEvents) {
    const passed = PASSED.map((name) => [name, process.env[name]] as const);
    const node = [process.execPath, PROGRAM, stateRoot];
    const [command, ...args] = ruleset === undefined ? node : [CONFINE, ...node];
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe', channel, ...(ruleset === undefined ? [] : [ruleset])],
      cwd: stateRoot,
      env: {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        HOME: stateDir ?? stateRoot,
        // A confined process cannot write to /tmp.
        ...(stateDir !== null && { TMPDIR: stateDir }),
        ...Object.fromEntries(passed.filter(([, value]) => value !== undefined)),
      },
      // A group of its own: its end is also that of its children.
      detached: true,
    });
    this.#child = child;
    child.on('error', (error) => {
      if (child.pid === undefined) events.failed(error.message);
    });
    if (child.pid === undefined) return;
    try {
      setPriority(child.pid, NICE);
      // When the host has no memory left, the kernel ends a plugin before anything else.
      writeFileSync(`/proc/${child.pid}/oom_score_adj`, '1000');
    } catch {
      // It has ended already, or the kernel lacks it.
    }
    for (const [stream, isError] of [
      [child.stdout, false],
      [child.stderr, true],
    ] as const)
      this.#listen(stream!, (line) => {
        events.printed(isError, line);
      });
    // `close` comes after the last line.
    let isOver = false;
    const over = (code: number | null, signal: string | null): void => {
      if (isOver) return;
      isOver = true;
      events.ended(code, signal, this.#isHeapFull);
    };
    child.on('close', over);
    child.on('exit', (code, signal) => {
      this.#killGroup();
      // A descendant may keep the pipes open.
      setTimeout(() => {
        over(code, signal);
      }, 100).unref();
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Never throws. */
  kill(): void {
    this.#child.kill('SIGKILL');
    this.#killGroup();
  }

  #killGroup(): void {
    const { pid } = this.#child;
    try {
      if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    } catch {
      // There is none.
    }
  }

  usage(): Usage {
    return { kib: this.#residentKib(), waitedMs: this.#waitedMs() };
  }

  /** 0 where the kernel does not tell it (proc(5), /proc/pid/schedstat), or the process has ended. */
  #waitedMs(): number {
    try {
      const [, waitedNs] = readFileSync(`/proc/${this.pid ?? ''}/schedstat`, 'utf8').split(' ');
      return Math.round(Number(waitedNs) / 1e6);
    } catch {
      return 0;
    }
  }

  /** 0 = it has ended. */
  #residentKib(): number {
    const { pid } = this.#child;
    if (pid === undefined) return 0;
    let sumKib = 0;
    const rest = [pid];
    for (let seen = 0; rest.length > 0 && seen < MAX_CHILDREN; seen++) {
      const one = rest.pop()!;
      try {
        const [, pages] = readFileSync(`/proc/${one}/statm`, 'utf8').split(' ');
        sumKib += Number(pages) * PAGE_KIB;
        const children = readFileSync(`/proc/${one}/task/${one}/children`, 'utf8');
        rest.push(...children.split(' ').filter(Boolean).map(Number));
      } catch {
        // It has ended, or the kernel does not tell its children.
      }
    }
    return sumKib;
  }

  #listen(stream: Readable, print: (line: string) => void): void {
    let line = '';
    let second = 0;
    let lines = 0;
    const say = (): void => {
      const now = Math.floor(performance.now() / 1000);
      if (now !== second) lines = 0;
      second = now;
      if (line !== '' && ++lines <= LINES_PER_SECOND) print(line);
      line = '';
    };
    stream.setEncoding('utf8').on('data', (text: string) => {
      if (HEAP_FULL.test(text)) this.#isHeapFull = true;
      for (const [index, part] of text.split('\n', 3 * LINES_PER_SECOND).entries()) {
        if (index > 0) say();
        if (line.length < MAX_LINE_CHARACTERS) line += part.slice(0, MAX_LINE_CHARACTERS - line.length);
      }
      if (text.length < MUCH_BYTES) return;
      stream.pause();
      setTimeout(() => {
        stream.resume();
      }, PAUSE_MS);
    });
    stream.on('end', say).on('error', () => undefined);
  }
}
