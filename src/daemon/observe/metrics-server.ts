/**
 * The metrics endpoint: `GET /metrics` over HTTP, on an address or a Unix socket, and nothing else.
 *
 * Every client that reaches it may read, except pages of other sites in a browser of this host. The endpoint
 * has bounds of its own (connections in all and of one client, times, a share of the processor), so that no
 * client keeps varpd from its work, or another client from reading.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isOwnHost } from '../../control/own-host.js';
import { errorStack } from '../../model/errors.js';
import { printable } from '../../model/properties.js';
import { type Endpoint, parseEndpoint } from '../../wire/ip.js';
import type { Log } from '../log.js';
import { claimSocket, listenOn, serveAddress } from '../socket-file.js';
import { addressSentences, explain } from '../system-error.js';
import { MetricsClients } from './metrics-clients.js';

/** Time for a request to arrive whole: a program sends one in one write. */
const REQUEST_MS = 5000;
/** Time for an answer to be read whole: Prometheus gives up sooner (scrape_timeout). */
const ANSWER_MS = 30_000;
/** Time without a byte moved: an answer that is not read, a connection that is not used. */
const IDLE_MS = 10_000;
/** Pause between attempts to get the address, while varpd works without it. */
const RETRY_MS = 10_000;
/** A request of Prometheus has 400 bytes. */
const MAX_HEADER_BYTES = 8192;
/**
 * Rest after a text, as a multiple of the time that it took. A client that asks without end gets a fifth of
 * the control thread at most.
 */
const REST_FACTOR = 4;

const TIMING = { requestMs: REQUEST_MS, answerMs: ANSWER_MS, idleMs: IDLE_MS, retryMs: RETRY_MS };

export interface MetricsOptions {
  /** `metrics` of the configuration: `ip:port`, or the path of a Unix socket. */
  readonly address: string;
  /** The place of the address in the configuration, as `file:line:column: `. */
  readonly place?: string;
  /** Names of this host that a request may be for, beside localhost and addresses. */
  readonly hosts?: readonly string[];
  /** Group that may read a Unix socket; undefined = the group of this process. */
  readonly gid: number | undefined;
  readonly source: { readonly contentType: string; text(): Promise<string> };
  readonly log: Log;
  readonly timing?: typeof TIMING;
}

/**
 * Rejects with an OverlayError when the address cannot be had. With `mayWait` the error is logged instead,
 * and the address is tried again until it can be had. Resolves to a function that ends the endpoint.
 */
export function startMetricsServer(options: MetricsOptions, mayWait: boolean): Promise<() => Promise<void>> {
  const { log, place = '', timing: { retryMs } = TIMING } = options;
  return serveAddress({ key: 'metrics', place, retryMs, log }, mayWait, async () => {
    const server = await MetricsServer.listen(options);
    return () => server.close();
  });
}

class MetricsServer {
  readonly #options: MetricsOptions;
  readonly #server: Server;
  readonly #clients: MetricsClients;
  /** The text that is being made; requests that come meanwhile get the same one. */
  #text: Promise<string> | undefined;
  #restUntilMs = 0;

  private constructor(options: MetricsOptions) {
    this.#options = options;
    const { requestMs, idleMs } = options.timing ?? TIMING;
    this.#server = createServer(
      {
        headersTimeout: requestMs,
        requestTimeout: requestMs,
        connectionsCheckingInterval: requestMs / 5,
        maxHeaderSize: MAX_HEADER_BYTES,
      },
      (request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          options.log.error('metrics', `a request for metrics failed unexpectedly: ${errorStack(error)}`);
          response.destroy();
        });
      },
    );
    this.#clients = new MetricsClients(requestMs);
    this.#server.on('connection', (socket) => {
      if (!this.#clients.admit(socket)) socket.destroy();
    });
    this.#server.setTimeout(idleMs);
  }

  static async listen(options: MetricsOptions): Promise<MetricsServer> {
    const { address, gid, log } = options;
    const server = new MetricsServer(options);
    const endpoint = parseEndpoint(address);
    if (endpoint === undefined) {
      await claimSocket(address, gid);
      await listenOn(server.#server, address, gid);
    } else {
      await listenAt(server.#server, endpoint);
    }
    server.#server.on('error', (error) => {
      log.error('metrics', `metrics: ${error.message}`);
    });
    log.info('metrics', `metrics are served on ${address}`);
    return server;
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => {
        resolve();
      });
      this.#server.closeAllConnections();
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#follow(request, response);
    const [path] = (request.url ?? '').split('?', 1);
    if (!this.#isForUs(request))
      refuse(
        response,
        421,
        'this host is not known by that name: use its address, or add the name to metricsHosts',
      );
    else if (path !== '/metrics') refuse(response, 404, 'not found: the metrics are at /metrics');
    else if (request.method !== 'GET') refuse(response.setHeader('Allow', 'GET'), 405, 'only GET is allowed');
    else await this.#send(response);
  }

  /** Follows a request to the end of its answer. */
  #follow({ socket }: IncomingMessage, response: ServerResponse): void {
    const { answerMs } = this.#options.timing ?? TIMING;
    this.#clients.asks(socket);
    let late: NodeJS.Timeout | undefined;
    response.once('prefinish', () => {
      this.#clients.written(socket);
      late = setTimeout(() => socket.destroy(), answerMs);
    });
    response.once('close', () => {
      clearTimeout(late);
      this.#clients.has(socket);
    });
  }

  /** Whether the request names this host. No browser reaches a Unix socket. */
  #isForUs({ headersDistinct }: IncomingMessage): boolean {
    const { address, hosts = [], log } = this.#options;
    const { host: names = [] } = headersDistinct;
    if (parseEndpoint(address) === undefined) return true;
    if (names.length <= 1 && isOwnHost(names.at(0), hosts)) return true;
    log.warn(
      'metrics host',
      `metrics: refused a request for '${printable(names.join())}': if that is a name of this host, add it to metricsHosts`,
    );
    return false;
  }

  async #send(response: ServerResponse): Promise<void> {
    const { source, log } = this.#options;
    try {
      this.#text ??= this.#make();
      const text = await this.#text;
      response.writeHead(200, { 'Content-Type': source.contentType }).end(text);
    } catch (error) {
      log.error('metrics', `the metrics could not be computed: ${errorStack(error)}`);
      refuse(response, 500, 'internal error: see the log of varpd');
    }
  }

  async #make(): Promise<string> {
    try {
      await new Promise((resolve) => setTimeout(resolve, this.#restUntilMs - performance.now()));
      const startedMs = performance.now();
      const text = await this.#options.source.text();
      const endedMs = performance.now();
      this.#restUntilMs = endedMs + REST_FACTOR * (endedMs - startedMs);
      return text;
    } finally {
      this.#text = undefined;
    }
  }
}

/** Ends the connection too: the rest of such a client's request is not read. */
function refuse(response: ServerResponse, status: number, why: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain', Connection: 'close' }).end(`${why}\n`);
}

function listenAt(server: Server, endpoint: Endpoint): Promise<void> {
  const { ip: host, port } = endpoint;
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      reject(explain(error, addressSentences(endpoint, 'metrics')));
    };
    server.once('error', fail);
    server.listen({ host, port, exclusive: true }, () => {
      server.off('error', fail);
      resolve();
    });
  });
}
