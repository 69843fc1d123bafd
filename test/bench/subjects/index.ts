// Everything that can be measured, in the order of the tables.
import { kernel, veth } from './kernel.js';
import type { Subject } from './tunnel.js';
import { plain, varpd } from './vxlan.js';

export const OURS = varpd.name;
export const subjects: readonly Subject[] = [veth, kernel, plain, varpd];
