/** Commands of the control side to one overlay of a thread. */
import { announce } from '../../../core/inject.js';
import { answer, learn, restoreTarget, setTarget, setTargets } from '../../../core/lookups.js';
import type { Overlay } from '../../../core/overlay.js';
import type { Report, TableCommand, Command } from '../protocol.js';
import { inspect } from './inspect.js';
import { obeyProbe } from './probe-commands.js';
import type { Sweeps } from './sweeps.js';

export type OverlayCommand =
  TableCommand | Extract<Command, { kind: 'set-peers' | 'start-probe' | 'send-probe' | 'stop-probe' }>;

type Value = Extract<Report, { kind: 'reply' }>['value'];

/** Obeys. `reply` is called for a request, even if the overlay is gone. */
export function obeyOverlay(
  overlay: Overlay | undefined,
  command: OverlayCommand,
  sweeps: Sweeps,
  reply: (reply: number, value: Value) => void,
): void {
  switch (command.kind) {
    case 'answer':
      if (overlay !== undefined) answer(overlay, command.lookup, command.answer);
      break;
    case 'set-target':
      if (overlay !== undefined) setTarget(overlay, command, command.origin);
      break;
    case 'learn':
      if (overlay !== undefined) learn(overlay, command.mac, command.answer);
      break;
    case 'set-targets':
      if (overlay !== undefined) setTargets(overlay, command.list, command.from, command.end);
      break;
    case 'invalidate':
      if (command.macs === undefined) {
        overlay?.invalidate(undefined);
        if (overlay !== undefined) sweeps.begin(overlay);
      } else for (const mac of command.macs) overlay?.invalidate(mac);
      break;
    case 'set-destination':
      overlay?.setPoint(command.destination);
      break;
    case 'set-peers':
      overlay?.peers.name(command.table);
      break;
    case 'set-loops':
      overlay?.loops.name(command.destinations);
      if (overlay !== undefined) sweeps.begin(overlay.loops);
      break;
    case 'announce':
      if (overlay !== undefined) announce(overlay, command.frame);
      break;
    case 'delete-target':
      reply(command.reply, overlay?.deleteTarget(command.mac) ?? false);
      break;
    case 'scan-targets':
    case 'scan-recent':
    case 'describe-targets':
    case 'describe-peers':
    case 'explain':
      reply(command.reply, inspect(overlay, command));
      break;
    case 'restore-targets':
      // The first to be inserted is the first to make room.
      for (const target of command.targets.toReversed())
        if (overlay !== undefined) restoreTarget(overlay, target);
      break;
    case 'start-probe':
    case 'send-probe':
    case 'stop-probe':
      obeyProbe(overlay, command);
      if ('reply' in command) reply(command.reply, true);
      break;
  }
}
