/** The TAP of a port: made and set up, or taken over from an earlier daemon and left as it is. */
import {
  closeDescriptor,
  deleteLink,
  linkInfo,
  openTap,
  resetTapSettings,
  setLink,
  setTapCarrier,
  setTapOffload,
  setTapOwner,
  setTapPersistent,
  silenceLink,
  tapInfo,
  unfilterTap,
} from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
import * as mac from '../../../wire/mac.js';
import type { Descriptor, Inherited, PortConfig } from '../../contract.js';
import { steerByFlow } from './steering.js';

const TAP = 'tap/';

/** The name under which a queue of a TAP is handed to the next daemon. */
export function tapDescriptor(port: string, queue: number): string {
  return `${TAP}${port}${queue === 0 ? '' : `/${queue}`}`;
}

export function portOfDescriptor(name: string): string | undefined {
  return name.startsWith(TAP) ? name.split('/')[1] : undefined;
}

/** What an earlier daemon has left of a port, queue by queue; nothing when the device is gone. */
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

/** A persistent one that was moved to another namespace is out of reach for the next daemon: nobody would ever remove it. */
export function dropIfElsewhere({ name, fd }: Descriptor): void {
  const port = portOfDescriptor(name);
  try {
    if (port !== undefined && tapInfo(fd)?.isHere === false) setTapPersistent(fd, false, port);
  } catch {
    // The device is gone, or the kernel cannot be asked: then it stays.
  }
}

/** Whether an earlier daemon has left a device for this port. */
export function hasLeftTap(port: string, { look, links }: Inherited): boolean {
  const fd = look(tapDescriptor(port, 0));
  return (fd !== undefined && tapInfo(fd) !== undefined) || links.find(port) !== undefined;
}

/** The device too. */
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
  /** One a queue. */
  readonly fds: readonly number[];
  /** An earlier daemon had left it. */
  readonly isLeft: boolean;
  readonly isPersistent: boolean;
}

/** What its overlay has for it. */
export interface TapPlan {
  readonly queues: number;
  readonly carrier: boolean;
  /** TUN_F flags. */
  readonly offload: number;
}

/** Throws the system's error; then no new device is left, and what an earlier daemon had left still is. */
export function openPortTap(
  config: PortConfig,
  { queues, carrier, offload }: TapPlan,
  inherited: Inherited,
): PortTap {
  const { name, temporary } = config;
  const left = takeTap(name, inherited);
  const opened: number[] = [];
  try {
    const found = left.length > 0 ? tapInfo(left[0].fd) : inherited.links.find(name);
    while (left.length + opened.length < queues) {
      const exclusive = found === undefined && opened.length === 0;
      opened.push(openTap(found?.name ?? name, { exclusive, multiQueue: queues > 1 }));
    }
    const fds = [...left.map(({ fd }) => fd), ...opened];
    const [fd] = fds;
    // An earlier daemon may have been another user's; and what others set while it was nobody's, nobody has to keep.
    setTapOwner(fd, name);
    resetTapSettings(fd, name);
    unfilterTap(fd, name);
    if (queues > 1) steerByFlow(fds.slice(0, queues), name);
    if (found === undefined) create(fd, config, offload);
    else adopt(fd, config);
    if (found !== undefined || !carrier) setTapCarrier(fd, carrier, name);
    // Last: until here, nothing is left of a new one when this process is killed.
    const isPersistent = persist(fd, name, inherited, inherited.persistTaps && !temporary);
    closeAll(left.slice(queues), inherited);
    return { fds: fds.slice(0, queues), isLeft: found !== undefined, isPersistent };
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
  // Its gso_max_size stays as it is: superframes of other devices, which a bridge forwards to it, know no bound of this one,
  // and the kernel cuts what is larger into single frames. What is more than a datagram leaves as two (udp-send.c).
  setLink(name, { mac: bytes, mtuBytes });
  // The overlay's own is the host's: no station of the virtual network until it is given an address or a bridge.
  if (own) silenceLink(name);
  setLink(name, { up: true });
}

/** Whatever others have set on it stays. The MTU alone follows the underlay, where nobody else has set it. */
function adopt(fd: number, { mtuBytes, previousMtuBytes }: PortConfig): void {
  const device = tapInfo(fd);
  if (device?.isHere !== true || previousMtuBytes === undefined || previousMtuBytes === mtuBytes) return;
  if (linkInfo(device.name)?.mtuBytes === previousMtuBytes) setLink(device.name, { mtuBytes });
}

/** Whether it is persistent now. One in another namespace is out of reach for the next daemon: nobody would ever remove it. */
function persist(fd: number, port: string, { links }: Inherited, isWanted: boolean): boolean {
  const device = tapInfo(fd);
  const number = device?.isHere === true ? linkInfo(device.name)?.index : undefined;
  if (isWanted && number !== undefined) links.record(port, number);
  const isPersistent = isWanted && number !== undefined;
  setTapPersistent(fd, isPersistent, port);
  if (!isWanted) links.forget(port);
  return isPersistent;
}
