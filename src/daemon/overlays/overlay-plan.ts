/**
 * The plan of an overlay or a VNIC, as an operator has asked for it, and the services of the daemon that
 * carry it out.
 */
import type { Datapath } from '../../datapath/contract.js';
import type { LinkValues } from '../../model/link-properties.js';
import type { GivenProperty } from '../../model/properties.js';
import type { MacAddress } from '../../plugin/contract.js';
import type { Limits } from '../config.js';
import type { Log } from '../log.js';
import type { Plugins } from '../plugins/plugin-catalog.js';
import type { PluginFiles } from '../plugins/plugin-start.js';
import type { Snapshot } from '../state/snapshot.js';
import type { StoredLease } from '../state/state-schema.js';
import type { LinkWatch } from '../underlay/link-watch.js';
import type { Links } from '../underlay/links.js';
import type { VnicProtection } from './vnic-protection.js';

/** Services of the daemon, shared by all overlays. */
export interface Services {
  readonly datapath: Datapath;
  readonly plugins: Plugins;
  readonly pluginFiles: PluginFiles;
  readonly links: Links;
  readonly watch: LinkWatch;
  readonly log: Log;
  readonly limits: () => Limits;
  /** Facts that an earlier daemon has left. */
  readonly snapshot: Snapshot;
}

export interface OverlayServices extends Services {
  /** Called when leases of VNICs over the overlay with this id differ from those on the disk. */
  readonly leasesChanged: (overlay: number) => void;
}

/** An overlay as the operator has asked for it. */
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
  /** Set for a VNIC in another network namespace: its purpose there. Its interface is never made again. */
  readonly attachment?: string;
  readonly protection: VnicProtection;
  /** The reason why its device does not work. */
  fault: string | undefined;
}

/** The settings of a VNIC that change while it runs, beside its link properties. */
export type VnicChange = Pick<Vnic, 'mac' | 'macType' | 'vid'>;

/** A VNIC as the operator has asked for it, with its leases from the previous process. */
export interface VnicPlan extends Omit<Vnic, 'fault' | 'protection'> {
  readonly properties: LinkValues;
  readonly leases: readonly StoredLease[];
}
