// Traffic and commands beside a fault, with their times: frames of a known flow, frames to MACs that are new each time, a
// command every 100 ms. They go over overlay0 from varpd's host to a kernel VTEP, whose arrivals this process reads.
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';

import { formatMac } from '../../src/plugin/index.js';
import { Daemon } from '../helpers/daemon.js';
import { toHex, udpFrame } from '../helpers/frames.js';
import { fromRoot } from '../helpers/need.js';
import { addKernelVxlan, type Bed, type Namespace } from '../helpers/netns.js';
import { type Child, waitUntil } from '../helpers/process.js';
import { filesOverlay, MappingFile } from '../helpers/zlan.js';

const RAWFRAME = fromRoot('dist/test/helpers/rawframe');
const VNETID = 23;
const FIRST_MAC = 0x0210_0000_0000;
/** Entries of the mapping: a new MAC every 50 ms for some minutes. */
const MACS = 20_000;
const KNOWN_EVERY_MS = 10;
/** A new MAC with every fifth frame: 20 a second. */
const NEW_EVERY = 5;
const COMMAND_EVERY_MS = 100;
/** For the frames that are under way at the end. */
const ARRIVAL_MS = 5000;

/** Times in ms. */
export interface Times {
  readonly count: number;
  readonly lost: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface Figures {
  readonly known: Times;
  readonly fresh: Times;
  /** `lost`: failed. */
  readonly commands: Times;
}

/** `known: 0 of 300 lost, p99 1.2 ms, at most 3 ms; ...` */
export function figuresText(figures: Figures): string {
  return (['known', 'fresh', 'commands'] as const)
    .map((name) => {
      const { count, lost, p99Ms, maxMs } = figures[name];
      return `${name}: ${lost} of ${count} lost, p99 ${p99Ms.toFixed(1)} ms, at most ${maxMs.toFixed(1)} ms`;
    })
    .join('; ');
}

const timesOf = (count: number, ms: readonly number[]): Times => {
  const sorted = [...ms].sort((one, other) => one - other);
  return {
    count,
    lost: count - sorted.length,
    p99Ms: sorted[Math.floor(0.99 * sorted.length)] ?? 0,
    maxMs: sorted.at(-1) ?? 0,
  };
};

/** varpd with overlay0 on `files`, a mapping of many MACs at the kernel's VTEP. */
export async function manyMacs(
  bed: Bed,
  pluginPath: readonly string[],
  config: Readonly<Record<string, unknown>> = {},
): Promise<{ a: Namespace; b: Namespace; daemon: Daemon }> {
  const [a, b] = await bed.twoHosts();
  const file = new MappingFile(bed);
  const entries = Array.from({ length: MACS }, (_, index) => [
    formatMac(FIRST_MAC + index),
    { ip: b.underlay.v4, port: 4789 },
  ]);
  file.replace(JSON.stringify(Object.fromEntries(entries)));
  const daemon = await Daemon.start(bed, a, { pluginPath, config });
  await daemon.ok(filesOverlay(a, file, { vnetid: VNETID }));
  await a.ip('link set overlay0 up');
  await addKernelVxlan(b, { vnetid: VNETID, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.ip('link set vx0 up');
  return { a, b, daemon };
}

export class Beside {
  readonly #sender: Child;
  readonly #daemon: Daemon;
  #receiver: Child | undefined;
  #sentMs: number[] = [];
  /** The frame with this number has a new MAC. */
  #isFresh: boolean[] = [];
  #arrivedMs = new Map<number, number>();
  /** Number of the first frame since the last `take`. */
  #first = 0;
  #nextMac = 1;
  #commandMs: number[] = [];
  #commands = 0;
  #isOver = false;
  #work: Promise<unknown> = Promise.resolve();

  private constructor(sender: Child, daemon: Daemon) {
    this.#sender = sender;
    this.#daemon = daemon;
  }

  static async start(a: Namespace, b: Namespace, daemon: Daemon): Promise<Beside> {
    const sender = a.spawn([RAWFRAME, 'send', 'overlay0'], {}, 'pipe');
    await sender.waitForOutput(/ready/);
    const beside = new Beside(sender, daemon);
    beside.#receiver = b.spawn([RAWFRAME, 'receive', 'vx0'], {
      line: (line) => {
        beside.#arrived(line);
      },
    });
    await beside.#receiver.waitForOutput(/ready/);
    beside.#work = Promise.all([beside.#send(), beside.#command()]);
    return beside;
  }

  /** Frames since the last `take`. */
  get count(): number {
    return this.#sentMs.length - this.#first;
  }

  /** What happened since the last call. */
  async take(): Promise<Figures> {
    const [from, to] = [this.#first, this.#sentMs.length];
    this.#first = to;
    const numbers = Array.from({ length: to - from }, (_, index) => from + index);
    const isThere = (): boolean => numbers.every((number) => this.#arrivedMs.has(number));
    await waitUntil(isThere, { timeoutMs: ARRIVAL_MS, what: 'the last frames' }).catch(() => undefined);
    const times = (isFresh: boolean): Times => {
      const chosen = numbers.filter((number) => this.#isFresh[number] === isFresh);
      return timesOf(
        chosen.length,
        chosen.flatMap((number) => {
          const at = this.#arrivedMs.get(number);
          return at === undefined ? [] : [at - this.#sentMs[number]];
        }),
      );
    };
    // A command that is under way counts next time.
    const commands = timesOf(this.#commands, this.#commandMs);
    this.#commands = 0;
    this.#commandMs = [];
    return { known: times(false), fresh: times(true), commands };
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#work;
    this.#sender.end();
    await this.#sender.exited;
    await this.#receiver?.stop('SIGKILL');
  }

  #arrived(line: string): void {
    const number = parseInt(line.split(' ')[0].slice(-8), 16);
    if (!this.#arrivedMs.has(number)) this.#arrivedMs.set(number, performance.now());
  }

  async #send(): Promise<void> {
    const payload = new Uint8Array(64);
    const number = new DataView(payload.buffer, payload.length - 4);
    while (!this.#isOver) {
      const index = this.#sentMs.length;
      const isFresh = index % NEW_EVERY === NEW_EVERY - 1;
      const mac = FIRST_MAC + (isFresh ? this.#nextMac++ % MACS : 0);
      number.setUint32(0, index);
      this.#isFresh.push(isFresh);
      const frame = udpFrame({ destinationMac: formatMac(mac), payload });
      this.#sentMs.push(performance.now());
      this.#sender.write(`${toHex(frame)}\n`);
      await sleep(KNOWN_EVERY_MS);
    }
  }

  async #command(): Promise<void> {
    while (!this.#isOver) {
      const startedMs = performance.now();
      await this.#daemon.call('daemon.status', {}).then(
        () => this.#commandMs.push(performance.now() - startedMs),
        () => undefined,
      );
      this.#commands++;
      await sleep(COMMAND_EVERY_MS);
    }
  }
}
