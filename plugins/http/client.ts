/**
 * GET requests to one store: kept connections, a deadline and a bound for everything. Redirects are not followed, and
 * bodies are not compressed: both would make a small answer large, or send a token to another host.
 */
import type { Agent, IncomingHttpHeaders, IncomingMessage, request as Request } from 'node:http';
import { connectionTrouble, lateTrouble, statusTrouble, StoreTrouble } from './trouble.js';

/** Connections to the store at a time. With answers after 5 ms they carry 6400 requests in a second. */
const CONNECTIONS = 32;
/** Bound of a header, that of Node. */
const MAX_HEADER_BYTES = 16 * 1024;
/** Bound of an answer that is held in memory as a whole. */
export const MAX_BODY_BYTES = 1024 * 1024;
/** Idle connections end before those of usual servers and proxies do (5 s and more). */
const IDLE_MS = 4000;
/** Codes of a request on a connection that the store has closed. */
const CLOSED: readonly string[] = ['ECONNRESET', 'EPIPE'];
/** Longest pause that a store may ask for. */
const MAX_RETRY_AFTER_MS = 60_000;

export interface ClientOptions {
  /** Without a slash at its end. */
  readonly base: string;
  readonly timeoutMs: number;
  readonly silenceMs: number;
  readonly token: string | undefined;
  /** PEM. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Returns false to leave the rest of a stream unread. */
export type Take = (chunk: Buffer) => void | Promise<void>;

export class Client {
  readonly #options: ClientOptions;
  readonly #store: string;
  readonly #request: typeof Request;
  readonly #agent: Agent;

  private constructor(options: ClientOptions, request: typeof Request, agent: Agent) {
    this.#options = options;
    this.#store = new URL(options.base).origin;
    this.#request = request;
    this.#agent = agent;
  }

  /** Rejects with a StoreTrouble when certificate or key are no PEM. Makes no connection. */
  static async open(options: ClientOptions): Promise<Client> {
    const pool = { keepAlive: true, maxSockets: CONNECTIONS, timeout: IDLE_MS, scheduling: 'lifo' } as const;
    // Node loads TLS only for an overlay that needs it.
    if (!options.base.startsWith('https:')) {
      const { Agent, request } = await import('node:http');
      return new Client(options, request, new Agent(pool));
    }
    const { Agent, request } = await import('node:https');
    const { createSecureContext } = await import('node:tls');
    const { ca, cert, key } = options;
    const files = { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) };
    try {
      createSecureContext(files);
    } catch {
      throw new StoreTrouble(
        'http/ca, http/cert and http/key must be PEM, and the key that of the certificate',
        false,
      );
    }
    return new Client(options, request, new Agent({ ...pool, ...files, minVersion: 'TLSv1.2' }));
  }

  /** Origin of the store, for sentences. */
  get store(): string {
    return this.#store;
  }

  /** URL of the store, without a slash at its end. */
  get base(): string {
    return this.#options.base;
  }

  /** Ends the connections that are idle. The others end with their requests: another client takes the place of this one. */
  retire(): void {
    this.#agent.maxFreeSockets = 0;
    for (const sockets of Object.values(this.#agent.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }

  /** Ends all connections. One of a request that was aborted before it had its connection comes back to the pool a moment
   * later, so that the pool is emptied twice. */
  async close(): Promise<void> {
    this.#agent.destroy();
    await new Promise((resolve) => setImmediate(resolve));
    this.#agent.destroy();
  }

  /** Reads an answer as a whole. Rejects with a StoreTrouble, or with the reason of the signal. */
  read(path: string, headers: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Reply> {
    const { timeoutMs } = this.#options;
    return this.#within(signal, timeoutMs, async (inner) => {
      const response = await this.#send(path, headers, inner);
      return { ...headOf(response), body: await this.#whole(response, MAX_BODY_BYTES) };
    });
  }

  /**
   * Reads an endless or a large answer chunk by chunk, the next one once `take` has resolved. Every other answer than 200 is
   * returned as a whole. Between two chunks there are `silenceMs` at most. Resolves to undefined when the store has ended
   * the answer.
   */
  stream(
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    begin: (headers: IncomingHttpHeaders) => void,
    take: Take,
  ): Promise<Reply | undefined> {
    const { timeoutMs, silenceMs } = this.#options;
    return this.#within(signal, timeoutMs, async (inner, wait) => {
      const response = await this.#send(path, headers, inner);
      if (response.statusCode !== 200)
        return { ...headOf(response), body: await this.#whole(response, MAX_BODY_BYTES) };
      begin(response.headers);
      wait(silenceMs);
      for await (const chunk of response) {
        wait(0);
        await take(chunk as Buffer);
        wait(silenceMs);
      }
      return undefined;
    });
  }

  /** Makes the trouble for a reply with a status that the interface does not have for this request. */
  refuse(path: string, { status, headers }: Reply): StoreTrouble {
    const hasToken = this.#options.token !== undefined;
    return statusTrouble(this.#store, path, status, { hasToken, retryAfterMs: retryAfterMs(headers) });
  }

  /** Runs `work` with a deadline. `wait(ms)` puts another deadline in its place, and none with 0. */
  async #within<T>(
    signal: AbortSignal,
    ms: number,
    work: (inner: AbortSignal, wait: (ms: number) => void) => Promise<T>,
  ): Promise<T> {
    const ended = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    let lateMs = 0;
    const wait = (waitMs: number): void => {
      clearTimeout(timer);
      if (waitMs === 0) return;
      timer = setTimeout(() => {
        lateMs = waitMs;
        ended.abort();
      }, waitMs);
    };
    const stop = (): void => {
      ended.abort();
    };
    signal.addEventListener('abort', stop, { once: true });
    wait(ms);
    try {
      signal.throwIfAborted();
      return await work(ended.signal, wait);
    } catch (error) {
      signal.throwIfAborted();
      throw lateMs > 0 ? lateTrouble(this.#store, lateMs) : connectionTrouble(this.#store, error);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      // The rest of an answer is not read.
      ended.abort();
    }
  }

  #send(
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
    isRetry = false,
  ): Promise<IncomingMessage> {
    const { base, token } = this.#options;
    return new Promise((resolve, reject) => {
      const request = this.#request(`${base}${path}`, {
        agent: this.#agent,
        headers: {
          ...headers,
          'user-agent': 'varpd',
          'accept-encoding': 'identity',
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
        },
        maxHeaderSize: MAX_HEADER_BYTES,
        signal,
      });
      let isAnswered = false;
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The store has closed an idle connection while this request was on its way: it has not begun with it (RFC 9110 9.2.2).
        const isTooLate = request.reusedSocket && !isAnswered && CLOSED.includes(error.code ?? '');
        if (isTooLate && !isRetry && !signal.aborted) resolve(this.#send(path, headers, signal, true));
        else reject(error);
      });
      // A request may end with neither an answer nor an error: Node closes a connection that is switched to another protocol.
      request.on('close', () => {
        reject(Object.assign(new Error('no answer'), { code: 'ECONNRESET' }));
      });
      request.on('response', (response) => {
        isAnswered = true;
        // The reader gets the error as well. This listener is for an answer that is not read.
        response.on('error', reject);
        const encoding = response.headers['content-encoding'] ?? 'identity';
        if (/^identity$/i.test(encoding)) resolve(response);
        else
          reject(
            new StoreTrouble(`${this.#store} sends a compressed answer, which varpd does not accept`, false),
          );
      });
      request.end();
    });
  }

  async #whole(response: IncomingMessage, maxBytes: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of response) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > maxBytes)
        throw new StoreTrouble(`${this.#store} sends an answer of more than ${maxBytes} bytes`, false);
    }
    return Buffer.concat(chunks, bytes);
  }
}

const headOf = ({ statusCode = 0, headers }: IncomingMessage) => ({ status: statusCode, headers });

/** Only the form in seconds is read: the clocks of two hosts may differ. */
function retryAfterMs(headers: IncomingHttpHeaders): number {
  const seconds = Number(headers['retry-after'] ?? 0);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : 0;
}
