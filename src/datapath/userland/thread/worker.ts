/**
 * The datapath thread: blocks in epoll, gives whoever is ready one turn after the other (port-turn.ts has what a turn is),
 * and reads commands when the eventfd says so. Nothing in the loop walks all ports or overlays.
 */
import { performance } from 'node:perf_hooks';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import {
  addToPoll,
  closeDescriptor,
  createBatch,
  createPoll,
  native,
  removeFromPoll,
  type Ring,
  routeMtuBytes,
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

/** Frames a system call: past this, 0.5 us of call is below a hundredth of the work. */
const BATCH_FRAMES = 64;
/** Received datagrams each have room for the largest; pages that none fills cost nothing. */
const RECEIVE_SLAB_BYTES = BATCH_FRAMES * (HEADROOM_BYTES + MAX_FRAME_BYTES);
/** Small frames of a TAP are read many at once, each with room for the largest and 336 bytes (tap.c). */
const TRANSMIT_SLAB_BYTES = (BATCH_FRAMES + 1) * (MAX_FRAME_BYTES + 336);
/** Frames in a datagram that the kernel put together (UDP_GRO_CNT_MAX). A sender on this machine may make it 128, since Linux
 * 6.9: those wait for their turn, and are not lost (Device.rest). */
const MAX_RUN = 64;
/** Added to a token by pollWait: there is something in the error queue (dgram_extra.c). */
const HAS_ERRORS = 1 << 30;
/** Devices told of by one epoll_wait; the others are told of by the next. */
const READY_TOKENS = 64;

/** For so long a turn obeys commands, and the last of them besides, before it looks at the devices: a change of a million
 * targets holds up no frame for longer (backlog.ts, MAX_COMMANDS in thread.ts). */
const OBEY_MS = 0.5;

const port = parentPort;
if (port === null) throw new Error('worker.js is started by the daemon, not by hand');

const { wakeFd, isHeld, ring } = workerData as { wakeFd: number; isHeld: boolean; ring?: Ring };
if (ring !== undefined) useRing(ring);
const epoll = createPoll();
addToPoll(epoll, wakeFd, WAKE);
/** Descriptors and tokens, until `begin`. */
let held = isHeld ? new Map<number, number>() : undefined;

const platform: Platform = {
  createBatch: (direction) =>
    direction === 'receive'
      ? createBatch(BATCH_FRAMES, RECEIVE_SLAB_BYTES, BATCH_FRAMES * MAX_RUN)
      : createBatch(BATCH_FRAMES, TRANSMIT_SLAB_BYTES),
  port: (fd) => new LinuxPort(fd),
  socket: (fd, encapsulation, segmentation) => new LinuxSocket(fd, encapsulation, segmentation),
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
  readPathNews,
  routeMtuBytes: (from, to) => {
    try {
      return routeMtuBytes(toBytes(from), toBytes(to), to);
    } catch {
      return -1; // the route has gone meanwhile
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

/** Obeys what there is time for; the rest when the devices have been looked at. Whether to go on. */
function obeySome(): boolean {
  // First: what comes in meanwhile signals again.
  native.eventClear(wakeFd);
  engine.beginCommands();
  const endMs = performance.now() + OBEY_MS;
  let isLate = false;
  // Messages come first: what is no list, and what is for other overlays, is not behind the lists.
  for (let received; !isLate && (received = receiveMessageOnPort(port!)) !== undefined;) {
    for (const command of received.message as readonly Command[]) {
      backlog.take(command);
      if (command.kind === 'stop') return false;
    }
    isLate = performance.now() >= endMs;
  }
  // However many messages there are, lists and tables get on.
  let isBehind = backlog.goOn();
  while (isBehind && !engine.isSpent && performance.now() < endMs) isBehind = backlog.goOn();
  if (isLate || isBehind) signalEvent(wakeFd);
  return true;
}

/** Until told to stop. A function of its own, since V8 optimises those, and not the body of a module. */
function run(): void {
  const ready = new Int32Array(READY_TOKENS);
  let isUntidy = false;
  for (let running = true; running;) {
    const count = native.pollWait(epoll, ready, engine.hasWaiting || isUntidy ? 0 : -1);
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
