// A terminal that we did not write: tmux. A program in it sees a real pseudo-terminal, and what it has drawn can be read.
import path from 'node:path';

import type { Test } from 'tap';

import { DLADM_MAIN } from './daemon.js';
import { exec, run, waitUntil } from './process.js';

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

/** The shell says this when it is ready, and nothing else does. */
const PROMPT = 'ready>';

export class Terminal {
  #commands = 0;
  readonly #socket: string;

  private constructor(directory: string) {
    this.#socket = path.join(directory, 'tmux.sock');
  }

  /** A shell with job control, in a terminal of its own, with `dladm` for the varpd at this socket. */
  static async start(
    t: Pick<Test, 'teardown'>,
    directory: string,
    varpdSocket: string,
    { columns = 80, rows = 24 }: Partial<TerminalSize> = {},
  ): Promise<Terminal> {
    const terminal = new Terminal(directory);
    t.teardown(() => terminal.hangUp());
    const shell = ['env', `PS1=${PROMPT}`, 'HISTFILE=', 'bash', '--norc', '--noprofile', '-i'];
    const size = ['-x', `${columns}`, '-y', `${rows}`];
    await terminal.#tmux('-f', '/dev/null', 'new-session', '-d', ...size, ...shell);
    await terminal.shows(PROMPT);
    await terminal.shell(`alias dladm='${process.execPath} ${DLADM_MAIN} --socket ${varpdSocket}'`);
    return terminal;
  }

  #tmux(...args: readonly string[]): Promise<string> {
    return exec(['tmux', '-S', this.#socket, ...args]);
  }

  /** Lines on the screen, without blanks at their ends. */
  async screen(): Promise<string[]> {
    return (await this.#tmux('capture-pane', '-p')).split('\n').slice(0, -1);
  }

  async press(...keys: readonly string[]): Promise<void> {
    await this.#tmux('send-keys', ...keys);
  }

  /** Types a part of a line. */
  async write(text: string): Promise<void> {
    await this.#tmux('send-keys', '-l', text);
  }

  /** Types a command for the shell. */
  async type(line: string): Promise<void> {
    await this.write(line);
    await this.press('Enter');
  }

  async resize({ columns, rows }: TerminalSize): Promise<void> {
    await this.#tmux('resize-window', '-x', `${columns}`, '-y', `${rows}`);
  }

  /** Waits for modes of the terminal (another screen, a cursor, lines that wrap), and resolves with them. */
  async modes(expected: string): Promise<string> {
    const format = 'alternate=#{alternate_on} cursor=#{cursor_flag} wrap=#{wrap_flag}';
    let modes = '';
    const areSet = async (): Promise<boolean> => {
      modes = (await this.#tmux('display-message', '-p', format)).trim();
      return modes === expected;
    };
    await waitUntil(areSet, { what: expected }).catch(() => undefined);
    return modes;
  }

  async title(): Promise<string> {
    return this.#tmux('display-message', '-p', '#{pane_title}');
  }

  /** The screen with the sequences that set its colours, ^ for ESC. */
  async colours(): Promise<string> {
    return (await this.#tmux('capture-pane', '-p', '-e')).replaceAll('\x1b', '^');
  }

  /** Process id of the job in the foreground. */
  async foreground(): Promise<number> {
    const tty = (await this.#tmux('display-message', '-p', '#{pane_tty}')).trim();
    const processes = (await exec(['ps', '-t', tty, '-o', 'pid=,pgid=,tpgid='])).trim().split('\n');
    const ids = processes.map((line) => line.trim().split(/ +/).map(Number));
    const leader = ids.find(([pid, group, foreground]) => pid === group && group === foreground);
    if (leader === undefined) throw new Error(`nothing in the foreground: ${processes.join('; ')}`);
    return leader[0];
  }

  /** Waits for the screen, and resolves with its lines. */
  async shows(expected: RegExp | string): Promise<string[]> {
    let lines: string[] = [];
    const isShown = async (): Promise<boolean> => {
      lines = await this.screen();
      const text = lines.join('\n');
      return typeof expected === 'string' ? text.includes(expected) : expected.test(text);
    };
    await waitUntil(isShown, { what: `the screen to show ${expected}` }).catch((error: unknown) => {
      throw new Error(`${(error as Error).message}; it shows:\n${lines.join('\n')}`);
    });
    return lines;
  }

  /** Runs a command of the shell to its end, on an empty screen; resolves with the lines that it has printed. */
  async shell(line: string): Promise<string[]> {
    // The end of the command before may still be there.
    const end = ` of command ${++this.#commands}`;
    await this.type(`clear; ${line}; echo "status $?${end}"`);
    const lines = await this.shows(new RegExp(`^status \\d+${end}$`, 'm'));
    const printed = lines.slice(0, lines.findIndex((text) => text.endsWith(end)) + 1);
    return printed.map((text) => (text.endsWith(end) ? text.slice(0, -end.length) : text));
  }

  /** Hangs up: the terminal goes, and its programs learn that. */
  async hangUp(): Promise<void> {
    await run(['tmux', '-S', this.#socket, 'kill-server']);
  }
}
