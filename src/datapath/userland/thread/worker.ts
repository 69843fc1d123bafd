/**
 * The datapath thread. It blocks in epoll, gives each ready port or socket a turn (port-turn.ts defines it),
 * and reads commands when the eventfd is ready. No step of the loop walks over all ports or overlays.
 */
import { performance } from 'node:perf_hooks';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import {
  addToPoll,
  closeDescriptor,
  createBatch,
  createPoll,
  nameThread,
  native,
  removeFromPoll,
  type Ring,
  routeMtuBytes,
  shortenSlice,
  signalEvent,
  useRing,
} from '../../../dgram-extra/index.js';
import { LinuxPort, LinuxSocket, readPathNews } from '../../../io/linux.js';
import { HEADROOM_BYTES, MAX_FRAME_BYTES } from '../../../wire/descriptor.js';
import { toBytes } from '../../../wire/ip.js';
import { type Command, WAKE } from '../protocol.js';
import { nowMs } from './clock.js';
import { Backlog } from './command-backlog.js';
import { DatapathEngine, type Platform } from './engine.js';

/** Frames per system call: with more, the call's 0.5 us would be less than a hundredth of the work. */
const BATCH_FRAMES = 64;
/** Each received datagram has room for the largest; pages that are never written cost nothing. */
const RECEIVE_SLAB_BYTES = BATCH_FRAMES * (HEADROOM_BYTES + MAX_FRAME_BYTES);
/** Many small frames of a TAP are read at once, each with room for the largest frame and 336 bytes
 * (tap.c). */
const TRANSMIT_SLAB_BYTES = (BATCH_FRAMES + 1) * (MAX_FRAME_BYTES + 336);
/** Frames in a message that the kernel has put together (UDP_GRO_CNT_MAX). Since Linux 6.9 a sender on this
 * machine can make it 128: then the other frames wait for descriptors and are not lost (Device.rest). */
const MAX_RUN = 64;
/** Added to a token by pollWait if the error queue has messages (dgram_extra.c). */
const HAS_ERRORS = 1 << 30;
/** By the result of addressTunnel. */
const TUNNEL_USE = ['none', 'sent', 'refused'] as const;
/** Devices that one epoll_wait reports; the next call reports the others. */
const READY_TOKENS = 64;

/** Time for which a turn obeys commands, plus the last command, before it looks at the devices. So a change
 * of a million targets delays no frame for longer (command-backlog.ts, MAX_COMMANDS in thread.ts). */
const OBEY_MS = 0.5;

const port = parentPort;
if (port === null) throw new Error('worker.js is started by the daemon, not by hand');

const { wakeFd, isHeld, ring, name } = workerData as {
  wakeFd: number;
  isHeld: boolean;
  ring?: Ring;
  name: string;
};
nameThread(name);
shortenSlice();
if (ring !== undefined) useRing(ring);
const epoll = createPoll();
addToPoll(epoll, wakeFd, WAKE);
/** Descriptors and tokens that are watched from `begin` on; undefined after it. */
let held = isHeld ? new Map<number, number>() : undefined;

const platform: Platform = {
  createBatch: (direction) =>
    direction === 'receive'
      ? createBatch(BATCH_FRAMES, RECEIVE_SLAB_BYTES, BATCH_FRAMES * MAX_RUN)
      : createBatch(BATCH_FRAMES, TRANSMIT_SLAB_BYTES),
  port: (fd, headerBytes) => new LinuxPort(fd, headerBytes),
  socket: (fd, encapsulation, ways) => new LinuxSocket(fd, encapsulation, ways),
  watch: (fd, token) => {
    if (held === undefined) addToPoll(epoll, fd, token);
    else held.set(fd, token);
  },
  unwatch: (fd) => {
    if (held?.delete(fd) !== true) removeFromPoll(epoll, fd);
  },
  begin: () => {
    const waiting = held;
    held = undefined;
    waiting?.forEach((token, fd) => {
      addToPoll(epoll, fd, token);
    });
  },
  setAddress: (slot, address, udpPort) => {
    native.addressSet(slot, address, udpPort);
  },
  refusesSegmentation: (slot) => native.addressRefused(slot) === 1,
  setLink: (slot, link, mtuBytes) => {
    native.addressLink(slot, link, mtuBytes);
  },
  tunnelUse: (slot) => TUNNEL_USE[native.addressTunnel(slot)],
  readPathNews,
  random: Math.random,
  routeMtuBytes: (from, to) => {
    try {
      return routeMtuBytes(toBytes(from), toBytes(to), to);
    } catch {
      return -1; // the route is gone
    }
  },
};

const engine = new DatapathEngine(platform, (report) => {
  port.postMessage(report);
});

const backlog = new Backlog(
  (command) => {
    engine.obey(command);
  },
  () => engine.isSpent,
);

/** Obeys commands as long as there is time; the others are obeyed after the devices have been served. Returns
 * whether the thread goes on. */
function obeySome(): boolean {
  // Cleared first, so that a message that arrives meanwhile signals again.
  native.eventClear(wakeFd);
  engine.beginCommands();
  const endMs = performance.now() + OBEY_MS;
  let isLate = false;
  // Messages come before lists, so that commands without a list, and those to other overlays, do not wait for
  // lists.
  for (let received; !isLate && (received = receiveMessageOnPort(port!)) !== undefined;) {
    for (const command of received.message as readonly Command[]) {
      backlog.take(command);
      if (command.kind === 'stop') return false;
    }
    isLate = performance.now() >= endMs;
  }
  // Lists make progress, however many messages there are.
  let isBehind = backlog.goOn();
  while (isBehind && !engine.isSpent && performance.now() < endMs) isBehind = backlog.goOn();
  if (isLate || isBehind) signalEvent(wakeFd);
  return true;
}

/** Runs until a stop command. This is a function because V8 optimises functions, and not the body of a
 * module. */
function run(): void {
  const ready = new Int32Array(READY_TOKENS);
  let isUntidy = false;
  for (let running = true; running;) {
    const count = native.pollWait(epoll, ready, engine.hasWaiting || isUntidy ? 0 : engine.waitMs);
    engine.setTime(nowMs());
    for (let index = 0; index < count; index++) {
      const token = ready[index] & ~HAS_ERRORS;
      if (token !== ready[index]) engine.hear(token);
      if (token === WAKE) running = obeySome();
      else engine.pump(token);
    }
    engine.resume();
    isUntidy = engine.tidy();
  }
}

run();
closeDescriptor(epoll);
