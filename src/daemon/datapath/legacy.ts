/** What the control side knows of overlays and ports, and what it leaves of them to the next daemon. */
import type { Counters } from '../../core/counters.js';
import type { OverlayOptions } from '../../core/overlay.js';
import type { IpAddress } from '../../wire/ip.js';
import type { Legacy, OverlayConfig } from './contract.js';
import type { BareCommand, Command, Token } from './protocol.js';
import { tapDescriptor } from './taps.js';
import type { Lease, ReleasedSocket } from './underlay.js';

export interface OverlayState {
  readonly config: OverlayConfig;
  readonly options: OverlayOptions;
  readonly lease: Lease;
  readonly counters: Counters;
  readonly ports: Map<string, PortState>;
  peers: readonly IpAddress[];
  carrier: boolean;
}

export interface PortState {
  readonly token: Token;
  readonly name: string;
  readonly overlay: number;
  readonly temporary: boolean;
  /** -1 once it is closed. */
  fd: number;
  /** What the worker was told of it. */
  command: BareCommand<Extract<Command, { kind: 'add-port' }>>;
  readonly counters: Counters;
}

/** `known`: commands that restore targets. Temporary ports are left out; a temporary overlay has no others. */
export function legacy(
  sockets: readonly ReleasedSocket[],
  overlays: Iterable<OverlayState>,
  known: readonly BareCommand[],
  ports: readonly PortState[],
): Legacy {
  const lasting = ports.filter(({ temporary }) => !temporary);
  const commands: BareCommand[] = [
    ...sockets.map(({ token, fd }) => ({ kind: 'add-socket', token, fd }) as const),
    ...[...overlays].flatMap((state) => bridged(state, sockets)),
    ...known,
    ...lasting.map(({ command }) => command),
  ];
  const taps = lasting.map(({ name, fd }) => ({ name: tapDescriptor(name), fd }));
  return { descriptors: [...sockets, ...taps], commands };
}

/** An overlay for the time between two daemons: it sends from its listening socket, whatever it has beside that. */
function bridged(
  { config, options, lease, peers }: OverlayState,
  sockets: readonly ReleasedSocket[],
): BareCommand[] {
  const socket = sockets.find(({ token }) => token === lease.token);
  if (socket === undefined) return [];
  const { token, fd, zeroChecksum } = socket;
  const segmentation = lease.segmentation && !zeroChecksum;
  return [
    { kind: 'add-overlay', options, socket: token, senderFds: [fd], segmentation },
    { kind: 'set-peers', overlay: config.id, peers },
  ];
}
