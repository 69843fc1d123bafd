// Running programs: bounded in time, output kept, nothing left behind.
//
// run() waits for a short command, which a small program starts (runner.c) and ends when this process does. Child is one that goes
// on beside the test. Every Child stands in one list, and only what stands in it is ever signalled, by its own process id: when
// the bed is cleaned up, when this process ends, and (by the kernel, through setpriv --pdeathsig) when this process is killed; but
// for a varpd that has become another user by then, of which the kernel forgets that.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface Result {
  readonly command: string;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
}

export interface RunOptions {
  /** After this long the program is killed and the result says `timedOut`. */
  readonly timeoutMs?: number;
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Both output streams are appended to this file, and not kept in memory. */
  readonly logFile?: string;
  /** Gets each line of standard output, which is not kept then. */
  readonly line?: (line: string) => void;
}

/** A command is a list of words, or one string cut at blanks (there is no quoting: use the list for that). */
export type Command = string | readonly string[];

const DEFAULT_TIMEOUT_MS = 120_000;
/** How long a Child may take to end after SIGTERM before SIGKILL. */
const TERM_GRACE_MS = 5_000;

/** Debian keeps the system programs off an ordinary user's path. */
const searchPath = [process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(':');

export function findProgram(name: string): string | undefined {
  return findPrograms(name)[0];
}

/** All of that name, in the order of the path. */
function findPrograms(name: string, places = searchPath): string[] {
  return places
    .split(':')
    .filter((directory) => directory !== '')
    .map((directory) => path.join(directory, name))
    .filter((file) => existsSync(file));
}

/** The arping of iputils. Another one (Habets', Debian's package arping) takes other options by the same names. */
export function findArping(places?: string): string | undefined {
  return findPrograms('arping', places).find((file) => {
    const { stdout } = spawnSync(file, ['-V'], { encoding: 'utf8', timeout: 5000 });
    return stdout.includes('iputils');
  });
}

const setpriv = findProgram('setpriv');
const diesWithUs = setpriv === undefined ? [] : [setpriv, '--pdeathsig', 'KILL'];

export function words(command: Command): string[] {
  return typeof command === 'string' ? command.split(/\s+/).filter((word) => word !== '') : [...command];
}

export class CommandError extends Error {
  constructor(readonly result: Result) {
    const how = result.timedOut ? 'timed out' : `ended with ${result.signal ?? `code ${result.code ?? '?'}`}`;
    super(`${result.command}\n${how}\n${result.stdout}${result.stderr}`);
    this.name = 'CommandError';
  }
}

/** Runs to the end and reports; never rejects for an exit code. */
export async function run(command: Command, options: RunOptions = {}): Promise<Result> {
  const argv = words(command);
  runner ??= new Runner();
  const job = runner.start(argv, options);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    job.kill();
  }, options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
  const ended = await job.ended;
  clearTimeout(timer);
  return { command: argv.join(' '), ...ended, timedOut };
}

/** Runs to the end; anything but exit code 0 is an error that carries the output. Resolves with stdout. */
export async function exec(command: Command, options: RunOptions = {}): Promise<string> {
  const result = await run(command, options);
  if (result.code !== 0) throw new CommandError(result);
  return result.stdout;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const environment = (more: Readonly<Record<string, string>> = {}): Record<string, string | undefined> => ({
  ...process.env,
  LC_ALL: 'C',
  PATH: searchPath,
  ...more,
});

const RUNNER = fileURLToPath(new URL('runner', import.meta.url));
const REQUESTS = { run: 0, kill: 1 } as const;
/** Length of the rest, id, status, bytes of standard output. */
const REPLY_HEAD_BYTES = 16;

type Ended = Exit & Pick<Result, 'stdout' | 'stderr'>;

/** As wait(2) has it. */
function exitOf(status: number): Exit {
  const number = status & 0x7f;
  if (number === 0) return { code: status >> 8, signal: null };
  const [name] = Object.entries(constants.signals).find(([, one]) => one === number) ?? ['SIGKILL'];
  return { code: null, signal: name as NodeJS.Signals };
}

/** The program of runner.c, which starts all short commands of this process. */
class Runner {
  readonly #process: ChildProcess;
  readonly #input: Writable;
  readonly #waiting = new Map<number, (ended: Ended) => void>();
  #nextId = 1;
  #read: Buffer[] = [];
  #readBytes = 0;
  /** So many are at least needed of what is read next. */
  #neededBytes = REPLY_HEAD_BYTES;

  constructor() {
    this.#process = spawn(RUNNER, [], { stdio: ['pipe', 'pipe', 'inherit'] });
    const { stdin, stdout } = this.#process as { stdin: Writable; stdout: Readable };
    this.#input = stdin;
    stdin.on('error', () => undefined);
    stdout.on('data', (bytes: Buffer) => {
      this.#reply(bytes);
    });
    this.#process.on('exit', (code, signal) => {
      const stderr = `runner has ended with ${signal ?? `code ${code ?? '?'}`}`;
      for (const done of this.#waiting.values()) done({ code: 127, signal: null, stdout: '', stderr });
      if (runner === this) runner = undefined;
    });
    this.#hold(false);
  }

  start(
    argv: readonly string[],
    { input = '', env, cwd = '' }: RunOptions,
  ): { readonly ended: Promise<Ended>; kill(): void } {
    const id = this.#nextId++;
    const ended = new Promise<Ended>((resolve) => {
      this.#waiting.set(id, resolve);
    });
    const variables = Object.entries(environment(env)).flatMap(([name, value]) =>
      value === undefined ? [] : [`${name}=${value}`],
    );
    const text = [...argv, ...variables, cwd].map((word) => `${word}\0`).join('');
    const bytes = Buffer.from(input);
    const counts = Uint32Array.of(argv.length, variables.length, bytes.length);
    this.#request(REQUESTS.run, id, Buffer.concat([Buffer.from(counts.buffer), Buffer.from(text), bytes]));
    if (this.#waiting.size === 1) this.#hold(true);
    const kill = (): void => {
      this.#request(REQUESTS.kill, id, Buffer.alloc(0));
    };
    return { ended, kill };
  }

  #request(kind: number, id: number, rest: Buffer): void {
    const head = Uint32Array.of(8 + rest.length, kind, id);
    this.#input.write(Buffer.concat([Buffer.from(head.buffer), rest]));
  }

  #reply(bytes: Buffer): void {
    this.#read.push(bytes);
    this.#readBytes += bytes.length;
    if (this.#readBytes < this.#neededBytes) return;
    let rest = Buffer.concat(this.#read);
    for (;;) {
      const end = rest.length < REPLY_HEAD_BYTES ? REPLY_HEAD_BYTES : 4 + rest.readUInt32LE(0);
      this.#neededBytes = end;
      if (rest.length < end) break;
      const [id, status, length] = [4, 8, 12].map((at) => rest.readInt32LE(at));
      const stdout = rest.toString('utf8', REPLY_HEAD_BYTES, REPLY_HEAD_BYTES + length);
      const stderr = rest.toString('utf8', REPLY_HEAD_BYTES + length, end);
      rest = rest.subarray(end);
      this.#waiting.get(id)?.({ ...exitOf(status), stdout, stderr });
      this.#waiting.delete(id);
    }
    this.#read = [rest];
    this.#readBytes = rest.length;
    if (this.#waiting.size === 0) this.#hold(false);
  }

  /** Whether this process goes on for its sake. */
  #hold(isHeld: boolean): void {
    const name = isHeld ? 'ref' : 'unref';
    this.#process[name]();
    for (const stream of [this.#process.stdin, this.#process.stdout])
      (stream as Partial<Record<typeof name, () => void>> | null)?.[name]?.();
  }
}

let runner: Runner | undefined;

const running = new Set<Child>();

export class Child {
  readonly command: string;
  /** Resolves once the program has ended and all its output was read. */
  readonly exited: Promise<Exit>;
  stdout = '';
  stderr = '';
  #ended = false;
  readonly #process: ChildProcess;

  constructor(command: Command, options: SpawnOptions = {}, stdin: 'pipe' | 'ignore' = 'ignore') {
    const argv = words(command);
    this.command = argv.join(' ');
    const [program, ...args] = [...diesWithUs, ...argv];
    const log = options.logFile === undefined ? undefined : openSync(options.logFile, 'a');
    this.#process = spawn(program, args, {
      stdio: [stdin, log ?? 'pipe', log ?? 'pipe'],
      env: environment(options.env),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    if (log !== undefined) closeSync(log);
    const { line } = options;
    if (line === undefined)
      this.#process.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    else if (this.#process.stdout) createInterface({ input: this.#process.stdout }).on('line', line);
    this.#process.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    // A program that ends before it has read its input is judged by its exit code, not by the broken pipe.
    this.#process.stdin?.on('error', () => undefined);
    running.add(this);
    this.exited = new Promise((resolve) => {
      const done = (exit: Exit): void => {
        this.#ended = true;
        running.delete(this);
        resolve(exit);
      };
      this.#process.on('error', (error) => {
        this.stderr += error.message;
        done({ code: 127, signal: null });
      });
      this.#process.on('close', (code, signal) => {
        done({ code, signal });
      });
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  get ended(): boolean {
    return this.#ended;
  }

  write(text: string | Uint8Array): void {
    this.#process.stdin?.write(text);
  }

  end(text?: string | Uint8Array): void {
    if (text === undefined) this.#process.stdin?.end();
    else this.#process.stdin?.end(text);
  }

  signal(name: NodeJS.Signals): void {
    if (!this.#ended) this.#process.kill(name);
  }

  /** Signals, waits, and makes sure with SIGKILL. */
  async stop(signal: NodeJS.Signals = 'SIGTERM', graceMs = TERM_GRACE_MS): Promise<Exit> {
    this.signal(signal);
    const timer = setTimeout(() => {
      this.signal('SIGKILL');
    }, graceMs);
    const exit = await this.exited;
    clearTimeout(timer);
    return exit;
  }

  /** Waits until the program's output so far matches; an error when it ends or stays silent for too long. */
  async waitForOutput(pattern: RegExp, timeoutMs = PATIENCE_MS): Promise<void> {
    const seen = (): boolean => pattern.test(this.stdout + this.stderr);
    await waitUntil(() => seen() || this.#ended, { timeoutMs, what: `${this.command} to print ${pattern}` });
    if (!seen())
      throw new Error(`${this.command} ended before it printed ${pattern}\n${this.stdout}${this.stderr}`);
  }
}

/** For what comes within a second on an idle machine, and is waited for on one that is not. */
export const PATIENCE_MS = 120_000;

export interface WaitOptions {
  /** PATIENCE_MS unless it may take longer. */
  readonly timeoutMs?: number;
  /** The pause between two looks. By default an eighth of the time since the first look, within STEPS_MS. */
  readonly stepMs?: number;
  /** Completes the sentence "timed out waiting for". */
  readonly what: string;
}

/** Most looks are questions to varpd: fifty a second take much of its processor time, and of that of the test. */
const STEPS_MS = { least: 20, most: 200 };

export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  { timeoutMs = PATIENCE_MS, stepMs, what }: WaitOptions,
): Promise<void> {
  const startedMs = performance.now();
  while (!(await condition())) {
    const waitedMs = performance.now() - startedMs;
    if (waitedMs > timeoutMs) throw new Error(`timed out waiting for ${what}`);
    await sleep(stepMs ?? Math.min(Math.max(waitedMs / 8, STEPS_MS.least), STEPS_MS.most));
  }
}

/** Whether the work succeeds. */
export const succeeds = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  );

process.on('exit', () => {
  for (const child of running) child.signal('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  // Leaves through the 'exit' handlers, of which the beds have one each.
  process.once(signal, () => process.exit(1));
}

/** Whether the process waits for something, and not for a processor; or has ended. */
export function isWaiting(pid: number): boolean {
  try {
    return !/\) [RD] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return true;
  }
}

/** Whether the process runs. A process that has ended does not, although its parent has not reaped it yet. */
export function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}
