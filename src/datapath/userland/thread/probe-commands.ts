/** Probes of a thread (core/probe/probe.ts), as the control side says. */
import { sendProbe } from '../../../core/probe/made-frames.js';
import type { Overlay } from '../../../core/overlay.js';
import { Probe } from '../../../core/probe/probe.js';
import type { Command } from '../protocol.js';
import { nowMs } from './clock.js';

export function obeyProbe(
  overlay: Overlay | undefined,
  command: Extract<Command, { kind: 'start-probe' | 'send-probe' | 'stop-probe' }>,
): void {
  if (overlay === undefined) return;
  const { id } = overlay.options;
  const { probed } = overlay.shared;
  switch (command.kind) {
    case 'start-probe':
      overlay.probe = new Probe(command.rules, { overlay: id, clock: overlay.shared, nowMs, probed });
      return;
    case 'stop-probe':
      overlay.probe = undefined;
      return;
    case 'send-probe': {
      const port = overlay.ports.find(({ name }) => name === command.port);
      if (port === undefined) return;
      for (const frame of command.frames) {
        const atMs = nowMs();
        probed({ kind: 'sent', overlay: id, id: frame.id, atMs, dropped: sendProbe(overlay, port, frame) });
      }
    }
  }
}
