/**
 * The captures of a datapath thread: copies of frames, each with its place and its peer, for the control side (capture-ring.ts).
 *
 *              FROM_PORT                       TO_TUNNEL
 *   port  ---- as it is read --->  policy ---- as it is sent, with its header and its destination ---->  socket
 *         <--- as it is written -          <--- as it arrives, with its header and its source ---------
 *              TO_PORT                         FROM_TUNNEL
 *
 * A frame that is dropped in the turn of its batch has the reason in the record that is there already; one that is dropped
 * later, because it waited, has a record of its own. A capture of drops has these records alone.
 *
 * Most of the time there is no capture: then `Drops.capture` is undefined, which is checked once a batch and once for a
 * dropped frame. During a capture, no object is made for a frame.
 */
import type { FrameBatch } from '../../wire/descriptor.js';
import { type RingMemory, RingWriter } from './capture-ring.js';
import { type CaptureRules, Tap } from './capture-tap.js';
import type { Drops } from '../counts/drops.js';
import type { FrameWatch } from './frame-watch.js';
import type { Mux } from '../mux.js';
import type { OutputList } from '../outputs.js';
import type { Overlay } from '../overlay.js';
import type { Port } from '../port.js';

/** The captures of a thread. */
export class Captures implements FrameWatch {
  readonly #taps = new Map<number, Tap>();
  readonly #nowMs: () => number;

  /** `nowMs`: monotonic, in parts of a millisecond. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** `mux` is that of the socket that the overlay receives from. */
  start(id: number, overlay: Overlay, mux: Mux | undefined, rules: CaptureRules, memory: RingMemory): void {
    // A frame of a port passes no socket.
    const socket = rules.port === undefined ? mux : undefined;
    this.#taps.set(id, new Tap(overlay, socket, rules, new RingWriter(memory), this.#nowMs));
    overlay.drops.capture = this;
    if (socket !== undefined) socket.drops.capture = this;
  }

  stop(id: number): void {
    const tap = this.#taps.get(id);
    if (tap === undefined) return;
    tap.publish();
    this.#taps.delete(id);
    const others = [...this.#taps.values()];
    if (others.every(({ overlay }) => overlay !== tap.overlay)) tap.overlay.drops.capture = undefined;
    if (tap.mux !== undefined && others.every(({ mux }) => mux !== tap.mux))
      tap.mux.drops.capture = undefined;
  }

  /** The overlay is no more. */
  forget(overlay: Overlay): void {
    for (const [id, tap] of this.#taps) if (tap.overlay === overlay) this.stop(id);
  }

  /** A port has another name. */
  renamed(overlay: Overlay, from: string, to: string): void {
    for (const tap of this.#taps.values()) if (tap.overlay === overlay) tap.renamed(from, to);
  }

  fromPort(overlay: Overlay, port: Port, batch: FrameBatch, count: number, isNew: boolean): void {
    for (const tap of this.#taps.values())
      if (tap.overlay === overlay) tap.fromPort(port, batch, count, isNew);
  }

  fromTunnel(mux: Mux, batch: FrameBatch, count: number): void {
    for (const tap of this.#taps.values()) if (tap.mux === mux) tap.fromTunnel(mux, batch, count);
  }

  delivering(list: OutputList, batch: FrameBatch, drops: Drops): void {
    for (const tap of this.#taps.values()) if (tap.overlay.drops === drops) tap.delivering(list, batch);
  }

  refused(entry: number, drops: Drops): void {
    for (const tap of this.#taps.values()) if (tap.overlay.drops === drops) tap.refused(entry);
  }

  dropped(drops: Drops, reason: number, batch: FrameBatch, index: number): void {
    for (const tap of this.#taps.values()) {
      if (tap.overlay.drops === drops) tap.dropped(reason, batch, index, undefined);
      else if (tap.mux?.drops === drops) tap.dropped(reason, batch, index, tap.mux);
    }
  }

  droppedHeld(drops: Drops, reason: number, bytes: Uint8Array, descriptor: Int32Array, port: unknown): void {
    for (const tap of this.#taps.values())
      if (tap.overlay.drops === drops) tap.droppedHeld(reason, bytes, descriptor, port as Port | undefined);
  }

  /** At the end of each turn. */
  publish(): void {
    if (this.#taps.size === 0) return;
    for (const tap of this.#taps.values()) tap.publish();
  }
}
