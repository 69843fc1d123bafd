/**
 * The stand-in over a `dladm restart`: a process with threads that move frames on the same descriptors. They
 * get the datapath's facts (sockets, overlays, ports, targets). The stand-in begins before varpd ends, and
 * stays until the next varpd has all that it needs, so that the descriptors are read at every moment. It asks
 * no plugin and hears no events. For a moment two processes move frames; each frame is moved by one of them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { Retained } from '../../datapath/contract.js';
import { closeDescriptor, reapChild, setInheritable, socketPair } from '../../dgram-extra/index.js';
import { inBackground } from '../../model/background.js';
import { leaveVariable } from '../environment.js';
import { SNAPSHOT_VERSION } from '../state/snapshot-format.js';
import { type FromStandIn, type Leased, type Orders, ordersOf } from './orders.js';
import { Channel } from './stand-in-channel.js';

/** A stand-in, as the varpd that begins uses it. */
export interface FrameMover {
  /** Resolves when the stand-in uses no descriptor any more, and `leased` has been called with all leases. */
  end(leased: Leased): Promise<void>;
  /** Called when this process could not start: leaves the stand-in to the next attempt. */
  passOn(): void;
}

const PROGRAM = fileURLToPath(new URL('./stand-in-process.js', import.meta.url));
/** Time for each of its steps, on a busy machine. Frames move meanwhile as before. */
const STEP_MS = 10_000;
/** Time for its end, before it is killed. */
const END_MS = 2000;

/** A stand-in, as the varpd that ends uses it. */
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
    // A child that cannot be started is noticed by the end of its channel.
    this.#child.on('error', () => undefined);
    this.#channel = new Channel(own, (message) => {
      this.#heard(message);
    });
  }

  /** Resolves when the stand-in can take orders. Rejects with an Error. */
  static async start(retained: Retained): Promise<StandIn> {
    const standIn = new StandIn(retained);
    return standIn.#orDrop(async () => {
      const { reads = [] } = await standIn.#next('ready');
      if (!reads.includes(SNAPSHOT_VERSION))
        throw new Error(`its program does not read version ${SNAPSHOT_VERSION} of its orders`);
      return standIn;
    });
  }

  /** Resolves when the stand-in moves frames, as this process still does. Rejects with an Error. */
  async carry(): Promise<this> {
    await this.#orDrop(async () => {
      this.#channel.send(ordersOf({ descriptors: [], lists: await this.#retained.lists() }));
      await this.#next('moving');
    });
    this.#channel.pause();
    return this;
  }

  /** Called before this process restarts. */
  leave(): void {
    leave(this.#fd, this.#child.pid);
  }

  /**
   * Ends the stand-in. It ends by itself when its channel does, unless it hangs: then its copies of the
   * descriptors would keep all links.
   */
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

  /** Waits for the next message. Rejects when it is of another kind, or late. */
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

/**
 * The stand-in that the previous process has left, named as `17:4711`. Undefined where the text names none.
 */
export function metStandIn(left: string): FrameMover | undefined {
  const found = /^(\d{1,9}):(\d{1,9})$/.exec(left);
  if (found === null) return undefined;
  const [fd, pid] = [Number(found[1]), Number(found[2])];
  // A child of varpd, such as a plugin's, must not inherit the channel: it would keep the stand-in running.
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

/** Leaves to the next process the channel, and the process id of the stand-in. */
function leave(fd: number, pid: number | undefined): void {
  setInheritable(fd, true);
  leaveVariable('standIn', `${fd}:${pid}`);
}

/** Waits for the child to end. Node does not know this child, since the previous process started it. */
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
