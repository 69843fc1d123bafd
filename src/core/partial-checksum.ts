/**
 * Offloads of inner frames from a kernel VTEP on the same machine. Such frames have never been on a wire.
 * Their TCP or UDP checksum may still be left to "the device", and then the field has the sum of the
 * pseudo-header. A frame may also be an uncut superframe of up to 64 KiB. Both are written to the TAP with
 * the virtio-net header that says so; without it the receiving stack drops them, and TCP hangs although other
 * frames pass. In an uncut UDP frame the size of the datagrams matters, and the kernel reports it (GSO_SIZE).
 * For TCP the kernel reports none, and any size that fits will do.
 *
 * A full checksum can equal the pseudo-header sum by chance. That is harmless: by the arithmetic of one's
 * complement, completing it gives the same value again.
 */
import { read16 } from '../wire/bytes.js';
import * as checksum from '../wire/checksum.js';
import {
  CSUM_OFFSET,
  CSUM_START,
  FLAGS,
  GSO_SIZE,
  GSO_TYPE,
  HEADER_BYTES,
  LENGTH,
  OFFSET,
} from '../wire/descriptor.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as tcp from '../wire/tcp.js';
import * as udp from '../wire/udp.js';
import * as virtio from '../wire/virtio-net.js';

/**
 * Completes the descriptor at `at` for a frame out of the tunnel. Its Ethernet header, tags included, ends at
 * `payload`. Returns false if the frame does not fit `mtuBytes` and is no uncut frame that could be cut to
 * fit.
 */
export function recognise(
  bytes: Uint8Array,
  descriptors: Int32Array,
  at: number,
  payload: number,
  mtuBytes: number,
): boolean {
  const frame = descriptors[at + OFFSET];
  const end = frame + descriptors[at + LENGTH];
  const fits = end - payload <= mtuBytes;
  const etherType = read16(bytes, payload - 2);
  let protocol: number;
  let transport: number;
  let segmentBytes: number;
  if (etherType === ethernet.IPV4) {
    if (ipv4.check(bytes, payload, end - payload) < 0 || ipv4.isFragment(bytes, payload)) return fits;
    protocol = ipv4.protocol(bytes, payload);
    transport = payload + ipv4.headerLength(bytes, payload);
    segmentBytes = payload + ipv4.totalLength(bytes, payload) - transport;
  } else if (etherType === ethernet.IPV6) {
    if (ipv6.check(bytes, payload, end - payload) < 0) return fits;
    const found = ipv6.transport(bytes, payload);
    if (found < 0 || ipv6.isFragment(found)) return fits;
    protocol = ipv6.transportProtocol(found);
    transport = payload + ipv6.transportOffset(found);
    segmentBytes = payload + ipv6.HEADER_BYTES + ipv6.payloadLength(bytes, payload) - transport;
  } else {
    return fits;
  }

  let field: number;
  if (protocol === ipv4.TCP && tcp.check(bytes, transport, segmentBytes) > 0) field = tcp.CHECKSUM;
  else if (protocol === ipv4.UDP && udp.check(bytes, transport, segmentBytes) > 0) field = udp.CHECKSUM;
  else return fits;
  if (read16(bytes, transport + field) !== checksum.pseudo(bytes, payload, protocol, segmentBytes))
    return fits;

  descriptors[at + FLAGS] = virtio.NEEDS_CHECKSUM;
  descriptors[at + CSUM_START] = transport - frame;
  descriptors[at + CSUM_OFFSET] = field;
  const segmentSize = descriptors[at + GSO_SIZE];
  if (fits && segmentSize === 0) return true;
  // A packet that ends before its frame does is padded, and padding must not become segments.
  if (transport + segmentBytes !== end) return false;
  if (protocol === ipv4.UDP) {
    const headerBytes = transport + udp.HEADER_BYTES - payload;
    if (segmentSize === 0 || headerBytes + segmentSize > mtuBytes) return false;
    descriptors[at + GSO_TYPE] = virtio.GSO_UDP_L4;
    descriptors[at + HEADER_BYTES] = payload - frame + headerBytes;
    return true;
  }

  const headerBytes = transport + tcp.headerLength(bytes, transport) - payload;
  if (headerBytes >= mtuBytes) return false;
  const congestionWindowReduced = tcp.flags(bytes, transport) & tcp.CWR ? virtio.GSO_ECN : 0;
  descriptors[at + GSO_TYPE] =
    (etherType === ethernet.IPV4 ? virtio.GSO_TCPV4 : virtio.GSO_TCPV6) | congestionWindowReduced;
  descriptors[at + GSO_SIZE] = mtuBytes - headerBytes;
  descriptors[at + HEADER_BYTES] = payload - frame + headerBytes;
  return true;
}
