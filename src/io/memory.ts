/**
 * A whole network in one process: hosts with ports and sockets, and an underlay that carries datagrams
 * between them. It keeps the contract of contract.ts and fails with the errnos of Linux, so a datapath that
 * runs on it runs on devices too. It needs no root, no kernel and no clock. Nothing moves until `pump` is
 * called, and every run moves the same frames.
 *
 *   MemoryNetwork   the underlay: sockets by address and port, one MTU
 *   MemoryHost      the platform of a datapath (Platform of datapath/userland/thread/engine.ts): batches, descriptors, epoll
 *   MemoryPort      a TAP; the test calls `send` and `take` in place of a guest
 *   MemorySocket    a bound UDP socket; without a datapath on it, a peer that may send anything
 */
import type { Encapsulation } from '../encap/contract.js';
import {
  ADDRESS,
  CSUM_OFFSET,
  CSUM_START,
  DESCRIPTOR_WORDS,
  FLAGS,
  GSO_SIZE,
  GSO_TYPE,
  HEADER_BYTES,
  LENGTH,
  OFFSET,
  PORT,
  TOS,
  type FrameBatch,
} from '../wire/descriptor.js';
import {
  V6_BYTES,
  formatEndpoint,
  isV4,
  readV6,
  writeV6,
  type Endpoint,
  type IpAddress,
} from '../wire/ip.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';
import * as udp from '../wire/udp.js';
import * as news from '../wire/path-news.js';
import {
  WHOLE,
  completeChecksum,
  createBatch,
  deliverEach,
  headerBytes,
  isInSlab,
  pack,
  readFrame,
  type MemoryFrame,
} from './memory-batch.js';
import type { Device, PortDevice, UnderlaySocket } from './contract.js';

export { WHOLE, type MemoryFrame };

// errno of Linux (asm-generic/errno.h)
const EIO = 5;
const EINVAL = 22;
const EMSGSIZE = 90;
const EAFNOSUPPORT = 97;
const ENETUNREACH = 101;

/** Argument of a port's entry: the 802.1Q tag is taken out. */
const STRIP_TAG = 1;
// -- The underlay

export interface Datagram {
  readonly from: Endpoint;
  readonly to: Endpoint;
  readonly tos: number;
  /** The payload of UDP. */
  readonly bytes: Uint8Array;
}

/** ICMP "too big", or another message with a `kind`, from a router or from a forger. */
export interface TooBig {
  readonly to: Endpoint;
  readonly mtuBytes: number;
  /** As in wire/path-news.ts; mtuBytes is NO_SIZE then. */
  readonly kind?: number;
  readonly sender?: IpAddress;
  /** The beginning of the UDP payload. */
  readonly quoted: Uint8Array;
}

export class MemoryNetwork {
  /** Bytes of IP packet, on every path. */
  mtuBytes: number;
  /** Addresses that cannot be sent to, with the errno of the attempt. */
  readonly errnos = new Map<IpAddress, number>();
  /** Addresses behind a router with a narrow next link. The router reports larger packets and does not
   * forward them. */
  readonly narrow = new Map<IpAddress, { readonly mtuBytes: number; readonly quotedBytes?: number }>();
  /** Called for each datagram that is sent, even if no socket will receive it. */
  onDatagram: ((datagram: Datagram) => void) | undefined;
  readonly #sockets = new Map<string, MemorySocket>();

  constructor(mtuBytes = 1500) {
    this.mtuBytes = mtuBytes;
  }

  /** Throws if address and port are taken. `addresses`: destinations by slot, if a datapath will send. */
  bind(local: Endpoint, addresses: readonly Endpoint[] = [], fd = -1): MemorySocket {
    const name = formatEndpoint(local);
    if (this.#sockets.has(name)) throw new Error(`EADDRINUSE: bind on ${name}`);
    const socket = new MemorySocket(this, local, addresses, fd);
    this.#sockets.set(name, socket);
    return socket;
  }

  unbind(socket: MemorySocket): void {
    this.#sockets.delete(formatEndpoint(socket.local));
  }

  /** Returns 0, or the errno of sendmsg. A datagram to an address without a socket is lost, as on any
   * network. */
  carry(datagram: Datagram): number {
    const { from, to, bytes } = datagram;
    const refused = this.errnos.get(to.ip);
    if (refused !== undefined) return refused;
    if (isV4(from.ip) !== isV4(to.ip)) return isV4(from.ip) ? EAFNOSUPPORT : ENETUNREACH;
    const ipBytes = isV4(to.ip) ? ipv4.HEADER_BYTES : ipv6.HEADER_BYTES;
    if (ipBytes + udp.HEADER_BYTES + bytes.length > this.mtuBytes) return EMSGSIZE;
    const { mtuBytes, quotedBytes = news.QUOTE_BYTES } = this.narrow.get(to.ip) ?? { mtuBytes: Infinity };
    if (ipBytes + udp.HEADER_BYTES + bytes.length > mtuBytes) {
      const quoted = bytes.slice(0, quotedBytes);
      this.#sockets.get(formatEndpoint(from))?.icmp.push({ to, mtuBytes, quoted });
      return 0;
    }
    const copy = { ...datagram, bytes: bytes.slice() };
    this.onDatagram?.(copy);
    this.#sockets.get(formatEndpoint(to))?.inbox.push(copy);
    return 0;
  }
}

export class MemorySocket implements UnderlaySocket {
  readonly fd: number;
  readonly local: Endpoint;
  /** Datagrams that have arrived and are not yet received. */
  readonly inbox: Datagram[] = [];
  /** ICMP messages about its datagrams that are not yet read. */
  readonly icmp: TooBig[] = [];
  /** Errno of every send. 0 = sends succeed. */
  sendErrno = 0;
  /** Bytes of the tunnel header before each frame. */
  headerBytes = 8;
  readonly #network: MemoryNetwork;
  readonly #addresses: readonly Endpoint[];

  constructor(network: MemoryNetwork, local: Endpoint, addresses: readonly Endpoint[], fd: number) {
    this.#network = network;
    this.local = local;
    this.#addresses = addresses;
    this.fd = fd;
  }

  get isReady(): boolean {
    return this.inbox.length > 0 || this.icmp.length > 0;
  }

  /** Reads at most `max` messages. Returns how many. */
  takeNews({ words, quotes }: news.PathNews, max: number): number {
    const taken = this.icmp.splice(0, max);
    const octets = new Uint8Array(words.buffer, words.byteOffset);
    taken.forEach(({ to, mtuBytes, kind, sender, quoted }, index) => {
      const at = index * news.NEWS_WORDS;
      words.fill(0, at, at + news.NEWS_WORDS);
      words[at + news.KIND] = kind ?? news.NO_KIND;
      if (sender !== undefined) writeV6(sender, octets, (at + news.SENDER) * 4);
      writeV6(to.ip, octets, (at + news.ADDRESS) * 4);
      words[at + news.PORT] = to.port;
      words[at + news.BYTES] = mtuBytes;
      words[at + news.QUOTED] = Math.min(quoted.length, news.QUOTE_BYTES);
      quotes.set(quoted.subarray(0, news.QUOTE_BYTES), index * news.QUOTE_BYTES);
    });
    return taken.length;
  }

  /** Returns 0, or an errno. */
  send(to: Endpoint, bytes: Uint8Array, tos = 0): number {
    return this.sendErrno || this.#network.carry({ from: this.local, to, tos, bytes });
  }

  /** Takes the datagrams that have arrived. */
  take(): Datagram[] {
    return this.inbox.splice(0);
  }

  receive(batch: FrameBatch, mostFrames = batch.capacityFrames): number {
    const octets = new Uint8Array(batch.descriptors.buffer, batch.descriptors.byteOffset);
    // The inner frame is aligned if it follows a header without options.
    return pack(batch, this.inbox, this.headerBytes, mostFrames, ({ from, tos }, at) => {
      batch.descriptors.fill(0, at + FLAGS, at + DESCRIPTOR_WORDS);
      writeV6(from.ip, octets.subarray((at + ADDRESS) * 4, (at + ADDRESS) * 4 + V6_BYTES), 0);
      batch.descriptors[at + PORT] = from.port;
      batch.descriptors[at + TOS] = tos;
    });
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    return deliverEach(entries, count, (index, slot) => {
      const at = index * DESCRIPTOR_WORDS;
      const to = slot < 0 ? undefined : this.#addresses.at(slot);
      if (!isInSlab(batch, index, this.headerBytes) || to === undefined) return EINVAL;
      if (!completeChecksum(batch, at)) return EINVAL;
      const frame = batch.descriptors[at + OFFSET];
      const end = frame + batch.descriptors[at + LENGTH];
      return this.send(to, batch.bytes.subarray(frame - this.headerBytes, end), batch.descriptors[at + TOS]);
    });
  }
}

// -- Ports

export class MemoryPort implements PortDevice {
  readonly fd: number;
  /** Frames that the owner has sent and the datapath has not yet read. */
  readonly outbox: MemoryFrame[] = [];
  /** Frames that the datapath has written and the owner has not yet taken. */
  readonly inbox: MemoryFrame[] = [];
  isUp = true;
  /** Errno of every read, as if the device were gone. 0 = reads succeed. */
  receiveErrno = 0;
  /** Errno of every write. 0 = writes succeed. */
  deliverErrno = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  get isReady(): boolean {
    return this.receiveErrno !== 0 || this.outbox.length > 0;
  }

  /** Sends a frame as the owner of the port. */
  send(bytes: Uint8Array, header = WHOLE): void {
    this.outbox.push({ bytes: bytes.slice(), header });
  }

  /** Takes the frames that the owner of the port has received. */
  take(): MemoryFrame[] {
    return this.inbox.splice(0);
  }

  receive(batch: FrameBatch, mostFrames = batch.capacityFrames): number {
    if (this.receiveErrno !== 0) return -this.receiveErrno;
    return pack(batch, this.outbox, 0, mostFrames, (frame, at) => {
      const { header } = frame;
      batch.descriptors[at + FLAGS] = header.flags;
      batch.descriptors[at + GSO_TYPE] = header.gsoType;
      batch.descriptors[at + GSO_SIZE] = header.gsoSize;
      batch.descriptors[at + HEADER_BYTES] = headerBytes(frame);
      batch.descriptors[at + CSUM_START] = header.checksumStart;
      batch.descriptors[at + CSUM_OFFSET] = header.checksumOffset;
      batch.descriptors[at + TOS] = 0;
    });
  }

  deliver(batch: FrameBatch, entries: Int32Array, count: number): number {
    return deliverEach(entries, count, (index, argument) => {
      if (this.deliverErrno !== 0) return this.deliverErrno;
      if (!this.isUp) return EIO;
      if (!isInSlab(batch, index, 0)) return EINVAL;
      const frame = readFrame(batch, index, (argument & STRIP_TAG) !== 0);
      if (frame === undefined) return EINVAL;
      this.inbox.push(frame);
      return 0;
    });
  }
}

// -- Hosts

export class MemoryHost {
  readonly #network: MemoryNetwork;
  readonly #batchFrames: number;
  readonly #ends = new Map<number, MemoryPort | MemorySocket>();
  readonly #devices = new Map<number, Device>();
  readonly #tokens = new Map<number, number>();
  readonly #addresses: Endpoint[] = [];
  #lastFd = 2;
  #batches = 0;
  #random = 1;

  constructor(network: MemoryNetwork, batchFrames = 64) {
    this.#network = network;
    this.#batchFrames = batchFrames;
  }

  /** The same numbers on each host, so that equal hosts do the same: MINSTD (Park and Miller, 1988). */
  readonly random = (): number => (this.#random = (this.#random * 48_271) % 2_147_483_647) / 2_147_483_647;

  openPort(): MemoryPort {
    return this.#open(new MemoryPort(++this.#lastFd));
  }

  openSocket(local: Endpoint): MemorySocket {
    return this.#open(this.#network.bind(local, this.#addresses, ++this.#lastFd));
  }

  /** Puts middleware around a device, before the datapath gets it. */
  wrap(fd: number, middleware: (device: Device) => Device): void {
    this.#devices.set(fd, middleware(this.#device(fd)));
  }

  close(fd: number): void {
    const end = this.#ends.get(fd);
    if (end instanceof MemorySocket) this.#network.unbind(end);
    this.#ends.delete(fd);
    this.#devices.delete(fd);
  }

  /** Returns the tokens of watched descriptors that can be read, like a level-triggered epoll_wait. */
  ready(): number[] {
    return [...this.#tokens].filter(([fd]) => this.#ends.get(fd)?.isReady).map(([, token]) => token);
  }

  // The platform of a datapath

  createBatch(): FrameBatch {
    return createBatch(this.#batches++, this.#batchFrames);
  }

  port(fd: number): PortDevice {
    return this.#device(fd);
  }

  socket(fd: number, { headerBytes }: Encapsulation): UnderlaySocket {
    const end = this.#ends.get(fd);
    if (end instanceof MemorySocket) end.headerBytes = headerBytes;
    return this.#device(fd);
  }

  watch(fd: number, token: number): void {
    this.#tokens.set(fd, token);
  }

  unwatch(fd: number): void {
    this.#tokens.delete(fd);
  }

  begin(): void {
    // The platform in memory holds nothing back.
  }

  setAddress(slot: number, address: Uint8Array, port: number): void {
    this.#addresses[slot] = { ip: readV6(address, 0), port };
  }

  routeMtuBytes(_from: IpAddress, to: IpAddress): number {
    return this.#network.errnos.get(to) === ENETUNREACH ? -1 : this.#network.mtuBytes;
  }

  readPathNews(fd: number, into: news.PathNews, max: number): number {
    const end = this.#ends.get(fd);
    return end instanceof MemorySocket ? end.takeNews(into, max) : 0;
  }

  #open<End extends MemoryPort | MemorySocket>(end: End): End {
    this.#ends.set(end.fd, end);
    this.#devices.set(end.fd, end);
    return end;
  }

  #device(fd: number): Device {
    const device = this.#devices.get(fd);
    if (device === undefined) throw new Error(`EBADF: descriptor ${fd} is not open`);
    return device;
  }
}

/** A host and the datapath on it. */
export interface MemoryNode {
  readonly host: MemoryHost;
  readonly pump: (token: number) => unknown;
  /** Continues with frames that were read before. Returns whether there were any. */
  readonly resume: () => boolean;
}

/** A loop of frames never ends; a network without one needs fewer rounds. */
const MAX_ROUNDS = 100_000;

/** Pumps every host that has frames, in turns, until none has any. Throws if frames run in circles. */
export function runUntilQuiet(nodes: readonly MemoryNode[]): void {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    let isQuiet = true;
    for (const { host, pump, resume } of nodes) {
      for (const token of host.ready()) {
        isQuiet = false;
        pump(token);
      }
      if (resume()) isQuiet = false;
    }
    if (isQuiet) return;
  }
  throw new Error(`the network did not come to rest in ${MAX_ROUNDS} rounds`);
}
