/**
 * Descriptors of TAPs and listening sockets that outlive a daemon, by name: the daemon that ends leaves them
 * to the one that begins. While a process holds them their links keep carrier, and the kernel keeps frames
 * that arrive.
 *
 * There are two ways. A daemon that restarts itself (execve) leaves them open and names them in its
 * environment. systemd keeps copies over a restart of the service, after a crash too, and passes them as it
 * passes sockets: FDSTORE=1 of sd_notify(3), sd_listen_fds(3). systemd gets the copy of a descriptor when it
 * is opened, and keeps it until it is closed for good.
 */
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Descriptor, Inherited } from '../../datapath/contract.js';
import { closeDescriptor, sdNotify, setInheritable, socketPair } from '../../dgram-extra/index.js';
import { tapDescriptor } from '../../datapath/userland/main/taps.js';
import { inBackground } from '../../model/background.js';
import {
  descriptorLists,
  forgetDescriptors,
  leaveDescriptorLists,
  passedByManager,
  storeSize,
} from '../environment.js';
import type { UnfinishedRename } from '../state/persistent-links.js';

/**
 * Items in one string of the environment, of which Linux takes 128 KiB (MAX_ARG_STRLEN); an item has at most
 * 64 bytes.
 */
const LIST_ITEMS = 1024;
/**
 * Name of the stand-in's orders (stand-in-store.ts), which are read before the other descriptors are
 * received. The value is an old word for the stand-in, since a varpd of an earlier version may have left it.
 */
export const STORED_STAND_IN = 'bridge';
/** SD_LISTEN_FDS_START */
const FIRST_PASSED = 3;

/** The descriptors that the service manager has passed to this process. */
export function passedDescriptors(): Descriptor[] {
  const { count, names } = passedByManager();
  return Array.from({ length: count }, (_, index) => {
    return { name: names.at(index) ?? '', fd: FIRST_PASSED + index };
  });
}

/**
 * Called before this process restarts itself without having received its inherited descriptors: they stay
 * open for the next process.
 */
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

  /** Takes over the descriptors that this process was given, and removes them from the environment. */
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

  /** Returns the same as `take`, and the descriptor stays. */
  look(name: string): number | undefined {
    return this.#fds.get(name);
  }

  /** Gives descriptors of a port that was renamed the names that they have under its present name. */
  rename({ port, other }: UnfinishedRename): void {
    for (let queue = 0; ; queue++) {
      const [before, name] = [other, port].map((one) => tapDescriptor(one, queue));
      const fd = this.take(before);
      if (fd === undefined) return;
      inBackground('forgetting descriptors', forgetAtManager([before]));
      leaveToManager([{ name, fd }]);
      this.#add(name, fd);
    }
  }

  /** Keeps taken descriptors that could not be used just now, for the next attempt or the next daemon. */
  giveBack(descriptors: readonly Descriptor[]): void {
    for (const { name, fd } of descriptors) this.#add(name, fd);
  }

  /**
   * The descriptors as a datapath takes them, with the other facts that it needs to know of an earlier
   * daemon.
   */
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

  /** Descriptors that were not taken, and stay open. */
  get rest(): Descriptor[] {
    return [...this.#fds].map(([name, fd]) => ({ name, fd }));
  }

  /** Closes descriptors that were not taken and that `isWanted` does not name. Returns their names. */
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

/** Leaves descriptors to the process that this one becomes (execve). */
export function leaveToMyself(descriptors: readonly Descriptor[]): void {
  const lists = [];
  for (let first = 0; first < descriptors.length; first += LIST_ITEMS) {
    const some = descriptors.slice(first, first + LIST_ITEMS);
    lists.push(some.map(({ name, fd }) => `${name}=${fd}`).join(','));
  }
  leaveDescriptorLists(lists);
  for (const { fd } of descriptors) setInheritable(fd, true);
}

/**
 * Gives copies to the service manager, as many as it takes. A descriptor that it has already stays a single
 * copy.
 */
export function leaveToManager(descriptors: readonly Descriptor[]): void {
  for (const { name, fd } of descriptors.slice(0, storeSize())) sdNotify(`FDSTORE=1\nFDNAME=${name}`, fd);
}

/**
 * Time for the service manager, which may be reading all of its units again. A deletion waits that long at
 * most.
 */
const BARRIER_MS = 2000;

/**
 * Resolves when the service manager has no copy of these any more, or when that cannot be known. A copy would
 * keep alive a device that is deleted here. Never rejects.
 */
export async function forgetAtManager(names: readonly string[]): Promise<void> {
  if (storeSize() === 0 || names.length === 0) return;
  for (const name of names) sdNotify(`FDSTOREREMOVE=1\nFDNAME=${name}`);
  let pair;
  try {
    pair = socketPair();
  } catch {
    return; // No descriptor is left: the manager is told, and its work is not waited for.
  }
  // sd_notify_barrier(3): the manager closes this descriptor when it has read all earlier messages.
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
