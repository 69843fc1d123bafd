/**
 * The messages between a stand-in and varpd. The orders of a stand-in have the format of everything that one
 * varpd saves for the next.
 */
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { Handover, Lists } from '../../datapath/contract.js';
import { OLDER_ORDERS, readStamp, SNAPSHOT_VERSION, type Stamp, stamped } from '../state/snapshot-format.js';

/** Called with the leases that ports were granted while the stand-in moved frames. */
export type Leased = (news: LeaseNews) => void;

/**
 * Orders of a stand-in. In a file that the service manager keeps, descriptors are named too, since the next
 * process has other numbers for them.
 */
export type Orders = Handover & Stamp;

export type FromStandIn =
  /**
   * A program file that was replaced meanwhile may understand orders differently, so a stand-in names its
   * versions.
   */
  | {
      readonly kind: 'ready';
      /** For a varpd of an older version than `reads`, which compares it with its own version. */
      readonly version: string;
      /** The versions of orders that its program reads. */
      readonly reads?: readonly number[];
    }
  | { readonly kind: 'moving' }
  | { readonly kind: 'leases'; readonly news: readonly LeaseNews[] };

export const READY: FromStandIn = { kind: 'ready', version: OLDER_ORDERS, reads: [SNAPSHOT_VERSION] };

export const ordersOf = (handover: Handover): Orders => stamped(handover, Date.now());

/** Throws an Error when this varpd does not read the version of the orders. */
export function readOrders(value: unknown): Orders {
  // An older varpd, without a version in its orders, sends the lists alone.
  if (Array.isArray(value)) return ordersOf({ descriptors: [], lists: value as Lists });
  const stamp = readStamp(value);
  return { ...(value as Orders), ...stamp };
}
