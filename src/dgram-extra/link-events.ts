/** Subscribes to the kernel's messages about changes of links, addresses, routes and rules. */
import { addon, checked, NativeError, type WatchHandle } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { messages } from './netlink-message.js';
import { type LinkEvent, readEvent } from './rtnetlink.js';

/** The mask of multicast groups: group n is bit n - 1. */
const GROUPS = [
  kernel.RTNLGRP_LINK,
  kernel.RTNLGRP_IPV4_IFADDR,
  kernel.RTNLGRP_IPV4_ROUTE,
  kernel.RTNLGRP_IPV4_RULE,
  kernel.RTNLGRP_IPV6_IFADDR,
  kernel.RTNLGRP_IPV6_ROUTE,
  kernel.RTNLGRP_IPV6_RULE,
  kernel.RTNLGRP_NEXTHOP,
].reduce((mask, group) => mask | (1 << (group - 1)), 0);

/** Room for some thousand messages. The kernel reports a loss when it is full. */
const RECEIVE_BUFFER_BYTES = 4 << 20;
/** Datagrams of one `read`. Then other work of the event loop has a turn. */
const READ_AT_ONCE = 1024;
/** A link with all its statistics takes less than 4 KiB. */
const DATAGRAM_BYTES = 32768;

export interface EventBatch {
  readonly events: readonly LinkEvent[];
  /** Messages were lost (ENOBUFS), so the caller must ask for everything again. */
  readonly lost: boolean;
}

export class LinkEvents {
  readonly #fd: number;
  readonly #watch: WatchHandle;
  readonly #buffer = new Uint8Array(DATAGRAM_BYTES);

  /** `readable` is called once when there is something to read, and once more after each `again`. */
  constructor(readable: () => void) {
    this.#fd = checked(addon.netlinkOpen(GROUPS, RECEIVE_BUFFER_BYTES), 'bind', 'rtnetlink');
    const watch = addon.watchStart(this.#fd, readable);
    if (typeof watch === 'number') {
      addon.closeDescriptor(this.#fd);
      throw new NativeError(watch, 'pthread_create', 'rtnetlink');
    }
    this.#watch = watch;
  }

  /** Reads at most READ_AT_ONCE datagrams; the rest stays in the kernel. */
  read(): EventBatch {
    const events: LinkEvent[] = [];
    let lost = false;
    for (let datagram = 0; datagram < READ_AT_ONCE; datagram++) {
      const bytes = addon.netlinkReceive(this.#fd, this.#buffer);
      if (bytes === 0) break;
      if (bytes < 0) {
        // ENOBUFS, once for all lost messages. Another error counts as a loss as well.
        lost = true;
        continue;
      }
      for (const message of messages(this.#buffer, bytes)) {
        const event = readEvent(message);
        if (event !== undefined) events.push(event);
      }
    }
    return { events, lost };
  }

  again(): void {
    addon.watchAgain(this.#watch);
  }

  /** Ends the calls of `readable`. Call it once. */
  close(): void {
    addon.watchStop(this.#watch);
    addon.closeDescriptor(this.#fd);
  }
}
