/**
 * A datapath for the time between: while varpd begins again, a thread goes on moving the frames of what is known.
 *
 * Most of a restart is loading the control side. So the daemon that ends writes down what its datapath was told
 * (sockets, overlays, ports, targets), and the first thing that the new one does is to start a thread with that, on the
 * same descriptors. It asks nobody and knows no news. Once the real datapath has everything, both move frames for a
 * moment, each frame by one of them, and the bridge is taken down.
 */
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { createCounters } from '../core/counters.js';
import { closeDescriptor, createEvent, setInheritable, signalEvent } from '../dgram-extra/index.js';
import type { BareCommand, Command, Report } from './datapath/protocol.js';
import type { StateDirectory } from './state-directory.js';

/** In the environment of the process to come: an open file without a name. */
const NAME = 'VARPD_BRIDGE';
/** Its ending says that a next start may remove it, should this process die in between. */
const FILE = '.bridge.tmp';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/** Before this process begins again. Throws the system's error: then frames wait until all is loaded. */
export function leaveBridge(commands: readonly BareCommand[], directory: StateDirectory): void {
  const file = directory.path(FILE);
  rmSync(file, { force: true });
  const fd = openSync(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  unlinkSync(file);
  writeFileSync(fd, serialize(commands));
  setInheritable(fd, true);
  process.env[NAME] = String(fd);
}

let takeDown: () => Promise<void> = () => Promise.resolve();

/** Puts it up when this process is one that began again. Before anything else is loaded: resolves when frames move, since
 * loading beside it would keep both from the processor. */
export async function startBridge(): Promise<void> {
  const fd = Number(process.env[NAME]);
  Reflect.deleteProperty(process.env, NAME);
  if (!Number.isInteger(fd) || fd < 0) return;
  const bytes = new Uint8Array(fstatSync(fd).size);
  readSync(fd, bytes, 0, bytes.length, 0);
  closeSync(fd);
  const wakeFd = createEvent();
  const ping: Command = { kind: 'ping', reply: 0 };
  const commands = [...(deserialize(bytes) as BareCommand[]).map(counted), ping];
  const worker = new Worker(new URL('./datapath/worker.js', import.meta.url), {
    workerData: { wakeFd, commands },
    name: 'bridge',
  });
  const exited = new Promise<void>((resolve) => {
    // One that fails is no worse than none.
    worker.on('error', () => {
      resolve();
    });
    worker.on('exit', () => {
      resolve();
    });
  });
  takeDown = async () => {
    const stop: readonly Command[] = [{ kind: 'stop', reply: 1 }];
    worker.postMessage(stop);
    signalEvent(wakeFd);
    await exited;
    closeDescriptor(wakeFd);
  };
  const moves = new Promise<void>((resolve) => {
    worker.on('message', ({ kind }: Report) => {
      if (kind === 'reply') resolve();
    });
  });
  await Promise.race([moves, exited]);
}

/** Resolves when it uses no descriptor any more. Does nothing when there is none. */
export async function endBridge(): Promise<void> {
  const end = takeDown;
  takeDown = () => Promise.resolve();
  await end();
}

/** Counters are memory of one process. */
function counted(command: BareCommand): Command {
  return { ...command, counters: createCounters() } as Command;
}
