/**
 * Signs that the kernel does not put datagrams of a peer together (UDP_GRO), which it never does with those
 * without a UDP checksum. `dladm doctor` infers zero checksums from them: a socket is not told the checksum of
 * a datagram.
 *
 * Looked for once a batch, so that no frame pays for it.
 */
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  type FrameBatch,
  LENGTH,
  OFFSET,
  PORT,
  SEGMENT,
} from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import * as vlan from '../../wire/vlan.js';
import type { Mux } from '../mux.js';
import { intAt, OTHERS, UNCOALESCED } from './peer-records.js';

/** Fewer messages may just be the ones that came while the thread was busy with others. */
const LEAST_MESSAGES = 8;
/** Frames of this size come in trains: it is nearly the largest one in a tunnel over the narrowest link of
 * IPv6, of 1280 bytes. */
const LEAST_FRAME_BYTES = 1200;

/** Takes the two messages in the middle of a batch as its sample: they waited side by side. Counts for their
 * peer if the kernel would have made one of them. To be called before the headers are taken off. */
export function noteUncoalesced(mux: Mux, { bytes, descriptors }: FrameBatch, count: number): void {
  if (count < LEAST_MESSAGES) return;
  const at = (count >> 1) * DESCRIPTOR_WORDS;
  const before = at - DESCRIPTOR_WORDS;
  if ((descriptors[at + SEGMENT] | descriptors[before + SEGMENT]) !== 0) return;
  if (descriptors[at + LENGTH] !== descriptors[before + LENGTH]) return;
  for (let word = ADDRESS; word <= PORT; word++)
    if (descriptors[at + word] !== descriptors[before + word]) return;
  const outer = descriptors[at + OFFSET];
  const length = descriptors[at + LENGTH];
  const header = mux.encapsulation.check(bytes, outer, length);
  const overlay = header < 0 ? undefined : mux.find(mux.encapsulation.id(bytes, outer));
  if (overlay === undefined || length - header < LEAST_FRAME_BYTES) return;
  // A superframe that was never cut is one message too.
  const headers = header + ethernet.HEADER_BYTES + vlan.MAX_TAGS * vlan.HEADER_BYTES;
  if (length - headers > overlay.options.mtuBytes) return;
  const { records } = overlay.peers;
  const record = records.find(descriptors, at + ADDRESS);
  if (record === OTHERS) return;
  const own = intAt(record, UNCOALESCED);
  records.ints[own] = Math.min(records.ints[own] + 1, MOST);
}

const MOST = 0x7fff_ffff;
