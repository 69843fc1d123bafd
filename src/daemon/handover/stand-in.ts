/**
 * The stand-in over a `dladm restart`: threads that have been told what the datapath knows (sockets, overlays, ports, targets),
 * on the same descriptors, in a process of their own. It is there before varpd ends and until the next one has all that it
 * needs, so that the descriptors are read at every moment. It asks no plugin and hears no news. While two processes
 * move frames, for a moment, each frame is moved by one of them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LeaseNews } from '../../core/dhcp-leases.js';
import type { Retained } from '../../datapath/contract.js';
import { closeDescriptor, reapChild, setInheritable, socketPair } from '../../dgram-extra/index.js';
import { inBackground } from '../../model/background.js';
import { leaveVariable } from '../environment.js';
import { SNAPSHOT_VERSION } from '../state/snapshot-format.js';
import { type FromStandIn, type Leased, type Orders, ordersOf } from './orders.js';
import { Channel } from './stand-in-channel.js';

/** A stand-in, seen by the varpd that begins. */
export interface FrameMover {
  /** Resolves when it uses no descriptor any more, and `leased` has been told all. */
  end(leased: Leased): Promise<void>;
  /** This process could not start and makes room for another attempt: the stand-in is for that one. */
  passOn(): void;
}

const PROGRAM = fileURLToPath(new URL('./stand-in-process.js', import.meta.url));
/** For each of its steps, on a machine that is busy. Frames move meanwhile as they did. */
const STEP_MS = 10_000;
/** For its end, before it is killed. */
const END_MS = 2000;

/** Seen by the varpd that ends. */
export class StandIn {
  readonly #retained: Retained;
  readonly #fd: number;
  readonly #child: ChildProcess;
  readonly #channel: Channel<Orders, FromStandIn>;
  #heard: (message: FromStandIn) => void = () => undefined;

  private constructor(retained: Retained) {
    this.#retained = retained;
    const [own, theirs] = socketPair();
    this.#fd = own;
    const args = [...process.execArgv, PROGRAM, String(retained.threads)];
    try {
      for (const fd of retained.descriptors) setInheritable(fd, true);
      this.#child = spawn(process.execPath, args, { stdio: [theirs, 'ignore', 'inherit'] });
    } catch (error) {
      closeDescriptor(own);
      throw error;
    } finally {
      for (const fd of retained.descriptors) setInheritable(fd, false);
      closeDescriptor(theirs);
    }
    // One that cannot be started is seen by the end of its channel.
    this.#child.on('error', () => undefined);
    this.#channel = new Channel(own, (message) => {
      this.#heard(message);
    });
  }

  /** Resolves when it can be told what to do. Rejects with an Error. */
  static async start(retained: Retained): Promise<StandIn> {
    const standIn = new StandIn(retained);
    return standIn.#orDrop(async () => {
      const { reads = [] } = await standIn.#next('ready');
      if (!reads.includes(SNAPSHOT_VERSION))
        throw new Error(`its program does not read version ${SNAPSHOT_VERSION} of its orders`);
      return standIn;
    });
  }

  /** Resolves when it moves frames, as this process still does. Rejects with an Error. */
  async carry(): Promise<this> {
    await this.#orDrop(async () => {
      this.#channel.send(ordersOf({ descriptors: [], lists: await this.#retained.lists() }));
      await this.#next('moving');
    });
    this.#channel.pause();
    return this;
  }

  /** Before this process restarts. */
  leave(): void {
    leave(this.#fd, this.#child.pid);
  }

  /** It ends by itself when its channel does, unless it hangs: then its copies of the descriptors would keep all links. */
  drop(): void {
    this.#channel.close();
    this.#child.kill('SIGKILL');
  }

  async #orDrop<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.drop();
      throw error;
    }
  }

  /** The next message is of this kind, and comes in time. */
  async #next<K extends FromStandIn['kind']>(kind: K): Promise<Extract<FromStandIn, { kind: K }>> {
    const late = new AbortController();
    try {
      const message = await Promise.race([
        new Promise<FromStandIn>((resolve) => {
          this.#heard = resolve;
        }),
        this.#channel.ended.then(() => Promise.reject(new Error('its process has ended'))),
        delay(STEP_MS, undefined, { signal: late.signal }).then(() =>
          Promise.reject(new Error(`no word from its process within ${STEP_MS} ms`)),
        ),
      ]);
      if (message.kind !== kind) throw new Error(`its process says '${message.kind}', not '${kind}'`);
      return message as Extract<FromStandIn, { kind: K }>;
    } finally {
      late.abort();
    }
  }
}

/** The stand-in that the process before has left: `17:4711`. Undefined where that says nothing of one. */
export function metStandIn(left: string): FrameMover | undefined {
  const found = /^(\d{1,9}):(\d{1,9})$/.exec(left);
  if (found === null) return undefined;
  const [fd, pid] = [Number(found[1]), Number(found[2])];
  // A process that varpd starts, a plugin's for one, has no business with it, and would keep it running.
  setInheritable(fd, false);
  const news: LeaseNews[] = [];
  const channel = new Channel<Orders, FromStandIn>(fd, (message) => {
    if (message.kind === 'leases') news.push(...message.news);
  });
  return {
    async end(leased) {
      inBackground('ending the stand-in', channel.end());
      await Promise.race([channel.ended, delay(END_MS, undefined, { ref: false })]);
      channel.close();
      news.forEach(leased);
      await reap(pid);
    },
    passOn: () => {
      leave(fd, pid);
    },
  };
}

/** For the process to come: the channel, and the number of the stand-in's process. */
function leave(fd: number, pid: number | undefined): void {
  setInheritable(fd, true);
  leaveVariable('standIn', `${fd}:${pid}`);
}

/** Node knows nothing of this child: it was started by the process that this one was. */
async function reap(pid: number): Promise<void> {
  const startedMs = performance.now();
  try {
    while (!reapChild(pid)) {
      if (performance.now() - startedMs > END_MS) process.kill(pid, 'SIGKILL');
      await delay(5);
    }
  } catch {
    // it is gone
  }
}
