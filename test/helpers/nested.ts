// Superframes inside a UDP tunnel: a packet in a tunnel header, in a UDP packet.
import * as d from '../../src/wire/descriptor.js';
import * as udp from '../../src/wire/udp.js';
import * as virtio from '../../src/wire/virtio-net.js';
import type { Framed } from './offload.js';
import { frameOf, layoutOf, type Packet, segmentsOf, superframeFields } from './superframe.js';

export interface Nested {
  /** Its payload is not looked at. */
  readonly outer: Packet;
  /** Between the outer UDP header and the inner Ethernet header. */
  readonly tunnelHeader: Uint8Array;
  readonly inner: Packet;
  readonly hasOuterChecksum: boolean;
}

/** The superframe with its virtio-net header. */
export function nestedSuperframe(nested: Nested, segmentBytes: number): Framed {
  const { outer, tunnelHeader, inner, hasOuterChecksum } = nested;
  const payload = Buffer.concat([tunnelHeader, frameOf(inner, 'partial')]);
  const packet: Packet = { ...outer, protocol: 'udp', payload };
  const { transport: outerTransport, payload: start } = layoutOf(packet);
  const frame = frameOf(packet, 'partial');
  if (!hasOuterChecksum) frame.fill(0, outerTransport + udp.CHECKSUM, outerTransport + udp.CHECKSUM + 2);
  const innerFrame = start + tunnelHeader.length;
  const fields = superframeFields(inner, segmentBytes);
  return {
    frame,
    fields: {
      ...fields,
      [d.FLAGS]: virtio.NEEDS_CHECKSUM | (hasOuterChecksum ? virtio.TUNNEL_CHECKSUM : 0),
      [d.GSO_TYPE]: fields[d.GSO_TYPE] | (outer.version === 4 ? virtio.GSO_TUNNEL_V4 : virtio.GSO_TUNNEL_V6),
      [d.HEADER_BYTES]: fields[d.HEADER_BYTES] + innerFrame,
      [d.CSUM_START]: fields[d.CSUM_START] + innerFrame,
      [d.OUTER_L4]: outerTransport,
      [d.INNER_L3]: layoutOf(inner).network + innerFrame,
    },
  };
}

/** The frames that the superframe stands for. */
export function segmentsOfNested(nested: Nested, segmentBytes: number): Uint8Array[] {
  const { outer, tunnelHeader, inner, hasOuterChecksum } = nested;
  return segmentsOf(inner, segmentBytes).map((segment, index) => {
    const payload = Buffer.concat([tunnelHeader, frameOf(segment)]);
    const identification = (outer.identification + index) & 0xffff;
    const packet: Packet = { ...outer, protocol: 'udp', identification, payload };
    const frame = frameOf(packet);
    const field = layoutOf(packet).transport + udp.CHECKSUM;
    if (!hasOuterChecksum) frame.fill(0, field, field + 2);
    return frame;
  });
}
