/**
 * Answers to lookups, and rows that a plugin pushes. The target table takes them over; frames that wait for
 * them are sent, or dropped and counted. overlay.ts has the whole story; frames wait in pending-queue.ts, and
 * broadcasts in frame-lookups.ts.
 */
import { type FrameBatch, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import type { Endpoint } from '../wire/ip.js';
import { highOf, lowOf, type MacAddress } from '../wire/mac.js';
import { COUNTER } from './counters.js';
import { portOf } from './deliver.js';
import type { WaitingFrame } from './frame-lookups.js';
import { deliverTo } from './inject.js';
import type { LookupResult } from './lookup.js';
import { NONE } from './mac-index.js';
import type { Overlay } from './overlay.js';
import { forgetPresence } from './presence.js';
import { DROP, MAX_TTL_MS, NOWHERE, type Origin, VALID } from './target-table.js';
import { redirect } from './transmit.js';
import { sendPending, sendTo } from './tunnel.js';

/** Applies the plugin's answer to question `lookup`. An answer that is no longer awaited is ignored. */
export function answer(overlay: Overlay, lookup: number, result: LookupResult): void {
  const frame = overlay.frames.take(lookup);
  if (frame !== undefined) answerFrame(overlay, frame, result);
  else answerTarget(overlay, lookup, result);
}

/** Applies a target that the plugin pushes or the operator sets. No destination = drop. */
export function setTarget(
  overlay: Overlay,
  mac: MacAddress,
  to: readonly Endpoint[],
  ttlMs: number,
  origin: Origin,
): void {
  const { targets, questions, held, shared } = overlay;
  forgetPresence(overlay, mac);
  const high = highOf(mac);
  let row = targets.find(high, lowOf(mac));
  if (row === NONE) {
    row = targets.insert(high, lowOf(mac), shared.nowTick);
    targets.markUnused(row, shared.nowTick);
  } else questions.remove(row);
  held.releaseAll(row);
  if (to.length > 0) settle(overlay, row, to, ttlMs, origin);
  else settleAsDrop(overlay, row, ttlMs, COUNTER.lookup_drop, origin);
}

// -- Unicast: about a MAC

function answerTarget(overlay: Overlay, lookup: number, result: LookupResult): void {
  const { questions, held } = overlay;
  const row = questions.rowOf(lookup);
  if (row === undefined) return;
  questions.remove(row);
  if (result.kind === 'target' && result.to.length > 0) {
    const before = held.take(row);
    settle(overlay, row, result.to, result.ttlMs, 'plugin');
    // Released after the new destinations are held, so that a peer that stays is a peer all the time.
    for (const slot of before) held.release(slot);
    return;
  }
  const drop = result.kind === 'drop' ? result : undefined;
  const reason = drop?.reason ?? 'lookup_drop';
  // A failure of the plugin is no answer: a target from before the restart stays in use, and is asked about
  // again.
  if (overlay.targets.isStale(row) && reason !== 'lookup_drop') return;
  held.releaseAll(row);
  // Only the operator may say that a MAC is nowhere for ever, since such an entry counts as known.
  const ttlMs = Math.min(drop?.ttlMs ?? overlay.options.negativeTtlMs, MAX_TTL_MS);
  settleAsDrop(overlay, row, ttlMs, COUNTER[reason], 'plugin');
}

function settle(overlay: Overlay, row: number, to: readonly Endpoint[], ttlMs: number, origin: Origin): void {
  const { targets, held, pending, shared } = overlay;
  targets.settle(row, VALID, held.acquireFor(row, to), ttlMs, shared.nowTick, origin);
  pending.release(row, shared.replay, (count) => {
    sendPending(overlay, shared.replay, count, row);
  });
}

function settleAsDrop(overlay: Overlay, row: number, ttlMs: number, counter: number, origin: Origin): void {
  overlay.targets.settle(row, DROP, NOWHERE, ttlMs, overlay.shared.nowTick, origin);
  overlay.pending.drop(row, counter);
}

// -- Broadcast: about a frame

function answerFrame(overlay: Overlay, frame: WaitingFrame, result: LookupResult): void {
  if (!overlay.ports.includes(frame.port)) drop(overlay, frame, COUNTER.pending_lost);
  else if (result.kind === 'target') send(overlay, frame, result);
  else if (result.kind === 'reply') reply(overlay, frame, result);
  else if (result.kind === 'redirect') sendOnTo(overlay, frame, result.to);
  else refuse(overlay, frame, result);
}

function drop(overlay: Overlay, { key }: WaitingFrame, counter: number): void {
  overlay.pending.drop(key, counter);
}

function send(
  overlay: Overlay,
  frame: WaitingFrame,
  { to, ttlMs }: Extract<LookupResult, { kind: 'target' }>,
): void {
  if (to.length === 0) {
    drop(overlay, frame, COUNTER.tx_group);
    return;
  }
  if (ttlMs > 0) setTarget(overlay, frame.miss.destinationMac, to, ttlMs, 'plugin');
  const { held } = overlay;
  const slots = to.map((endpoint) => held.acquire(endpoint));
  release(overlay, frame, (batch) => {
    sendTo(overlay, batch, 0, slots);
  });
  for (const slot of slots) held.release(slot);
}

function refuse(
  overlay: Overlay,
  frame: WaitingFrame,
  { reason, ttlMs = 0 }: Extract<LookupResult, { kind: 'drop' }>,
): void {
  if (ttlMs > 0) setTarget(overlay, frame.miss.destinationMac, [], Math.min(ttlMs, MAX_TTL_MS), 'plugin');
  drop(overlay, frame, reason === 'lookup_drop' ? COUNTER.tx_group : COUNTER[reason]);
}

function reply(
  overlay: Overlay,
  waiting: WaitingFrame,
  { frame, counter }: Extract<LookupResult, { kind: 'reply' }>,
): void {
  const high = ethernet.sourceHigh(frame, 0);
  const low = ethernet.sourceLow(frame, 0);
  if (hasHeard(overlay, high, low, waiting.miss.vlan)) {
    drop(overlay, waiting, COUNTER.proxy_local);
    return;
  }
  overlay.pending.discard(waiting.key);
  overlay.counters[COUNTER[counter]]++;
  deliverTo(overlay, waiting.port, frame);
}

function sendOnTo(overlay: Overlay, frame: WaitingFrame, to: MacAddress): void {
  release(overlay, frame, (batch) => {
    ethernet.setDestination(batch.bytes, batch.descriptors[OFFSET], to);
    redirect(overlay, frame.port, batch, 0);
  });
}

/** Takes the frame out of the pending queue. `sendFirst` sends it; it is the first frame of the batch. */
function release(overlay: Overlay, { key }: WaitingFrame, sendFirst: (batch: FrameBatch) => void): void {
  const { replay, outputs } = overlay.shared;
  overlay.pending.release(key, replay, () => {
    sendFirst(replay);
    outputs.flush(replay);
  });
}

/** Returns whether the station with this MAC is behind a port of this host and has sent lately. Such a
 * station has received the broadcast and answers for itself. */
function hasHeard(overlay: Overlay, high: number, low: number, vid: number): boolean {
  return portOf(overlay, high, low, vid)?.presence.isAlive(overlay.shared.nowTick) === true;
}
