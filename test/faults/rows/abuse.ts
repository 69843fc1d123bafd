// Clients that abuse the control socket, while a flow goes on that must not notice.
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { encodeMessage } from '../../../src/control/framing.js';
import { encapsulated, udpFrame } from '../../helpers/frames.js';
import type { Bed } from '../../helpers/netns.js';
import { waitUntil } from '../../helpers/process.js';
import { sendDatagrams } from '../../helpers/traffic.js';
import { part } from '../../helpers/whole.js';
import { SteadyPing } from '../../helpers/zlan.js';
import { answersNow, check, type Row, tunnel } from '../row.js';

const LINE_BYTES = 1 << 30;
/** varpd reads 64 KiB of it, and 4 MiB while it says why; the rest is in the socket's buffers. */
const MAX_TAKEN_BYTES = 32 << 20;
const CONNECTIONS = 10_000;
/** Of clients that keep theirs open at a time. */
const OPEN_AT_ONCE = 500;

const opened = (socket: string): Promise<Socket> =>
  new Promise((resolve) => {
    const client = connect(socket);
    client.on('error', () => undefined);
    client.on('connect', () => {
      resolve(client);
    });
    client.on('close', () => {
      resolve(client);
    });
  });

/** Sends one line without an end until varpd has had enough; how much it took. */
async function endlessLine(socket: string): Promise<number> {
  const client = await opened(socket);
  const chunk = Buffer.alloc(1 << 20, 0x20);
  let taken = 0;
  while (!client.destroyed && client.writable && taken < LINE_BYTES) {
    // Called with an error when varpd has closed the connection.
    const isTaken = await new Promise<boolean>((resolve) => {
      client.write(chunk, (error) => {
        resolve(!error);
      });
    });
    if (!isTaken) break;
    taken += chunk.length;
  }
  client.destroy();
  return taken;
}

async function abuse(bed: Bed, connections: number): Promise<string> {
  const { a, b, daemon } = await tunnel(bed);
  const flow = await SteadyPing.start(a, b.overlay.v4);
  const before = { kib: daemon.residentKib(), descriptors: await daemon.descriptorsAtRest() };
  const request = encodeMessage({ jsonrpc: '2.0', id: 1, method: 'overlay.list', params: {} });
  const { socket } = daemon;
  const clients: Socket[] = [];

  const taken = await endlessLine(socket);
  check(taken < MAX_TAKEN_BYTES, `a line of 1 GiB is cut off early, not after ${taken >> 20} MiB`);
  // Half a request, and nothing more.
  for (let n = 0; n < 30; n++) {
    const client = await opened(socket);
    client.write(request.slice(0, request.length / 2));
    clients.push(client);
  }
  // Many requests, and no answer is ever read.
  for (let n = 0; n < 30; n++) {
    const client = await opened(socket);
    client.pause();
    client.write(request.repeat(1000));
    clients.push(client);
  }
  for (let made = 0; made < connections; made += OPEN_AT_ONCE) {
    const some = await Promise.all(Array.from({ length: OPEN_AT_ONCE }, () => opened(socket)));
    // Some say nothing, some leave at once, some in the middle of an answer.
    for (const [index, client] of some.entries()) if (index % 3 > 0) client.write(request);
    for (const client of some) client.destroy();
  }
  for (const client of clients) client.destroy();
  // The daemon may still read what those sent who have left.
  const isServed = async (): Promise<boolean> => (await daemon.dladm('show-overlay', 'overlay0')).code === 0;
  await waitUntil(isServed, { what: 'a place for dladm' });
  const { sent, lost } = await flow.stop();
  check(lost === 0, `no packet of a known flow is lost, not ${lost} of ${sent}`);
  await answersNow(a, b.overlay.v4);
  const mib = Math.round((daemon.residentKib() - before.kib) / 1024);
  check(mib < 64, `memory is not held: ${mib} MiB more`);
  const descriptors = (await daemon.descriptorsAtRest(before.descriptors)) - before.descriptors;
  check(descriptors === 0, `descriptors are back, not ${descriptors} more`);
  return `cut off after ${taken >> 20} of 1024 MiB; ${connections} connections; 0 of ${sent} packets lost, ${mib} MiB more`;
}

const socketAbuse: Row = {
  name: 'S14',
  fault: 'control socket: a line of 1 GiB, half requests, 10,000 connections, answers never read',
  run: (bed) => abuse(bed, CONNECTIONS),
};

/** The part of it that `npm test` has. */
export const socketAbuseShortly: Row = {
  ...socketAbuse,
  fault: `control socket: a line of 1 GiB, half requests, ${part(2000)} connections, answers never read`,
  run: (bed) => abuse(bed, part(2000)),
};

const BAD_DATAGRAMS = 20_000;
const MAX_LINES = 100;

const logFlood: Row = {
  name: 'S22',
  fault: `${BAD_DATAGRAMS.toLocaleString('en')} bad datagrams of all kinds: what is logged`,
  quick: true,
  async run(bed) {
    const { a, b, daemon } = await tunnel(bed);
    const lines = (): number => daemon.log().split('\n').length;
    const before = lines();
    const frame = udpFrame();
    const kinds = [
      encapsulated(42, frame).subarray(0, 7),
      encapsulated(42, frame, { 0: 0 }),
      encapsulated(43, frame),
      encapsulated(42, frame.subarray(0, 10)),
      encapsulated(42, frame, { 1: 0xff }),
    ];
    const payloads = Array.from({ length: BAD_DATAGRAMS }, (_, index) => kinds[index % kinds.length]);
    const grown = await daemon.counted(async () => {
      await sendDatagrams(b, { to: a.underlay.v4, port: 4789, payloads });
      await sleep(200);
    });
    const counted = ['rx_truncated', 'rx_no_vni', 'rx_unknown_vni', 'rx_runt', 'rx_reserved_bits'];
    for (const name of counted) check((grown[name] ?? 0) > 0, `they are counted as ${name}`);
    const said = lines() - before;
    check(said < MAX_LINES, `fewer than ${MAX_LINES} lines, not ${said}`);
    await answersNow(a, b.overlay.v4);
    return `${said} lines, ${counted.join(', ')} counted`;
  },
};

export const abuseRows: readonly Row[] = [socketAbuse, logFlood];
