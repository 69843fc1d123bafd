/** All encapsulations. */
import * as ethernet from '../wire/ethernet.js';
import * as udp from '../wire/udp.js';
import type { Encapsulation, EncapsulationName } from './contract.js';
import { GENEVE } from './geneve.js';
import { VXLAN } from './vxlan.js';

export type { Encapsulation, EncapsulationName } from './contract.js';

const BY_NAME: Readonly<Record<EncapsulationName, Encapsulation>> = { vxlan: VXLAN, geneve: GENEVE };

export const ENCAPSULATION_NAMES = Object.keys(BY_NAME) as readonly EncapsulationName[];

/** Returns the encapsulation of a name. The default is for a handover from an older varpd, which has VXLAN
 * alone and names none. */
export function encapsulation(name: EncapsulationName = 'vxlan'): Encapsulation {
  return BY_NAME[name];
}

/** Returns the encapsulation of a name that an operator typed; undefined if there is none. */
export function encapsulationNamed(name: string): Encapsulation | undefined {
  return ENCAPSULATION_NAMES.includes(name as EncapsulationName)
    ? BY_NAME[name as EncapsulationName]
    : undefined;
}

/** Returns the header of the frames of network `id`, as words in host byte order. */
export function headerOf(encap: Encapsulation, id: number): Int32Array {
  const bytes = new Uint8Array(encap.headerBytes);
  encap.writeHeader(bytes, 0, id);
  return new Int32Array(bytes.buffer);
}

/** Bytes that are added to an inner Ethernet frame to make the outer IP packet. */
export function frameOverheadBytes({ headerBytes }: Encapsulation, underlay: 4 | 6): number {
  return headerBytes + udp.overheadBytes(underlay);
}

/** Bytes that are added to an untagged inner IP packet to make the outer one: an overlay's MTU is smaller by
 * this. */
export function overheadBytes(encap: Encapsulation, underlay: 4 | 6): number {
  return ethernet.HEADER_BYTES + frameOverheadBytes(encap, underlay);
}
