/**
 * The tunnel port: a TAP by which superframes leave whole, as tunnel frames (tunnel-send.c). A BPF program at its ingress
 * sends each frame to the link of its route, so neither the routing nor the firewall of the host sees it.
 */
import { ERRNO } from '../wire/errno.js';
import { addon, NativeError } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { silenceLink } from './link-silence.js';
import { ask, attribute, numberAttribute, textAttribute } from './netlink-message.js';
import { linkInfo, named, setLink } from './rtnetlink.js';
import {
  openTap,
  resetTapSettings,
  setTapCarrier,
  setTapOffload,
  tapInfo,
  TUN_F,
  TUNNEL_HEADER_BYTES,
} from './tap-device.js';

/** The kernel puts the first free number in place of %d. */
const NAME = 'varpd-out%d';
const OFFLOAD =
  TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN | TUN_F.UDP_TUNNEL_GSO | TUN_F.UDP_TUNNEL_GSO_CSUM;
/** Frames that wait for their devices have so many bytes at most; as much as a sending socket. */
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;

export interface TunnelPort {
  readonly fd: number;
  readonly name: string;
}

/** Opens a tunnel port; it is up. `program`: a descriptor of a program that redirects its frames. Throws the kernel's error;
 * EINVAL before Linux 6.17. */
export function openTunnelPort(program: number): TunnelPort {
  const fd = openTap(NAME, { exclusive: true });
  try {
    const name = tapInfo(fd)?.name ?? NAME;
    if (!setTapOffload(fd, OFFLOAD, name)) throw new NativeError(-ERRNO.EINVAL, 'TUNSETOFFLOAD', name);
    resetTapSettings(fd, name, TUNNEL_HEADER_BYTES, SEND_BUFFER_BYTES);
    // Without a carrier the stack sends no frame to it; frames that are written to it go on.
    setTapCarrier(fd, false, name);
    silenceLink(name);
    redirectIngress(name, program);
    setLink(name, { up: true });
    return { fd, name };
  } catch (error) {
    addon.closeDescriptor(fd);
    throw error;
  }
}

const CREATE = kernel.NLM_F_ACK | kernel.NLM_F_CREATE | kernel.NLM_F_EXCL;
const PRIORITY = 1;

/** Has the kernel run the program for each frame at the ingress of the link (tc-bpf(8), direct action). */
function redirectIngress(name: string, program: number): void {
  const index = linkInfo(name)?.index ?? 0;
  const handle = (kernel.TC_H_CLSACT & 0xffff_0000) >>> 0;
  const ingress = (handle | kernel.TC_H_MIN_INGRESS) >>> 0;
  const qdisc = [traffic(index, handle, kernel.TC_H_CLSACT, 0), textAttribute(kernel.TCA_KIND, 'clsact')];
  named(name, 'RTM_NEWQDISC', () => ask(kernel.RTM_NEWQDISC, CREATE, qdisc, name));
  const options = [
    numberAttribute(kernel.TCA_BPF_FD, program),
    textAttribute(kernel.TCA_BPF_NAME, 'varpd'),
    numberAttribute(kernel.TCA_BPF_FLAGS, kernel.TCA_BPF_FLAG_ACT_DIRECT),
  ];
  const protocol = kernel.ETH_P_ALL << 8; // in network order
  const filter = [
    traffic(index, 0, ingress, (PRIORITY << 16) | protocol),
    textAttribute(kernel.TCA_KIND, 'bpf'),
    attribute(kernel.TCA_OPTIONS, new Uint8Array(Buffer.concat(options))),
  ];
  named(name, 'RTM_NEWTFILTER', () => ask(kernel.RTM_NEWTFILTER, CREATE, filter, name));
}

/** struct tcmsg */
function traffic(index: number, handle: number, parent: number, info: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(20));
  view.setInt32(4, index, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, parent, true);
  view.setUint32(16, info, true);
  return new Uint8Array(view.buffer);
}

/** Words of a source of tunnel frames (tunnel-send.h). From TUNNEL_SENT on, two count the superframes that left as tunnel
 * frames, and that the tunnel port refused. The reader sets them to 0. */
const SOURCE_WORDS = 11;
export const TUNNEL_SENT = 1;

/** Returns the source for `udpSend`: tunnel frames have the address, port, TTL and kind of checksum of datagrams of this
 * socket. Undefined if the socket has no address of its own. */
export function tunnelSource(port: number, socket: number): Int32Array | undefined {
  const words = new Int32Array(SOURCE_WORDS);
  return addon.tunnelSource(words, port, socket) < 0 ? undefined : words;
}
