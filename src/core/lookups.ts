/**
 * Answers to lookups, and rows that a plugin pushes. The target table takes them over; frames that wait for
 * them are sent, or dropped and counted. overlay.ts has the whole story; frames wait in pending-queue.ts, and
 * broadcasts in frame-lookups.ts.
 */
import { type FrameBatch, OFFSET } from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import { highOf, lowOf, type MacAddress } from '../wire/mac.js';
import type { DropReason } from '../model/drops.js';
import { COUNTER } from './counts/counters.js';
import { wireFrames } from './counts/frame-count.js';
import { portOf } from './deliver.js';
import type { WaitingFrame } from './queues/frame-lookups.js';
import { deliverTo } from './inject.js';
import type { LookupResult } from './lookup.js';
import { NONE } from './tables/mac-index.js';
import type { Slots } from './tables/held-destinations.js';
import {
  ageAt,
  beginOf,
  type RestoredTarget,
  type TargetList,
  type TargetRow,
} from './tables/target-list.js';
import type { Overlay } from './overlay.js';
import { forgetPresence } from './presence.js';
import type { AnswerAge } from './tables/target-ages.js';
import { DROP, isUsable, MAX_TTL_MS, NOWHERE, type Origin, PENDING, VALID } from './tables/target-table.js';
import { redirect } from './transmit.js';
import { sendPending, sendTo } from './tunnel.js';

/** Applies the plugin's answer to question `lookup`. An answer that is no longer awaited is ignored. */
export function answer(overlay: Overlay, lookup: number, result: LookupResult): void {
  const frame = overlay.frames.take(lookup);
  if (frame !== undefined) answerFrame(overlay, frame, result);
  else answerTarget(overlay, lookup, result);
}

/** Applies rows of a list that the plugin pushes, from row `from` on and before row `end`. A row with one destination is no
 * object: the garbage of a million would hold up the frames. */
export function setTargets(overlay: Overlay, list: TargetList, from: number, end: number): void {
  let age: AnswerAge | undefined;
  for (let row = from; row < end; row++) {
    const mac = list.macs[row];
    if (beginOf(list, row) === list.ends[row]) overlay.invalidate(mac);
    else {
      age = ageAt(list, row, age);
      setSlots(overlay, highOf(mac), lowOf(mac), overlay.held.acquireListed(list, row), age, 'pushed');
    }
  }
}

/** Applies a target that the plugin pushes or the operator sets. No destination = drop. */
export function setTarget(overlay: Overlay, { mac, to, ...age }: TargetRow, origin: Origin): void {
  setSlots(overlay, highOf(mac), lowOf(mac), overlay.held.acquireAll(to), age, origin);
}

/** `slots`: acquired for this. */
function setSlots(
  overlay: Overlay,
  high: number,
  low: number,
  slots: Slots,
  age: AnswerAge,
  origin: Origin,
): void {
  const { targets, questions, held, shared, refresher } = overlay;
  forgetPresence(overlay, high, low);
  let row = targets.find(high, low);
  if (row === NONE) {
    row = targets.insert(high, low, shared.nowTick);
    targets.markUnused(row, shared.nowTick);
  } else {
    questions.remove(row);
    refresher.forget(row);
  }
  held.releaseAll(row);
  if (typeof slots === 'number' || slots.length > 0) settle(overlay, row, slots, age, origin);
  else settleAsDrop(overlay, row, age.ttlMs, COUNTER.lookup_drop, origin);
}

/** Restores the target that a MAC had before a restart. It is stale: it is used, and its use causes a question. A known
 * target is kept. */
export function restoreTarget(overlay: Overlay, { mac, to, staleMs }: RestoredTarget): void {
  const { stations, targets, held, shared } = overlay;
  const [high, low] = [highOf(mac), lowOf(mac)];
  if (stations !== undefined) {
    if (to.every((one) => held.isOwn(one))) stations.learn(high, low, shared.nowTick);
    return;
  }
  if (to.length === 0 || targets.find(high, low) !== NONE) return;
  const row = targets.insert(high, low, shared.nowTick);
  targets.settleStale(row, held.assign(row, held.acquireAll(to)), staleMs, shared.nowTick);
}

/** Applies the answer to a question that another thread has asked about this MAC. A target that the operator has set stays. */
export function learn(overlay: Overlay, mac: MacAddress, result: LookupResult): void {
  const { targets, questions, refresher, shared } = overlay;
  const row = targets.find(highOf(mac), lowOf(mac));
  if (row === NONE) {
    if (result.kind === 'target') setTarget(overlay, { mac, ...result }, 'plugin');
    return;
  }
  const state = targets.state(row, shared.nowTick);
  if (state !== PENDING && targets.history.origin(row) === 'set') return;
  if (result.kind === 'drop' && isTrouble(result.reason)) {
    // This thread pauses as well, unless it has asked itself.
    if (!isUsable(state) || questions.of(row) !== undefined) return;
    refresher.forget(row);
    keep(overlay, row);
    return;
  }
  questions.remove(row);
  settleAnswer(overlay, row, result);
}

// -- Unicast: about a MAC

function answerTarget(overlay: Overlay, lookup: number, result: LookupResult): void {
  const { questions } = overlay;
  const row = questions.rowOf(lookup);
  if (row === undefined) return;
  questions.remove(row);
  settleAnswer(overlay, row, result);
}

function settleAnswer(overlay: Overlay, row: number, result: LookupResult): void {
  const { held, refresher } = overlay;
  refresher.forget(row);
  if (result.kind === 'target' && result.to.length > 0) {
    const slots = held.acquireAll(result.to);
    held.releaseAll(row);
    settle(overlay, row, slots, result, 'plugin');
    return;
  }
  const drop = result.kind === 'drop' ? result : undefined;
  const reason = drop?.reason ?? 'lookup_drop';
  if (isTrouble(reason) && hasDestination(overlay, row)) {
    keep(overlay, row);
    return;
  }
  held.releaseAll(row);
  // Only the operator may say that a MAC is nowhere for ever, since such an entry counts as known.
  const ttlMs = Math.min(drop?.ttlMs ?? overlay.options.negativeTtlMs, MAX_TTL_MS);
  settleAsDrop(overlay, row, ttlMs, COUNTER[reason], 'plugin');
}

/** A failure of the plugin is no answer. */
function isTrouble(reason: DropReason): boolean {
  return reason === 'lookup_failed' || reason === 'lookup_timeout';
}

/** Whether a row has a destination that may be used when asking has failed. */
function hasDestination({ targets, shared }: Overlay, row: number): boolean {
  const state = targets.state(row, shared.nowTick);
  if (state === PENDING) return targets.destination(row) !== NOWHERE;
  return isUsable(state);
}

/** The target stays in use, since asking has failed. */
function keep(overlay: Overlay, row: number): void {
  overlay.targets.failed(row, overlay.shared.nowTick);
  releasePending(overlay, row);
}

function settle(overlay: Overlay, row: number, slots: Slots, age: AnswerAge, origin: Origin): void {
  const { targets, held, shared } = overlay;
  targets.settle(row, VALID, held.assign(row, slots), age, shared.nowTick, origin);
  releasePending(overlay, row);
}

/** Sends the frames that wait for this row. */
function releasePending(overlay: Overlay, row: number): void {
  const { pending, shared } = overlay;
  if (!pending.isWaitedFor(row)) return;
  pending.release(row, shared.replay, (count) => {
    sendPending(overlay, shared.replay, count, row);
  });
}

function settleAsDrop(overlay: Overlay, row: number, ttlMs: number, counter: number, origin: Origin): void {
  overlay.targets.settle(row, DROP, NOWHERE, { ttlMs }, overlay.shared.nowTick, origin);
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
  { to, ttlMs, staleMs }: Extract<LookupResult, { kind: 'target' }>,
): void {
  if (to.length === 0) {
    drop(overlay, frame, COUNTER.tx_group);
    return;
  }
  if (ttlMs > 0) setTarget(overlay, { mac: frame.miss.destinationMac, to, ttlMs, staleMs }, 'plugin');
  const { held } = overlay;
  const slots = held.acquireAll(to);
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
  const mac = frame.miss.destinationMac;
  if (isTrouble(reason) && sendKept(overlay, frame)) return;
  if (ttlMs > 0) setTarget(overlay, { mac, to: [], ttlMs: Math.min(ttlMs, MAX_TTL_MS) }, 'plugin');
  drop(overlay, frame, reason === 'lookup_drop' ? COUNTER.tx_group : COUNTER[reason]);
}

/** Sends a group frame to the destinations of an earlier answer, since asking has failed. Returns false if there are
 * none. */
function sendKept(overlay: Overlay, frame: WaitingFrame): boolean {
  const { targets, held, shared } = overlay;
  const mac = frame.miss.destinationMac;
  const row = targets.find(highOf(mac), lowOf(mac));
  if (row === NONE || !targets.isKept(row, shared.nowTick)) return false;
  const slots = (held.floods.get(row) ?? [targets.destination(row)]).filter((slot) => slot >= 0);
  release(overlay, frame, (batch) => {
    overlay.counters[COUNTER.tx_stale] += wireFrames(batch.descriptors, 0);
    sendTo(overlay, batch, 0, slots);
  });
  return true;
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
