/**
 * The terminal of `dladm top`: takes it over, draws on it, says which keys were pressed, and gives it back as it was
 * however top ends or is stopped.
 *
 * No library: node:readline knows the keys, node:tty size and raw mode, and the sequences fit into escapes.ts.
 */
import { emitKeypressEvents, type Key } from 'node:readline';
import type { ReadStream, WriteStream } from 'node:tty';

import { ENTER, LEAVE, paint, PREPARE } from './escapes.js';
import type { Line, Size } from './layout.js';

/** For a terminal that does not say its size, as a serial line. */
const DEFAULT_SIZE: Size = { columns: 80, rows: 24 };
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

export interface Listener {
  /** A name of state.ts: `q`, `S`, `up`, `shift-tab`, `ctrl-c`. */
  key(name: string): void;
  /** The size is another one, or the terminal has lost what was drawn. */
  redraw(): void;
  /** The terminal has been given back; this process is to end, by this signal or because the terminal is gone. */
  end(signal: NodeJS.Signals | null): void;
}

export class Screen {
  readonly #input: ReadStream;
  readonly #output: WriteStream;
  readonly #listener: Listener;
  readonly #isColoured: boolean;
  /** Undefined while the content of the terminal is not known. */
  #drawn: readonly Line[] | undefined;
  #isEntered = false;
  #isClosed = false;

  constructor(input: ReadStream, output: WriteStream, listener: Listener) {
    this.#input = input;
    this.#output = output;
    this.#listener = listener;
    this.#isColoured = output.hasColors();
  }

  get size(): Size {
    const [columns, rows] = this.#output.getWindowSize();
    return columns > 0 && rows > 0 ? { columns, rows } : DEFAULT_SIZE;
  }

  open(): void {
    emitKeypressEvents(this.#input);
    this.#input.on('keypress', this.#press).on('end', this.#gone).on('error', this.#gone);
    this.#output.on('resize', this.#lost);
    for (const signal of ENDING) process.on(signal, this.#over);
    process.on('SIGTSTP', this.#suspend).on('SIGCONT', this.#resume).on('exit', this.#leave);
    this.#enter();
  }

  /** May be called again. The errors of a terminal that is gone go on being heard. */
  close(): void {
    this.#isClosed = true;
    this.#leave();
    this.#input.off('keypress', this.#press).pause();
    this.#output.off('resize', this.#lost);
    for (const signal of ENDING) process.off(signal, this.#over);
    process.off('SIGTSTP', this.#suspend).off('SIGCONT', this.#resume).off('exit', this.#leave);
  }

  draw(lines: readonly Line[]): void {
    // A slow terminal gets the latest screen when it has taken the one before.
    if (!this.#isEntered || this.#output.writableNeedDrain) return;
    const text = paint(lines, this.#drawn, this.#isColoured);
    this.#drawn = lines;
    if (text !== '' && !this.#output.write(text)) {
      this.#output.once('drain', () => {
        this.#listener.redraw();
      });
    }
  }

  #enter(): void {
    this.#isEntered = true;
    this.#input.setRawMode(true).resume();
    this.#output.write(ENTER);
    this.#lost();
  }

  readonly #leave = (): void => {
    if (!this.#isEntered) return;
    this.#isEntered = false;
    this.#output.write(LEAVE);
    this.#input.setRawMode(false);
  };

  readonly #lost = (): void => {
    this.#drawn = undefined;
    this.#listener.redraw();
  };

  /** In raw mode the terminal sends no signal for Ctrl-Z: the processes of the job are stopped as it would do. */
  readonly #press = (text: string | undefined, key: Key): void => {
    const name = nameOf(text, key);
    if (name === 'ctrl-z') {
      this.#leave();
      process.kill(0, 'SIGTSTP');
    } else if (name === 'ctrl-l') this.#lost();
    else this.#listener.key(name);
  };

  /** A process is stopped inside kill(). Where nothing could continue it, the kernel does not stop it. */
  readonly #suspend = (): void => {
    this.#leave();
    process.off('SIGTSTP', this.#suspend);
    process.kill(process.pid, 'SIGTSTP');
    process.on('SIGTSTP', this.#suspend);
    this.#enter();
  };

  /** The shell has set the terminal for itself, and a change of size was not told to a stopped process. */
  readonly #resume = (): void => {
    if (!this.#isEntered) this.#enter();
    this.#input.setRawMode(false).setRawMode(true);
    this.#output.write(PREPARE);
    this.#lost();
    process.kill(process.pid, 'SIGWINCH');
  };

  readonly #over = (signal: NodeJS.Signals): void => {
    this.close();
    this.#listener.end(signal);
  };

  /** A terminal that hangs up ends, or reports EIO. */
  readonly #gone = (): void => {
    if (this.#isClosed) return;
    this.close();
    this.#listener.end(null);
  };
}

/** `text` is undefined for keys that send a sequence. */
function nameOf(text: string | undefined, { name = '', ctrl, shift, meta }: Key): string {
  if (ctrl) return `ctrl-${name}`;
  if (name === 'tab' && shift) return 'shift-tab';
  if (meta && name !== 'escape') return '';
  return text !== undefined && /^[!-~]$/.test(text) ? text : name;
}
