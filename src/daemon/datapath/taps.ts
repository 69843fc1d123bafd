/** The TAP of a port: made anew and set up, or taken over from an earlier daemon and left as it is. */
import {
  TUN_F,
  closeDescriptor,
  deleteLink,
  linkInfo,
  openTap,
  setLink,
  setTapCarrier,
  setTapOffload,
  setTapPersistent,
  silenceLink,
} from '../../dgram-extra/index.js';
import * as ethernet from '../../wire/ethernet.js';
import * as mac from '../../wire/mac.js';
import * as vxlan from '../../wire/vxlan.js';
import type { Descriptor, Heritage, OverlayConfig, PortConfig } from './contract.js';
import { steerByFlow } from './steering.js';

/** What the stack may leave to us. A kernel that lacks one of a set is offered the next set. */
const TSO = TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN;
const TSO_AND_USO = TSO | TUN_F.USO4 | TUN_F.USO6;

const TAP = 'tap/';

/** The name under which a queue of a TAP is handed to the next daemon. */
export function tapDescriptor(port: string, queue: number): string {
  return `${TAP}${port}${queue === 0 ? '' : `/${queue}`}`;
}

export function portOfDescriptor(name: string): string | undefined {
  return name.startsWith(TAP) ? name.split('/')[1] : undefined;
}

/** What an earlier daemon has left of a port, queue by queue. */
function takeTap(port: string, { take }: Pick<Heritage, 'take'>, queues = Infinity): Descriptor[] {
  const left: Descriptor[] = [];
  while (left.length < queues) {
    const name = tapDescriptor(port, left.length);
    const fd = take(name);
    if (fd === undefined) break;
    left.push({ name, fd });
  }
  return left;
}

/** The device too. */
export function discardTap(port: string, heritage: Heritage): void {
  const left = takeTap(port, heritage);
  for (const { fd } of left) closeDescriptor(fd);
  void heritage.forget(left.map(({ name }) => name));
  if (linkInfo(port)?.alias === heritage.alias) deleteLink(port);
}

/** A descriptor a queue. Throws the system's error; then no new device is left. */
export function openPortTap(
  { name, mtuBytes, temporary, own }: PortConfig,
  address: mac.MacAddress,
  { config: { offload, queues }, carrier }: { readonly config: OverlayConfig; readonly carrier: boolean },
  heritage: Heritage,
): number[] {
  const { alias, persistTaps } = heritage;
  const left = takeTap(name, heritage, queues);
  const fds = left.map(({ fd }) => fd);
  const isHanded = left.length > 0;
  const found = linkInfo(name);
  const isOurs = found?.alias === alias;
  try {
    while (fds.length < queues)
      fds.push(openTap(name, { exclusive: !isOurs && fds.length === 0, multiQueue: queues > 1 }));
    const [fd] = fds;
    const bytes = new Uint8Array(mac.BYTES);
    mac.writeMac(bytes, 0, address);
    const wanted = offload === 'off' ? [TUN_F.CSUM] : [TSO_AND_USO, TSO, TUN_F.CSUM];
    wanted.find((flags) => setTapOffload(fd, flags, name));
    if (queues > 1) steerByFlow(fd, queues, name);
    // One that is taken over is as the last daemon left it.
    if (!carrier || isHanded || isOurs) setTapCarrier(fd, carrier, name);
    const size = { mtuBytes, gsoMaxBytes: superframeBytes(mtuBytes) };
    if (found !== undefined && isOurs) {
      // What is as it should be is left alone: whoever watches the link would see it change.
      if (Buffer.compare(found.mac, bytes) !== 0) setLink(name, { mac: bytes });
      if (found.mtuBytes !== mtuBytes) setLink(name, size);
    } else if (!isHanded) {
      setLink(name, { mac: bytes, alias, ...size });
      // The overlay's own is the host's: no station of the virtual network until it is given an address or a bridge.
      if (own) silenceLink(name);
      setLink(name, { up: true });
    }
    // Last: until here, nothing is left of it when this process is killed.
    setTapPersistent(fd, persistTaps && !temporary, name);
    return fds;
  } catch (error) {
    fds.forEach(closeDescriptor);
    void heritage.forget(left.map((one) => one.name));
    throw error;
  }
}

/** A superframe that leaves as one datagram of at most 64 segments and 65,000 bytes (udp-send.c): one byte more and
 * every superframe would cost two. Headers of a TCP segment over IPv6 with timestamps: 72 bytes. */
function superframeBytes(mtuBytes: number): number {
  const segments = Math.min(64, Math.floor(65_000 / (mtuBytes + ethernet.HEADER_BYTES + vxlan.HEADER_BYTES)));
  return Math.min(65_536, segments * (mtuBytes - 72));
}
