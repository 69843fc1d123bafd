/**
 * Makes TAP devices, and reads and sets their owner and settings. Several processes may have a descriptor of one TAP,
 * and a setting by one of them holds for all. So every TAP of varpd has an owner, and settings by others can be read
 * and reset (tap-device.c).
 */
import { ERRNO } from '../wire/errno.js';
import { addon, checked, NativeError } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { deleteLink, linkInfo, linkInfoIn, type LinkInfo, type TunInfo } from './rtnetlink.js';

/** Requests of linux/if_tun.h; tap-device.c has the same order. */
const REQUESTS = [
  // These take a number,
  'TUNSETOFFLOAD',
  'TUNSETPERSIST',
  'TUNSETOWNER',
  'TUNSETGROUP',
  'TUNSETLINK',
  // and these a pointer.
  'TUNSETCARRIER',
  'TUNSETSTEERINGEBPF',
  'TUNSETQUEUE',
  'TUNSETVNETHDRSZ',
  'TUNSETVNETLE',
  'TUNSETVNETBE',
  'TUNSETSNDBUF',
  'TUNSETFILTEREBPF',
  'TUNSETTXFILTER',
  'TUNDETACHFILTER',
  'TUNGETIFF',
  'TUNGETVNETHDRSZ',
  'TUNGETVNETLE',
  'TUNGETVNETBE',
  'TUNGETSNDBUF',
  'SIOCGIFHWADDR',
] as const;
type Request = (typeof REQUESTS)[number];
const NUMBERS = new Map<Request, number>(REQUESTS.map((name, number) => [name, number]));

/** Returns a negated errno on failure. */
function control(fd: number, request: Request, words: Int32Array): number {
  return addon.tapControl(fd, NUMBERS.get(request)!, words);
}

/** Throws the kernel's error. */
function set(fd: number, request: Request, value: number, name: string): void {
  checked(control(fd, request, Int32Array.of(value)), request, name);
}

/** Returns false when the kernel does not know the request or the value (EINVAL). Throws other errors. */
function setIfKnown(fd: number, request: Request, value: number, name: string): boolean {
  const result = control(fd, request, Int32Array.of(value));
  if (result < 0 && result !== -ERRNO.EINVAL) throw new NativeError(result, request, name);
  return result >= 0;
}

/** struct ifreq: 16 bytes of name, then the values. */
const IFREQ_WORDS = 10;
const IFREQ_VALUE = 4;

/** Flags of TUNSETOFFLOAD (linux/if_tun.h): the work that the stack may leave to the reader of the TAP. */
export const TUN_F = {
  CSUM: 0x01,
  TSO4: 0x02,
  TSO6: 0x04,
  TSO_ECN: 0x08,
  USO4: 0x20,
  USO6: 0x40,
  UDP_TUNNEL_GSO: 0x80,
  UDP_TUNNEL_GSO_CSUM: 0x100,
} as const;

// Options of tapOpen; tap-device.c has the same.
const TAP_EXCLUSIVE = 1;
const TAP_MULTI_QUEUE = 2;

/** Limit for making a TAP again, when another process attaches to it before its owner is set. */
const MAX_ATTEMPTS = 16;

export interface TapOptions {
  /** If a device of that name exists: true = fail with EBUSY, false = take over a persistent TAP. */
  readonly exclusive: boolean;
  /** The device stays when the descriptor is closed. */
  readonly persistent?: boolean;
  /** IFF_MULTI_QUEUE: every descriptor that is opened with one name is a queue of that device. */
  readonly multiQueue?: boolean;
}

/**
 * Opens a TAP with virtio-net headers (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR), down, without offloads. Its owner and group
 * are those of this process (TUNSETOWNER, TUNSETGROUP). No other process has a queue of a new TAP: if one attaches
 * before the owner is set, the TAP is made again. EUSERS when that happens MAX_ATTEMPTS times.
 */
export function openTap(name: string, options: TapOptions): number {
  const fd = options.exclusive && options.multiQueue === true ? openAlone(name) : openOnce(name, options);
  try {
    // The kernel also attaches to an existing device with another frame format.
    const { isFramed } = tapSettings(fd) ?? { isFramed: true };
    if (!isFramed) throw new NativeError(-ERRNO.EINVAL, 'TUNSETIFF', name);
    if (options.persistent !== undefined) setTapPersistent(fd, options.persistent, name);
  } catch (error) {
    addon.closeDescriptor(fd);
    throw error;
  }
  return fd;
}

function openOnce(name: string, { exclusive, multiQueue }: TapOptions): number {
  const flags = (exclusive ? TAP_EXCLUSIVE : 0) | (multiQueue === true ? TAP_MULTI_QUEUE : 0);
  return checked(addon.tapOpen(name, flags), 'TUNSETIFF', name);
}

/** The owner can only be set on a device that is there: with several queues, others may be faster. */
function openAlone(name: string): number {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const fd = openOnce(name, { exclusive: true, multiQueue: true });
    try {
      const tun = linkInfo(name)?.tun;
      // Before Linux 4.17 the kernel does not report owner and queues.
      if (tun === undefined || (tun.queues + tun.disabledQueues === 1 && isOwn(tun))) return fd;
      // After that the queue of the other process has no device any more.
      deleteLink(name);
    } catch (error) {
      addon.closeDescriptor(fd);
      throw error;
    }
    addon.closeDescriptor(fd);
  }
  throw new NativeError(-ERRNO.EUSERS, 'TUNSETOWNER', name);
}

/** Tells whether only this process's user in this process's group may attach without CAP_NET_ADMIN. */
export function isOwn({ ownerUid, ownerGid }: Pick<TunInfo, 'ownerUid' | 'ownerGid'>): boolean {
  return ownerUid === process.geteuid?.() && ownerGid === process.getegid?.();
}

/** Sets whether the device stays when the descriptor is closed. */
export function setTapPersistent(fd: number, on: boolean, name: string): void {
  set(fd, 'TUNSETPERSIST', on ? 1 : 0, name);
}

/** Permits only this process's user in this process's group to attach without CAP_NET_ADMIN. Before that every user
 * may. */
export function setTapOwner(fd: number, name: string): void {
  set(fd, 'TUNSETOWNER', process.geteuid?.() ?? 0, name);
  set(fd, 'TUNSETGROUP', process.getegid?.() ?? 0, name);
}

/** Settings that belong to the device; any process with a queue of it may have set them. */
export interface TapSettings {
  readonly isPersistent: boolean;
  /** Frames have a virtio-net header and no other. */
  readonly isFramed: boolean;
  /** Size of the virtio-net header. */
  readonly headerBytes: number;
  /** The numbers in the header have the byte order of this machine. */
  readonly isNativeOrder: boolean;
  /** Limit for frames on the way from a descriptor to the stack. */
  readonly sendBufferBytes: number;
}

/** The settings of a new TAP. struct virtio_net_hdr: virtio 1.2, 5.1.6; the send buffer: drivers/net/tun.c. */
export const TAP_DEFAULTS = { headerBytes: 10, isNativeOrder: true, sendBufferBytes: 0x7fff_ffff } as const;
/** The size of the virtio-net header with which a TAP hands over and takes tunnel superframes. tap.c has the same. */
export const TUNNEL_HEADER_BYTES = 24;

/** Bytes of the virtio-net header of a TAP, if it is one of the two sizes that a varpd sets; otherwise undefined. */
export function tapHeaderBytes(fd: number): number | undefined {
  const size = new Int32Array(1);
  if (control(fd, 'TUNGETVNETHDRSZ', size) < 0) return undefined;
  return [TAP_DEFAULTS.headerBytes, TUNNEL_HEADER_BYTES].find((bytes) => bytes === size[0]);
}

/** Undefined when the device is gone. */
export function tapSettings(fd: number): TapSettings | undefined {
  const device = new Int32Array(IFREQ_WORDS);
  const header = new Int32Array(1);
  const little = new Int32Array(1);
  const big = new Int32Array(1);
  const sendBuffer = new Int32Array(1);
  const isThere =
    control(fd, 'TUNGETIFF', device) >= 0 &&
    control(fd, 'TUNGETVNETHDRSZ', header) >= 0 &&
    control(fd, 'TUNGETVNETLE', little) >= 0 &&
    control(fd, 'TUNGETSNDBUF', sendBuffer) >= 0;
  if (!isThere) return undefined;
  // Most kernels lack this request.
  const isBig = control(fd, 'TUNGETVNETBE', big) >= 0 && big[0] !== 0;
  const flags = device[IFREQ_VALUE];
  return {
    isPersistent: (flags & kernel.IFF_PERSIST) !== 0,
    isFramed: (flags & (kernel.IFF_NO_PI | kernel.IFF_VNET_HDR)) === (kernel.IFF_NO_PI | kernel.IFF_VNET_HDR),
    headerBytes: header[0],
    isNativeOrder: little[0] === 0 && !isBig,
    sendBufferBytes: sendBuffer[0],
  };
}

/** Sets the byte order to that of a new TAP, the size of the virtio-net header, and the send buffer, by default that of a
 * new TAP. */
export function resetTapSettings(
  fd: number,
  name: string,
  headerBytes: number,
  sendBufferBytes: number = TAP_DEFAULTS.sendBufferBytes,
): void {
  set(fd, 'TUNSETVNETHDRSZ', headerBytes, name);
  setIfKnown(fd, 'TUNSETVNETBE', 0, name);
  set(fd, 'TUNSETVNETLE', 0, name);
  set(fd, 'TUNSETSNDBUF', sendBufferBytes, name);
}

/** Removes all filters from the device, and makes it an Ethernet device again. The kernel does not report filters, so
 * they are removed without a look. */
export function unfilterTap(fd: number, name: string): void {
  setIfKnown(fd, 'TUNSETFILTEREBPF', -1, name); // since Linux 4.16
  set(fd, 'TUNSETTXFILTER', 0, name);
  set(fd, 'TUNDETACHFILTER', 0, name);
  const address = new Int32Array(IFREQ_WORDS);
  const type =
    control(fd, 'SIOCGIFHWADDR', address) < 0 ? kernel.ARPHRD_ETHER : address[IFREQ_VALUE] & 0xffff;
  // Fails with EBUSY while the device is up. Another process cannot change the type then either.
  if (type !== kernel.ARPHRD_ETHER) control(fd, 'TUNSETLINK', Int32Array.of(kernel.ARPHRD_ETHER));
}

/** Work that a link leaves to its driver, as TUN_F flags. */
export interface LinkOffloads {
  /** The last setting, by ethtool(8) or TUNSETOFFLOAD. */
  readonly wanted: number;
  readonly inForce: number;
}

/** struct ethtool_get_features_block */
const FEATURE_BLOCK_WORDS = 4;

/** Kernel features by their names in ethtool(8), and the flags with which TUNSETOFFLOAD switches each. */
const SWITCHED: ReadonlyMap<string, number> = new Map([
  ['tx-checksum-ip-generic', TUN_F.CSUM],
  ['tx-tcp-segmentation', TUN_F.TSO4],
  ['tx-tcp6-segmentation', TUN_F.TSO6],
  ['tx-tcp-ecn-segmentation', TUN_F.TSO_ECN],
  ['tx-udp-segmentation', TUN_F.USO4 | TUN_F.USO6],
  ['tx-udp_tnl-segmentation', TUN_F.UDP_TUNNEL_GSO],
  ['tx-udp_tnl-csum-segmentation', TUN_F.UDP_TUNNEL_GSO_CSUM],
]);

/** Place of a feature in the answer of ethtool. Each kernel has its own order of bits. */
interface Feature {
  readonly word: number;
  readonly mask: number;
  readonly flags: number;
}

let switched: { readonly features: readonly Feature[]; readonly blocks: number } | undefined;

function askEthtool(link: string, words: Uint32Array): boolean {
  return addon.ethtool(link, new Uint8Array(words.buffer)) >= 0;
}

function findFeatures(link: string): typeof switched {
  const sets = Uint32Array.of(kernel.ETHTOOL_GSSET_INFO, 0, 1 << kernel.ETH_SS_FEATURES, 0, 0);
  if (!askEthtool(link, sets)) return undefined;
  const count = sets[4];
  const names = new Uint32Array(3 + (count * kernel.ETH_GSTRING_LEN) / 4);
  names.set([kernel.ETHTOOL_GSTRINGS, kernel.ETH_SS_FEATURES, count]);
  if (!askEthtool(link, names)) return undefined;
  const text = Buffer.from(names.buffer, 12).toString('latin1');
  const features = Array.from({ length: count }, (_, bit) => {
    const [name] = text.slice(bit * kernel.ETH_GSTRING_LEN, (bit + 1) * kernel.ETH_GSTRING_LEN).split('\0');
    const word = 2 + (bit >> 5) * FEATURE_BLOCK_WORDS;
    return { word, mask: 1 << (bit & 31), flags: SWITCHED.get(name) ?? 0 };
  });
  return { features: features.filter(({ flags }) => flags !== 0), blocks: Math.ceil(count / 32) };
}

/** Undefined when this network namespace has no such link. */
export function linkOffloads(name: string): LinkOffloads | undefined {
  switched ??= findFeatures(name);
  if (switched === undefined) return undefined;
  const { features, blocks } = switched;
  const words = new Uint32Array(2 + blocks * FEATURE_BLOCK_WORDS);
  words[0] = kernel.ETHTOOL_GFEATURES;
  words[1] = blocks;
  if (!askEthtool(name, words)) return undefined;
  let [wanted, inForce] = [0, 0];
  for (const { word, mask, flags } of features) {
    if ((words[word + 1] & mask) !== 0) wanted |= flags;
    if ((words[word + 2] & mask) !== 0) inForce |= flags;
  }
  return { wanted, inForce };
}

/** The device of a descriptor. Other processes may have renamed it or moved it into another network namespace. */
export interface TapInfo {
  readonly name: string;
  /** 6 bytes. */
  readonly mac: Uint8Array;
  readonly isPersistent: boolean;
  /** The device is in the network namespace of this process. Before Linux 5.2 always true. */
  readonly isHere: boolean;
}

// Bits in the result of tapInfo; tap-device.c has the same.
const TAP_PERSISTENT = 1;
const TAP_HERE = 2;

/** Undefined when the device is gone (EBADFD), or the descriptor is not a TAP. */
export function tapInfo(fd: number): TapInfo | undefined {
  const text = new Uint8Array(kernel.IFNAMSIZ + 6);
  const flags = addon.tapInfo(fd, text);
  if (flags < 0) return undefined;
  const name = text.subarray(0, text.indexOf(0));
  return {
    name: new TextDecoder().decode(name),
    mac: text.slice(kernel.IFNAMSIZ),
    isPersistent: (flags & TAP_PERSISTENT) !== 0,
    isHere: (flags & TAP_HERE) !== 0,
  };
}

/** Returns the link of a TAP in another network namespace, by its name there. Undefined before Linux 5.2, or when this
 * process has no CAP_NET_ADMIN there. */
export function linkElsewhere(fd: number, name: string): LinkInfo | undefined {
  const namespace = addon.tapNetwork(fd);
  if (namespace < 0) return undefined;
  try {
    return linkInfoIn(namespace, name);
  } finally {
    addon.closeDescriptor(namespace);
  }
}

/** Sets the offloads. Returns false and changes nothing when this kernel lacks one of the flags (EINVAL). */
export function setTapOffload(fd: number, flags: number, name: string): boolean {
  return setIfKnown(fd, 'TUNSETOFFLOAD', flags, name);
}

/** Sets the carrier. Returns false when this kernel lacks TUNSETCARRIER (before 5.0). */
export function setTapCarrier(fd: number, on: boolean, name: string): boolean {
  return setIfKnown(fd, 'TUNSETCARRIER', on ? 1 : 0, name);
}

/** Lets the program pick the queue of each frame that the stack sends, in place of the kernel. False before Linux 4.16. */
export function setTapSteering(fd: number, program: number, name: string): boolean {
  return setIfKnown(fd, 'TUNSETSTEERINGEBPF', program, name);
}

/** Sets whether this queue of a multi-queue TAP gets frames from the stack. Frames written to the queue arrive in any
 * case. */
export function setTapQueue(fd: number, attached: boolean, name: string): void {
  const request = new Int32Array(IFREQ_WORDS);
  request[IFREQ_VALUE] = attached ? kernel.IFF_ATTACH_QUEUE : kernel.IFF_DETACH_QUEUE;
  const result = control(fd, 'TUNSETQUEUE', request);
  // EINVAL: the queue is in that state already.
  if (result < 0 && result !== -ERRNO.EINVAL) throw new NativeError(result, 'TUNSETQUEUE', name);
}

/** The features of this kernel for TAPs. */
export interface TapFeatures {
  readonly tapChecksum: boolean;
  readonly tapTcpSegmentation: boolean;
  readonly tapUdpSegmentation: boolean;
  /** Superframes inside a UDP tunnel (since Linux 6.17). */
  readonly tapTunnelSegmentation: boolean;
  readonly tapCarrier: boolean;
}

/** Tries each feature once, on a TAP that is deleted afterwards. All are false without the right to make a TAP. */
export function probeTapFeatures(): TapFeatures {
  const fd = addon.tapOpen('varpd-probe%d', 0);
  const can = (flags: number): boolean => fd >= 0 && control(fd, 'TUNSETOFFLOAD', Int32Array.of(flags)) >= 0;
  const features = {
    tapChecksum: can(TUN_F.CSUM),
    tapTcpSegmentation: can(TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN),
    tapUdpSegmentation: can(TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.USO4 | TUN_F.USO6),
    tapTunnelSegmentation: can(TUN_F.CSUM | TUN_F.TSO4 | TUN_F.UDP_TUNNEL_GSO | TUN_F.UDP_TUNNEL_GSO_CSUM),
    tapCarrier: fd >= 0 && control(fd, 'TUNSETCARRIER', Int32Array.of(1)) >= 0,
  };
  if (fd >= 0) addon.closeDescriptor(fd);
  return features;
}
