/**
 * One plugin process, as the daemon sees it: calls with their results, the calls that its instances make, and its health.
 * Whatever comes from the process is read as data that a stranger has sent: a message that is none ends the process.
 *
 *   call  ------------>  a method of an instance
 *   tell  <----------->  a call without a result: `ports` one way, methods of Host the other
 *   ask   <------------  a method of Host with a result
 *   ping  ------------>  each look; a process that does not answer while a call is open is blocked
 */
import type { Host } from '../../plugin/contract.js';
import { errorText } from '../../model/errors.js';
import { errorOf, plainError } from '../../plugin-process/errors.js';
import { LineReader } from '../../plugin-process/lines.js';
import {
  type CallId,
  type Description,
  type FromPlugin,
  type InstanceId,
  type LoadOrder,
  MAX_LINE_BYTES,
  readRowsLine,
  type ToPlugin,
  type Usage,
} from '../../plugin-process/messages.js';
import type { Limits } from '../config.js';
import { atDeadline, excusedMs } from './deadline.js';
import { complainOf, waitingCallsOf } from './host/complaints.js';
import { PluginRequests } from './plugin-requests.js';
import type { SpawnedProcess, Spawner } from './spawner.js';

/** Time for one share of its messages, and between two of them: a plugin that sends without end has at most half of the
 * control thread, and every other request waits for one share. */
const SHARE_MS = 2;
const REST_MS = 2;
/** Calls of instances that have been stopped. A few are under way at a stop; a process that has no instance, and sends more,
 * is ended. */
const MAX_STRAY_CALLS = 1000;
/** Text that the process has not read yet. With more it gets no further call. */
const MAX_UNREAD_BYTES = 4 * 1024 * 1024;
const LOOKS_PER_DEADLINE = 5;
const MIN_LOOK_MS = 20;
/** A process that sends without answering has so much more time than one that is silent: varpd reads half of that time. */
const BABBLE_FACTOR = 12;
/** Calls of an instance that may wait to be carried out (CallOrder.waiting). */
const MAX_WAITING_CALLS = 1000;
const WAITING_LOOK_MS = 5;
/** Time between the end of the channel and that of the process. */
const ENDING_MS = 1000;

export interface ProcessServices {
  readonly spawner: Spawner;
  readonly limits: () => Pick<Limits, 'pluginMemoryMib' | 'pluginBlockedMs'>;
  /** A line that the plugin has printed. */
  readonly printed: (isError: boolean, line: string) => void;
}

interface Call {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** The process did not start, or ended without a word about the plugin. The cause may be the host, which has no memory,
 * thread or time for it: the next start may succeed with the same plugin. */
export class NotStarted extends Error {
  override readonly name = 'NotStarted';
}

export class PluginProcess {
  #spawned: SpawnedProcess | undefined;
  readonly #limits: ProcessServices['limits'];
  readonly #printed: ProcessServices['printed'];
  readonly #calls = new Map<CallId, Call>();
  readonly #hosts = new Map<InstanceId, Host>();
  readonly #requests: PluginRequests;
  #reader: LineReader | undefined;
  #out: string[] = [];
  #loaded: Call | undefined;
  #lastCall = 0;
  #lastInstance = 0;
  #strayCalls = 0;
  /** Looks since the process has sent anything, and since it has answered a ping, while a call was open. */
  #silentLooks = 0;
  #unansweredLooks = 0;
  /** It was called after its last sign of life. The call may have met its deadline since. */
  #isAsked = false;
  #look: NodeJS.Timeout | undefined;
  #usage: Usage = { kib: 0, waitedMs: 0 };
  /** Its `waitedMs` when it began to be silent. */
  #waitedBeforeMs = 0;
  /** Why this daemon has ended it. */
  #cause: string | undefined;
  #hasEnded = false;
  /** Called once, at its end, with a sentence about the cause, and the number of instances that ended with it. */
  onEnded: (cause: string, instanceCount: number) => void = () => undefined;

  private constructor({ limits, printed }: ProcessServices) {
    this.#limits = limits;
    this.#printed = printed;
    this.#requests = new PluginRequests({
      host: (id) => (id === 0 ? [...this.#hosts.values()].at(0) : this.#hosts.get(id)),
      tick: (id, timer) => this.call(id, 'tick', [timer]).then(() => undefined),
      done: (id, value) => {
        this.#send(value === undefined ? ['done', id] : ['done', id, value]);
      },
      failed: (id, error) => {
        this.#send(['failed', id, plainError(error)]);
      },
    });
  }

  /** Starts a process and loads the plugin there. Rejects with the Error of the plugin, or with a NotStarted; the process has
   * been ended then. */
  static async start(
    services: ProcessServices,
    order: LoadOrder,
    deadlineMs: number,
  ): Promise<{ readonly process: PluginProcess; readonly description: Description }> {
    const process = new PluginProcess(services);
    const events = {
      printed: services.printed,
      usage: (usage: Usage) => {
        process.#used(usage);
      },
      ended: (how: string) => {
        process.#end(how);
      },
    };
    const spawned = services.spawner.start(order.state ?? null, events).catch((error: unknown) => {
      throw new NotStarted(errorText(error), { cause: error });
    });
    process.#attach(await spawned);
    const stopWaiting = atDeadline(
      deadlineMs,
      () => process.#usage.waitedMs,
      () => {
        process.kill(`was not loaded within ${deadlineMs} ms`);
      },
    );
    try {
      const description = await new Promise<unknown>((resolve, reject) => {
        process.#loaded = { resolve, reject };
        process.#send(['load', order]);
      });
      process.#watch();
      return { process, description: description as Description };
    } catch (error) {
      process.kill('could not be loaded');
      throw error;
    } finally {
      stopWaiting();
      process.#loaded = undefined;
    }
  }

  get pid(): number {
    return this.#spawned?.pid ?? 0;
  }

  /** Resident memory, children of the plugin included. */
  get memoryKib(): number {
    return this.#usage.kib;
  }

  get instanceCount(): number {
    return this.#hosts.size;
  }

  /** Registers an instance, which makes its calls to `host`. */
  add(host: Host): InstanceId {
    const id = ++this.#lastInstance;
    this.#hosts.set(id, host);
    this.#strayCalls = 0;
    return id;
  }

  remove(id: InstanceId): void {
    this.#hosts.delete(id);
    this.#requests.forget(id);
  }

  /** Rejects with the error of the plugin, or with an Error about the end of the process. After an abort of the signal, a
   * result is thrown away. */
  call(id: InstanceId, method: string, args: readonly unknown[], signal?: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded || this.#cause !== undefined) {
        reject(new Error(`its process ${this.#cause ?? 'has ended'}`));
        return;
      }
      if ((this.#spawned?.socket.writableLength ?? 0) > MAX_UNREAD_BYTES) {
        reject(new Error('its process does not read what varpd sends'));
        return;
      }
      this.#isAsked = true;
      const call = ++this.#lastCall;
      this.#calls.set(call, { resolve, reject });
      signal?.addEventListener(
        'abort',
        () => {
          if (!this.#calls.delete(call)) return;
          this.#send(['abort', call]);
          reject(new Error('the deadline has passed'));
        },
        { once: true },
      );
      this.#send(['call', call, id, method, args]);
    });
  }

  tell(id: InstanceId, method: string, args: readonly unknown[]): void {
    this.#send(['tell', id, method, args]);
  }

  /** Ends the process. `cause` goes into the sentence about it, unless there was an earlier one. */
  kill(cause: string): void {
    this.#cause ??= cause;
    this.#reader?.stop();
    this.#spawned?.kill();
  }

  #attach(spawned: SpawnedProcess): void {
    this.#spawned = spawned;
    this.#reader = new LineReader(spawned.socket, {
      maxBytes: MAX_LINE_BYTES,
      shareMs: SHARE_MS,
      restMs: REST_MS,
      heard: (line) => {
        this.#silentLooks = 0;
        try {
          this.#heardLine(line);
        } catch {
          this.kill('has sent what is no message');
        }
      },
      tooLong: () => {
        this.kill(`has sent a message of more than ${MAX_LINE_BYTES} bytes`);
      },
    });
    spawned.socket.on('close', () => {
      if (this.#hasEnded) return;
      // The spawner knows more about the end of the process.
      setTimeout(() => {
        this.kill('has closed its channel to varpd');
        this.#end('');
      }, ENDING_MS).unref();
    });
  }

  /** Sends all messages of this turn at once. */
  #send(message: ToPlugin): void {
    if (this.#hasEnded) return;
    this.#out.push(JSON.stringify(message), '\n');
    if (this.#out.length > 2) return;
    setImmediate(() => {
      const text = this.#out.join('');
      this.#out = [];
      if (!this.#hasEnded) this.#spawned?.socket.write(text);
    });
  }

  /** Throws when it is no message. */
  #heardLine(line: Buffer): void {
    const rows = readRowsLine(line);
    if (rows === undefined) {
      this.#heard(JSON.parse(line.toString()) as FromPlugin);
      return;
    }
    this.#countStray();
    this.#requests.addRows(rows);
  }

  /** To be called for each call of an instance. */
  #countStray(): void {
    if (this.#hosts.size === 0 && ++this.#strayCalls > MAX_STRAY_CALLS)
      this.kill('goes on with calls of instances that have been stopped');
  }

  /** Throws when the message is none. */
  #heard(message: FromPlugin): void {
    switch (message[0]) {
      case 'done':
      case 'failed': {
        const call = this.#calls.get(message[1]);
        if (call === undefined) return; // aborted
        this.#calls.delete(message[1]);
        if (message[0] === 'done') call.resolve(message[2]);
        else call.reject(errorOf(message[2]));
        return;
      }
      case 'tell':
        this.#countStray();
        this.#requests.tell(message[1], message[2], message[3]);
        this.#waitFor(message[1]);
        return;
      case 'ask':
        this.#countStray();
        this.#requests.ask(message[1], message[2], message[3], message[4]);
        this.#waitFor(message[1]);
        return;
      case 'discard':
        this.#countStray();
        this.#requests.dropRows(message[1]);
        return;
      case 'uncaught': {
        const error = errorOf(message[2]);
        const hosts = message[1] === null ? [...this.#hosts.values()] : [this.#hosts.get(message[1])];
        for (const host of hosts) if (host !== undefined) complainOf(host, error);
        if (hosts.length === 0) this.#printed(true, `an error that nothing has caught: ${errorText(error)}`);
        return;
      }
      case 'pong':
        this.#unansweredLooks = 0;
        this.#isAsked = false;
        return;
      case 'loaded':
        this.#loaded?.resolve(message[1]);
        return;
      case 'unloadable':
        this.#loaded?.reject(errorOf(message[1]));
        return;
      default:
        throw new TypeError('no message');
    }
  }

  /** While very many calls of an instance wait, the process is not heard, and so waits itself. */
  #waitFor(id: InstanceId): void {
    const host = this.#hosts.get(id);
    if (host === undefined || waitingCallsOf(host) < MAX_WAITING_CALLS) return;
    this.#reader?.hold();
    const look = setInterval(() => {
      // It is not silent: it is not heard.
      this.#silentLooks = 0;
      this.#unansweredLooks = 0;
      if (!this.#hasEnded && waitingCallsOf(host) > MAX_WAITING_CALLS / 2) return;
      clearInterval(look);
      this.#reader?.release();
    }, WAITING_LOOK_MS);
  }

  /**
   * Looks are counted instead of time: a daemon that was stopped for a while does not take its plugins for blocked.
   */
  #watch(): void {
    const { pluginBlockedMs } = this.#limits();
    const lookMs = Math.max(MIN_LOOK_MS, pluginBlockedMs / LOOKS_PER_DEADLINE);
    this.#look = setTimeout(() => {
      if (this.#hasEnded) return;
      const isOpen = this.#isAsked || this.#calls.size > 0;
      this.#silentLooks = isOpen ? this.#silentLooks + 1 : 0;
      this.#unansweredLooks = isOpen ? this.#unansweredLooks + 1 : 0;
      if (this.#silentLooks === 1) this.#waitedBeforeMs = this.#usage.waitedMs;
      const most = Math.ceil(pluginBlockedMs / lookMs);
      const waitedMs = excusedMs(this.#usage.waitedMs - this.#waitedBeforeMs, pluginBlockedMs);
      if (this.#silentLooks > most + waitedMs / lookMs || this.#unansweredLooks > BABBLE_FACTOR * most)
        this.kill(`was blocked for ${Math.round((this.#unansweredLooks * lookMs) / 100) / 10} s`);
      this.#send(['ping', 0]);
      this.#watch();
    }, lookMs).unref();
  }

  #used(usage: Usage): void {
    this.#usage = usage;
    const { pluginMemoryMib } = this.#limits();
    if (usage.kib > pluginMemoryMib * 1024) this.kill(`took more than ${pluginMemoryMib} MiB of memory`);
  }

  #end(how: string): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#look);
    const cause = `its process ${this.#cause ?? how}`;
    this.#spawned?.socket.destroy();
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    const { instanceCount } = this;
    this.#hosts.clear();
    this.#loaded?.reject(new NotStarted(cause));
    for (const { reject } of calls) reject(new Error(cause));
    // The callers come first: they still have an overlay that waits for an answer.
    setImmediate(() => {
      this.onEnded(cause, instanceCount);
    });
  }
}
