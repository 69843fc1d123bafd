/** Helpers of all proxies: the Ethernet header of a request, and that of its reply. */
import { read16 } from '../../wire/bytes.js';
import * as ethernet from '../../wire/ethernet.js';
import * as mac from '../../wire/mac.js';
import * as vlan from '../../wire/vlan.js';

/** Returns the bytes of the Ethernet header, tags included, if this EtherType follows it; else 0. */
export function headerOf(frame: Uint8Array, etherType: number): number {
  const header = vlan.headerLength(frame, 0, frame.length);
  return header > 0 && read16(frame, header - 2) === etherType ? header : 0;
}

/** Returns whether an address is that of a single station. */
export function isStation(address: mac.MacAddress): boolean {
  return address !== mac.ZERO && !mac.isMulticast(address);
}

/**
 * Returns a frame with `payloadBytes` of payload, and the tags and EtherType of `request`. It has none of the
 * request's padding, and is not padded to 60 bytes: a NIC pads frames for a wire (IEEE 802.3-2018 4A.4.2),
 * and a TAP has no wire.
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
