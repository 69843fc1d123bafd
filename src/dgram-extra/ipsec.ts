/** The IPsec policies of this network namespace (xfrm), as far as varpd has to know them. */
import { addon, checked, NativeError, type WatchHandle } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { ask, attributesOf } from './netlink-message.js';
import { orUndefined } from './rtnetlink.js';

/** The flags of a request, and of its answer. */
const FLAGS_BYTES = 4;
/** Offset of `outcnt` in struct xfrmu_spdinfo (linux/xfrm.h). */
const OUTGOING_AT = 4;
/** A message about a policy takes less than 4 KiB. */
const RECEIVE_BUFFER_BYTES = 1 << 16;
const DATAGRAM_BYTES = 4096;

/** Tells whether any policy is for outgoing packets. A kernel without IPsec has none. */
export function hasOutgoingPolicy(): boolean {
  const parts = [new Uint8Array(FLAGS_BYTES)];
  const answer = orUndefined(['EPROTONOSUPPORT'], () =>
    ask(kernel.XFRM_MSG_GETSPDINFO, 0, parts, 'IPsec policies', kernel.NETLINK_XFRM),
  );
  const info = answer && attributesOf(answer, FLAGS_BYTES).get(kernel.XFRMA_SPD_INFO);
  return (info?.getUint32(OUTGOING_AT, true) ?? 0) > 0;
}

/** Calls `changed` after each change of the policies. A kernel without IPsec has no such events: EPROTONOSUPPORT. */
export class PolicyEvents {
  readonly #fd: number;
  readonly #watch: WatchHandle;

  /** Throws the kernel's error. */
  constructor(changed: () => void) {
    const group = 1 << (kernel.XFRMNLGRP_POLICY - 1);
    const device = 'IPsec policies';
    this.#fd = checked(addon.netlinkOpen(group, RECEIVE_BUFFER_BYTES, kernel.NETLINK_XFRM), 'bind', device);
    const buffer = new Uint8Array(DATAGRAM_BYTES);
    const watch = addon.watchStart(this.#fd, () => {
      // Only that there was a change counts; an error is a loss of messages.
      while (addon.netlinkReceive(this.#fd, buffer) !== 0);
      changed();
      addon.watchAgain(this.#watch);
    });
    if (typeof watch === 'number') {
      addon.closeDescriptor(this.#fd);
      throw new NativeError(watch, 'pthread_create', device);
    }
    this.#watch = watch;
  }

  /** Call it once. */
  close(): void {
    addon.watchStop(this.#watch);
    addon.closeDescriptor(this.#fd);
  }
}
