/** Messages between varpd and its stand-in: values over one socket, each with its length before it. */
import { Socket } from 'node:net';
import { deserialize, serialize } from 'node:v8';

/** Length of the head before each value, a 32-bit number. */
const HEAD_BYTES = 4;

export class Channel<Out, In> {
  readonly #socket: Socket;
  #received = Buffer.alloc(0);
  /** Resolves when no more messages come: the other side has ended the channel, or its process has ended. */
  readonly ended: Promise<void>;

  /** The channel owns the descriptor from now on. `heard` is called with each message. */
  constructor(fd: number, heard: (message: In) => void) {
    this.#socket = new Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
    this.ended = new Promise((resolve) => {
      this.#socket.once('end', resolve).once('close', resolve);
    });
    // An error needs no handling of its own: `close` follows.
    this.#socket.on('error', () => undefined);
    this.#socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      for (let message = this.#next(); message !== undefined; message = this.#next())
        heard(deserialize(message) as In);
    });
  }

  send(message: Out): void {
    const bytes = serialize(message);
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt32LE(bytes.length);
    this.#socket.write(Buffer.concat([head, bytes]));
  }

  /** Messages that come from now on stay in the kernel. */
  pause(): void {
    this.#socket.pause();
  }

  /** Sends no further message. Resolves when all are sent. */
  end(): Promise<void> {
    return new Promise((resolve) => this.#socket.end(resolve));
  }

  close(): void {
    this.#socket.destroy();
  }

  #next(): Buffer | undefined {
    if (this.#received.length < HEAD_BYTES) return undefined;
    const end = HEAD_BYTES + this.#received.readUInt32LE();
    if (this.#received.length < end) return undefined;
    const message = this.#received.subarray(HEAD_BYTES, end);
    this.#received = this.#received.subarray(end);
    return message;
  }
}
