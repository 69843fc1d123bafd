/**
 * Puts other values of properties in force while an overlay runs. Flows go on: the datapath gets new settings between two
 * batches, and new sockets are open before the old ones close. Each step has its undo, so that a step which fails leaves
 * all as it was.
 *
 * The plugin comes first, since it is the part that refuses values most often. Another listen address or another `vnetid`
 * comes with a new instance of the plugin, since an instance is told them once. It starts beside the one in use, and takes
 * its place when the change is stored.
 */
import type { OverlayDatapath } from '../../../datapath/contract.js';
import type { Encapsulation } from '../../../encap/index.js';
import { OverlayError } from '../../../model/errors.js';
import { tunnelValues } from '../../../model/overlay-specs.js';
import type { GivenProperty } from '../../../model/properties.js';
import { failedToSet, otherFamily } from '../../../model/sentences.js';
import type { LookupPlugin } from '../../../plugin/contract.js';
import { family, type IpAddress, isSameEndpoint } from '../../../wire/ip.js';
import type { UndoStack } from '../../../model/undo.js';
import { bindError } from '../overlay-errors.js';
import type { OverlayLinks } from '../overlay-links.js';
import type { Services } from '../overlay-plan.js';
import type { OverlayPlugin } from '../overlay-plugin.js';
import type { OverlayPorts } from '../overlay-ports.js';
import { needPlugin, readProperties } from '../overlay-properties.js';
import {
  chooseMtu,
  linkStateOf,
  type Network,
  networkOf,
  type OverlayValues,
  settingsOf,
} from './overlay-values.js';

/** The running overlay, with its parts. */
export interface ChangedOverlay {
  /** The values in force. */
  readonly values: OverlayValues;
  readonly services: Services;
  readonly encapsulation: Encapsulation;
  readonly datapath: OverlayDatapath;
  readonly plugin: OverlayPlugin;
  readonly ports: OverlayPorts;
  readonly links: OverlayLinks;
  /** Addresses that decide about the default MTU, if there is no fixed destination. */
  readonly peers: readonly IpAddress[];
}

/** `given`: all values that the operator has chosen, those of before included. */
export interface Change {
  readonly vnetid: number;
  readonly given: readonly GivenProperty[];
  /** The names of the properties that change. */
  readonly names: readonly string[];
  /** Throws an OverlayError if another overlay has the network. */
  readonly refuseTwin: (network: Network) => void;
}

/** A change that is checked, as far as that can be done without any effect. */
export interface PlannedChange {
  /** The network that the overlay will have. */
  readonly network: Network;
  /**
   * To be called at once. Rejects with an OverlayError; `undo` holds the steps done. The function that it resolves to ends
   * the change, once it is stored.
   */
  apply(undo: UndoStack): Promise<() => Promise<void>>;
}

/** Throws an OverlayError. */
export function planChange(
  overlay: ChangedOverlay,
  { vnetid, given, names, refuseTwin }: Change,
): PlannedChange {
  const { values, services, encapsulation } = overlay;
  const before = { ...values };
  const plan = { ...before.plan, vnetid, properties: given };
  const code = needPlugin(plan, services);
  const properties = readProperties(plan, code, services);
  const tunnel = tunnelValues(encapsulation, properties);
  const { listen } = tunnel;
  if (family(listen.ip) !== family(before.tunnel.listen.ip))
    throw new OverlayError(
      'INVALID',
      failedToSet(`${plan.encap}/listen_ip`, otherFamily(listen.ip, before.tunnel.listen.ip)),
    );
  linkStateOf(properties, services.datapath);
  const isOtherNetwork = vnetid !== before.plan.vnetid;
  const isMoved = isOtherNetwork || !isSameEndpoint(listen, before.tunnel.listen);
  const network = { vnetid, listen };
  if (isMoved) refuseTwin(network);
  const isAsked = names.includes('mtu');
  const next = { plan, properties, tunnel, code, isMoved, isOtherNetwork, isAsked };
  if (isAsked && properties.wasGiven('mtu') && !isMoved && isSamePlugin(before, next))
    chooseMtu({ ...next, encapsulation, destinations: destinationsOf(before, overlay.peers) }, services);
  return { network, apply: (undo) => changeRunning(overlay, next, undo) };
}

interface NextValues extends Pick<OverlayValues, 'plan' | 'properties' | 'tunnel'> {
  readonly code: LookupPlugin;
  /** It has another network, or another endpoint. */
  readonly isMoved: boolean;
  readonly isOtherNetwork: boolean;
  /** The operator asks for its MTU. */
  readonly isAsked: boolean;
}

async function changeRunning(
  overlay: ChangedOverlay,
  { plan, properties, tunnel, code, isMoved, isOtherNetwork, isAsked }: NextValues,
  undo: UndoStack,
): Promise<() => Promise<void>> {
  const { values, services, encapsulation, plugin } = overlay;
  const before = { ...values };
  properties.setDefault('mtu', before.properties.uint('mtu'));
  Object.assign(values, { plan, properties, tunnel, leaving: isMoved ? networkOf(before) : undefined });
  undo.push(() => Object.assign(values, before));
  const swap = isMoved ? await plugin.prepareMove(code, properties, isOtherNetwork) : undefined;
  if (swap !== undefined) {
    undo.push(swap.abandon);
    values.destination = swap.destination ?? values.destination;
  } else if (!isSamePlugin(before, values)) {
    undo.push(() => plugin.change(before.properties));
    const destination = await plugin.change(properties);
    if (destination !== undefined) values.destination = destination;
  }
  const destinations = destinationsOf(values, swap?.peers ?? overlay.peers);
  const question = { ...values, encapsulation, destinations, isAsked };
  const largest = chooseMtu(question, services);
  const next = { ...values };
  undo.push(() => putInForce(overlay, next, before, undefined));
  await putInForce(overlay, before, next, largest);
  return async () => {
    values.leaving = undefined;
    await swap?.commit();
  };
}

type OwnValues = Pick<OverlayValues, 'plan' | 'properties'>;

/** Whether the properties of the plugin have the same values. */
function isSamePlugin(before: OwnValues, { plan: { search }, properties }: OwnValues): boolean {
  return JSON.stringify(before.properties.valuesOf(search)) === JSON.stringify(properties.valuesOf(search));
}

/** Addresses that decide about the MTU. */
const destinationsOf = (
  { destination }: Pick<OverlayValues, 'destination'>,
  peers: readonly IpAddress[],
): readonly IpAddress[] => (destination === undefined ? peers : [destination.ip]);

async function putInForce(
  { values, services, datapath, ports, links }: ChangedOverlay,
  from: OverlayValues,
  to: OverlayValues,
  largestMtuBytes: number | undefined,
): Promise<void> {
  Object.assign(values, to);
  const mtuBytes = to.properties.uint('mtu');
  const isNarrower = mtuBytes < from.properties.uint('mtu');
  // A device never hands over larger frames than the datapath takes.
  if (isNarrower) ports.setMtu(mtuBytes, largestMtuBytes);
  try {
    await datapath.change(settingsOf(to));
  } catch (error) {
    throw bindError(error, to.plan.encap, to.tunnel.listen);
  }
  if (!isNarrower) ports.setMtu(mtuBytes, largestMtuBytes);
  const { destination } = to;
  const isSame =
    destination === undefined ||
    (from.destination !== undefined && isSameEndpoint(from.destination, destination));
  if (!isSame) datapath.setDestination(destination);
  links.change(to.tunnel.listen.ip, linkStateOf(to.properties, services.datapath));
}
