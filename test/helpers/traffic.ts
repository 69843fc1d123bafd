// Traffic between two hosts, and what became of it.
import { type Job, startJob } from './agents.js';
import { fromRoot } from './need.js';
import type { Namespace } from './netns.js';
import { type Child, PATIENCE_MS, type Result, succeeds, waitUntil } from './process.js';

const RAWFRAME = fromRoot('dist/test/helpers/rawframe');

// ---------------------------------------------------------------- ping

export interface PingOptions {
  readonly count?: number;
  readonly intervalMs?: number;
  /** Length of the IP packet, headers included. */
  readonly packetBytes?: number;
  /** Forbid fragments (`-M do`). True unless said otherwise: a tunnel that needs them is broken. */
  readonly dontFragment?: boolean;
  /** Source address or device. */
  readonly from?: string;
  /** For the last answers. Longer than the second after which a silent neighbour is asked again, unless said otherwise. */
  readonly waitMs?: number;
}

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  readonly duplicates: number;
  readonly rttUs: readonly number[];
  readonly text: string;
}

const ICMP_HEADER_BYTES = 8;

/** Once some reply has come, ping(8) waits for the last one no longer than the interval, or twice as long as the slowest took. On
 * a busy machine that may be too short: where the last alone is missing, all is done again, once. */
export async function ping(host: Namespace, target: string, options: PingOptions = {}): Promise<PingResult> {
  const first = await pingOnce(host, target, options);
  const { sent, received, text } = first;
  const lacksLast = received > 0 && received === sent - 1 && !text.includes(`icmp_seq=${sent} ttl=`);
  return lacksLast ? pingOnce(host, target, options) : first;
}

async function pingOnce(host: Namespace, target: string, options: PingOptions): Promise<PingResult> {
  const { count = 3, intervalMs = 50, packetBytes, dontFragment = true, from, waitMs = 3000 } = options;
  const ipHeaderBytes = target.includes(':') ? 40 : 20;
  const args = ['-n', '-c', `${count}`, '-i', `${intervalMs / 1000}`, '-W', `${waitMs / 1000}`];
  if (packetBytes !== undefined) args.push('-s', `${packetBytes - ipHeaderBytes - ICMP_HEADER_BYTES}`);
  if (dontFragment) args.push('-M', 'do');
  if (from !== undefined) args.push('-I', from);
  const timeoutMs = count * Math.max(intervalMs, 1) * 3 + waitMs + 10_000;
  const result = await host.run(['ping', ...args, target], { timeoutMs });
  const text = result.stdout + result.stderr;
  const number = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0);
  return {
    sent: number(/(\d+) packets transmitted/),
    received: number(/(\d+) received/),
    duplicates: number(/\+(\d+) duplicates/),
    rttUs: [...text.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1]) * 1000),
    text,
  };
}

/** Pings until the first answer: for a tunnel that is still coming up. False after the time. */
export async function reaches(host: Namespace, target: string, timeoutMs = PATIENCE_MS): Promise<boolean> {
  const answered = async (): Promise<boolean> =>
    (await ping(host, target, { count: 1, waitMs: 200 })).received > 0;
  return succeeds(waitUntil(answered, { timeoutMs, what: `an answer from ${target}` }));
}

// ---------------------------------------------------------------- TCP

export interface Transfer {
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** The receiver's sha256 is the sender's. */
  readonly exact: boolean;
  readonly seconds: number;
}

export interface TransferOptions {
  /** Address of the receiving host to listen on: its overlay IPv4 address unless said otherwise. */
  readonly address?: string;
  readonly bytes?: number;
  readonly timeoutMs?: number;
}

/** Carries pseudo-random bytes over one TCP connection and compares what arrived. */
export async function transferTcp(
  from: Namespace,
  to: Namespace,
  options: TransferOptions = {},
): Promise<Transfer> {
  const { address = to.overlay.v4, bytes = 10 << 20, timeoutMs = 60_000 } = options;
  const receiver = startJob(to, 'tcp-receive', { host: address, port: 0 });
  const port = await receiver.port();
  const seed = port ^ bytes;
  const sender = startJob(from, 'tcp-send', { host: address, port, bytes, seed });
  try {
    const [sent] = (await sender.done(timeoutMs)) as unknown as [{ sha256: string; seconds: number }];
    const [, received] = (await receiver.done(PATIENCE_MS)) as unknown as [
      unknown,
      { bytes: number; sha256: string },
    ];
    const exact = received.bytes === bytes && received.sha256 === sent.sha256;
    return { bytesSent: bytes, bytesReceived: received.bytes, exact, seconds: sent.seconds };
  } catch (error) {
    receiver.stop();
    throw error;
  }
}

// ---------------------------------------------------------------- UDP

export interface Datagrams {
  readonly to: string;
  readonly port: number;
  readonly source?: string;
  readonly sourcePort?: number;
  /** How long to wait for as many replies as there are payloads; not at all when left out. */
  readonly repliesMs?: number;
  readonly payloads: readonly Uint8Array[];
}

/** For an echo. */
const REPLIES_MS = 3000;

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Sends datagrams one after the other; resolves with the replies that came. */
export async function sendDatagrams(from: Namespace, datagrams: Datagrams): Promise<Buffer[]> {
  const { to: host, payloads, repliesMs = 0, ...settings } = datagrams;
  const job = startJob(from, 'udp-send', { host, repliesMs, ...settings, payloads: payloads.map(toHex) });
  const replies = await job.done(PATIENCE_MS + repliesMs);
  return replies.map(({ hex }) => Buffer.from(hex as string, 'hex'));
}

/** Sends one datagram of each size to an echo on the other host; resolves with the sizes that came back unchanged. */
export async function udpEcho(
  from: Namespace,
  to: Namespace,
  {
    address = to.overlay.v4,
    sizes = [1, 100, 1000, 1400],
  }: { address?: string; sizes?: readonly number[] } = {},
): Promise<number[]> {
  const echo = startJob(to, 'udp-echo', { host: address, port: 0 });
  const port = await echo.port();
  const job = startJob(from, 'udp-sizes', { host: address, port, sizes, repliesMs: REPLIES_MS });
  const [{ echoed }] = (await job.done(PATIENCE_MS)) as unknown as [{ echoed: number[] }];
  echo.stop();
  return echoed;
}

export interface Datagram {
  readonly from: string;
  readonly port: number;
  readonly payload: Buffer;
}

/** Listens for datagrams and keeps them. */
export class DatagramSink {
  private constructor(
    readonly job: Job,
    readonly port: number,
  ) {}

  static async open(host: Namespace, address: string, port = 0): Promise<DatagramSink> {
    const job = startJob(host, 'udp-receive', { host: address, port });
    return new DatagramSink(job, await job.port());
  }

  get datagrams(): Datagram[] {
    return this.job.events.slice(1).map(({ from, port, hex }) => ({
      from: from as string,
      port: port as number,
      payload: Buffer.from(hex as string, 'hex'),
    }));
  }

  /** A datagram with these bytes in it has come. */
  has(hex: string): boolean {
    return this.job.events.some((event) => (event['hex'] as string | undefined)?.includes(hex) === true);
  }

  async waitFor(count: number): Promise<Datagram[]> {
    const what = `${count} datagrams on port ${this.port}`;
    await this.job.said(() => this.job.events.length > count, what);
    return this.datagrams;
  }

  async close(): Promise<void> {
    this.job.stop();
    await this.job.done(PATIENCE_MS);
  }
}

// ---------------------------------------------------------------- frames

/** Sends whole Ethernet frames out of a device. With `vnet` each starts with a 10-byte virtio-net header. */
export async function sendFrames(
  host: Namespace,
  device: string,
  frames: readonly Uint8Array[],
  { vnet = false }: { vnet?: boolean } = {},
): Promise<Result> {
  const input = frames.map((frame) => `${toHex(frame)}\n`).join('');
  return host.run([RAWFRAME, 'send', device, ...(vnet ? ['vnet'] : [])], { input });
}

/** Keeps every frame that enters a device: for a port of an overlay, what the overlay delivers to this host. */
export class FrameSink {
  private constructor(
    readonly child: Child,
    private readonly beginning: string,
  ) {}

  /** `beginning`: hexadecimal digits that the frames to keep begin with. A host or a bridge on the way has some of its own. */
  static async open(host: Namespace, device: string, beginning = ''): Promise<FrameSink> {
    const child = host.spawn([RAWFRAME, 'receive', device]);
    await child.waitForOutput(/ready/);
    return new FrameSink(child, beginning);
  }

  /** Whole frames, VLAN tags in place. */
  get frames(): Buffer[] {
    return this.#lines().map((line) => Buffer.from(line.split(' ')[0], 'hex'));
  }

  /** Of each frame: whether its checksum is left to be finished by the hardware. */
  get partialChecksum(): boolean[] {
    return this.#lines().map((line) => line.endsWith(' partial'));
  }

  async waitFor(count: number): Promise<Buffer[]> {
    await waitUntil(() => this.#lines().length >= count, { what: `${count} frames` });
    return this.frames;
  }

  async close(): Promise<void> {
    await this.child.stop('SIGKILL');
  }

  #lines(): string[] {
    const lines = this.child.stdout.split('\n').slice(0, -1);
    return lines.filter((line) => line.startsWith(this.beginning));
  }
}
