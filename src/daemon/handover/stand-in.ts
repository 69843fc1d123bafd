/**
 * What moves frames while varpd begins again: threads with what its datapath was told (sockets, overlays, ports, targets), on
 * the same descriptors. They ask nobody and know no news. While two move frames, for a moment, each frame is moved by
 * one of them.
 *
 * `dladm restart`: they are in a process of their own, which is there before varpd ends and until the next one has all
 * that it needs. The kernel sees at every moment somebody who reads.
 * A service manager waits for the end before it starts anything. So what they are told is left to it with the
 * descriptors, and they are the first thing that the next varpd starts: the rest of it takes longer to load.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LeaseNews } from '../../core/dhcp-leases.js';
import type { Lists, Retained } from '../../datapath/contract.js';
import { closeDescriptor, reapChild, setInheritable, socketPair } from '../../dgram-extra/index.js';
import { inBackground } from '../../model/background.js';
import { leaveVariable, takeVariable } from '../environment.js';
import { VERSION } from '../version.js';
import { Channel, type Leased } from './stand-in-channel.js';
import { startStored } from './stand-in-store.js';

export type ToStandIn = Lists;
export type FromStandIn =
  /** A program that was replaced meanwhile may be told things that mean something else to it. */
  | { readonly kind: 'ready'; readonly version: string }
  | { readonly kind: 'moving' }
  | { readonly kind: 'leases'; readonly news: readonly LeaseNews[] };

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
  readonly #channel: Channel<ToStandIn, FromStandIn>;
  #heard: (message: FromStandIn) => void = () => undefined;

  private constructor(retained: Retained) {
    this.#retained = retained;
    const [own, theirs] = socketPair();
    this.#fd = own;
    for (const fd of retained.descriptors) setInheritable(fd, true);
    const args = [...process.execArgv, PROGRAM, String(retained.threads)];
    this.#child = spawn(process.execPath, args, { stdio: [theirs, 'ignore', 'inherit'] });
    for (const fd of retained.descriptors) setInheritable(fd, false);
    closeDescriptor(theirs);
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
      const ready = await standIn.#next('ready');
      if (ready.version !== VERSION) throw new Error(`its program is varpd ${ready.version}`);
      return standIn;
    });
  }

  /** Resolves when it moves frames, as this process still does. Rejects with an Error. */
  async carry(): Promise<this> {
    await this.#orDrop(async () => {
      this.#channel.send(await this.#retained.lists());
      await this.#next('moving');
    });
    this.#channel.pause();
    return this;
  }

  /** Before this process begins again. */
  leave(): void {
    setInheritable(this.#fd, true);
    leaveVariable('standIn', `${this.#fd}:${this.#child.pid}`);
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

/** The process that this one was told of. */
let met: { readonly fd: number; readonly pid: number } | undefined;
/** Seen by the varpd that begins: resolves when no descriptor is used any more. */
let takeDown: ((leased: Leased) => Promise<void>) | undefined;

/** Frames move, although nothing here moves them. */
export const hasStandIn = (): boolean => takeDown !== undefined;

/** Does nothing when there is none. */
export async function endStandIn(leased: Leased): Promise<void> {
  const end = takeDown;
  takeDown = undefined;
  met = undefined;
  await end?.(leased);
}

/** Before anything else is loaded. Resolves when frames move, if somebody has left what is needed: loading beside it
 * would keep both from the processor. Never rejects: without it, frames wait until all is loaded. */
export async function startStandIn(): Promise<void> {
  const found = /^(\d{1,9}):(\d{1,9})$/.exec(takeVariable('standIn') ?? '');
  if (found !== null) meetProcess(Number(found[1]), Number(found[2]));
  else takeDown = await startStored().catch(() => undefined);
}

/** This process could not start and makes room for another attempt: the process that moves frames is for that one. */
export function passStandInOn(): void {
  if (met === undefined) return;
  setInheritable(met.fd, true);
  leaveVariable('standIn', `${met.fd}:${met.pid}`);
}

function meetProcess(fd: number, pid: number): void {
  // What varpd starts, a plugin's process for one, has no business with it, and would keep it running.
  setInheritable(fd, false);
  met = { fd, pid };
  const news: LeaseNews[] = [];
  const channel = new Channel<ToStandIn, FromStandIn>(fd, (message) => {
    if (message.kind === 'leases') news.push(...message.news);
  });
  takeDown = async (leased) => {
    inBackground('ending the stand-in', channel.end());
    await Promise.race([channel.ended, delay(END_MS, undefined, { ref: false })]);
    channel.close();
    news.forEach(leased);
    await reap(pid);
  };
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
