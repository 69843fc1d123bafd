// A small program that the helpers start inside a namespace (agents.ts), once for all that is to be done there. It reads one line of
// JSON for each job, {id, role, ...}, and prints one for each event, with the id of its job; {done: true} or {error} is the last.
//
//   tcp-receive  {host, port}                 accepts one connection, answers with what it got: {bytes, sha256}
//   tcp-send     {host, port, bytes, seed}    sends pseudo-random bytes, prints {bytes, sha256, seconds}
//   udp-echo     {host, port}                 sends every datagram back to where it came from
//   udp-send     {host, port, payloads, source?, sourcePort?, repliesMs?}
//                                             sends each payload (hex) as one datagram; prints replies as {hex}
//   udp-sizes    {host, port, sizes, repliesMs}
//                                             sends a datagram of each size to an echo; prints {echoed: the sizes that came back}
//   udp-receive  {host, port}                 prints each datagram as {from, port, hex}
//   stop         {job}                        ends a job that listens
//
// "port" 0 lets the system choose; a role that listens prints {ready: port} first.
import { createHash } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

interface Job {
  id: number;
  role: string;
  /** Of `stop`. */
  job: number;
  payloads: readonly string[];
  sizes: readonly number[];
  host: string;
  port: number;
  bytes: number;
  seed: number;
  source?: string;
  sourcePort?: number;
  repliesMs?: number;
}

const CHUNK_BYTES = 256 * 1024;
const print = ({ id }: Job, event: object): void => {
  process.stdout.write(`${JSON.stringify({ id, ...event })}\n`);
};
/** How to end the jobs that listen. */
const listening = new Map<number, () => void>();

/** The same seed gives the same bytes. xorshift32: no two chunks alike, and faster than any network here. */
function* pseudoRandom(totalBytes: number, seed: number): Generator<Buffer> {
  let state = seed | 1;
  for (let sent = 0; sent < totalBytes; sent += CHUNK_BYTES) {
    const chunk = new Uint32Array(CHUNK_BYTES / 4);
    for (let i = 0; i < chunk.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      chunk[i] = state;
    }
    yield Buffer.from(chunk.buffer, 0, Math.min(CHUNK_BYTES, totalBytes - sent));
  }
}

async function tcpSend(job: Job): Promise<void> {
  const { host, port, bytes, seed } = job;
  const hash = createHash('sha256');
  const socket = net.connect({ host, port });
  const ended = new Promise<string>((resolve, reject) => {
    let answer = '';
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => (answer += text));
    socket.on('end', () => {
      resolve(answer);
    });
    socket.on('error', reject);
  });
  const startedMs = performance.now();
  const source = function* (): Generator<Buffer> {
    for (const chunk of pseudoRandom(bytes, seed)) {
      hash.update(chunk);
      yield chunk;
    }
  };
  await Promise.all([pipeline(source, socket, { end: true }), ended]);
  print(job, { bytes, sha256: hash.digest('hex'), seconds: (performance.now() - startedMs) / 1000 });
}

function tcpReceive(job: Job): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = net.createServer({ allowHalfOpen: true }, (socket) => {
      const hash = createHash('sha256');
      let bytes = 0;
      socket.on('data', (chunk) => {
        hash.update(chunk);
        bytes += chunk.length;
      });
      socket.on('end', () => {
        print(job, { bytes, sha256: hash.digest('hex') });
        socket.end();
      });
      socket.on('error', reject);
      socket.on('close', () => server.close());
      listening.set(job.id, () => socket.destroy());
    });
    listening.set(job.id, () => server.close());
    server.on('error', reject);
    server.on('close', resolve);
    server.listen(job.port, job.host, () => {
      print(job, { ready: (server.address() as net.AddressInfo).port });
    });
  });
}

const udpSocket = (host: string): dgram.Socket =>
  dgram.createSocket({ type: net.isIPv6(host) ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });

function udpListen(job: Job, echo: boolean): Promise<void> {
  const socket = udpSocket(job.host);
  socket.on('message', (message, from) => {
    if (echo) socket.send(message, from.port, from.address);
    else print(job, { from: from.address, port: from.port, hex: message.toString('hex') });
  });
  socket.bind(job.port, job.host, () => {
    print(job, { ready: socket.address().port });
  });
  listening.set(job.id, () => socket.close());
  return new Promise((resolve, reject) => {
    socket.on('close', resolve);
    socket.on('error', reject);
  });
}

/** Sends them one after the other, and waits for as many replies. */
async function exchange(
  { host, port, source, sourcePort, repliesMs = 0 }: Job,
  payloads: readonly Uint8Array[],
  heard: (reply: Buffer) => void,
): Promise<void> {
  const socket = udpSocket(host);
  let replies = 0;
  socket.on('message', (message) => {
    replies++;
    heard(message);
  });
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.bind(sourcePort ?? 0, source, resolve);
  });
  for (const payload of payloads)
    await new Promise<void>((resolve, reject) => {
      socket.send(payload, port, host, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  const deadline = performance.now() + repliesMs;
  while (replies < payloads.length && performance.now() < deadline) await sleep(10);
  await new Promise<void>((resolve) => socket.close(resolve));
}

async function udpSend(job: Job): Promise<void> {
  const payloads = job.payloads.map((hex) => Buffer.from(hex, 'hex'));
  await exchange(job, payloads, (reply) => {
    print(job, { hex: reply.toString('hex') });
  });
}

const ofSize = (size: number): Buffer =>
  Buffer.from(Uint8Array.from({ length: size }, (_, index) => (index * 7 + size) & 0xff));

async function udpSizes(job: Job): Promise<void> {
  const back = new Set<number>();
  await exchange(job, job.sizes.map(ofSize), (reply) => {
    if (reply.equals(ofSize(reply.length))) back.add(reply.length);
  });
  print(job, { echoed: job.sizes.filter((size) => back.has(size)) });
}

function stop({ job }: Job): Promise<void> {
  listening.get(job)?.();
  return Promise.resolve();
}

const ROLES: Readonly<Record<string, (job: Job) => Promise<void>>> = {
  'tcp-send': tcpSend,
  'tcp-receive': tcpReceive,
  'udp-echo': (job) => udpListen(job, true),
  'udp-receive': (job) => udpListen(job, false),
  'udp-send': udpSend,
  'udp-sizes': udpSizes,
  stop,
};

async function work(job: Job): Promise<void> {
  try {
    await ROLES[job.role](job);
    print(job, { done: true });
  } catch (error) {
    print(job, { error: String(error) });
  }
  listening.delete(job.id);
}

for await (const line of createInterface({ input: process.stdin })) void work(JSON.parse(line) as Job);
process.exit();
