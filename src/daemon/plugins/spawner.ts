/**
 * The daemon's end of the connection to the spawner (plugin-process/spawner-process.ts), which starts plugin processes.
 * A connection that is lost takes all processes with it. The next start connects again.
 */
import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { errorText } from '../../model/errors.js';
import { howEnded } from '../../model/sentences.js';
import { userName } from '../../plugin/trusted-place.js';
import { LineReader } from '../../plugin-process/lines.js';
import type { Confinement, FromSpawner, Opening, ToSpawner, Usage } from '../../plugin-process/messages.js';
import { systemErrorText } from '../system-error.js';

/** Time for the spawner to answer, on a busy host. */
const ANSWER_MS = 5000;
const SHARE_MS = 2;
const MAX_BYTES = 64 * 1024;

/** A spawner that lives through a restart of varpd may be of an earlier version. */
const UNCONFINED: Confinement = {
  landlock: 0,
  lack: 'the spawner was started by an earlier version of varpd',
};

/** Where the spawner of this varpd listens. */
export interface SpawnerPlace {
  /** Path of its socket. */
  readonly socket: string;
  /** Starts a spawner that listens there, with the rights of this process. Undefined = only a start of varpd as root, or
   * the service manager, can. */
  readonly begin?: (() => Promise<void>) | undefined;
  /** The place that is used instead while nothing is at the path of the socket. */
  readonly otherwise?: SpawnerPlace;
  /** A sentence: what the host lacks for a better place than this one. */
  readonly lack?: string;
}

export interface ProcessEvents {
  readonly printed: (isError: boolean, line: string) => void;
  readonly usage: (usage: Usage) => void;
  /** Called once, with what follows `the process of the plugin`. */
  readonly ended: (how: string) => void;
}

export interface SpawnedProcess {
  readonly pid: number;
  /** The channel to it. */
  readonly socket: Socket;
  kill(): void;
}

class Spawned {
  /** Settles the start; undefined once it is settled. */
  #starting: { readonly resolve: (pid: number) => void; readonly reject: (error: Error) => void } | undefined;
  readonly started: Promise<number>;

  constructor(readonly events: ProcessEvents) {
    this.started = new Promise((resolve, reject) => {
      this.#starting = { resolve, reject };
    });
    // A start that fails earlier does not wait for it.
    this.started.catch(() => undefined);
  }

  begin(pid: number): void {
    this.#starting?.resolve(pid);
    this.#starting = undefined;
  }

  end(how: string): void {
    if (this.#starting === undefined) this.events.ended(how);
    else this.#starting.reject(new Error(how));
    this.#starting = undefined;
  }
}

/** An open control connection. */
interface Session {
  readonly socket: Socket;
  readonly id: number;
  readonly uid: number;
  readonly confinement: Confinement;
}

export class Spawner {
  #place: SpawnerPlace;
  readonly #lacks: (sentence: string) => void;
  #hasToldLack = false;
  readonly #processes = new Map<number, Spawned>();
  #session: Promise<Session> | undefined;
  #open: Session | undefined;
  #lastProcess = 0;
  #isClosed = false;

  /** `lacks`: called once with `lack` of the place that is used. */
  constructor(place: SpawnerPlace, lacks: (sentence: string) => void = () => undefined) {
    this.#place = place;
    this.#lacks = lacks;
  }

  /** `lack` of the place in use; undefined = nothing is missing, or no process was wanted yet. */
  get lack(): string | undefined {
    return this.#hasToldLack ? this.#place.lack : undefined;
  }

  #tellLack(): void {
    const { lack } = this.#place;
    if (lack !== undefined && !this.#hasToldLack) this.#lacks(lack);
    this.#hasToldLack = true;
  }

  /** The user of plugin processes: a name, or a number without one. Undefined while there is no connection. */
  get user(): string | undefined {
    return this.#open === undefined ? undefined : (userName(this.#open.uid) ?? String(this.#open.uid));
  }

  /** How plugin processes are confined. Undefined while there is no connection. */
  get confinement(): Confinement | undefined {
    return this.#open?.confinement;
  }

  /** Starts a process, which may use the state directory of this name; null = none. Rejects with an Error; then `events`
   * are not called. */
  async start(state: string | null, events: ProcessEvents): Promise<SpawnedProcess> {
    const session = await this.#connected();
    const id = ++this.#lastProcess;
    const spawned = new Spawned(events);
    this.#processes.set(id, spawned);
    const timer = setTimeout(() => {
      spawned.end(`was not started by the spawner in ${ANSWER_MS} ms`);
    }, ANSWER_MS);
    let socket: Socket | undefined;
    try {
      socket = await connectTo(this.#place.socket);
      const opening: Opening = { kind: 'start', session: session.id, process: id, state };
      socket.write(`${JSON.stringify(opening)}\n`);
      const pid = await spawned.started;
      const kill = (): void => {
        this.#send({ kind: 'kill', process: id });
      };
      return { pid, socket, kill };
    } catch (error) {
      this.#processes.delete(id);
      this.#send({ kind: 'kill', process: id });
      socket?.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Has a spawner that others have started wait for processes that are started later. Never fails: the first start says
   * what is wrong. */
  hold(): void {
    this.#choosePlace();
    if (this.#place.begin === undefined) this.#connected().catch(() => undefined);
  }

  #choosePlace(): void {
    const { socket, otherwise } = this.#place;
    if (otherwise === undefined || existsSync(socket)) return;
    this.#place = otherwise;
    this.#tellLack();
  }

  /** Ends all processes, and the spawner. */
  close(): void {
    this.#isClosed = true;
    this.#send({ kind: 'end' });
    this.#open?.socket.end();
  }

  /** Ends all processes. The spawner waits for the next varpd. */
  leave(): void {
    this.#isClosed = true;
    this.#open?.socket.destroy();
  }

  #send(message: ToSpawner): void {
    if (this.#open?.socket.writable === true) this.#open.socket.write(`${JSON.stringify(message)}\n`);
  }

  #connected(): Promise<Session> {
    this.#session ??= this.#connect().catch((error: unknown) => {
      this.#session = undefined;
      throw error;
    });
    return this.#session;
  }

  async #connect(): Promise<Session> {
    this.#choosePlace();
    const { socket: file, begin } = this.#place;
    if (this.#isClosed) throw new Error('varpd ends');
    try {
      return await this.#openSession();
    } catch (error) {
      const why = `the spawner of plugin processes does not answer at ${file}: ${systemErrorText(error)}`;
      if (begin === undefined)
        throw new Error(
          `${why}; under systemd 'systemctl start varpd-plugins.socket' starts it, elsewhere a stop and a start of varpd`,
          { cause: error },
        );
    }
    this.#tellLack();
    // There is none, or it was about to end.
    await begin();
    return this.#openSession();
  }

  async #openSession(): Promise<Session> {
    const socket = await connectTo(this.#place.socket);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        socket.destroy(new Error(`the spawner has not answered in ${ANSWER_MS} ms`));
      }, ANSWER_MS);
      new LineReader(socket, {
        maxBytes: MAX_BYTES,
        shareMs: SHARE_MS,
        heard: (line) => {
          const message = JSON.parse(line.toString()) as FromSpawner;
          if (message.kind !== 'session') {
            this.#heard(message);
            return;
          }
          clearTimeout(timer);
          const { session: id, uid, confinement = UNCONFINED } = message;
          const session = { socket, id, uid, confinement };
          this.#open = session;
          resolve(session);
          if (this.#isClosed) this.close();
        },
        tooLong: () => {
          socket.destroy();
        },
      });
      socket.on('error', reject);
      socket.on('close', () => {
        clearTimeout(timer);
        reject(new Error('the spawner of plugin processes has ended'));
        this.#lost();
      });
      socket.write(`${JSON.stringify({ kind: 'control' } satisfies Opening)}\n`);
    });
  }

  #lost(): void {
    this.#session = undefined;
    this.#open = undefined;
    const processes = [...this.#processes.values()];
    this.#processes.clear();
    for (const spawned of processes) spawned.end('has ended together with the spawner of plugin processes');
  }

  #heard(message: Exclude<FromSpawner, { readonly kind: 'session' }>): void {
    const spawned = this.#processes.get(message.process);
    if (spawned === undefined) return;
    switch (message.kind) {
      case 'started':
        spawned.begin(message.pid);
        break;
      case 'printed':
        spawned.events.printed(message.isError, message.line);
        break;
      case 'usage':
        spawned.events.usage(message);
        break;
      case 'failed':
        this.#processes.delete(message.process);
        spawned.end(`could not be started: ${message.message}`);
        break;
      case 'ended': {
        const { code, signal, isHeapFull } = message;
        this.#processes.delete(message.process);
        spawned.end(
          isHeapFull ? 'ran out of memory (JavaScript heap)' : `has ended (${howEnded(code, signal)})`,
        );
        break;
      }
    }
  }
}

/** A path below the directory's descriptor: that of a Unix socket has 107 bytes at most. */
async function connectTo(file: string): Promise<Socket> {
  const directory = openSync(path.dirname(file), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const socket = connect(`/proc/self/fd/${directory}/${path.basename(file)}`);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject);
    });
    socket.on('error', () => undefined);
    return socket;
  } catch (error) {
    throw error instanceof Error ? error : new Error(errorText(error));
  } finally {
    closeSync(directory);
  }
}
