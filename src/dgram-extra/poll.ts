/** Waits for many descriptors at once (epoll), and wakes a thread from another one (eventfd). */
import { addon, checked } from './addon.js';

export function createPoll(): number {
  return checked(addon.pollCreate(), 'epoll_create1', 'epoll');
}

/** Adds a descriptor, for input only, level-triggered. pollWait reports `token`. */
export function addToPoll(epoll: number, fd: number, token: number): void {
  checked(addon.pollAdd(epoll, fd, token), 'epoll_ctl', `descriptor ${fd}`);
}

export function removeFromPoll(epoll: number, fd: number): void {
  checked(addon.pollRemove(epoll, fd), 'epoll_ctl', `descriptor ${fd}`);
}

export function createEvent(): number {
  return checked(addon.eventCreate(), 'eventfd', 'eventfd');
}

/** Wakes the thread that polls this eventfd. Any thread may call it. */
export function signalEvent(fd: number): void {
  checked(addon.eventSignal(fd), 'eventfd_write', 'eventfd');
}

/** Makes sure that this process can open `count` descriptors now. Throws EMFILE or ENFILE when it cannot. */
export function needDescriptors(count: number): void {
  const opened: number[] = [];
  try {
    while (opened.length < count)
      opened.push(checked(addon.eventCreate(), 'eventfd', `one of ${count} descriptors that are needed`));
  } finally {
    for (const fd of opened) addon.closeDescriptor(fd);
  }
}
