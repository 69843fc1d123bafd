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
// Writes little-endian pcapng with nanoseconds: a section, its interfaces, packets, each with direction and a
// comment (the peer, the reason of a drop), and how many packets were lost. pcapng-read.ts reads it.

export const SECTION = 0x0a0d0d0a; // pcapng 4.1
export const INTERFACE = 1; // pcapng 4.2
export const SIMPLE_PACKET = 3; // pcapng 4.4
export const STATISTICS = 5; // pcapng 4.6
export const ENHANCED_PACKET = 6; // pcapng 4.3
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d; // pcapng 4.1
export const BLOCK_OVERHEAD_BYTES = 12; // pcapng 3.1
export const PACKET_FIXED_BYTES = 20; // pcapng 4.3, before the data
export const STATISTICS_FIXED_BYTES = 12; // pcapng 4.6

// Options: pcapng 3.5
export const END_OF_OPTIONS = 0;
export const COMMENT = 1;
export const INTERFACE_NAME = 2; // pcapng 4.2
const INTERFACE_DESCRIPTION = 3; // pcapng 4.2
export const TIME_RESOLUTION = 9; // pcapng 4.2
const APPLICATION = 4; // pcapng 4.1
const STATISTICS_RECEIVED = 4; // pcapng 4.6
export const STATISTICS_LOST = 5; // pcapng 4.6, isb_ifdrop
export const PACKET_FLAGS = 2; // pcapng 4.3.1; bits 0 and 1: direction

const NANOSECONDS = 9; // pcapng 4.2: as a power of ten

// draft-ietf-opsawg-pcaplinktype
export const LINK_TYPE_ETHERNET = 1; // LINKTYPE_ETHERNET
export const LINK_TYPE_RAW = 101; // LINKTYPE_RAW: an IPv4 or IPv6 packet, nothing before it

export interface Section {
  readonly kind: 'section';
  /** Name of the program that writes the section. */
  readonly application?: string;
}

export interface Interface {
  readonly kind: 'interface';
  readonly linkType: number;
  /** Longer packets are cut to this length; 0 = no packet is cut. */
  readonly snapBytes: number;
  readonly name: string;
  readonly description?: string;
}

export interface Packet {
  readonly kind: 'packet';
  /** Counted from 0, in the order in which interfaces were written. */
  readonly interfaceId: number;
  /** Time since 1970, as a bigint because nanoseconds do not fit a double. */
  readonly timestampNs: bigint;
  readonly originalBytes: number;
  /** The captured bytes. `readCapture` gives a part of the file, not a copy. */
  readonly data: Uint8Array;
  readonly direction: 'in' | 'out' | undefined;
  readonly comment: string;
}

/** Counts of the packets of an interface, at the end. */
export interface Statistics {
  readonly kind: 'statistics';
  readonly interfaceId: number;
  readonly timestampNs: bigint;
  /** Captured and lost. */
  readonly received: number;
  /** Packets that the capture had no room for. */
  readonly lost: number;
}

export type Repr = Section | Interface | Packet | Statistics;

interface Option {
  readonly code: number;
  readonly value: Uint8Array;
}

const encoder = new TextEncoder();
export const DIRECTIONS = [undefined, 'in', 'out', undefined] as const; // pcapng 4.3.1

function text(code: number, value: string | undefined): Option[] {
  return value === undefined || value === '' ? [] : [{ code, value: encoder.encode(value) }];
}

function count(code: number, value: number): Option {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return { code, value: bytes };
}

function optionsOf(repr: Repr): Option[] {
  switch (repr.kind) {
    case 'section':
      return text(APPLICATION, repr.application);
    case 'interface':
      return [
        { code: TIME_RESOLUTION, value: Uint8Array.of(NANOSECONDS) },
        ...text(INTERFACE_NAME, repr.name),
        ...text(INTERFACE_DESCRIPTION, repr.description),
      ];
    case 'packet': {
      const direction = DIRECTIONS.indexOf(repr.direction);
      const flags = { code: PACKET_FLAGS, value: Uint8Array.of(direction, 0, 0, 0) };
      return [...text(COMMENT, repr.comment), ...(direction === 0 ? [] : [flags])];
    }
    case 'statistics':
      return [count(STATISTICS_RECEIVED, repr.received), count(STATISTICS_LOST, repr.lost)];
  }
}

/** Everything in a block is a multiple of four bytes. */
export function padded(bytes: number): number {
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
    case 'statistics':
      return STATISTICS_FIXED_BYTES;
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
      writeTime(view, 12, repr.timestampNs);
      view.setUint32(20, repr.data.length, true);
      view.setUint32(24, repr.originalBytes, true);
      block.set(repr.data, 8 + PACKET_FIXED_BYTES);
      return;
    case 'statistics':
      view.setUint32(0, STATISTICS, true);
      view.setUint32(8, repr.interfaceId, true);
      writeTime(view, 12, repr.timestampNs);
  }
}

/** pcapng 4.3: the high half comes first. */
function writeTime(view: DataView, at: number, timestampNs: bigint): void {
  view.setUint32(at, Number((timestampNs >> 32n) & 0xffff_ffffn), true);
  view.setUint32(at + 4, Number(timestampNs & 0xffff_ffffn), true);
}
