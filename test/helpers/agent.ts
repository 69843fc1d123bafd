// A small program that the helpers start inside a namespace: node agent.js ROLE JSON. It prints one line of JSON per event.
//
//   tcp-receive  {host, port}                 accepts one connection, answers with what it got: {bytes, sha256}
//   tcp-send     {host, port, bytes, seed}    sends pseudo-random bytes, prints {bytes, sha256, seconds}
//   udp-echo     {host, port}                 sends every datagram back to where it came from
//   udp-send     {host, port, source?, sourcePort?, repliesMs?}
//                                             sends each line of stdin (hex) as one datagram; prints replies as {hex}
//   udp-receive  {host, port}                 prints each datagram as {from, port, hex}
//
// "port" 0 lets the system choose; a role that listens prints {ready: port} first.
import { createHash } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

interface Settings {
  host: string;
  port: number;
  bytes: number;
  seed: number;
  source?: string;
  sourcePort?: number;
  repliesMs?: number;
}

const CHUNK_BYTES = 256 * 1024;
const print = (event: object): void => {
  process.stdout.write(`${JSON.stringify(event)}\n`);
};

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

async function tcpSend({ host, port, bytes, seed }: Settings): Promise<void> {
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
  print({ bytes, sha256: hash.digest('hex'), seconds: (performance.now() - startedMs) / 1000 });
}

function tcpReceive({ host, port }: Settings): void {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('data', (chunk) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    socket.on('end', () => {
      print({ bytes, sha256: hash.digest('hex') });
      socket.end();
      server.close();
    });
    socket.on('error', (error) => {
      print({ bytes, sha256: '', error: error.message });
      server.close();
    });
  });
  server.listen(port, host, () => {
    print({ ready: (server.address() as net.AddressInfo).port });
  });
}

const udpSocket = (host: string): dgram.Socket =>
  dgram.createSocket({ type: net.isIPv6(host) ? 'udp6' : 'udp4', recvBufferSize: 4 << 20 });

function udpListen({ host, port }: Settings, echo: boolean): void {
  const socket = udpSocket(host);
  socket.on('message', (message, from) => {
    if (echo) socket.send(message, from.port, from.address);
    else print({ from: from.address, port: from.port, hex: message.toString('hex') });
  });
  socket.bind(port, host, () => {
    print({ ready: socket.address().port });
  });
}

async function udpSend({ host, port, source, sourcePort, repliesMs = 0 }: Settings): Promise<void> {
  const socket = udpSocket(host);
  let [sent, replies] = [0, 0];
  socket.on('message', (message) => {
    replies++;
    print({ hex: message.toString('hex') });
  });
  await new Promise<void>((resolve) => socket.bind(sourcePort ?? 0, source, resolve));
  for await (const line of createInterface({ input: process.stdin })) {
    sent++;
    await new Promise<void>((resolve, reject) => {
      socket.send(Buffer.from(line, 'hex'), port, host, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }
  const deadline = performance.now() + repliesMs;
  while (replies < sent && performance.now() < deadline) await sleep(10);
  socket.close();
}

const [, , role, json = '{}'] = process.argv;
const settings = JSON.parse(json) as Settings;
if (role === 'tcp-send') await tcpSend(settings);
else if (role === 'tcp-receive') tcpReceive(settings);
else if (role === 'udp-echo') udpListen(settings, true);
else if (role === 'udp-receive') udpListen(settings, false);
else if (role === 'udp-send') await udpSend(settings);
else throw new Error(`unknown role ${role}`);
