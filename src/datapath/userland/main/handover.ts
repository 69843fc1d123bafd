/** The state of overlays and ports that the control side leaves to the next varpd. */
import type { OverlayOptions } from '../../../core/overlay.js';
import { restorable } from '../../../core/tables/target-rows.js';
import { MAX_KNOWN_TARGETS } from '../../../model/handover.js';
import type { RouteFacts } from '../../../model/underlay-state.js';
import type { IpAddress } from '../../../wire/ip.js';
import type { Descriptor, Lists, Retained, OverlayConfig, TargetEntry } from '../../contract.js';
import type { BareCommand, Command, Token } from '../protocol.js';
import type { NamedPeers } from './named-peers.js';
import { tapDescriptor } from './taps.js';
import type { Senders } from './overlay-config.js';
import type { HandedSocket, OverlaySockets } from './underlay.js';

/** The state of an overlay that is handed over. */
export interface OverlayState {
  readonly config: OverlayConfig;
  readonly options: OverlayOptions;
  readonly sockets: OverlaySockets;
  /** Peers that its plugin names. */
  readonly named: Pick<NamedPeers, 'table'>;
  /** Destinations with routes that lead back into the overlay. */
  readonly loops: readonly IpAddress[];
  /** Facts about the routes to its destinations. */
  readonly routes: readonly RouteFacts[];
  recentTargets(limit: number): Promise<readonly TargetEntry[]>;
}

/** The state of a port that is handed over. */
export interface PortState {
  readonly name: string;
  readonly temporary: boolean;
  /** One queue per thread. */
  readonly queues: readonly { readonly token: Token; readonly fd: number }[];
  /** The command with which threads were given the port. */
  readonly config: Omit<
    Extract<Command, { kind: 'add-port' }>,
    'kind' | 'token' | 'fd' | 'counters' | 'askedLeases' | 'presence'
  >;
  /** Set once the port is being closed. */
  readonly closed: Promise<unknown> | undefined;
}

/** The state at one moment, without anything that ends with this varpd. */
export interface Inventory {
  readonly sockets: readonly HandedSocket[];
  readonly overlays: readonly OverlayState[];
  readonly ports: readonly PortState[];
}

export const isLasting = ({ temporary, closed }: PortState): boolean => !temporary && closed === undefined;

/** Returns the descriptors of ports, with the names by which the next varpd finds them. */
export function tapDescriptors(ports: readonly PortState[]): Descriptor[] {
  return ports.flatMap(({ name, queues }) =>
    queues.map(({ fd }, queue) => ({ name: tapDescriptor(name, queue), fd })),
  );
}

/** Returns a list of commands for each thread. `sendersOf` an overlay: the sockets that it sends from, and
 * whether they take several datagrams in one message. */
async function standInLists(
  { sockets, overlays, ports }: Inventory,
  sendersOf: (overlay: OverlayState) => Senders,
): Promise<Lists> {
  const lists: BareCommand[][] = [];
  const to = (queue: number): BareCommand[] => (lists[queue] ??= []);
  const queueOf = new Map(
    overlays.flatMap(({ sockets }) => sockets.tokens.map((token, queue) => [token, queue])),
  );
  for (const { token, fd, encapsulation } of sockets)
    to(queueOf.get(token) ?? 0).push({ kind: 'add-socket', token, fd, encapsulation });
  for (const overlay of overlays) {
    const { config, options, sockets, named, loops, routes } = overlay;
    const { senderFds, segmentation } = sendersOf(overlay);
    // A copy, since another process cannot share this memory.
    const table = new Int32Array(named.table);
    const known = (await overlay.recentTargets(MAX_KNOWN_TARGETS)).map(restorable);
    sockets.tokens.forEach((socket, queue) => {
      to(queue).push(
        { kind: 'add-overlay', options, socket, senderFds, segmentation },
        { kind: 'set-peers', overlay: config.id, table },
        { kind: 'set-loops', overlay: config.id, destinations: loops },
        { kind: 'set-route-mtus', overlay: config.id, routes },
      );
      if (known.length > 0) to(queue).push({ kind: 'restore-targets', overlay: config.id, targets: known });
    });
  }
  for (const { config, queues } of ports)
    queues.forEach(({ token, fd }, queue) => {
      to(queue).push({ kind: 'add-port', ...config, token, fd });
    });
  return Array.from(lists, (list: BareCommand[] | undefined) => list ?? []);
}

/** Returns the listening socket of an overlay as its only sender, since other sockets are not handed over. */
const listeningSender =
  (handed: readonly HandedSocket[]) =>
  ({ sockets }: OverlayState): Senders => {
    const socket = handed.find(({ token }) => token === sockets.tokens[0])!;
    return { senderFds: [socket.fd], segmentation: sockets.senders.segmentation && !socket.zeroChecksum };
  };

/** Returns the sockets that an overlay sends from now. */
const ownSenders = ({ sockets }: OverlayState): Senders => sockets.senders;

/** Lists for the next varpd, which gets the listening sockets alone. */
export const storedLists = (inventory: Inventory): Promise<Lists> =>
  standInLists(inventory, listeningSender(inventory.sockets));

/** Retains the descriptors that are open now. The lists are made later, of those that are still open then. */
export function retain(inventory: () => Inventory, threads: number): Retained {
  const before = inventory();
  const taps = before.ports.flatMap(({ queues }) => queues);
  const senders = before.overlays.flatMap((overlay) => ownSenders(overlay).senderFds);
  return {
    descriptors: [...new Set([...[...before.sockets, ...taps].map(({ fd }) => fd), ...senders])],
    threads,
    named: () => {
      const { sockets, ports } = inventory();
      return [...sockets, ...tapDescriptors(ports)];
    },
    lists: () => {
      const after = inventory();
      const tokens = new Set(after.sockets.map(({ token }) => token));
      const left = {
        sockets: before.sockets.filter(({ token }) => tokens.has(token)),
        overlays: before.overlays.filter((overlay) => after.overlays.includes(overlay)),
        ports: before.ports.filter((port) => after.ports.includes(port)),
      };
      return standInLists(left, ownSenders);
    },
  };
}
