/**
 * What others have set on the TAP of a port. Its settings belong to the device: whoever has a descriptor of it, and root, can
 * change them, and of most the kernel tells nobody. So they are looked at once a second.
 *
 * What takes a descriptor to change is varpd's own affair, and is set right: header, byte order, send buffer, persistence,
 * owner and group. What ip(8) and ethtool(8) change may be an operator's choice: it stays, and is told of. Queues of others
 * cannot be taken from them, and what else they may have set cannot be asked for: it is set again when they come and go.
 */
import {
  isOwn,
  linkOffloads,
  NativeError,
  resetTapSettings,
  setTapOffload,
  setTapOwner,
  setTapPersistent,
  TAP_DEFAULTS,
  tapSettings,
  TUN_F,
  type Features,
  type TunInfo,
  unfilterTap,
} from '../../dgram-extra/index.js';
import type { OverlayConfig, PortFindings } from './contract.js';
import { steerByFlow } from './steering.js';

const TSO = TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN;
const USO = TUN_F.USO4 | TUN_F.USO6;

/** What the stack may leave to us, as TUN_F flags. */
export function offloadFlags(
  offload: OverlayConfig['offload'],
  { tapTcpSegmentation, tapUdpSegmentation }: Pick<Features, 'tapTcpSegmentation' | 'tapUdpSegmentation'>,
): number {
  if (offload === 'off' || !tapTcpSegmentation) return TUN_F.CSUM;
  return tapUdpSegmentation ? TSO | USO : TSO;
}

/** Names that ethtool(8) takes. */
const SWITCHES = [
  [TUN_F.CSUM, 'tx'],
  [TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN, 'tso'],
  [USO, 'tx-udp-segmentation'],
] as const;

export interface WatchedTap {
  readonly name: string;
  /** All of ours. */
  readonly fds: readonly number[];
  readonly isPersistent: boolean;
  readonly offload: number;
  /** What others have of it, as it was seen last. */
  readonly seen: { foreignQueues: number; triedOffload: number };
}

/** `link`: what the kernel says of it just now, if it was asked. `device`: its name, while it is in our network namespace. */
export function checkTap(
  tap: WatchedTap,
  device: string | undefined,
  link: TunInfo | undefined,
): PortFindings {
  const findings = { mended: [] as string[], troubles: [] as string[] };
  try {
    checkSettings(tap, findings.mended);
    if (link !== undefined) checkLink(tap, link, findings.mended);
    if (device !== undefined) checkOffload(tap, device, findings);
  } catch (error) {
    // It is gone, or going: whoever reads from it says so.
    if (!(error instanceof NativeError)) throw error;
    if (error.code !== 'EBADFD') findings.troubles.push(`cannot be set right: ${error.message}`);
  }
  const { foreignQueues } = tap.seen;
  if (foreignQueues > 0) findings.troubles.push(foreignText(foreignQueues, device ?? tap.name));
  return findings;
}

function foreignText(count: number, device: string): string {
  const whose = count === 1 ? 'a queue that is not ours' : `${count} queues that are not ours`;
  return `has ${whose}: its frames may go there, and others come from there (as root: grep -lw ${device} /proc/[0-9]*/fdinfo/*)`;
}

function checkSettings({ fds: [fd], name, isPersistent }: WatchedTap, mended: string[]): void {
  const found = tapSettings(fd);
  if (found === undefined) return;
  const others: string[] = [];
  if (found.headerBytes !== TAP_DEFAULTS.headerBytes)
    others.push(`the virtio-net header was ${found.headerBytes} bytes`);
  if (!found.isNativeOrder) others.push('the byte order of the virtio-net header was chosen');
  if (found.sendBufferBytes !== TAP_DEFAULTS.sendBufferBytes)
    others.push(`the send buffer was ${found.sendBufferBytes} bytes`);
  if (others.length > 0) resetTapSettings(fd, name);
  if (found.isPersistent !== isPersistent) {
    setTapPersistent(fd, isPersistent, name);
    others.push(found.isPersistent ? 'it was persistent' : 'it was not persistent');
  }
  mended.push(...others);
}

function checkLink({ name, fds, seen }: WatchedTap, link: TunInfo, mended: string[]): void {
  const [fd] = fds;
  if (!isOwn(link)) {
    setTapOwner(fd, name);
    mended.push(`its owner was ${link.ownerUid ?? 'nobody'}, its group ${link.ownerGid ?? 'none'}`);
  }
  // Of one with a single queue the kernel counts none: it has one, and nobody else gets another.
  const foreignQueues = Math.max(0, link.queues + link.disabledQueues - fds.length);
  if (foreignQueues === seen.foreignQueues) return;
  seen.foreignQueues = foreignQueues;
  unfilterTap(fd, name);
  steerByFlow(fds, name);
}

function checkOffload(
  { fds: [fd], name, offload, seen }: WatchedTap,
  device: string,
  { mended, troubles }: { mended: string[]; troubles: string[] },
): void {
  const found = linkOffloads(device);
  if (found === undefined) return;
  let lacks = offload & ~found.inForce;
  // Who has TUNSETOFFLOAD leave it out, and who switches it off, look alike; who has switched it on again wants it back.
  const isWanted = (offload & ~found.wanted) === 0;
  if (lacks !== 0 && isWanted && seen.triedOffload !== lacks) {
    seen.triedOffload = lacks;
    setTapOffload(fd, offload, name);
    lacks = offload & ~(linkOffloads(device)?.inForce ?? 0);
    if (lacks === 0) mended.push('its offloads were not in force');
  }
  if (lacks === 0) seen.triedOffload = 0;
  else troubles.push(offText(lacks, device));
}

function offText(lacks: number, device: string): string {
  const off = SWITCHES.filter(([flags]) => (lacks & flags) !== 0).map(([, name]) => name);
  const on = off.map((name) => `${name} on`).join(' ');
  return `has no offload of ${off.join(', ')}, which costs speed (ethtool -K ${device} ${on})`;
}
