/**
 * Settings that other programs have changed on the TAP of a port. The settings belong to the device: root,
 * and any program with a descriptor of it, can change them, and the kernel reports few of the changes. So
 * they are checked once a second.
 *
 * Settings that need a descriptor belong to varpd and are restored: header, byte order, send buffer,
 * persistence, owner and group. Settings of ip(8) and ethtool(8) may be an operator's choice: they stay and
 * are reported. Missing offloads cost only speed and are no trouble. Queues of other programs cannot be taken
 * from them, and the kernel does not tell what else such a program has set. So those settings are set again
 * when such queues come or go, and offloads also while they exist. (The offloads of a device in another
 * network namespace cannot be read either.)
 */
import {
  type Features,
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
  TUNNEL_HEADER_BYTES,
  type TunInfo,
  unfilterTap,
} from '../../../dgram-extra/index.js';
import type { OverlayConfig, PortFindings } from '../../contract.js';
import { steerByFlow } from './steering.js';

const TSO = TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN;
const USO = TUN_F.USO4 | TUN_F.USO6;
const TUNNEL = TUN_F.UDP_TUNNEL_GSO | TUN_F.UDP_TUNNEL_GSO_CSUM;

/** Offload of a TAP -> the flags that switch it. */
const FLAGS = { checksum: TUN_F.CSUM, tso: TSO, uso: USO, nested: TUNNEL } as const;
type TapOffload = keyof typeof FLAGS;
const TAP_OFFLOADS = Object.keys(FLAGS) as readonly TapOffload[];

/** Returns the offloads that the stack may use, as TUN_F flags that this kernel accepts. */
export function offloadFlags(
  offload: OverlayConfig['offload'],
  features: Pick<Features, 'tapTcpSegmentation' | 'tapUdpSegmentation' | 'tapTunnelSegmentation'>,
): number {
  const flags = (name: TapOffload, isKnown = true): number =>
    isKnown && offload.includes(name) ? FLAGS[name] : 0;
  const cut = flags('tso', features.tapTcpSegmentation) | flags('uso', features.tapUdpSegmentation);
  return flags('checksum') | cut | (cut === 0 ? 0 : flags('nested', features.tapTunnelSegmentation));
}

/** Counter -> ports of an overlay that were found without the offload. */
export type Refusals = Record<`tx_${TapOffload}_refused`, number>;

export const createRefusals = (): Refusals => ({
  tx_checksum_refused: 0,
  tx_tso_refused: 0,
  tx_uso_refused: 0,
  tx_nested_refused: 0,
});

/** Counts a port that was found without the offloads of these flags. */
export function countRefused(refusals: Refusals, flags: number): void {
  for (const name of TAP_OFFLOADS) if ((flags & FLAGS[name]) !== 0) refusals[`tx_${name}_refused`]++;
}

/** Returns those of the flags that go with a virtio-net header of this size. With too small a header the kernel would
 * hand over no frame at all (Linux 6.18, drivers/net/tun_vnet.h, __tun_vnet_hdr_put). */
export function flagsFor(offload: number, headerBytes: number): number {
  return headerBytes === TUNNEL_HEADER_BYTES ? offload : offload & ~TUNNEL;
}

/** Names of offloads for ethtool(8). */
const SWITCHES = [
  [TUN_F.CSUM, 'tx'],
  [TSO, 'tso'],
  [USO, 'tx-udp-segmentation'],
  [TUN_F.UDP_TUNNEL_GSO, 'tx-udp_tnl-segmentation'],
  [TUN_F.UDP_TUNNEL_GSO_CSUM, 'tx-udp_tnl-csum-segmentation'],
] as const;

export interface WatchedTap {
  readonly name: string;
  /** All descriptors that varpd has of the device. */
  readonly fds: readonly number[];
  readonly isPersistent: boolean;
  /** Offloads that the stack may use, as TUN_F flags. */
  readonly offload: number;
  /** Bytes of the virtio-net header. */
  readonly headerBytes: number;
  /** The state at the last check: queues of other programs; offloads that are off; among these, offloads that
   * could not be restored. */
  readonly seen: { foreignQueues: number; offOffload: number; triedOffload: number };
  /** Those of the overlay. */
  readonly refusals: Refusals;
}

interface Findings {
  readonly mended: string[];
  readonly noted: string[];
  readonly troubles: string[];
}

/** Checks the settings of a TAP. `link`: the kernel's current facts about it, if they were asked for and
 * told. `device`: its name, while it is in varpd's network namespace. */
export function checkTap(
  tap: WatchedTap,
  device: string | undefined,
  link: TunInfo | undefined,
): PortFindings {
  const findings: Findings = { mended: [], noted: [], troubles: [] };
  try {
    checkSettings(tap, findings.mended);
    if (link !== undefined) checkLink(tap, link, findings.mended);
    if (device !== undefined) checkOffload(tap, device, findings);
    else if (tap.seen.foreignQueues > 0) setTapOffload(tap.fds[0], tap.offload, tap.name);
  } catch (error) {
    // The device is gone, or going: the thread that reads from it reports that.
    if (!(error instanceof NativeError)) throw error;
    if (error.code !== 'EBADFD') findings.troubles.push(`cannot be reset: ${error.message}`);
  }
  const { foreignQueues } = tap.seen;
  if (foreignQueues > 0) findings.troubles.push(foreignText(foreignQueues, device ?? tap.name));
  return findings;
}

function foreignText(count: number, device: string): string {
  const whose = count === 1 ? 'a queue of another program' : `${count} queues of other programs`;
  return `has ${whose}, which may take and send its frames (find it as root: grep -lw ${device} /proc/[0-9]*/fdinfo/*)`;
}

function checkSettings({ fds: [fd], name, isPersistent, headerBytes }: WatchedTap, mended: string[]): void {
  const found = tapSettings(fd);
  if (found === undefined) return;
  const others: string[] = [];
  if (found.headerBytes !== headerBytes) others.push(`the virtio-net header was ${found.headerBytes} bytes`);
  if (!found.isNativeOrder) others.push('the byte order of the virtio-net header was chosen');
  if (found.sendBufferBytes !== TAP_DEFAULTS.sendBufferBytes)
    others.push(`the send buffer was ${found.sendBufferBytes} bytes`);
  if (others.length > 0) resetTapSettings(fd, name, headerBytes);
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
  // For a TAP with a single queue the kernel reports 0 queues: it has one, and no other program can attach
  // another.
  const foreignQueues = Math.max(0, link.queues + link.disabledQueues - fds.length);
  if (foreignQueues === seen.foreignQueues) return;
  seen.foreignQueues = foreignQueues;
  unfilterTap(fd, name);
  steerByFlow(fds, name);
}

function checkOffload(tap: WatchedTap, device: string, { mended, noted }: Findings): void {
  const { offload, seen } = tap;
  const found = linkOffloads(device);
  if (found === undefined) return;
  let off = offload & ~found.inForce;
  // A program that leaves an offload out by TUNSETOFFLOAD and one that switches it off look alike. Only a
  // program with a queue can do the former.
  if (off !== seen.offOffload && seen.foreignQueues > 0) off = putOn(tap, device, offload, mended);
  // An offload that was switched on again is wanted back, and only TUNSETOFFLOAD can restore it.
  const wanted = off & found.wanted;
  if (wanted !== 0 && wanted !== seen.triedOffload) {
    seen.triedOffload = wanted;
    off = putOn(tap, device, offload & found.wanted, mended);
  }
  if (off === 0) seen.triedOffload = 0;
  if (off !== seen.offOffload && off !== 0) noted.push(offText(off, device));
  countRefused(tap.refusals, off & ~seen.offOffload);
  seen.offOffload = off;
}

/** Restores offloads. Returns those that are off afterwards. */
function putOn(
  { fds: [fd], name, offload }: WatchedTap,
  device: string,
  flags: number,
  mended: string[],
): number {
  setTapOffload(fd, flags, name);
  const off = offload & ~(linkOffloads(device)?.inForce ?? 0);
  if ((off & flags) === 0) mended.push('its offloads were not in force');
  return off;
}

function offText(lacks: number, device: string): string {
  const off = SWITCHES.filter(([flags]) => (lacks & flags) !== 0).map(([, name]) => name);
  const on = off.map((name) => `${name} on`).join(' ');
  return `has no offload of ${off.join(', ')}, which costs speed (ethtool -K ${device} ${on})`;
}
