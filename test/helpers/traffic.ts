// Traffic between two hosts, and what became of it.
import { fromRoot } from './need.js';
import type { Namespace } from './netns.js';
import { type Child, CommandError, PATIENCE_MS, type Result, waitUntil } from './process.js';

const AGENT = fromRoot('dist/test/helpers/agent.js');
const RAWFRAME = fromRoot('dist/test/helpers/rawframe');

const agent = (role: string, settings: object): string[] => [
  process.execPath,
  AGENT,
  role,
  JSON.stringify(settings),
];

function jsonLines(text: string): Record<string, unknown>[] {
  // The last piece is empty, or a line that is still being written.
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Starts a listening agent; resolves with it and its port. */
async function listen(
  host: Namespace,
  role: string,
  settings: object,
): Promise<{ child: Child; port: number }> {
  const child = host.spawn(agent(role, settings));
  await child.waitForOutput(/"ready":\d+/);
  return { child, port: Number(/"ready":(\d+)/.exec(child.stdout)![1]) };
}

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
  return waitUntil(answered, { timeoutMs, what: `an answer from ${target}` }).then(
    () => true,
    () => false,
  );
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
  const { child, port } = await listen(to, 'tcp-receive', { host: address, port: 0 });
  const seed = port ^ bytes;
  const result = await from.run(agent('tcp-send', { host: address, port, bytes, seed }), { timeoutMs });
  if (result.code !== 0) {
    await child.stop('SIGKILL');
    throw new CommandError(result);
  }
  await child.exited;
  const sent = jsonLines(result.stdout)[0] as { sha256: string; seconds: number };
  const received = jsonLines(child.stdout)[1] as { bytes: number; sha256: string };
  const exact = received.bytes === bytes && received.sha256 === sent.sha256;
  return { bytesSent: bytes, bytesReceived: received.bytes, exact, seconds: sent.seconds };
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

const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Sends datagrams one after the other; resolves with the replies that came. */
export async function sendDatagrams(from: Namespace, datagrams: Datagrams): Promise<Buffer[]> {
  const { to: host, payloads, ...settings } = datagrams;
  const input = payloads.map((payload) => `${toHex(payload)}\n`).join('');
  const stdout = await from.exec(agent('udp-send', { host, ...settings }), { input });
  return jsonLines(stdout).map(({ hex }) => Buffer.from(hex as string, 'hex'));
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
  const { child, port } = await listen(to, 'udp-echo', { host: address, port: 0 });
  const payloads = sizes.map((size) =>
    Buffer.from(Uint8Array.from({ length: size }, (_, i) => (i * 7 + size) & 0xff)),
  );
  const replies = (await sendDatagrams(from, { to: address, port, payloads, repliesMs: 3000 })).map(toHex);
  await child.stop();
  return sizes.filter((_, i) => replies.includes(toHex(payloads[i])));
}

export interface Datagram {
  readonly from: string;
  readonly port: number;
  readonly payload: Buffer;
}

/** Listens for datagrams and keeps them. */
export class DatagramSink {
  private constructor(
    readonly child: Child,
    readonly port: number,
  ) {}

  static async open(host: Namespace, address: string, port = 0): Promise<DatagramSink> {
    const listening = await listen(host, 'udp-receive', { host: address, port });
    return new DatagramSink(listening.child, listening.port);
  }

  get datagrams(): Datagram[] {
    return jsonLines(this.child.stdout)
      .slice(1)
      .map(({ from, port, hex }) => ({
        from: from as string,
        port: port as number,
        payload: Buffer.from(hex as string, 'hex'),
      }));
  }

  async waitFor(count: number, timeoutMs = 5_000): Promise<Datagram[]> {
    const what = `${count} datagrams on port ${this.port}`;
    await waitUntil(() => this.datagrams.length >= count, { timeoutMs, what });
    return this.datagrams;
  }

  async close(): Promise<void> {
    await this.child.stop();
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
  private constructor(readonly child: Child) {}

  static async open(host: Namespace, device: string): Promise<FrameSink> {
    const child = host.spawn([RAWFRAME, 'receive', device]);
    await child.waitForOutput(/ready/);
    return new FrameSink(child);
  }

  /** Whole frames, VLAN tags in place. */
  get frames(): Buffer[] {
    return this.#lines().map((line) => Buffer.from(line.split(' ')[0], 'hex'));
  }

  /** Of each frame: whether its checksum is left to be finished by the hardware. */
  get partialChecksum(): boolean[] {
    return this.#lines().map((line) => line.endsWith(' partial'));
  }

  async waitFor(count: number, timeoutMs = 5_000): Promise<Buffer[]> {
    await waitUntil(() => this.#lines().length >= count, { timeoutMs, what: `${count} frames` });
    return this.frames;
  }

  async close(): Promise<void> {
    await this.child.stop('SIGKILL');
  }

  #lines(): string[] {
    return this.child.stdout.split('\n').slice(0, -1);
  }
}
