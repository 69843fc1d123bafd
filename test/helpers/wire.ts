// What tests of packet formats begin with.

import * as ip from '../../src/wire/ip.js';
import { fromHex, vectors, type Name } from '../vectors/frames.js';

export const names = Object.keys(vectors) as Name[];
export const MAC_A = 0x0200_0000_000a;
export const MAC_B = 0x0200_0000_000b;

/** A frame from its `layer`th layer to the end. */
export function from(name: Name, layer: number): Uint8Array {
  return fromHex(vectors[name].hex.slice(layer).join(''));
}

export function address(text: string): ip.IpAddress {
  const parsed = ip.parse(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
}

export function addressV4(text: string): ip.Ipv4Address {
  return address(text) as ip.Ipv4Address;
}

/** A copy with some bytes changed. */
export function patched(bytes: Uint8Array, changes: Readonly<Record<number, number>>): Uint8Array {
  const copy = Uint8Array.from(bytes);
  for (const [at, value] of Object.entries(changes)) copy[Number(at)] = value;
  return copy;
}

export interface Codec<Repr> {
  check(bytes: Uint8Array, offset: number, length: number): number;
  parse(bytes: Uint8Array, offset: number, length: number): Repr | undefined;
  byteLength(repr: Repr): number;
  write(repr: Repr, bytes: Uint8Array, offset: number): number;
}

export function parsed<Repr>(codec: Codec<Repr>, bytes: Uint8Array): Repr {
  const repr = codec.parse(bytes, 0, bytes.length);
  if (repr === undefined) throw new Error('a good vector is refused');
  return repr;
}
