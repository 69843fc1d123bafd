/**
 * Loopback messages (wire/loopback.ts) to the MACs of this host's ports, and replies to those of a probe.
 *
 * varpd answers a message in the name of the port, so that the answer shows that the tunnel works, whatever
 * the station behind the port does. That station does not see a message that was answered. Only peers are
 * answered, at a limited rate, with a reply as long as the message.
 *
 * A frame from the tunnel cannot reach a socket: the reply waits here, and leaves in the next turn
 * (loopback-turn.ts), as a frame that the port sends.
 */
import { ADDRESS, DESCRIPTOR_WORDS, type FrameBatch, LENGTH, OFFSET } from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import * as loopback from '../../wire/loopback.js';
import { COUNTER } from '../counts/counters.js';
import { portOf, vlanOf } from '../deliver.js';
import type { Overlay } from '../overlay.js';

/** Handles a frame of fault management out of the tunnel. Returns false if it is to be delivered as any other
 * frame. `header`: bytes of the Ethernet header, tags included. */
export function takeLoopback(overlay: Overlay, batch: FrameBatch, index: number, header: number): boolean {
  const { bytes, descriptors } = batch;
  const at = index * DESCRIPTOR_WORDS;
  const frame = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  if (loopback.check(bytes, frame + header, length - header) < 0) return false;
  if (loopback.opcode(bytes, frame + header) === loopback.REPLY)
    return overlay.probe?.takeReply(batch, index, header) === true;
  if (overlay.options.answersLoopback !== true || !overlay.peers.has(descriptors, at + ADDRESS)) return false;
  const high = ethernet.destinationHigh(bytes, frame);
  const low = ethernet.destinationLow(bytes, frame);
  const port = portOf(overlay, high, low, vlanOf(bytes, frame, header));
  if (port === undefined) return false;
  const { replies } = overlay.shared;
  if (replies.isFull || !overlay.loopbackAnswers.take()) {
    overlay.drops.add(COUNTER.rx_loopback, 1, batch, index);
    return true;
  }
  overlay.counters[COUNTER.loopback_answers]++;
  const reply = bytes.slice(frame, frame + length);
  ethernet.setDestination(reply, 0, ethernet.source(reply, 0));
  reply.set(bytes.subarray(frame, frame + ethernet.SOURCE), ethernet.SOURCE);
  loopback.setOpcode(reply, header, loopback.REPLY);
  replies.hold({ overlay: overlay.options.id, port, frame: reply });
  return true;
}
