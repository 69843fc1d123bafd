/**
 * The HTTP server of the live page: its files, its events, a target table, and explain. It changes nothing.
 *
 * A page that reads too slowly is cut off: it comes again by itself, and gets everything as it is then.
 */
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { ConnectionError, ControlError } from '../control/client.js';
import type { Methods } from '../control/methods.js';
import { Feed } from './feed.js';
import { COOKIE, type GuardOptions, pathOf, queryOf, refusal } from './guard.js';
import type { PageEvents, ThreadOptions } from './messages.js';

/** Made by bundle.mjs. */
const FILES: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
};
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');
const HEADERS = {
  'Content-Security-Policy': POLICY,
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cache-Control': 'no-store',
};

const MAX_CONNECTIONS = 128;
const MAX_PAGES = 32;
/** A snapshot of a hundred overlays has 500 KiB. */
const MAX_BEHIND_BYTES = 8 << 20;
const MAX_BODY_BYTES = 64 * 1024;
const MAX_HEADER_BYTES = 8192;
const REQUEST_MS = 5_000;
const ALIVE_MS = 15_000;
/** Readings of tables, and explanations, that are under way for all pages. Each costs varpd's control thread time. */
const MAX_ASKING = 4;

interface Page {
  readonly response: ServerResponse;
  /** It shows the targets of this overlay. */
  readonly overlay: string | null;
}

export class PageServer {
  readonly server: Server;
  readonly #feed: Feed;
  readonly #guard: GuardOptions;
  readonly #files: URL;
  readonly #pages = new Set<Page>();
  readonly #bug: (error: unknown) => void;
  #asking = 0;

  constructor(
    { socket, hosts, token, listen, hostName }: ThreadOptions,
    files: URL,
    bug: (error: unknown) => void,
  ) {
    const isUnix = 'path' in listen;
    this.#guard = { hosts, token, isUnix };
    this.#files = files;
    this.#bug = bug;
    const tell = <E extends keyof PageEvents>(event: E, data: PageEvents[E], overlay?: string): void => {
      this.#broadcast(event, data, overlay);
    };
    // A line of the log may quote a file, or the data of a user: it is not for every user of this host.
    const hasLog = isUnix || token !== undefined;
    this.#feed = new Feed({ socket, hostName, hasLog }, tell, bug);
    this.server = createServer(
      { headersTimeout: REQUEST_MS, requestTimeout: REQUEST_MS, maxHeaderSize: MAX_HEADER_BYTES },
      (request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          bug(error);
          response.destroy();
        });
      },
    );
    this.server.maxConnections = MAX_CONNECTIONS;
  }

  start(): void {
    this.#feed.start();
    setInterval(() => {
      for (const page of this.#pages) send(page, ':\n\n');
    }, ALIVE_MS);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    const refused = refusal(request, this.#guard);
    const path = pathOf(request);
    if (refused !== undefined) refuse(response, refused.status, refused.why);
    else if (path === '/explain') await this.#explain(request, response);
    else if (request.method !== 'GET') refuse(response.setHeader('Allow', 'GET'), 405, 'only GET is allowed');
    else if (path === '/events') this.#events(request, response);
    else if (path === '/targets') await this.#targets(request, response);
    else if (Object.hasOwn(FILES, path)) this.#file(path, request, response);
    else refuse(response, 404, 'there is no such page');
  }

  #file(path: string, request: IncomingMessage, response: ServerResponse): void {
    const { token } = this.#guard;
    if (path === '/' && token !== undefined && queryOf(request).has('token')) {
      // The token leaves the address of the page, and so its history.
      const cookie = `${COOKIE}=${encodeURIComponent(token)}; HttpOnly; SameSite=Strict; Path=/`;
      response.writeHead(303, { 'Set-Cookie': cookie, Location: '/' }).end();
      return;
    }
    const [file, type] = FILES[path];
    response.writeHead(200, { 'Content-Type': type }).end(readFileSync(new URL(file, this.#files)));
  }

  #events(request: IncomingMessage, response: ServerResponse): void {
    if (this.#pages.size >= MAX_PAGES) {
      refuse(response, 503, `${this.#pages.size} pages are open, which is the limit`);
      return;
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const page = { response, overlay: queryOf(request).get('overlay') };
    const closed = this.#feed.opened();
    this.#pages.add(page);
    response.once('close', () => {
      this.#pages.delete(page);
      closed();
    });
    send(page, eventText('snapshot', this.#feed.model.snapshot()));
  }

  #broadcast<E extends keyof PageEvents>(event: E, data: PageEvents[E], overlay: string | undefined): void {
    let text: string | undefined;
    for (const page of this.#pages)
      if (overlay === undefined || page.overlay === overlay) send(page, (text ??= eventText(event, data)));
  }

  async #targets(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const query = queryOf(request);
    await this.#ask(response, () =>
      this.#feed.table(query.get('overlay') ?? '', (query.get('text') ?? '').toLowerCase()),
    );
  }

  async #explain(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A form of another site cannot send this type.
    const isJson = request.headers['content-type'] === 'application/json';
    if (request.method !== 'POST' || !isJson) {
      refuse(response.setHeader('Allow', 'POST'), 405, 'explain is asked by POST, with application/json');
      return;
    }
    const body = await bodyOf(request);
    if (body === undefined) {
      refuse(response, 400, `the question is no JSON of at most ${MAX_BODY_BYTES} bytes`);
      return;
    }
    // varpd checks it.
    await this.#ask(response, () => this.#feed.explain(body as Methods['overlay.explain']['params']));
  }

  /** Answers with what varpd says, or with its error. */
  async #ask(response: ServerResponse, question: () => Promise<unknown>): Promise<void> {
    if (this.#asking >= MAX_ASKING) {
      refuse(response, 503, 'other pages are being answered: try again');
      return;
    }
    this.#asking++;
    try {
      json(response, 200, await question());
    } catch (error) {
      if (error instanceof ControlError) {
        const { message, details, reason } = error;
        json(response, 409, { reason, message: [...new Set([...details, message])].join('; ') });
      } else if (error instanceof ConnectionError)
        json(response, 502, { reason: error.code, message: error.message });
      else {
        this.#bug(error);
        refuse(response, 500, 'internal error: see the log of varpd');
      }
    } finally {
      this.#asking--;
    }
  }
}

function send({ response }: Page, text: string): void {
  if (response.writableLength > MAX_BEHIND_BYTES) response.destroy();
  else response.write(text);
}

function eventText(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
}

/** Ends the connection too: the rest of such a request is not read. */
function refuse(response: ServerResponse, status: number, why: string): void {
  response
    .writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' })
    .end(`${why}\n`);
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as unknown;
  } catch {
    return undefined;
  }
}
