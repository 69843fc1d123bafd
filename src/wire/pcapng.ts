//  0                   1                   2                   3
//  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
// +---------------------------------------------------------------+
// |                          Block type                           |
// +---------------------------------------------------------------+
// |           Block total length (a multiple of 4) = n            |
// +---------------------------------------------------------------+
// |                          Body (n - 12)                        |
// +---------------------------------------------------------------+
// |                      Block total length                       |     (draft-ietf-opsawg-pcapng 3.1)
// +---------------------------------------------------------------+
//
// Writes little-endian pcapng with nanoseconds: a section, its interfaces, then packets, each with direction
// and a comment (the reason of a drop). Reads pcapng of any program, and classic pcap (draft-ietf-opsawg-pcap
// 4), in both byte orders and any time resolution. A file that ends in the middle, as one that is still being
// written, gives its whole packets.

const SECTION = 0x0a0d0d0a; // pcapng 4.1
const INTERFACE = 1; // pcapng 4.2
const SIMPLE_PACKET = 3; // pcapng 4.4
const ENHANCED_PACKET = 6; // pcapng 4.3
const BYTE_ORDER_MAGIC = 0x1a2b3c4d; // pcapng 4.1
const BLOCK_OVERHEAD_BYTES = 12; // pcapng 3.1
const PACKET_FIXED_BYTES = 20; // pcapng 4.3, before the data

// Options: pcapng 3.5
const END_OF_OPTIONS = 0;
const COMMENT = 1;
const INTERFACE_NAME = 2; // pcapng 4.2
const TIME_RESOLUTION = 9; // pcapng 4.2
const PACKET_FLAGS = 2; // pcapng 4.3.1; bits 0 and 1: direction

const CLASSIC_MICROSECONDS = 0xa1b2c3d4; // pcap 4
const CLASSIC_NANOSECONDS = 0xa1b23c4d; // pcap 4
const CLASSIC_HEADER_BYTES = 24; // pcap 4
const CLASSIC_RECORD_BYTES = 16; // pcap 5

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const MICROSECONDS = 6; // pcapng 4.2: the resolution where none is given, as a power of ten
const NANOSECONDS = 9;

export const LINK_TYPE_ETHERNET = 1; // draft-ietf-opsawg-pcaplinktype, LINKTYPE_ETHERNET

export interface Section {
  readonly kind: 'section';
}

export interface Interface {
  readonly kind: 'interface';
  readonly linkType: number;
  /** Longer packets are cut to this length; 0 = no packet is cut. */
  readonly snapBytes: number;
  readonly name: string;
}

export interface Packet {
  readonly kind: 'packet';
  /** Counted from 0, in the order in which interfaces were written. */
  readonly interfaceId: number;
  /** Time since 1970, as a bigint because nanoseconds do not fit a double. */
  readonly timestampNs: bigint;
  readonly originalBytes: number;
  /** The captured bytes. `read` gives a part of the file, not a copy. */
  readonly data: Uint8Array;
  readonly direction: 'in' | 'out' | undefined;
  readonly comment: string;
}

export type Repr = Section | Interface | Packet;

export interface Capture {
  readonly interfaces: readonly Interface[];
  readonly packets: readonly Packet[];
  /** False if the file ends early or becomes invalid; the packets before that are valid. */
  readonly complete: boolean;
}

// -- Writing

interface Option {
  readonly code: number;
  readonly value: Uint8Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const DIRECTIONS = [undefined, 'in', 'out', undefined] as const; // pcapng 4.3.1

function optionsOf(repr: Repr): Option[] {
  const options: Option[] = [];
  if (repr.kind === 'interface') {
    options.push({ code: TIME_RESOLUTION, value: Uint8Array.of(NANOSECONDS) });
    if (repr.name !== '') options.push({ code: INTERFACE_NAME, value: encoder.encode(repr.name) });
  } else if (repr.kind === 'packet') {
    if (repr.comment !== '') options.push({ code: COMMENT, value: encoder.encode(repr.comment) });
    if (repr.direction !== undefined) {
      options.push({ code: PACKET_FLAGS, value: Uint8Array.of(DIRECTIONS.indexOf(repr.direction), 0, 0, 0) });
    }
  }
  return options;
}

function padded(bytes: number): number {
  return (bytes + 3) & ~3;
}

function optionsBytes(options: readonly Option[]): number {
  if (options.length === 0) return 0;
  return options.reduce((total, { value }) => total + 4 + padded(value.length), 4);
}

function fixedBytes(repr: Repr): number {
  switch (repr.kind) {
    case 'section':
      return 16;
    case 'interface':
      return 8;
    case 'packet':
      return PACKET_FIXED_BYTES + padded(repr.data.length);
  }
}

export function byteLength(repr: Repr): number {
  return BLOCK_OVERHEAD_BYTES + fixedBytes(repr) + optionsBytes(optionsOf(repr));
}

export function write(repr: Repr, bytes: Uint8Array, offset: number): number {
  const total = byteLength(repr);
  bytes.fill(0, offset, offset + total);
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, total);
  view.setUint32(4, total, true);
  view.setUint32(total - 4, total, true);
  writeBody(repr, view, bytes.subarray(offset, offset + total));
  let at = 8 + fixedBytes(repr);
  for (const { code, value } of optionsOf(repr)) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    bytes.set(value, offset + at + 4);
    at += 4 + padded(value.length);
  }
  return total;
}

function writeBody(repr: Repr, view: DataView, block: Uint8Array): void {
  switch (repr.kind) {
    case 'section':
      view.setUint32(0, SECTION, true);
      view.setUint32(8, BYTE_ORDER_MAGIC, true);
      view.setUint16(12, 1, true); // pcapng 4.1: version 1.0
      view.setBigInt64(16, -1n, true); // pcapng 4.1: length not known
      return;
    case 'interface':
      view.setUint32(0, INTERFACE, true);
      view.setUint16(8, repr.linkType, true);
      view.setUint32(12, repr.snapBytes, true);
      return;
    case 'packet':
      view.setUint32(0, ENHANCED_PACKET, true);
      view.setUint32(8, repr.interfaceId, true);
      view.setUint32(12, Number((repr.timestampNs >> 32n) & 0xffff_ffffn), true); // pcapng 4.3: high half first
      view.setUint32(16, Number(repr.timestampNs & 0xffff_ffffn), true);
      view.setUint32(20, repr.data.length, true);
      view.setUint32(24, repr.originalBytes, true);
      block.set(repr.data, 8 + PACKET_FIXED_BYTES);
  }
}

// -- Reading

/** Returns undefined if the bytes are no capture file at all. Never throws. */
export function read(bytes: Uint8Array): Capture | undefined {
  if (bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0) === SECTION) return readBlocks(bytes, view);
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
  return { interfaces: [source], packets, complete: at === bytes.length };
}

/** State for reading the blocks of a section. Interface numbers of a file start again in every section; those
 * of `interfaces` continue. */
interface Reader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  little: boolean;
  firstInterface: number;
  readonly interfaces: Interface[];
  /** Units per second, by interface. */
  readonly resolutions: bigint[];
  readonly packets: Packet[];
}

function readBlocks(bytes: Uint8Array, view: DataView): Capture {
  const reader: Reader = {
    bytes,
    view,
    little: true,
    firstInterface: 0,
    interfaces: [],
    resolutions: [],
    packets: [],
  };
  let at = 0;
  while (bytes.length - at >= BLOCK_OVERHEAD_BYTES) {
    if (view.getUint32(at) === SECTION) beginSection(reader, at);
    const length = view.getUint32(at + 4, reader.little);
    if (length < BLOCK_OVERHEAD_BYTES || length % 4 !== 0 || length > bytes.length - at) break;
    if (view.getUint32(at + length - 4, reader.little) !== length) break;
    if (!readBlock(reader, at + 8, at + length - 4, view.getUint32(at, reader.little))) break;
    at += length;
  }
  return { interfaces: reader.interfaces, packets: reader.packets, complete: at === bytes.length };
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
