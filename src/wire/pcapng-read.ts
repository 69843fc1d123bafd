// Reads pcapng of any program, and classic pcap (draft-ietf-opsawg-pcap 4), in both byte orders and any time
// resolution. A file that ends in the middle, as one that is still being written, gives its whole packets.
// CaptureStream reads a capture while pcapng.ts writes it.

import {
  BLOCK_OVERHEAD_BYTES,
  BYTE_ORDER_MAGIC,
  COMMENT,
  DIRECTIONS,
  END_OF_OPTIONS,
  ENHANCED_PACKET,
  INTERFACE,
  INTERFACE_NAME,
  type Interface,
  type Packet,
  PACKET_FIXED_BYTES,
  PACKET_FLAGS,
  padded,
  SECTION,
  SIMPLE_PACKET,
  STATISTICS,
  STATISTICS_FIXED_BYTES,
  STATISTICS_LOST,
  TIME_RESOLUTION,
} from './pcapng.js';

const CLASSIC_MICROSECONDS = 0xa1b2c3d4; // pcap 4
const CLASSIC_NANOSECONDS = 0xa1b23c4d; // pcap 4
const CLASSIC_HEADER_BYTES = 24; // pcap 4
const CLASSIC_RECORD_BYTES = 16; // pcap 5

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const MICROSECONDS = 6; // pcapng 4.2: the resolution where none is given, as a power of ten

const decoder = new TextDecoder();

export interface Capture {
  readonly interfaces: readonly Interface[];
  readonly packets: readonly Packet[];
  /** Packets that the capture had no room for, from the statistics of interfaces. */
  readonly lost: number;
  /** False if the file ends early or becomes invalid; the packets before that are valid. */
  readonly complete: boolean;
}

/** Returns undefined if the bytes are no capture file at all. Never throws. */
export function readCapture(bytes: Uint8Array): Capture | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) === SECTION) return readBlocks(bytes);
  for (const little of [true, false]) {
    const magic = view.getUint32(0, little);
    if (magic === CLASSIC_MICROSECONDS) return readClassic(bytes, view, little, 1000n);
    if (magic === CLASSIC_NANOSECONDS) return readClassic(bytes, view, little, 1n);
  }
  return undefined;
}

function readClassic(
  bytes: Uint8Array,
  view: DataView,
  little: boolean,
  unitNs: bigint,
): Capture | undefined {
  if (bytes.length < CLASSIC_HEADER_BYTES) return undefined;
  const linkType = view.getUint32(20, little) & 0xffff; // pcap 4: the upper bits tell about FCS
  const source: Interface = {
    kind: 'interface',
    linkType,
    snapBytes: view.getUint32(16, little),
    name: '',
  };
  const packets: Packet[] = [];
  let at = CLASSIC_HEADER_BYTES;
  while (bytes.length - at >= CLASSIC_RECORD_BYTES) {
    const captured = view.getUint32(at + 8, little);
    const data = at + CLASSIC_RECORD_BYTES;
    if (captured > bytes.length - data) break;
    packets.push({
      kind: 'packet',
      interfaceId: 0,
      timestampNs:
        BigInt(view.getUint32(at, little)) * NANOSECONDS_PER_SECOND +
        BigInt(view.getUint32(at + 4, little)) * unitNs,
      originalBytes: view.getUint32(at + 12, little),
      data: bytes.subarray(data, data + captured),
      direction: undefined,
      comment: '',
    });
    at = data + captured;
  }
  return { interfaces: [source], packets, lost: 0, complete: at === bytes.length };
}

/** State for reading the blocks of a section. Interface numbers of a file start again in every section; those
 * of `interfaces` continue. */
interface Reader {
  bytes: Uint8Array;
  view: DataView;
  little: boolean;
  firstInterface: number;
  readonly interfaces: Interface[];
  /** Units per second, by interface. */
  readonly resolutions: bigint[];
  packets: Packet[];
  lost: number;
  /** The last block was statistics; pcapng.ts writes them at the end. */
  hasEnded: boolean;
}

function newReader(bytes: Uint8Array): Reader {
  return {
    bytes,
    view: viewOf(bytes),
    little: true,
    firstInterface: 0,
    interfaces: [],
    resolutions: [],
    packets: [],
    lost: 0,
    hasEnded: false,
  };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function readBlocks(bytes: Uint8Array): Capture {
  const reader = newReader(bytes);
  const at = readWhole(reader);
  const { interfaces, packets, lost } = reader;
  return { interfaces, packets, lost, complete: at === bytes.length };
}

/** Reads every whole block, up to the first invalid one. Returns how many bytes they have. */
function readWhole(reader: Reader): number {
  const { bytes, view } = reader;
  let at = 0;
  while (bytes.length - at >= BLOCK_OVERHEAD_BYTES) {
    if (view.getUint32(at) === SECTION) beginSection(reader, at);
    const length = view.getUint32(at + 4, reader.little);
    if (length < BLOCK_OVERHEAD_BYTES || length % 4 !== 0 || length > bytes.length - at) break;
    if (view.getUint32(at + length - 4, reader.little) !== length) break;
    const type = view.getUint32(at, reader.little);
    if (!readBlock(reader, at + 8, at + length - 4, type)) break;
    reader.hasEnded = type === STATISTICS;
    at += length;
  }
  return at;
}

/** A capture as it comes, in pieces that end anywhere. */
export class CaptureStream {
  readonly #reader = newReader(new Uint8Array());

  get interfaces(): readonly Interface[] {
    return this.#reader.interfaces;
  }

  get lost(): number {
    return this.#reader.lost;
  }

  /** Whether the capture may end here: its last block is whole, and the statistics were there. */
  get hasEnded(): boolean {
    return this.#reader.hasEnded && this.#reader.bytes.length === 0;
  }

  /** Returns the packets that are whole now. Their data stays valid. */
  push(piece: Uint8Array): readonly Packet[] {
    const reader = this.#reader;
    reader.bytes = concat(reader.bytes, piece);
    reader.view = viewOf(reader.bytes);
    reader.packets = [];
    reader.bytes = reader.bytes.subarray(readWhole(reader));
    return reader.packets;
  }
}

function concat(one: Uint8Array, other: Uint8Array): Uint8Array {
  const both = new Uint8Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

function beginSection(reader: Reader, at: number): void {
  reader.little = reader.view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC;
  reader.firstInterface = reader.interfaces.length;
}

/** Returns false if a block contradicts itself. Blocks of unknown types are skipped (pcapng 3.1). */
function readBlock(reader: Reader, body: number, end: number, type: number): boolean {
  switch (type) {
    case SECTION:
      return end - body >= 16 && reader.view.getUint32(body, reader.little) === BYTE_ORDER_MAGIC;
    case INTERFACE:
      return readInterface(reader, body, end);
    case ENHANCED_PACKET:
      return readEnhanced(reader, body, end);
    case STATISTICS:
      return readStatistics(reader, body, end);
    case SIMPLE_PACKET:
      return readSimple(reader, body, end);
    default:
      return true;
  }
}

function readInterface(reader: Reader, body: number, end: number): boolean {
  if (end - body < 8) return false;
  const { bytes, view, little } = reader;
  const option = findOption(reader, body + 8, end, TIME_RESOLUTION, 1);
  const resolution = option < 0 ? MICROSECONDS : bytes[option];
  // pcapng 4.2: the top bit says that the rest is a power of two
  reader.resolutions.push(resolution < 128 ? 10n ** BigInt(resolution) : 2n ** BigInt(resolution - 128));
  reader.interfaces.push({
    kind: 'interface',
    linkType: view.getUint16(body, little),
    snapBytes: view.getUint32(body + 4, little),
    name: textOption(reader, body + 8, end, INTERFACE_NAME),
  });
  return true;
}

function readEnhanced(reader: Reader, body: number, end: number): boolean {
  if (end - body < PACKET_FIXED_BYTES) return false;
  const { bytes, view, little } = reader;
  const interfaceId = reader.firstInterface + view.getUint32(body, little);
  const resolution = reader.resolutions.at(interfaceId);
  const captured = view.getUint32(body + 12, little);
  const data = body + PACKET_FIXED_BYTES;
  if (resolution === undefined || captured > end - data) return false;
  const units = (BigInt(view.getUint32(body + 4, little)) << 32n) | BigInt(view.getUint32(body + 8, little));
  const options = Math.min(data + padded(captured), end);
  const flags = findOption(reader, options, end, PACKET_FLAGS, 4);
  reader.packets.push({
    kind: 'packet',
    interfaceId,
    timestampNs: (units * NANOSECONDS_PER_SECOND) / resolution,
    originalBytes: view.getUint32(body + 16, little),
    data: bytes.subarray(data, data + captured),
    direction: flags < 0 ? undefined : DIRECTIONS[view.getUint32(flags, little) & 3],
    comment: textOption(reader, options, end, COMMENT),
  });
  return true;
}

/** Reads the number of lost packets. */
function readStatistics(reader: Reader, body: number, end: number): boolean {
  if (end - body < STATISTICS_FIXED_BYTES) return false;
  const lost = findOption(reader, body + STATISTICS_FIXED_BYTES, end, STATISTICS_LOST, 8);
  if (lost >= 0) reader.lost += Number(reader.view.getBigUint64(lost, reader.little));
  return true;
}

/** A packet with only a length and data, of the section's first interface; it has no time. */
function readSimple(reader: Reader, body: number, end: number): boolean {
  const source = reader.interfaces.at(reader.firstInterface);
  if (end - body < 4 || source === undefined) return false;
  const originalBytes = reader.view.getUint32(body, reader.little);
  const captured = Math.min(originalBytes, end - body - 4, source.snapBytes || originalBytes);
  reader.packets.push({
    kind: 'packet',
    interfaceId: reader.firstInterface,
    timestampNs: 0n,
    originalBytes,
    data: reader.bytes.subarray(body + 4, body + 4 + captured),
    direction: undefined,
    comment: '',
  });
  return true;
}

/** Returns where the value of the first such option is, or -1. An option that does not fit ends the list. */
function findOption(
  { view, little }: Reader,
  start: number,
  end: number,
  code: number,
  minBytes: number,
): number {
  for (let at = start; end - at >= 4;) {
    const found = view.getUint16(at, little);
    const length = view.getUint16(at + 2, little);
    if (found === END_OF_OPTIONS || length > end - at - 4) return -1;
    if (found === code) return length < minBytes ? -1 : at + 4;
    at += 4 + padded(length);
  }
  return -1;
}

function textOption(reader: Reader, start: number, end: number, code: number): string {
  const at = findOption(reader, start, end, code, 1);
  if (at < 0) return '';
  const length = reader.view.getUint16(at - 2, reader.little);
  return decoder.decode(reader.bytes.subarray(at, at + length));
}
