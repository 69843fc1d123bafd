/**
 * Capture: a device around a device that writes every frame it sees as pcapng. Wireshark reads the result while it
 * grows. Frames that were refused are there too, with the errno as their comment.
 *
 * It writes the overlay's frame, also where the device is a socket: the outer packet is the kernel's and
 * not seen here. Its address, port and VNI stand in the comment.
 */
import { getSystemErrorName } from 'node:util';
import type { Encapsulation } from '../../src/encap/contract.js';
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  LENGTH,
  OFFSET,
  PORT,
  RUN_END,
  SEGMENT,
  TOS,
  runFrames,
  type FrameBatch,
} from '../../src/wire/descriptor.js';
import { formatEndpoint, readV6 } from '../../src/wire/ip.js';
import * as pcapng from '../../src/wire/pcapng.js';
import { reasonName } from '../../src/wire/reason.js';
import * as vlan from '../../src/wire/vlan.js';
import type { Device } from '../../src/io/contract.js';

/** A socket is known by what stands before its frames. */
export type DeviceKind = 'port' | Encapsulation;
/** As the datapath sees it: `in` is what it receives. */
export type Direction = 'in' | 'out';

/** A frame on its way through a device, in words and bytes. `bytes` is good until the batch is used again. */
export interface Crossing {
  readonly bytes: Uint8Array;
  readonly note: string;
}

/** Frame `index` of a batch that was just received, or just delivered with `argument` (an errno below zero): each of
 * its frames, where it is a run. */
export function crossings(
  kind: DeviceKind,
  direction: Direction,
  batch: FrameBatch,
  index: number,
  argument: number,
): Crossing[] {
  const { descriptors } = batch;
  const at = index * DESCRIPTOR_WORDS;
  const frames = runFrames(descriptors, at);
  const end = frames === 1 ? Infinity : descriptors[at + RUN_END];
  return Array.from({ length: frames }, (_, ordinal) => {
    const offset = descriptors[at + OFFSET] + ordinal * descriptors[at + SEGMENT];
    return crossing(
      kind,
      direction,
      batch,
      at,
      offset,
      Math.min(offset + descriptors[at + LENGTH], end),
      argument,
    );
  });
}

function crossing(
  kind: DeviceKind,
  direction: Direction,
  batch: FrameBatch,
  at: number,
  offset: number,
  end: number,
  argument: number,
): Crossing {
  const refused = argument < 0 ? getSystemErrorName(-(-argument & 0xffff)) : '';
  if (kind === 'port') {
    const bytes = batch.bytes.subarray(offset, end);
    return { bytes: argument > 0 && argument & STRIP_TAG ? withoutTag(bytes) : bytes, note: refused };
  }
  const tos = batch.descriptors[at + TOS];
  const marks = tos === 0 ? '' : ` tos ${tos}`;
  if (direction === 'out') {
    const vni = kind.id(batch.bytes, offset - kind.headerBytes);
    return { bytes: batch.bytes.subarray(offset, end), note: `VNI ${vni}${marks} ${refused}`.trimEnd() };
  }
  const from = `from ${source(batch, at)}${marks}`;
  const header = kind.check(batch.bytes, offset, end - offset);
  if (header < 0) {
    const note = `${from}, not ${kind.title}: ${reasonName(header)}`;
    return { bytes: batch.bytes.subarray(offset, end), note };
  }
  const bytes = batch.bytes.subarray(offset + header, end);
  return { bytes, note: `VNI ${kind.id(batch.bytes, offset)} ${from}` };
}

function source({ descriptors }: FrameBatch, at: number): string {
  const octets = new Uint8Array(descriptors.buffer, descriptors.byteOffset);
  return formatEndpoint({ ip: readV6(octets, (at + ADDRESS) * 4), port: descriptors[at + PORT] });
}

/** Argument of a port's entry: the 802.1Q tag is taken out. */
const STRIP_TAG = 1;
const ADDRESSES_BYTES = 12; // a tag stands behind the two addresses, IEEE 802.1Q 9.3

function withoutTag(bytes: Uint8Array): Uint8Array {
  const rest = bytes.subarray(ADDRESSES_BYTES + vlan.HEADER_BYTES);
  return Uint8Array.from([...bytes.subarray(0, ADDRESSES_BYTES), ...rest]);
}

export interface CaptureOptions {
  readonly kind: DeviceKind;
  /** Name of the interface in the capture. */
  readonly name: string;
  /** Since 1970. */
  readonly nowNs: () => bigint;
  /** Given one block at a time, in order; the bytes are the receiver's. */
  readonly write: (block: Uint8Array) => void;
}

/** A device around a device that looks at each frame that goes in or out, and changes nothing. */
export abstract class Onlooker implements Device {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  receive(batch: FrameBatch, mostFrames?: number): number {
    return this.#receivedAll(batch, this.#device.receive(batch, mostFrames));
  }

  rest(batch: FrameBatch): number {
    return this.#receivedAll(batch, this.#device.rest?.(batch) ?? 0);
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    const delivered = this.#device.deliver(batch, entries, count);
    for (let at = 0; at < count * 2; at += 2) this.saw('out', batch, entries[at], entries[at + 1]);
    return delivered;
  }

  /** Frame `index` of the batch was received, or has been delivered with this result. */
  protected abstract saw(direction: Direction, batch: FrameBatch, index: number, result: number): void;

  #receivedAll(batch: FrameBatch, count: number): number {
    for (let index = 0; index < count; index++) this.saw('in', batch, index, 0);
    return count;
  }
}

export class Capture extends Onlooker {
  readonly #options: CaptureOptions;

  /** Writes the two blocks that a capture begins with. */
  constructor(device: Device, options: CaptureOptions) {
    super(device);
    this.#options = options;
    const { name } = options;
    this.#write({ kind: 'section' });
    this.#write({ kind: 'interface', linkType: pcapng.LINK_TYPE_ETHERNET, snapBytes: 0, name });
  }

  protected saw(direction: Direction, batch: FrameBatch, index: number, argument: number): void {
    for (const { bytes: data, note } of crossings(this.#options.kind, direction, batch, index, argument)) {
      const about = { interfaceId: 0, timestampNs: this.#options.nowNs(), direction, comment: note };
      this.#write({ kind: 'packet', ...about, originalBytes: data.length, data });
    }
  }

  #write(repr: pcapng.Repr): void {
    const block = new Uint8Array(pcapng.byteLength(repr));
    pcapng.write(repr, block, 0);
    this.#options.write(block);
  }
}
