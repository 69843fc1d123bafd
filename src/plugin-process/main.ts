/**
 * The program of a plugin process. Descriptor 3 is the channel to varpd. The process ends when the channel does.
 *
 *   node main.js STATE_ROOT
 */
import { Socket } from 'node:net';
import { errorOf, plainError } from './errors.js';
import type { Outlet } from './host.js';
import { Instances, running } from './instances.js';
import { LineReader } from './lines.js';
import { load } from './load.js';
import type { CallId, LoadOrder, ToPlugin } from './messages.js';
import { Writer } from './writer.js';

const CHANNEL = 3;
/** varpd sends lists of ports and properties, of some 100 KiB at most. */
const MAX_BYTES = 16 * 1024 * 1024;
const SHARE_MS = 50;
/** Errors that no call returns, for each second. More of them say nothing new. */
const UNCAUGHT_PER_SECOND = 10;

/** The statuses are those of the end of the channel, and of a message that is none. */
const ENDED = 0;
const BAD_MESSAGE = 70;

const exit = process.exit.bind(process);
const stateRoot = process.argv[2];
process.argv.splice(2);

const writer = new Writer(CHANNEL, () => {
  exit(ENDED);
});
let instances: Instances | undefined;
const asked = new Map<CallId, { resolve: (value: unknown) => void; reject: (error: unknown) => void }>();
let lastAsk = 0;

const outlet: Outlet = {
  send: (text) => {
    writer.send(text);
  },
  isFull: () => writer.isFull,
  drained: (then) => {
    writer.drained(then);
  },
  ask: (instance, method, args) =>
    new Promise((resolve, reject) => {
      asked.set(++lastAsk, { resolve, reject });
      outlet.send(JSON.stringify(['ask', lastAsk, instance, method, args]));
    }),
};

let second = 0;
let uncaught = 0;

function report(error: unknown): void {
  const now = Math.floor(performance.now() / 1000);
  if (now !== second) uncaught = 0;
  second = now;
  if (++uncaught <= UNCAUGHT_PER_SECOND)
    outlet.send(JSON.stringify(['uncaught', running.getStore() ?? null, plainError(error)]));
}

async function begin(order: LoadOrder): Promise<void> {
  try {
    const { plugin, description } = await load(order, stateRoot);
    process.title = `varpd-plugin ${String((plugin as { name?: unknown } | undefined)?.name)}`;
    instances = new Instances(plugin, description.stateDir, outlet);
    outlet.send(JSON.stringify(['loaded', description]));
  } catch (error) {
    outlet.send(JSON.stringify(['unloadable', plainError(error)]));
  }
}

function obey(message: ToPlugin): void {
  switch (message[0]) {
    case 'load':
      begin(message[1]).catch(report);
      break;
    case 'call':
      instances?.call(message[1], message[2], message[3], message[4]);
      break;
    case 'abort':
      instances?.abort(message[1]);
      break;
    case 'tell':
      instances?.tell(message[1], message[2], message[3]);
      break;
    case 'done':
      asked.get(message[1])?.resolve(message[2]);
      asked.delete(message[1]);
      break;
    case 'failed':
      asked.get(message[1])?.reject(errorOf(message[2]));
      asked.delete(message[1]);
      break;
    case 'ping':
      outlet.send(JSON.stringify(['pong', message[1]]));
      break;
  }
}

process.on('uncaughtException', report);
process.on('unhandledRejection', report);
// Lines that the plugin has logged before its end are not lost.
process.on('exit', () => {
  writer.flush();
});
const channel = new Socket({ fd: CHANNEL, readable: true, writable: false });
channel.on('close', () => {
  exit(ENDED);
});
channel.on('error', () => {
  exit(ENDED);
});
new LineReader(channel, {
  maxBytes: MAX_BYTES,
  shareMs: SHARE_MS,
  heard: (line) => {
    try {
      obey(JSON.parse(line.toString()) as ToPlugin);
    } catch (error) {
      report(error);
    }
  },
  tooLong: () => {
    exit(BAD_MESSAGE);
  },
});
