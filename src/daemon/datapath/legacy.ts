/** What the control side knows of overlays and ports, and what it leaves of them to the next daemon. */
import type { Counters } from '../../core/counters.js';
import type { OverlayOptions } from '../../core/overlay.js';
import type { IpAddress } from '../../wire/ip.js';
import type { Legacy, OverlayConfig } from './contract.js';
import type { OverlayThreads } from './overlay-threads.js';
import type { BareCommand, Command, Token } from './protocol.js';
import { tapDescriptor } from './taps.js';
import type { Lease, ReleasedSocket } from './underlay.js';

/** Targets of one overlay that go on being used while varpd begins again; the others are asked for after it. */
export const MAX_BRIDGED = 16_384;

export interface OverlayState {
  readonly config: OverlayConfig;
  readonly options: OverlayOptions;
  readonly lease: Lease;
  readonly threads: OverlayThreads;
  /** One a queue. */
  readonly counters: readonly Counters[];
  readonly ports: Map<string, PortState>;
  /** Underlay address -> the threads whose peer it is, as bits. */
  readonly peers: Map<IpAddress, number>;
  /** The peers that its plugin names. */
  named: readonly IpAddress[];
  carrier: boolean;
}

export interface PortState {
  readonly name: string;
  readonly overlay: number;
  readonly temporary: boolean;
  readonly queues: readonly PortQueue[];
  /** What the threads were told of it. */
  config: Omit<Extract<Command, { kind: 'add-port' }>, 'kind' | 'token' | 'fd' | 'counters' | 'askedLeases'>;
  /** Set once it is to be closed; resolves when it is. */
  closed?: Promise<unknown>;
}

interface PortQueue {
  readonly token: Token;
  readonly fd: number;
  readonly counters: Counters;
}

/** What a thread tells of its peers, among those of all threads. Those that are peers now, and those that are no longer. */
export function changePeers(
  peers: OverlayState['peers'],
  thread: number,
  changes: ReadonlyMap<IpAddress, boolean>,
): { added: IpAddress[]; removed: IpAddress[] } {
  const added: IpAddress[] = [];
  const removed: IpAddress[] = [];
  for (const [ip, isPeer] of changes) {
    const before = peers.get(ip) ?? 0;
    const after = isPeer ? before | (1 << thread) : before & ~(1 << thread);
    if (after === 0) peers.delete(ip);
    else peers.set(ip, after);
    if (before === 0 && after !== 0) added.push(ip);
    if (before !== 0 && after === 0) removed.push(ip);
  }
  return { added, removed };
}

/**
 * `known`: commands that restore targets. Temporary ports are left out; a temporary overlay has no others. Overlays with
 * several queues get no commands: one thread is not enough for them, and their frames wait.
 */
export function legacy(
  sockets: readonly ReleasedSocket[],
  overlays: readonly OverlayState[],
  known: readonly BareCommand[],
  ports: readonly PortState[],
): Legacy {
  const lasting = ports.filter(({ temporary, closed }) => !temporary && closed === undefined);
  const single = sockets.filter(({ isOnly }) => isOnly);
  const commands: BareCommand[] = [
    ...single.map(({ token, fd }) => ({ kind: 'add-socket', token, fd }) as const),
    ...overlays.flatMap((state) => bridged(state, single)),
    ...known,
    ...lasting
      .filter(({ queues }) => queues.length === 1)
      .map(({ config, queues: [{ token, fd }] }) => ({ kind: 'add-port', ...config, token, fd }) as const),
  ];
  const taps = lasting.flatMap(({ name, queues }) =>
    queues.map(({ fd }, queue) => ({ name: tapDescriptor(name, queue), fd })),
  );
  return { descriptors: [...sockets, ...taps], commands };
}

/** An overlay for the time between two daemons: it sends from its listening socket, whatever it has beside that. */
function bridged(
  { config, options, lease, named }: OverlayState,
  sockets: readonly ReleasedSocket[],
): BareCommand[] {
  const socket = sockets.find(({ token }) => token === lease.tokens[0]);
  if (socket === undefined) return [];
  const { token, fd, zeroChecksum } = socket;
  const segmentation = lease.segmentation && !zeroChecksum;
  return [
    { kind: 'add-overlay', options, socket: token, senderFds: [fd], segmentation },
    { kind: 'set-peers', overlay: config.id, peers: named },
  ];
}
