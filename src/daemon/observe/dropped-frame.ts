/** A dropped frame as JSON, and in words. */
import type { DroppedFrameInfo } from '../../control/messages.js';
import type { DroppedFrame } from '../../datapath/contract.js';
import type { Encapsulation } from '../../encap/index.js';
import { type DropReason, SOCKET_DROPS } from '../../model/drops.js';
import * as ethernet from '../../wire/ethernet.js';
import { formatEndpoint } from '../../wire/ip.js';
import { formatMac } from '../../wire/mac.js';
import * as vlan from '../../wire/vlan.js';

/** Frames dropped by a socket still have the header of their tunnel, if they have one. */
export function droppedFrameInfo(
  reason: DropReason,
  frame: DroppedFrame,
  encap: Encapsulation,
  nowMs = Date.now(),
): DroppedFrameInfo {
  const { ageMs, from, port, lengthBytes, beginning } = frame;
  const tunnel = reason in SOCKET_DROPS ? tunnelOf(beginning, encap) : { headerBytes: 0, vnetid: null };
  const inner = tunnel === undefined ? new Uint8Array(0) : beginning.subarray(tunnel.headerBytes);
  return {
    at: new Date(nowMs - ageMs).toISOString(),
    from: from === undefined ? null : formatEndpoint(from),
    port: port ?? null,
    vnetid: tunnel?.vnetid ?? null,
    ...innerAddresses(inner),
    bytes: Math.max(0, lengthBytes - (tunnel?.headerBytes ?? 0)),
  };
}

/** Undefined for a datagram without a valid header. */
function tunnelOf(
  bytes: Uint8Array,
  encap: Encapsulation,
): { headerBytes: number; vnetid: number } | undefined {
  const headerBytes = encap.check(bytes, 0, bytes.length);
  return headerBytes < 0 ? undefined : { headerBytes, vnetid: encap.id(bytes, 0) };
}

function innerAddresses(
  bytes: Uint8Array,
): Pick<DroppedFrameInfo, 'sourceMac' | 'destinationMac' | 'etherType' | 'vlan'> {
  const header = vlan.headerLength(bytes, 0, bytes.length);
  if (header < 0) return { sourceMac: null, destinationMac: null, etherType: null, vlan: null };
  const isTagged = header > ethernet.HEADER_BYTES;
  return {
    sourceMac: formatMac(ethernet.source(bytes, 0)),
    destinationMac: formatMac(ethernet.destination(bytes, 0)),
    etherType: ethernet.etherType(bytes, header - ethernet.HEADER_BYTES),
    vlan: isTagged ? vlan.vlanId(bytes, ethernet.HEADER_BYTES) : null,
  };
}
