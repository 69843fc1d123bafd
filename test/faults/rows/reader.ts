// Somebody who may only look at varpd does so with all his might, while another overlay must not notice.
import { chmodSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { targetPages } from '../../../src/cli/pages.js';
import { encodeMessage } from '../../../src/control/framing.js';
import { MAX_BATCH_REQUESTS, MAX_REQUEST_BYTES } from '../../../src/control/messages.js';
import type { MethodName } from '../../../src/control/methods.js';
import { fromRoot } from '../../helpers/need.js';
import type { Bed } from '../../helpers/netns.js';
import { waitUntil } from '../../helpers/process.js';
import { peakResidentKib } from '../../helpers/procfs.js';
import { part } from '../../helpers/whole.js';
import { SteadyPing } from '../../helpers/zlan.js';
import { answersNow, check, checkTime, type Row, tunnel } from '../row.js';

interface Size {
  readonly targets: number;
  readonly vnics: number;
  readonly attackMs: number;
}

const PLUGINS = fromRoot('dist/test/bench/plugins');
const FILL_MS = 180_000;
const REST_MS = 60_000;
const CONNECTIONS_A_KIND = 6;
/** Nobody is any of them, and none is in the group. */
const USERS = [61_001, 61_002, 61_003];
const MAX_MORE_MIB = 192;
/** Of another overlay's pings, on a machine whose every processor is busy with readers and with answering them. */
const MAX_P99_MS = 50;

const request = (method: MethodName, params: object = {}): object => ({
  jsonrpc: '2.0',
  id: 1,
  method,
  params,
});
const fullBatch = (one: object): string =>
  encodeMessage(Array.from({ length: MAX_BATCH_REQUESTS }, () => one));
const LISTS = [
  request('vnic.list'),
  request('overlay.list'),
  request('linkprop.list', { persistent: false }),
  request('overlay.targets', { name: 'big0', limit: 4096 }),
];
const unknownNames = Array.from({ length: 4096 }, (_, index) => `n${index}`);

/** What a connection says, again and again. */
const LINES: readonly (readonly [what: string, line: string])[] = [
  ['more than a batch may have', encodeMessage(Array.from({ length: 900 }, () => LISTS[0]))],
  ['nested', `${'['.repeat(MAX_REQUEST_BYTES - 1)}\n`],
  ['nothing but small errors', '1\n'.repeat(10_000)],
  ['unknown names', encodeMessage(request('vnic.list', { names: unknownNames }))],
  ['lists of everything', LISTS.map(fullBatch).join('')],
  ['target pages', encodeMessage(LISTS[3]).repeat(20)],
];

/** The kernel takes down who connects, and that is done when connect returns. */
function connectAs(uid: number, socket: string): Socket {
  process.seteuid!(uid);
  try {
    return connect(socket);
  } finally {
    process.seteuid!(0);
  }
}

/** Until `isOver`: connects, says its line as often as it is taken, and connects again when it is cut off. */
async function attack(
  socket: string,
  { uid, line, doesRead }: { uid: number; line: string; doesRead: boolean },
  isOver: () => boolean,
): Promise<number> {
  let bytes = 0;
  while (!isOver()) {
    const client = connectAs(uid, socket);
    client.on('error', () => undefined);
    if (doesRead) client.on('data', (chunk) => (bytes += chunk.length));
    while (!isOver() && !client.destroyed) {
      if (!client.writableNeedDrain) client.write(line);
      await sleep(10);
    }
    client.destroy();
  }
  return bytes;
}

async function fillUp(bed: Bed, { targets, vnics }: Size) {
  const { a, b, daemon } = await tunnel(bed, { pluginPath: [PLUGINS] });
  // What a thousand interfaces of one host say to each other by themselves is a million frames, and no reader's doing.
  await a.quietNewDevices();
  await a.ip(`route add 198.18.0.0/15 via ${b.underlay.v4}`);
  const fill = `-p many/count=${targets} -p many/every=${targets / 10} -p many/dest_ip=${b.underlay.v4}`;
  await daemon.ok(
    `create-overlay -e vxlan -s many -v 77 -p vxlan/listen_ip=${a.underlay.v4} -p mtu=1400 ${fill} big0`,
  );
  for (let index = 0; index < vnics; index++)
    await daemon.call('vnic.create', { name: `idle${index}`, over: 'big0', temporary: true });
  const isFull = async (): Promise<boolean> =>
    (await daemon.overlays('big0'))[0].health.details === `${targets} targets are set`;
  await waitUntil(isFull, { timeoutMs: FILL_MS, stepMs: 200, what: `${targets} targets` });
  return { a, b, daemon };
}

async function hostileReader(bed: Bed, size: Size): Promise<string> {
  const { a, b, daemon } = await fillUp(bed, size);
  const { pid, socket } = daemon;
  // Garbage that is not collected yet would make any other figure lower.
  const beforeKib = peakResidentKib(pid);
  const descriptors = await daemon.descriptorsAtRest();
  chmodSync(daemon.directory, 0o755);
  chmodSync(socket, 0o666);
  const flow = await SteadyPing.start(a, b.overlay.v4);
  let isOver = false;
  const over = (): boolean => isOver;
  const attacks = LINES.flatMap(([, line]) =>
    Array.from({ length: CONNECTIONS_A_KIND }, (_, index) =>
      attack(socket, { uid: USERS[index % USERS.length], line, doesRead: index > 1 }, over),
    ),
  );
  const until = performance.now() + size.attackMs;
  let answers = 0;
  for (; performance.now() < until; answers++) {
    await daemon.call('daemon.status', {});
    await sleep(20);
  }
  isOver = true;
  const bytes = (await Promise.all(attacks)).reduce((sum, one) => sum + one, 0);
  const moreMib = Math.round((peakResidentKib(pid) - beforeKib) / 1024);
  const rttUs = flow.rttUs.sort((one, other) => one - other);
  const { sent, lost } = await flow.stop();
  check(daemon.running && daemon.pid === pid, 'varpd lives');
  check(!/unhandled|bug:/.test(daemon.log()), 'nothing unforeseen is logged');
  const p99Ms = rttUs[Math.floor(rttUs.length * 0.99)] / 1000;
  checkTime(p99Ms < MAX_P99_MS, `pings of another overlay are undisturbed: p99 ${p99Ms.toFixed(1)} ms`);
  check(lost === 0, `no packet of another overlay is lost, not ${lost} of ${sent}`);
  check(answers > 0 && bytes > 0, 'others are answered, and the readers too');
  check(moreMib < MAX_MORE_MIB, `memory is bounded: ${moreMib} MiB more`);
  // What was asked for last is still worked at.
  const areBack = (): boolean => daemon.descriptors <= descriptors;
  await waitUntil(areBack, { timeoutMs: REST_MS, what: 'the descriptors to be closed' });

  const macs: string[] = [];
  for await (const rows of targetPages('big0', daemon.call)) for (const { mac } of rows) macs.push(mac);
  check(macs.length === size.targets, `${size.targets} targets are listed, not ${macs.length}`);
  check(
    macs.every((mac, index) => index === 0 || mac > macs[index - 1]),
    'in ascending order, each once',
  );
  check((await daemon.vnics()).length === size.vnics, `all ${size.vnics} VNICs are listed`);
  await daemon.ok('modify-overlay -f big0');
  check((await daemon.ok('show-overlay -t -p -o target big0')) === '', 'a flush is in force at once');
  await answersNow(a, b.overlay.v4);
  const answered = `${Math.round(bytes / (1 << 20))} MiB of answers, ${answers} to another client`;
  return `${answered}; 0 of ${sent} packets lost, ping p99 ${p99Ms.toFixed(1)} ms; ${moreMib} MiB more`;
}

const rowOf = (size: Size, isQuick: boolean): Row => ({
  name: 'H3',
  fault: `a hostile reader: ${size.targets.toLocaleString('en')} targets, ${size.vnics} VNICs, 36 connections of three users`,
  quick: isQuick,
  run: (bed) => hostileReader(bed, size),
});

export const readerRows: readonly Row[] = [
  rowOf({ targets: 1_000_000, vnics: 1000, attackMs: 20_000 }, false),
];

/** The part of it that `npm test` has. */
export const readerShortly = rowOf({ targets: part(50_000), vnics: part(100), attackMs: part(5000) }, true);
