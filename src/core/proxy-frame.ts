/** What the proxies share: the Ethernet header of a request, and the one of its reply. */
import { read16 } from '../wire/bytes.js';
import * as ethernet from '../wire/ethernet.js';
import * as mac from '../wire/mac.js';
import * as vlan from '../wire/vlan.js';

/** Bytes of the Ethernet header, tags included, of a frame with this EtherType behind them; else 0. */
export function headerOf(frame: Uint8Array, etherType: number): number {
  const header = vlan.headerLength(frame, 0, frame.length);
  return header > 0 && read16(frame, header - 2) === etherType ? header : 0;
}

/** Whether the source of a frame is one station. */
export function isStation(address: mac.MacAddress): boolean {
  return address !== mac.ZERO && !mac.isMulticast(address);
}

/**
 * A frame of `payloadBytes` with the tags and the EtherType of `request`. Not padded to 60 bytes: that is for wires
 * (IEEE 802.3-2018 4A.4.2), whose NIC does it, and a TAP has none. Nothing of the request's own padding is in it.
 */
export function replyTo(
  request: Uint8Array,
  header: number,
  payloadBytes: number,
  destination: mac.MacAddress,
  source: mac.MacAddress,
): Uint8Array {
  const reply = new Uint8Array(header + payloadBytes);
  reply.set(request.subarray(0, header));
  ethernet.setDestination(reply, 0, destination);
  ethernet.setSource(reply, 0, source);
  return reply;
}
