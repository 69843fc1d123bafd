// Network byte order, in one place. Plain reads inline to two or four loads. DataView would need an object
// per buffer, and the readers of a slab hold none. The caller is responsible for the bounds: every codec has
// one `check` for them.

export function read16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] << 8) | bytes[offset + 1];
}

export function read24(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] << 16) | (bytes[offset + 1] << 8) | bytes[offset + 2];
}

/** Unsigned; a result above 2^31 is no small integer, so per-frame keys use `mac.macLow`, which is signed. */
export function read32(bytes: Uint8Array, offset: number): number {
  return readSigned32(bytes, offset) >>> 0;
}

export function readSigned32(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] << 24) | (bytes[offset + 1] << 16) | (bytes[offset + 2] << 8) | bytes[offset + 3];
}

export function write16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 8;
  bytes[offset + 1] = value;
}

export function write32(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value >>> 24;
  bytes[offset + 1] = value >>> 16;
  bytes[offset + 2] = value >>> 8;
  bytes[offset + 3] = value;
}
