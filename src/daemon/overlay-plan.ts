/** What overlays and VNICs are made of and made with: the wish of an operator, and what the daemon has for it. */
import type { GivenProperty } from '../core/properties.js';
import type { LinkValues } from '../core/link-properties.js';
import type { MacAddress } from '../plugin/contract.js';
import type { Limits } from './config.js';
import type { Datapath } from './datapath/contract.js';
import type { LinkWatch } from './link-watch.js';
import type { Links } from './links.js';
import type { Log } from './log.js';
import type { Plugins } from './plugin-catalog.js';
import type { StoredLease } from './state-schema.js';
import type { Snapshot } from './snapshot.js';
import type { VnicProtection } from './vnic-protection.js';

/** What the daemon has, for all overlays. */
export interface Workshop {
  readonly datapath: Datapath;
  readonly plugins: Plugins;
  readonly links: Links;
  readonly watch: LinkWatch;
  readonly log: Log;
  readonly limits: () => Limits;
  /** What an earlier daemon knew. */
  readonly snapshot: Snapshot;
}

/** The wish of an operator. */
export interface OverlayPlan {
  readonly name: string;
  readonly id: number;
  readonly encap: string;
  readonly search: string;
  readonly vnetid: number;
  readonly mac: MacAddress;
  readonly properties: readonly GivenProperty[];
  readonly temporary: boolean;
  /** An `mtu` above what the route carries is refused at create; at a later start it is only logged. */
  readonly isNew: boolean;
}

export interface Vnic {
  readonly name: string;
  readonly mac: MacAddress;
  readonly macType: 'fixed' | 'random';
  readonly vid: number;
  readonly temporary: boolean;
  readonly protection: VnicProtection;
  /** Why its device does not work, in words. */
  fault: string | undefined;
}

/** The wish of an operator, and what was kept of an earlier life. */
export interface VnicPlan extends Omit<Vnic, 'fault' | 'protection'> {
  readonly properties: LinkValues;
  readonly leases: readonly StoredLease[];
}
