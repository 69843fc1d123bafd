/** What the control side knows of overlays and ports, and what it leaves of them to the next daemon. */
import type { OverlayOptions } from '../../../core/overlay.js';
import { MAX_KNOWN_TARGETS } from '../../../model/handover.js';
import type { RouteMtu } from '../../../model/underlay-state.js';
import type { IpAddress } from '../../../wire/ip.js';
import type { Descriptor, Lists, Retained, OverlayConfig, TargetEntry } from '../../contract.js';
import type { BareCommand, Command, Token } from '../protocol.js';
import type { NamedPeers } from './named-peers.js';
import { tapDescriptor } from './taps.js';
import type { HandedSocket, OverlaySockets } from './underlay.js';

/** An overlay as far as it is left to others. */
export interface OverlayState {
  readonly config: OverlayConfig;
  readonly options: OverlayOptions;
  readonly sockets: OverlaySockets;
  /** The peers that its plugin names. */
  readonly named: Pick<NamedPeers, 'table'>;
  /** The destinations whose routes lead back into it. */
  readonly loops: readonly IpAddress[];
  /** And those that carry less than their device. */
  readonly routeMtus: readonly RouteMtu[];
  recentTargets(limit: number): Promise<readonly TargetEntry[]>;
}

/** A port as far as it is left to others. */
export interface PortState {
  readonly name: string;
  readonly temporary: boolean;
  /** One a thread. */
  readonly queues: readonly { readonly token: Token; readonly fd: number }[];
  /** What the threads were told of it. */
  readonly config: Omit<
    Extract<Command, { kind: 'add-port' }>,
    'kind' | 'token' | 'fd' | 'counters' | 'askedLeases' | 'presence'
  >;
  /** Set once it is to be closed. */
  readonly closed: Promise<unknown> | undefined;
}

/** What there is at one moment, without what ends with this daemon. */
export interface Inventory {
  readonly sockets: readonly HandedSocket[];
  readonly overlays: readonly OverlayState[];
  readonly ports: readonly PortState[];
}

export const isLasting = ({ temporary, closed }: PortState): boolean => !temporary && closed === undefined;

/** The descriptors of the ports, by the names under which the next daemon finds them. */
export function tapDescriptors(ports: readonly PortState[]): Descriptor[] {
  return ports.flatMap(({ name, queues }) =>
    queues.map(({ fd }, queue) => ({ name: tapDescriptor(name, queue), fd })),
  );
}

/** A list for each thread. `sendersOf` an overlay: the sockets that it sends from, and whether they may be given several
 * datagrams in one. */
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
    const { config, options, sockets, named, loops, routeMtus } = overlay;
    const { fds: senderFds, segmentation } = sendersOf(overlay);
    // Of another process: memory is shared within one.
    const table = new Int32Array(named.table);
    const known = await overlay.recentTargets(MAX_KNOWN_TARGETS);
    sockets.tokens.forEach((socket, queue) => {
      to(queue).push(
        { kind: 'add-overlay', options, socket, senderFds, segmentation },
        { kind: 'set-peers', overlay: config.id, table },
        { kind: 'set-loops', overlay: config.id, destinations: loops },
        { kind: 'set-route-mtus', overlay: config.id, routes: routeMtus },
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

interface Senders {
  readonly fds: readonly number[];
  readonly segmentation: boolean;
}

/** Its listening socket, whatever it has beside that: of an overlay whose other sockets are not handed on. */
const listeningSender =
  (handed: readonly HandedSocket[]) =>
  ({ sockets }: OverlayState): Senders => {
    const socket = handed.find(({ token }) => token === sockets.tokens[0])!;
    return { fds: [socket.fd], segmentation: sockets.segmentation && !socket.zeroChecksum };
  };

/** The sockets that it sends from now. */
const ownSenders = ({ sockets: { senderFds: fds, segmentation } }: OverlayState): Senders => ({
  fds,
  segmentation,
});

/** For a next daemon, which has the listening sockets alone. */
export const storedLists = (inventory: Inventory): Promise<Lists> =>
  standInLists(inventory, listeningSender(inventory.sockets));

/** What there is now, and is still there later. */
export function retain(inventory: () => Inventory, threads: number): Retained {
  const before = inventory();
  const taps = before.ports.flatMap(({ queues }) => queues);
  const senders = before.overlays.flatMap((overlay) => ownSenders(overlay).fds);
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
