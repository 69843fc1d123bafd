/**
 * The control server: a Unix socket that root and one group may use (conformance S13, S14).
 *
 * The kernel names the user of a client, once per connection. Every client that can open the socket may read;
 * root and members of the configured group may change things. A client beyond a limit is told so and
 * disconnected. Only root can take all places, and the users take turns (turns.ts).
 */
import { createServer, type Server, type Socket } from 'node:net';
import { encodeMessage } from '../../control/framing.js';
import { errorStack, OverlayError } from '../../model/errors.js';
import type { Log } from '../log.js';
import { descriptorOf, listenOn } from '../socket-file.js';
import { systemErrorText } from '../system-error.js';
import type { Change } from './audit.js';
import { Connection, type Timing } from './connection.js';
import { answer, type Caller, errorResponse, type Handlers, RPC_CODE } from './rpc.js';
import { Turns } from './turns.js';

/** SO_PEERCRED and SO_PEERGROUPS of a connected socket. */
export interface Credentials {
  readonly pid?: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

interface Client extends Caller {
  readonly uid: number;
}

const ROOT = 0;
const LINGER_MS = 1000;
/** Most refused clients that are told why at a time; further connections are closed without a message. */
const MAX_SENT_AWAY = 64;
/** User of a client with unknown credentials. */
const NOBODY = -1;
/** Shares of all places: that of one user other than root, and that of all clients that may only read. */
const SHARE_OF_USER = 1 / 4;
const SHARE_OF_READERS = 3 / 4;

export interface ServerOptions {
  readonly socket: string;
  /** Members may change things; undefined = root alone. */
  readonly gid: number | undefined;
  readonly handlers: Handlers;
  /** Throws the system's error. */
  readonly credentials: (fd: number) => Credentials;
  readonly maxClients: () => number;
  readonly log: Log;
  /** Hears of every change that a client asks for. */
  readonly changed?: (change: Change) => void;
  readonly timing?: Timing;
}

export class ControlServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #clients = new Map<Socket, Client>();
  readonly #sentAway = new Set<Socket>();
  readonly #turns = new Turns();

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
      for (const socket of [...this.#clients.keys(), ...this.#sentAway]) socket.destroy();
    });
  }

  #accept(socket: Socket): void {
    const { handlers, log, timing } = this.#options;
    const client = this.#identify(socket);
    const reason = this.#whyFull(client);
    if (reason !== undefined) {
      this.#sendAway(socket, reason);
      return;
    }
    this.#clients.set(socket, client);
    socket.on('close', () => this.#clients.delete(socket));
    const bug = (error: unknown): void => {
      log.error('request', `a request failed unexpectedly: ${errorStack(error)}`);
    };
    const turn = (): Promise<void> => this.#turns.take(client.uid);
    new Connection(socket, (value) => answer(value, client, handlers, bug, turn), bug, timing);
  }

  /** The client gets a moment to read the reason, whatever it still sends. */
  #sendAway(socket: Socket, reason: string): void {
    socket.on('error', () => undefined);
    if (this.#sentAway.size >= MAX_SENT_AWAY) {
      socket.destroy();
      return;
    }
    this.#sentAway.add(socket);
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.on('close', () => {
      clearTimeout(timer);
      this.#sentAway.delete(socket);
    });
    socket.end(encodeMessage(errorResponse(null, RPC_CODE.REFUSED, new OverlayError('AGAIN', reason))));
    socket.resume();
  }

  #whyFull({ uid, mayChange }: Client): string | undefined {
    const max = this.#options.maxClients();
    const clients = [...this.#clients.values()];
    const isFull = (count: number, limit: number, who: string): string | undefined =>
      count >= limit ? `${count} ${who} are connected, which is the limit` : undefined;
    const own = clients.filter((client) => client.uid === uid).length;
    const readers = clients.filter((client) => !client.mayChange).length;
    return (
      isFull(clients.length, max, 'clients') ??
      (uid === ROOT ? undefined : isFull(own, Math.ceil(max * SHARE_OF_USER), 'clients of this user')) ??
      (mayChange ? undefined : isFull(readers, Math.ceil(max * SHARE_OF_READERS), 'clients that only read'))
    );
  }

  #identify(socket: Socket): Client {
    const { gid, credentials, log, changed } = this.#options;
    try {
      const peer = credentials(descriptorOf(socket));
      const isMember = gid !== undefined && (peer.gid === gid || peer.groups.includes(gid));
      const { uid, pid } = peer;
      return {
        uid,
        // varpd itself: the thread of the live page, which asks for explanations.
        mayChange: uid === ROOT || isMember || pid === process.pid,
        changed: (change) => changed?.({ asker: { uid, pid }, ...change }),
      };
    } catch (error) {
      log.warn(
        'credentials',
        `a client may only read: its credentials are unknown: ${systemErrorText(error)}`,
      );
      return { uid: NOBODY, mayChange: false };
    }
  }
}
