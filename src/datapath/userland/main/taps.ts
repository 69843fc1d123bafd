/** The TAP of a port. It is created and set up, or taken over from an earlier varpd and left as it is. */
import {
  closeDescriptor,
  deleteLink,
  linkInfo,
  needDescriptors,
  openTap,
  resetTapSettings,
  setLink,
  setTapCarrier,
  setTapOffload,
  setTapOwner,
  setTapPersistent,
  silenceLink,
  tapHeaderBytes,
  tapInfo,
  unfilterTap,
} from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
import * as mac from '../../../wire/mac.js';
import type { Descriptor, Inherited, PortConfig } from '../../contract.js';
import { steerByFlow } from './steering.js';

const TAP = 'tap/';

/** Descriptors that a new device leaves free. Without them varpd runs and cannot answer a client, read a file or ask the
 * kernel. */
const KEPT_DESCRIPTORS = 32;

/** Returns the name under which a queue of a TAP is handed to the next varpd. */
export function tapDescriptor(port: string, queue: number): string {
  return `${TAP}${port}${queue === 0 ? '' : `/${queue}`}`;
}

export function portOfDescriptor(name: string): string | undefined {
  return name.startsWith(TAP) ? name.split('/')[1] : undefined;
}

/** Takes the descriptors that an earlier varpd left of a port, queue by queue; none if the device is gone. */
function takeTap(port: string, inherited: Pick<Inherited, 'take' | 'forget'>): Descriptor[] {
  const left: Descriptor[] = [];
  for (;;) {
    const name = tapDescriptor(port, left.length);
    const fd = inherited.take(name);
    if (fd === undefined) break;
    left.push({ name, fd });
  }
  if (left.length === 0 || tapInfo(left[0].fd) !== undefined) return left;
  closeAll(left, inherited);
  return [];
}

function closeAll(left: readonly Descriptor[], { forget }: Pick<Inherited, 'forget'>): void {
  for (const { fd } of left) closeDescriptor(fd);
  inBackground('forgetting descriptors', forget(left.map(({ name }) => name)));
}

/** Makes a persistent device end with this varpd if it was moved to another namespace: the next varpd cannot
 * reach it, so it would never be removed. */
export function dropIfElsewhere({ name, fd }: Descriptor): void {
  const port = portOfDescriptor(name);
  try {
    if (port !== undefined && tapInfo(fd)?.isHere === false) setTapPersistent(fd, false, port);
  } catch {
    // The device is gone, or the kernel cannot be asked: then the device stays.
  }
}

/** Returns whether an earlier varpd left a device for this port. */
export function hasLeftTap(port: string, { look, links }: Inherited): boolean {
  const fd = look(tapDescriptor(port, 0));
  return (fd !== undefined && tapInfo(fd) !== undefined) || links.find(port) !== undefined;
}

/** Discards descriptors and device that an earlier varpd left. */
export function discardTap(port: string, inherited: Inherited): void {
  const left = takeTap(port, inherited);
  if (left.length > 0) setTapPersistent(left[0].fd, false, port);
  closeAll(left, inherited);
  const link = inherited.links.find(port);
  if (link !== undefined) deleteLink(link.name);
  inherited.links.forget(port);
}

/** The TAP of a port. */
export interface PortTap {
  /** One descriptor per queue. */
  readonly fds: readonly number[];
  /** Whether an earlier varpd left the device. */
  readonly isLeft: boolean;
  readonly isPersistent: boolean;
  readonly headerBytes: number;
}

/** Settings of a TAP that depend on its overlay. */
export interface TapPlan {
  readonly queues: number;
  readonly carrier: boolean;
  /** TUN_F flags. */
  readonly offload: number;
  /** Bytes of the virtio-net header of a new device. One that is left keeps that of the varpd before: another process may
   * still use it. */
  readonly headerBytes: number;
}

/** Opens the TAP of a port. Throws the system's error; then no new device is left, and one that an earlier
 * varpd left is unchanged. */
export function openPortTap(
  config: PortConfig,
  { queues, carrier, offload, ...plan }: TapPlan,
  inherited: Inherited,
): PortTap {
  const { name, temporary } = config;
  const left = takeTap(name, inherited);
  const opened: number[] = [];
  try {
    const found = left.length > 0 ? tapInfo(left[0].fd) : inherited.links.find(name);
    if (left.length < queues) needDescriptors(queues - left.length + KEPT_DESCRIPTORS);
    while (left.length + opened.length < queues) {
      const exclusive = found === undefined && opened.length === 0;
      opened.push(openTap(found?.name ?? name, { exclusive, multiQueue: queues > 1 }));
    }
    const fds = [...left.map(({ fd }) => fd), ...opened];
    const [fd] = fds;
    const headerBytes = (found && tapHeaderBytes(fd)) ?? plan.headerBytes;
    // An earlier varpd may have had another user, and other programs may have changed settings while no
    // process had the device.
    setTapOwner(fd, name);
    resetTapSettings(fd, name, headerBytes);
    unfilterTap(fd, name);
    if (queues > 1) steerByFlow(fds.slice(0, queues), name);
    if (found === undefined) create(fd, config, offload);
    else adopt(fd, config);
    if (found !== undefined || !carrier) setTapCarrier(fd, carrier, name);
    // Last, so that no new device is left if this process is killed before.
    const isPersistent = persist(fd, name, inherited, inherited.persistTaps && !temporary);
    closeAll(left.slice(queues), inherited);
    return { fds: fds.slice(0, queues), isLeft: found !== undefined, isPersistent, headerBytes };
  } catch (error) {
    opened.forEach(closeDescriptor);
    inherited.giveBack(left);
    throw error;
  }
}

function create(fd: number, { name, mac: address, mtuBytes, own }: PortConfig, offload: number): void {
  const bytes = new Uint8Array(mac.BYTES);
  mac.writeMac(bytes, 0, address);
  setTapOffload(fd, offload, name);
  // The gso_max_size stays as it is. Superframes of other devices, which a bridge forwards to this one,
  // ignore it, and the kernel would cut larger ones into single frames. A superframe larger than a datagram
  // is sent as two (udp-send.c).
  setLink(name, { mac: bytes, mtuBytes });
  // The overlay's own interface belongs to the host: it is no station of the virtual network before it has an
  // address or a bridge.
  if (own) silenceLink(name);
  setLink(name, { up: true });
}

/** Adopts a device. Settings of other programs stay. Only the MTU follows the underlay, unless another
 * program has set it. */
function adopt(fd: number, { mtuBytes, previousMtuBytes }: PortConfig): void {
  const device = tapInfo(fd);
  if (device?.isHere !== true || previousMtuBytes === undefined || previousMtuBytes === mtuBytes) return;
  if (linkInfo(device.name)?.mtuBytes === previousMtuBytes) setLink(device.name, { mtuBytes });
}

/** Makes a device persistent, or not. Returns whether it is. A device in another namespace is never made
 * persistent: the next varpd cannot reach it, so it would never be removed. */
function persist(fd: number, port: string, { links }: Inherited, isWanted: boolean): boolean {
  const device = tapInfo(fd);
  const number = device?.isHere === true ? linkInfo(device.name)?.index : undefined;
  if (isWanted && number !== undefined) links.record(port, number);
  const isPersistent = isWanted && number !== undefined;
  setTapPersistent(fd, isPersistent, port);
  if (!isWanted) links.forget(port);
  return isPersistent;
}
