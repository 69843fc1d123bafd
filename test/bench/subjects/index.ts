// Everything that can be measured, in the order of the tables.
import { kernel, veth } from './kernel.js';
import { openvswitch } from './openvswitch.js';
import { openvpn, socat } from './plain-tunnels.js';
import { fastd, nebula, tinc, wireguard } from './private.js';
import type { Subject } from './tunnel.js';
import { plain, varpd, varpdTunnel } from './vxlan.js';

export const OURS = varpd.name;
export const KERNEL = kernel.name;
export const PLAIN = plain.name;
/** No tunnel. */
export const RAW = veth.name;
export const subjects: readonly Subject[] = [
  veth,
  kernel,
  plain,
  varpd,
  varpdTunnel,
  openvswitch,
  wireguard,
  tinc,
  fastd,
  openvpn,
  socat,
  nebula,
];
