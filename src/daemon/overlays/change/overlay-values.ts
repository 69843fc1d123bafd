/** The values of a running overlay that may change while it runs, and what follows from them. */
import { availableParallelism } from 'node:os';
import type { Datapath, OverlaySettings } from '../../../datapath/contract.js';
import type { Encapsulation } from '../../../encap/index.js';
import { OverlayError } from '../../../model/errors.js';
import { offloadsOf } from '../../../model/offloads.js';
import { LINK_STATE, queueCount, type TunnelValues } from '../../../model/overlay-specs.js';
import { foundExpected, type PropertySet } from '../../../model/properties.js';
import { failedToSet } from '../../../model/sentences.js';
import { type Endpoint, formatEndpoint, type IpAddress } from '../../../wire/ip.js';
import type { ServedOverlay } from '../../plugins/knowledge.js';
import { defaultMtuBytes, largestMtuBytes } from '../../underlay/mtu.js';
import type { OverlayPlan, Services } from '../overlay-plan.js';

export interface OverlayValues {
  plan: OverlayPlan;
  properties: PropertySet;
  tunnel: TunnelValues;
  /** Destination of a point overlay, once it has started. */
  destination: Endpoint | undefined;
  /** The network of before, while a change to another one may still be taken back. */
  leaving: Network | undefined;
}

/** A virtual network at an address of this host: one overlay has it. */
export interface Network {
  readonly vnetid: number;
  readonly listen: Endpoint;
}

/** The changes of a document that come before one of them, for a dry run. */
export interface Earlier {
  /** The networks that overlays have by then, as `networkText`. */
  readonly networks: ReadonlyMap<string, string>;
  /** Names of the overlays and VNICs that are deleted by then. */
  readonly gone: ReadonlySet<string>;
}

export const NOTHING_EARLIER: Earlier = { networks: new Map(), gone: new Set() };

export const networkText = ({ vnetid, listen }: Network): string => `${vnetid} ${formatEndpoint(listen)}`;

export const networkOf = ({ plan, tunnel }: Pick<OverlayValues, 'plan' | 'tunnel'>): Network => ({
  vnetid: plan.vnetid,
  listen: tunnel.listen,
});

/** The network of an overlay, and the one that it may go back to. */
export const networksOf = (values: OverlayValues): readonly Network[] =>
  values.leaving === undefined ? [networkOf(values)] : [networkOf(values), values.leaving];

/** The overlay as an instance of its plugin is told it, when the instance is made. `name`: the one that it is about to get. */
export const servedOf = (values: OverlayValues, name?: string): ServedOverlay => ({
  get overlay() {
    return name ?? values.plan.name;
  },
  get vnetid() {
    return values.plan.vnetid;
  },
  get listen() {
    return values.tunnel.listen;
  },
});

/** The settings of the datapath that follow from the properties. */
export function settingsOf({
  plan: { vnetid },
  properties,
  tunnel,
}: Pick<OverlayValues, 'plan' | 'properties' | 'tunnel'>): OverlaySettings {
  return {
    vnetid,
    mtuBytes: properties.uint('mtu'),
    ...tunnel,
    offload: offloadsOf(properties.text('offload')),
  };
}

/** Number of threads that carry the overlay. */
export function queuesOf(
  { plan: { name }, properties }: Pick<OverlayValues, 'plan' | 'properties'>,
  { datapath, log }: Pick<Services, 'datapath' | 'log'>,
): number {
  const queues = queueCount(properties.text('queues'), availableParallelism());
  if (queues > 1 && !datapath.features['tapSteering'])
    log.warn(
      `queues ${name}`,
      `${name}: one thread carries all that its links send, so that flows stay in order: varpd could not load its BPF program (start it with CAP_BPF)`,
    );
  return queues;
}

/** The value of `link-state`. Throws an OverlayError if this kernel does not know it. */
export function linkStateOf(
  properties: PropertySet,
  { features }: Pick<Datapath, 'features'>,
): (typeof LINK_STATE)[number] {
  const linkState = properties.word('link-state', LINK_STATE);
  if (linkState === 'follow' && !features['tapCarrier'])
    throw new OverlayError('UNSUPPORTED', "link-state: 'follow' needs Linux 5.0 or newer");
  return linkState;
}

export interface MtuQuestion extends Pick<OverlayValues, 'plan' | 'properties' | 'tunnel'> {
  readonly encapsulation: Encapsulation;
  /** The destination of a point overlay, or the peers that the plugin has named. */
  readonly destinations: readonly IpAddress[];
  /** An operator has just asked for this MTU: more than the route carries is refused. Otherwise it is logged. */
  readonly isAsked: boolean;
}

/** Sets the default MTU. Returns the largest MTU that the route carries, or undefined when there is no route to tell. */
export function chooseMtu(
  { plan, properties, tunnel, encapsulation, destinations, isAsked }: MtuQuestion,
  { datapath, links, log }: Pick<Services, 'datapath' | 'links' | 'log'>,
): number | undefined {
  const underlay = { datapath, links, encapsulation, listenIp: tunnel.listen.ip, destinations };
  properties.setDefault('mtu', defaultMtuBytes(underlay));
  const largest = largestMtuBytes(underlay);
  const mtuBytes = properties.uint('mtu');
  if (largest === undefined || mtuBytes <= largest) return largest;
  const why = foundExpected(String(mtuBytes), `at most ${largest}: the route carries no more`);
  if (isAsked && properties.wasGiven('mtu')) throw new OverlayError('INVALID', failedToSet('mtu', why));
  log.warn(`mtu ${plan.name}`, `${plan.name}: mtu: ${why}; larger frames will be dropped`);
  return largest;
}
