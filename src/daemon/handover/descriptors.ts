/**
 * Descriptors that outlive a daemon: TAPs and listening sockets, by name, from the one that ends to the one that begins.
 * As long as somebody holds them their links keep carrier, and the kernel keeps what arrives meanwhile.
 *
 * Two ways. A daemon that restarts itself (execve) leaves them open and names them in its environment. systemd keeps
 * copies over a restart of the service, after a crash too, and passes them as it passes sockets: FDSTORE=1 of
 * sd_notify(3), sd_listen_fds(3). It has each from the moment that it is open until it is closed for good.
 */
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Descriptor, Inherited } from '../../datapath/contract.js';
import { closeDescriptor, sdNotify, setInheritable, socketPair } from '../../dgram-extra/index.js';
import { inBackground } from '../../model/background.js';
import {
  descriptorLists,
  forgetDescriptors,
  leaveDescriptorLists,
  passedByManager,
  storeSize,
} from '../environment.js';

/** In one string of the environment, of which Linux takes 128 KiB (MAX_ARG_STRLEN); an item has at most 64 bytes. */
const LIST_ITEMS = 1024;
/** What is left for the stand-in (stand-in-store.ts), which looks before the rest is received. The value is older than the word:
 * varpd of an earlier version may have left it. */
export const STORED_STAND_IN = 'bridge';
/** SD_LISTEN_FDS_START */
const FIRST_PASSED = 3;

/** What the service manager passed to this process, for whoever takes it. */
export function passedDescriptors(): Descriptor[] {
  const { count, names } = passedByManager();
  return Array.from({ length: count }, (_, index) => {
    return { name: names.at(index) ?? '', fd: FIRST_PASSED + index };
  });
}

/** Before this process restarts itself: what it was given, and has not looked at, is for the one to come. */
export function keepInheritedOpen(): void {
  for (const { fd } of [...passedDescriptors(), ...ownList()]) setInheritable(fd, true);
}

function ownList(): Descriptor[] {
  return descriptorLists()
    .flatMap((list) => list.split(','))
    .map((item) => /^([^=,]+)=(\d{1,9})$/.exec(item))
    .filter((match) => match !== null)
    .map(([, name, fd]) => ({ name, fd: Number(fd) }));
}

export class InheritedDescriptors {
  readonly #fds = new Map<string, number>();

  /** What this process was given; the environment forgets it. */
  static receive(): InheritedDescriptors {
    const inherited = new InheritedDescriptors();
    for (const { name, fd } of ownList()) inherited.#add(name, fd);
    for (const { name, fd } of passedDescriptors()) inherited.#add(name, fd);
    forgetDescriptors();
    const stored = inherited.take(STORED_STAND_IN);
    if (stored !== undefined) {
      closeDescriptor(stored);
      inBackground('forgetting the orders of the stand-in', forgetAtManager([STORED_STAND_IN]));
    }
    return inherited;
  }

  get isEmpty(): boolean {
    return this.#fds.size === 0;
  }

  take(name: string): number | undefined {
    const fd = this.#fds.get(name);
    this.#fds.delete(name);
    return fd;
  }

  /** The same, and it stays. */
  look(name: string): number | undefined {
    return this.#fds.get(name);
  }

  /** What was taken could not be used just now: it is kept for the next attempt, or for the next daemon. */
  giveBack(descriptors: readonly Descriptor[]): void {
    for (const { name, fd } of descriptors) this.#add(name, fd);
  }

  /** As a datapath takes it, with the rest of what it needs to know of an earlier daemon. */
  with(rest: Pick<Inherited, 'links' | 'persistTaps' | 'hasStandIn'>): Inherited {
    return {
      take: (name) => this.take(name),
      look: (name) => this.look(name),
      giveBack: (descriptors) => {
        this.giveBack(descriptors);
      },
      keep: leaveToManager,
      forget: forgetAtManager,
      ...rest,
    };
  }

  /** What nobody has taken, and stays open. */
  get rest(): Descriptor[] {
    return [...this.#fds].map(([name, fd]) => ({ name, fd }));
  }

  /** Closes what nobody has taken and `isWanted` does not name. Returns the names. */
  closeUnwanted(isWanted: (name: string) => boolean): string[] {
    const names = [...this.#fds.keys()].filter((name) => !isWanted(name));
    for (const name of names) closeDescriptor(this.take(name)!);
    inBackground('forgetting descriptors', forgetAtManager(names));
    return names;
  }

  #add(name: string, fd: number): void {
    setInheritable(fd, false);
    const twin = this.#fds.get(name);
    if (twin !== undefined) closeDescriptor(twin);
    this.#fds.set(name, fd);
  }
}

/** For execve. */
export function leaveToMyself(descriptors: readonly Descriptor[]): void {
  const lists = [];
  for (let first = 0; first < descriptors.length; first += LIST_ITEMS) {
    const some = descriptors.slice(first, first + LIST_ITEMS);
    lists.push(some.map(({ name, fd }) => `${name}=${fd}`).join(','));
  }
  leaveDescriptorLists(lists);
  for (const { fd } of descriptors) setInheritable(fd, true);
}

/** Gives the service manager copies, as many as it takes; one that it has already is one still. */
export function leaveToManager(descriptors: readonly Descriptor[]): void {
  for (const { name, fd } of descriptors.slice(0, storeSize())) sdNotify(`FDSTORE=1\nFDNAME=${name}`, fd);
}

/** It has no time to lose, and may be reading all of its units again. */
const BARRIER_MS = 2000;

/** Resolves when it has no copy of these any more, which would keep alive what is deleted here; or when that cannot be
 * known. Never rejects. */
export async function forgetAtManager(names: readonly string[]): Promise<void> {
  if (storeSize() === 0 || names.length === 0) return;
  for (const name of names) sdNotify(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  let pair;
  try {
    pair = socketPair();
  } catch {
    return; // No descriptor is left: it is told, and what it does is not waited for.
  }
  // sd_notify_barrier(3): it closes what it is passed when it has read all that was said before.
  const [own, theirs] = pair;
  const isTold = sdNotify('BARRIER=1', theirs);
  closeDescriptor(theirs);
  if (!isTold) {
    closeDescriptor(own);
    return;
  }
  const socket = new Socket({ fd: own, readable: true });
  const closed = new Promise((resolve) => socket.on('error', resolve).on('close', resolve).resume());
  await Promise.race([closed, delay(BARRIER_MS, undefined, { ref: false })]);
  socket.destroy();
}
