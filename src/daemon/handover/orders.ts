/** What a stand-in and varpd say to each other: the orders of a stand-in, in the format of all that one varpd writes for the next. */
import type { LeaseNews } from '../../core/dhcp-leases.js';
import type { Handover, Lists } from '../../datapath/contract.js';
import { OLDER_ORDERS, readStamp, SNAPSHOT_VERSION, type Stamp, stamped } from '../state/snapshot-format.js';

/** Is told of the leases that ports were granted while the stand-in moved frames. */
export type Leased = (news: LeaseNews) => void;

/** The descriptors are named where the stand-in has others by those names: in a file that the service manager keeps. */
export type Orders = Handover & Stamp;

export type FromStandIn =
  /** A program that was replaced meanwhile may be told things that mean something else to it. */
  | {
      readonly kind: 'ready';
      /** For a varpd from before `reads`, which compares it with its own version. */
      readonly version: string;
      /** The versions of orders that its program reads. */
      readonly reads?: readonly number[];
    }
  | { readonly kind: 'moving' }
  | { readonly kind: 'leases'; readonly news: readonly LeaseNews[] };

export const READY: FromStandIn = { kind: 'ready', version: OLDER_ORDERS, reads: [SNAPSHOT_VERSION] };

export const ordersOf = (handover: Handover): Orders => stamped(handover, Date.now());

/** Throws an Error when they are of a version that this varpd does not read. */
export function readOrders(value: unknown): Orders {
  // A varpd from before they had a version sends the lists alone.
  if (Array.isArray(value)) return ordersOf({ descriptors: [], lists: value as Lists });
  const stamp = readStamp(value);
  return { ...(value as Orders), ...stamp };
}
