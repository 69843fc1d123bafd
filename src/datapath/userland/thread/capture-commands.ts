/** Begins and ends captures of a thread (core/capture/capture.ts), as the control side says. */
import type { Captures } from '../../../core/capture/capture.js';
import type { Mux } from '../../../core/mux.js';
import type { Overlay } from '../../../core/overlay.js';
import type { Command, Token } from '../protocol.js';

export function obeyCapture(
  captures: Captures,
  command: Extract<Command, { kind: 'start-capture' | 'stop-capture' }>,
  overlays: ReadonlyMap<number, { readonly overlay: Overlay; readonly socket: Token }>,
  sockets: ReadonlyMap<Token, { readonly mux: Mux }>,
): void {
  if (command.kind === 'stop-capture') {
    captures.stop(command.capture);
    return;
  }
  const entry = overlays.get(command.overlay);
  if (entry === undefined) return;
  const mux = sockets.get(entry.socket)?.mux;
  captures.start(command.capture, entry.overlay, mux, command.rules, command.ring);
}
