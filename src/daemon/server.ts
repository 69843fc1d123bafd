/**
 * The control server: a Unix socket that root and one group may use (conformance S13, S14).
 *
 * Who a client is says the kernel, once per connection. Whoever the socket lets in may read; root and members of the
 * configured group may change things. One client more than the limit is told so and sent away.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { encodeMessage } from '../control/framing.js';
import { errorStack, OverlayError } from '../core/errors.js';
import { Connection, type Timing } from './connection.js';
import type { Log } from './log.js';
import { answer, type Caller, errorResponse, type Handlers, RPC_CODE } from './rpc.js';
import { listenOn } from './socket-file.js';
import { systemErrorText } from './system-error.js';

/** SO_PEERCRED and SO_PEERGROUPS of a connected socket. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export interface ServerOptions {
  readonly socket: string;
  /** Members may change things; undefined = root alone. */
  readonly gid: number | undefined;
  readonly handlers: Handlers;
  /** Throws the system's error. */
  readonly credentials: (fd: number) => Credentials;
  readonly maxClients: () => number;
  readonly log: Log;
  readonly timing?: Timing;
}

export class ControlServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();

  private constructor(options: ServerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#accept(socket);
    });
  }

  /** Rejects with an OverlayError. The socket's place must be free: see claimSocket. */
  static async listen(options: ServerOptions): Promise<ControlServer> {
    const server = new ControlServer(options);
    await listenOn(server.#server, options.socket, options.gid);
    // EMFILE at accept: the client waits in the backlog, varpd goes on.
    server.#server.on('error', (error) => {
      options.log.error('accept', `control socket: ${error.message}`);
    });
    return server;
  }

  /** Ends every connection and removes the socket file. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => {
        resolve();
      });
      for (const socket of this.#clients) socket.destroy();
    });
  }

  #accept(socket: Socket): void {
    const { handlers, log, maxClients, timing } = this.#options;
    if (this.#clients.size >= maxClients()) {
      socket.on('error', () => undefined);
      const error = new OverlayError('AGAIN', `${maxClients()} clients are connected, which is the limit`);
      socket.end(encodeMessage(errorResponse(null, RPC_CODE.REFUSED, error)));
      socket.setTimeout(1000, () => socket.destroy());
      return;
    }
    this.#clients.add(socket);
    socket.on('close', () => this.#clients.delete(socket));
    const caller = this.#identify(socket);
    const bug = (error: unknown): void => {
      log.error('request', `a request failed unexpectedly: ${errorStack(error)}`);
    };
    new Connection(socket, (value) => answer(value, caller, handlers, bug), bug, timing);
  }

  #identify(socket: Socket): Caller {
    const { gid, credentials, log } = this.#options;
    try {
      const peer = credentials(descriptorOf(socket));
      const isMember = gid !== undefined && (peer.gid === gid || peer.groups.includes(gid));
      return { mayChange: peer.uid === 0 || isMember };
    } catch (error) {
      log.warn(
        'credentials',
        `a client may only read: its credentials are unknown: ${systemErrorText(error)}`,
      );
      return { mayChange: false };
    }
  }
}

/** Node has no public name for it; undocumented, but the same since 0.10. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle?: { fd?: number } };
  if (handle?.fd === undefined || handle.fd < 0) throw new Error('the connection is closed');
  return handle.fd;
}
