/** The encapsulations there are. */
import * as ethernet from '../wire/ethernet.js';
import * as udp from '../wire/udp.js';
import type { Encapsulation, EncapsulationName } from './contract.js';
import { GENEVE } from './geneve.js';
import { VXLAN } from './vxlan.js';

export type { Encapsulation, EncapsulationName } from './contract.js';

const BY_NAME: Readonly<Record<EncapsulationName, Encapsulation>> = { vxlan: VXLAN, geneve: GENEVE };

export const ENCAPSULATION_NAMES = Object.keys(BY_NAME) as readonly EncapsulationName[];

/** VXLAN where nothing is said: a varpd from before there were others hands over overlays so. */
export function encapsulation(name: EncapsulationName = 'vxlan'): Encapsulation {
  return BY_NAME[name];
}

/** The encapsulation of a name that an operator typed; undefined where there is none of that name. */
export function encapsulationNamed(name: string): Encapsulation | undefined {
  return ENCAPSULATION_NAMES.includes(name as EncapsulationName)
    ? BY_NAME[name as EncapsulationName]
    : undefined;
}

/** From the inner Ethernet frame to the outer IP packet. */
export function frameOverheadBytes({ headerBytes }: Encapsulation, underlay: 4 | 6): number {
  return headerBytes + udp.overheadBytes(underlay);
}

/** From the inner IP packet to the outer one, without tags: what an overlay's MTU is smaller by. */
export function overheadBytes(encap: Encapsulation, underlay: 4 | 6): number {
  return ethernet.HEADER_BYTES + frameOverheadBytes(encap, underlay);
}
