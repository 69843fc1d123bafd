/**
 * One client of the control socket. The connection reads one request a line, has it answered, writes the
 * answer, and reads on. An answer comes in pieces, and the next piece is made when the client has taken the
 * one before.
 *
 * Reading stops while an answer is made and while the client does not take it. So a client can neither queue
 * up work nor make varpd hold its answers. A client that misbehaves otherwise (half a line, no newline ever,
 * garbage, gone) only loses its connection.
 */
import type { Socket } from 'node:net';
import { encodeMessage, type FramingProblem, MessageReader } from '../../control/framing.js';
import { MAX_REQUEST_BYTES } from '../../control/messages.js';
import { invalidRequest, RPC_CODE } from './rpc.js';
import type { StreamedAnswer } from './streamed.js';

/**
 * Time for a whole request. A program sends it in one write, so half a request that is older will not be
 * finished.
 */
const HALF_REQUEST_MS = 5_000;
/** Time for the client to take an answer out of the socket, on the same host. */
const WRITE_MS = 5_000;
/** Time between requests. It ends forgotten connections, which would keep out other clients. */
const IDLE_MS = 60_000;
/** Time for the client to read why it is cut off. */
const LINGER_MS = 1_000;
/**
 * Bytes that are thrown away while the client reads that. No honest client sends more after a line that was
 * too long.
 */
const LINGER_BYTES = 4 << 20;

/**
 * Time between signs of life while an answer is made. The sign is an empty line, which readers skip. With it
 * a client need not know how long plugins may take, and how many requests are before its own.
 */
const ALIVE_MS = 5_000;

const NEWLINE = 0x0a;

export interface Timing {
  readonly halfRequestMs: number;
  readonly writeMs: number;
  readonly idleMs: number;
  readonly aliveMs: number;
}

export const TIMING: Timing = {
  halfRequestMs: HALF_REQUEST_MS,
  writeMs: WRITE_MS,
  idleMs: IDLE_MS,
  aliveMs: ALIVE_MS,
};

/** The value of a line, or the problem with it. */
type Item = { readonly value: unknown } | { readonly problem: FramingProblem };

export class Connection {
  readonly #socket: Socket;
  readonly #handle: (value: unknown) => AsyncIterable<string | StreamedAnswer>;
  readonly #bug: (error: unknown) => void;
  readonly #timing: Timing;
  readonly #reader: MessageReader;
  #items: Item[] = [];
  #isBusy = false;
  #hasEnded = false;
  #thrownAwayBytes = 0;
  #halfRequest: NodeJS.Timeout | undefined;

  /**
   * `handle` answers in pieces of one line; none = no answer. An answer that goes on as a stream takes the
   * connection over. `bug` gets errors beyond that, which end the connection. The socket must allow half-open.
   */
  constructor(
    socket: Socket,
    handle: (value: unknown) => AsyncIterable<string | StreamedAnswer>,
    bug: (error: unknown) => void,
    timing: Timing = TIMING,
  ) {
    this.#socket = socket;
    this.#handle = handle;
    this.#bug = bug;
    this.#timing = timing;
    this.#reader = new MessageReader(MAX_REQUEST_BYTES, {
      message: (value) => this.#items.push({ value }),
      problem: (problem) => this.#items.push({ problem }),
    });
    // Without a listener a client that resets its connection would end the process. 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(this.#halfRequest);
    });
    socket.on('data', (chunk) => {
      this.#take(chunk);
    });
    // A client that has finished sending may still read: its requests are still answered.
    socket.on('end', () => {
      this.#hasEnded = true;
      if (!this.#isBusy) socket.end();
    });
    socket.setTimeout(timing.idleMs, () => {
      if (!this.#isBusy) socket.destroy();
    });
  }

  #take(chunk: Buffer): void {
    if (this.#reader.stopped) {
      this.#thrownAwayBytes += chunk.length;
      if (this.#thrownAwayBytes > LINGER_BYTES) this.#socket.destroy();
      return;
    }
    this.#watchHalfRequest(chunk);
    this.#reader.push(chunk);
    if (this.#items.length === 0) return;
    this.#isBusy = true;
    this.#socket.pause();
    this.#answerAll()
      .then(() => {
        this.#isBusy = false;
        if (this.#hasEnded) this.#socket.end();
        else this.#socket.resume();
      })
      .catch((error: unknown) => {
        this.#bug(error);
        // The client sees that no answer comes.
        this.#socket.destroy();
      });
  }

  /** The time runs from the first byte of a line; further bytes of the line do not extend it. */
  #watchHalfRequest(chunk: Buffer): void {
    const newline = chunk.lastIndexOf(NEWLINE);
    if (newline !== -1) {
      clearTimeout(this.#halfRequest);
      this.#halfRequest = undefined;
    }
    if (newline === chunk.length - 1 || this.#halfRequest !== undefined) return;
    this.#halfRequest = setTimeout(() => this.#socket.destroy(), this.#timing.halfRequestMs);
  }

  async #answerAll(): Promise<void> {
    const items = this.#items;
    this.#items = [];
    for (const item of items) {
      if (this.#socket.destroyed) return;
      if ('problem' in item) await this.#write(encodeMessage(problemAnswer(item.problem)));
      else await this.#answer(item.value);
    }
    if (!this.#reader.stopped) return;
    // Further bytes of the client are read and thrown away for a moment. If they stayed unread, closing the
    // socket would also discard the explanation.
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
  }

  async #answer(value: unknown): Promise<void> {
    let isInside = false;
    const alive = setInterval(() => {
      // White space of JSON, between two pieces.
      if (this.#socket.writableLength === 0) this.#socket.write(isInside ? ' ' : '\n');
    }, this.#timing.aliveMs).unref();
    try {
      for await (const piece of this.#handle(value)) {
        if (typeof piece !== 'string') {
          clearInterval(alive);
          await this.#stream(piece);
          return;
        }
        isInside = true;
        await this.#write(piece);
        if (this.#socket.destroyed) return;
      }
      if (isInside) await this.#write('\n');
    } finally {
      clearInterval(alive);
    }
  }

  /** Gives the connection to a stream, which ends it. A client that reads slowly is not cut off. */
  async #stream({ line, run }: StreamedAnswer): Promise<void> {
    const socket = this.#socket;
    socket.removeAllListeners('data');
    this.#hasEnded = true;
    this.#items = [];
    if (!socket.destroyed) socket.write(`${line}\n`);
    await run(socket);
  }

  /** Resolves when the next piece may be written, or when the client is gone. */
  #write(text: string): Promise<void> {
    const socket = this.#socket;
    return new Promise((resolve) => {
      if (socket.destroyed || socket.write(text)) {
        resolve();
        return;
      }
      const timer = setTimeout(() => socket.destroy(), this.#timing.writeMs);
      const done = (): void => {
        clearTimeout(timer);
        socket.off('drain', done);
        socket.off('close', done);
        resolve();
      };
      socket.on('drain', done);
      socket.on('close', done);
    });
  }
}

function problemAnswer(problem: FramingProblem): unknown {
  return problem === 'line too long'
    ? invalidRequest(`the request is longer than ${MAX_REQUEST_BYTES} bytes`)
    : invalidRequest(`the request cannot be read: ${problem}`, RPC_CODE.PARSE);
}
