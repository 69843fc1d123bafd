/**
 * Underlay sockets, shared and counted. Each address and port has one listening socket for all its overlays,
 * and one pool of sending sockets for each mode of sending.
 *
 * With several queues each thread has a listening socket. The kernel picks one by the outer addresses and
 * ports, and so by the inner flow if the peer has a source port for each flow. (A program that picks by the
 * inner flow would be wrong: a message that the kernel has put together, UDP_GRO, is one outer flow with many
 * inner ones.) All threads send from one pool, so that the source port of a flow does not depend on the
 * thread.
 */
import { COUNTER, type Counters, createCounters, readCounters } from '../../../core/counts/counters.js';
import { createDropExamples, type DropExamples } from '../../../core/counts/drop-examples.js';
import {
  adoptUdp,
  closeDescriptor,
  NativeError,
  openUdp,
  setUdpCoalescing,
  udpDropped,
} from '../../../dgram-extra/index.js';
import type { EncapsulationName } from '../../../encap/contract.js';
import { inBackground } from '../../../model/background.js';
import { OverlayError } from '../../../model/errors.js';
import { type Endpoint, formatEndpoint, toBytes } from '../../../wire/ip.js';
import { MAX_DYNAMIC_PORT, MIN_DYNAMIC_PORT } from '../../../wire/udp.js';
import type { Descriptor } from '../../contract.js';
import type { Token } from '../protocol.js';
import { type Senders, sendsZeroChecksum, type SocketConfig } from './overlay-config.js';

/** 4 MiB arrive at 10 Gbit/s within 3 ms, a time for which a datapath thread may be kept off its
 * processor. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** The buffer of a sending socket fills only while the device is slower than the overlay; a larger one would
 * add delay. */
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;
/** A sending socket receives only ICMP messages, 1 to 4 KiB each; the kernel doubles the size. */
const NEWS_BUFFER_BYTES = 32 * 1024;

/** Source ports spread flows over paths. RFC 7348 5, RFC 8926 3.3 */
const SOURCE_PORT_COUNT = MAX_DYNAMIC_PORT - MIN_DYNAMIC_PORT + 1;

/** The sockets of an overlay, held until `release`. */
export interface OverlaySockets {
  /** The listening sockets, one per queue. */
  readonly tokens: readonly Token[];
  readonly senders: Senders;
  /** UDP ports of the senders. */
  readonly senderPorts: readonly number[];
  /** The current counters of the listening sockets. */
  counters(): readonly Counters[];
  /** One a thread. */
  readonly examples: readonly DropExamples[];
  /** The last overlay to release them closes the sockets. `isKept`: those that an earlier varpd left are
   * kept. */
  release(isKept: boolean): Promise<void>;
}

interface Pool {
  readonly fds: readonly number[];
  readonly ports: readonly number[];
  /** The threads that read ICMP messages of the sockets. */
  readonly heard: readonly { readonly queue: number; readonly token: Token }[];
  references: number;
}

interface ListeningSocket extends Descriptor {
  readonly token: Token;
  readonly encapsulation: EncapsulationName;
  readonly counters: Counters;
  readonly examples: DropExamples;
  /** Whether an earlier varpd left the socket. */
  readonly isLeft: boolean;
}

interface Listener {
  readonly encapsulation: EncapsulationName;
  readonly sockets: readonly ListeningSocket[];
  readonly zeroChecksum: boolean;
  readonly pools: Map<string, Pool>;
  references: number;
}

export interface HandedSocket extends Descriptor {
  readonly token: Token;
  readonly encapsulation: EncapsulationName;
  readonly zeroChecksum: boolean;
}

interface Sender {
  readonly token: Token;
  readonly fd: number;
  readonly socket: Token;
}

export interface UnderlayEvents {
  /** Returns a socket that an earlier varpd left. */
  left(name: string): number | undefined;
  /** Gives back such sockets that cannot be used now. */
  giveBack(sockets: readonly Descriptor[]): void;
  /** Forgets closed sockets, so that the next varpd does not find them. */
  forget(names: readonly string[]): Promise<void>;
  nextToken(): Token;
  opened(queue: number, socket: ListeningSocket): void;
  /** Resolves when the thread of this queue no longer uses the socket. */
  closing(queue: number, token: Token): Promise<void>;
  /** A sending socket was opened. Its ICMP messages are for the overlays on `socket` of this queue; it may be
   * that socket itself. */
  senderOpened(queue: number, sender: Sender): void;
  senderClosing(queue: number, token: Token): Promise<unknown>;
}

export class UnderlaySockets {
  readonly #events: UnderlayEvents;
  readonly #listeners = new Map<string, Listener>();

  constructor(events: UnderlayEvents) {
    this.#events = events;
  }

  /** Opens or shares the sockets of an overlay. Throws the system's error if address or port cannot be had;
   * then nothing stays open. */
  open(config: SocketConfig): OverlaySockets {
    const name = formatEndpoint(config.listen);
    const zeroChecksum = sendsZeroChecksum(config);
    const listener = this.#listeners.get(name) ?? openListener(config, zeroChecksum, this.#events);
    if (listener.encapsulation !== config.encapsulation) throw encapsulationError(config, listener);
    if (listener.sockets.length !== config.queues) throw queuesError(config, listener);
    const isNew = listener.references === 0;
    const poolName = `${config.sourcePorts} ports, ${zeroChecksum ? 'zero' : 'full'} checksum`;
    const known = listener.pools.get(poolName);
    let pool: Pool;
    try {
      pool = known ?? openPool(config, listener, zeroChecksum, this.#events);
      listener.pools.set(poolName, pool);
      pool.references++;
    } catch (error) {
      if (isNew) inBackground('closing sockets', closeOrReturn(listener.sockets, this.#events));
      throw error;
    }
    listener.references++;
    if (isNew) {
      this.#listeners.set(name, listener);
      listener.sockets.forEach((socket, queue) => {
        this.#events.opened(queue, socket);
      });
    }
    if (known === undefined) this.#hearPaths(listener, pool);
    return {
      tokens: listener.sockets.map(({ token }) => token),
      senders: { senderFds: pool.fds, segmentation: config.offload.includes('train') && !zeroChecksum },
      senderPorts: pool.ports,
      counters: () => listener.sockets.map(countersNow),
      examples: listener.sockets.map(({ examples }) => examples),
      release: (isKept) => this.#release(name, poolName, isKept),
    };
  }

  /** To be called after the threads have the listening sockets. */
  #hearPaths({ sockets }: Listener, { fds, heard }: Pool): void {
    heard.forEach(({ queue, token }, index) => {
      const socket = sockets[queue];
      this.#events.senderOpened(queue, {
        token,
        fd: token === socket.token ? socket.fd : fds[index],
        socket: socket.token,
      });
    });
  }

  /** The listening sockets. */
  get sockets(): HandedSocket[] {
    return [...this.#listeners.values()].flatMap(({ encapsulation, sockets, zeroChecksum }) =>
      sockets.map(({ name, fd, token }) => ({ name, fd, token, encapsulation, zeroChecksum })),
    );
  }

  /** Counters of the listening sockets, by address and port. */
  counters(): ReadonlyMap<string, Record<string, number>> {
    return new Map(
      [...this.#listeners].map(([name, { sockets }]) => [name, readCounters(...sockets.map(countersNow))]),
    );
  }

  /** Returns the listening sockets, which then belong to the caller, and closes the others. No thread may use
   * them any more. */
  release(): HandedSocket[] {
    const { sockets } = this;
    const listening = new Set(sockets.map(({ fd }) => fd));
    for (const { pools } of this.#listeners.values())
      for (const { fds } of pools.values()) for (const fd of fds) if (!listening.has(fd)) closeDescriptor(fd);
    return sockets;
  }

  async #release(name: string, poolName: string, isKept: boolean): Promise<void> {
    const listener = this.#listeners.get(name);
    const pool = listener?.pools.get(poolName);
    if (listener === undefined || pool === undefined) return;
    if (--pool.references === 0) {
      listener.pools.delete(poolName);
      await Promise.all(pool.heard.map(({ queue, token }) => this.#events.senderClosing(queue, token)));
      if (pool.fds[0] !== listener.sockets[0].fd) for (const fd of pool.fds) closeDescriptor(fd);
    }
    if (--listener.references > 0) return;
    this.#listeners.delete(name);
    await Promise.all(listener.sockets.map(({ token }, queue) => this.#events.closing(queue, token)));
    await (isKept ? closeOrReturn : closeAll)(listener.sockets, this.#events);
  }
}

/** Returns the counters with the kernel's current count of drops, which is read only here. The kernel counts
 * modulo 2^32 as long as the socket is open. So losses under an earlier varpd, and during a restart, count
 * as well. */
function countersNow({ fd, counters }: ListeningSocket): Counters {
  const dropped = udpDropped(fd);
  if (dropped !== undefined)
    counters[COUNTER.rx_queue_full] += (dropped - counters[COUNTER.rx_queue_full]) >>> 0;
  return counters;
}

/** Closes sockets. Resolves when the address is free. */
async function closeAll(sockets: readonly Descriptor[], events: UnderlayEvents): Promise<void> {
  for (const { fd } of sockets) closeDescriptor(fd);
  await events.forget(sockets.map(({ name }) => name));
}

/** Closes sockets, but gives those that an earlier varpd left back for the next attempt. */
async function closeOrReturn(sockets: readonly ListeningSocket[], events: UnderlayEvents): Promise<void> {
  events.giveBack(sockets.filter(({ isLeft }) => isLeft));
  await closeAll(
    sockets.filter(({ isLeft }) => !isLeft),
    events,
  );
}

/** Returns the name under which a listening socket is handed to the next varpd. It has all settings of the
 * socket, so that the next varpd need not change them. systemd allows no colon in it. */
function socketDescriptor({ ip, port }: Endpoint, zeroChecksum: boolean, queue: number): string {
  const words = ['udp', Buffer.from(toBytes(ip)).toString('hex'), port, zeroChecksum ? 'zero' : 'full'];
  return [...words, ...(queue === 0 ? [] : [queue])].join('/');
}

function openListener(
  { encapsulation, listen, mayLackAddress = false, queues }: SocketConfig,
  zeroChecksum: boolean,
  events: UnderlayEvents,
): Listener {
  const sockets: ListeningSocket[] = [];
  let isZero = zeroChecksum;
  try {
    for (let queue = 0; queue < queues; queue++) {
      let left = events.left(socketDescriptor(listen, isZero, queue));
      if (left === undefined && queue === 0) {
        // The overlay that opened it may have another mode by now, or may be gone.
        left = events.left(socketDescriptor(listen, !isZero, queue));
        if (left !== undefined) isZero = !isZero;
      }
      const name = socketDescriptor(listen, isZero, queue);
      const fd =
        left ??
        openUdp({
          address: toBytes(listen.ip),
          port: listen.port,
          // The first is refused if any program listens there, even another varpd with several queues.
          admitOthers: queues > 1 && queue === 0,
          reusePort: queue > 0,
          zeroChecksumSend: isZero,
          zeroChecksumReceive: true,
          coalesce: true,
          freeBind: mayLackAddress,
          receiveBufferBytes: RECEIVE_BUFFER_BYTES,
          sendBufferBytes: SEND_BUFFER_BYTES,
          label: formatEndpoint(listen),
        });
      // The earlier varpd may have been of another version, and may have let the kernel cut (io/linux.ts).
      if (left !== undefined) {
        adoptUdp(fd, false, formatEndpoint(listen));
        setUdpCoalescing(fd, true);
      }
      const memory = { counters: createCounters(), examples: createDropExamples() };
      sockets.push({
        name,
        token: events.nextToken(),
        encapsulation,
        fd,
        ...memory,
        isLeft: left !== undefined,
      });
    }
  } catch (error) {
    inBackground('closing sockets', closeOrReturn(sockets, events));
    throw error;
  }
  return { encapsulation, sockets, zeroChecksum: isZero, pools: new Map(), references: 0 };
}

/** A datagram does not state its encapsulation, so each UDP port has one. */
function encapsulationError(config: SocketConfig, listener: Listener): OverlayError {
  const { encapsulation: name, listen } = config;
  return new OverlayError(
    'INVALID',
    `encap: another overlay on ${formatEndpoint(listen)} is ${listener.encapsulation}; ` +
      `found ${name}, expected ${listener.encapsulation}, or another ${name}/listen_ip or ${name}/listen_port`,
  );
}

/** The kernel picks a socket without the VNI, so frames of one overlay arrive at the threads of all overlays
 * on the port. */
function queuesError(
  { encapsulation: encap, listen, queues }: SocketConfig,
  { sockets }: Listener,
): OverlayError {
  return new OverlayError(
    'INVALID',
    `queues: another overlay on ${formatEndpoint(listen)} has ${sockets.length}, and both share its sockets; ` +
      `found ${queues}, expected ${sockets.length}, or another ${encap}/listen_ip or ${encap}/listen_port`,
  );
}

/** Opens a pool. With one source port it is the listening socket itself. Otherwise the sockets are at random
 * free ports of the range that RFC 7348 5 recommends, so that two processes, or one restarted, do not
 * collide. */
function openPool(
  config: SocketConfig,
  listener: Listener,
  zeroChecksum: boolean,
  events: Pick<UnderlayEvents, 'nextToken'>,
): Pool {
  const { encapsulation: encap, listen, sourcePorts } = config;
  if (sourcePorts === 1) {
    if (listener.zeroChecksum === zeroChecksum) return listeningPool(listen, listener);
    const mode = listener.zeroChecksum ? 'zero' : 'full';
    throw new OverlayError(
      'INVALID',
      `${encap}/udp_checksum: the socket on ${formatEndpoint(listen)} was opened for ${mode} checksums, by this overlay or ` +
        `another, and with ${encap}/source_ports=1 it is the one that sends; give it more source ports, or the same mode and offload`,
    );
  }
  const fds: number[] = [];
  const ports: number[] = [];
  let port = Math.floor(Math.random() * SOURCE_PORT_COUNT);
  try {
    for (let tried = 0; fds.length < sourcePorts; tried++) {
      const fd = openSender(config, MIN_DYNAMIC_PORT + port, zeroChecksum, tried === SOURCE_PORT_COUNT - 1);
      if (fd !== undefined) {
        fds.push(fd);
        ports.push(MIN_DYNAMIC_PORT + port);
      }
      port = (port + 1 + Math.floor(Math.random() * 64)) % SOURCE_PORT_COUNT;
    }
  } catch (error) {
    for (const fd of fds) closeDescriptor(fd);
    throw error;
  }
  const queues = listener.sockets.length;
  const heard = fds.map((_, index) => ({ queue: index % queues, token: events.nextToken() }));
  return { fds, ports, heard, references: 0 };
}

/** The kernel gives an ICMP message to any of the sockets that share the port, so all are read. */
function listeningPool(listen: Endpoint, { sockets }: Listener): Pool {
  for (const { fd } of sockets) adoptUdp(fd, true, formatEndpoint(listen));
  const heard = sockets.map(({ token }, queue) => ({ queue, token }));
  return { fds: [sockets[0].fd], ports: [listen.port], heard, references: 0 };
}

/** Returns undefined if the port is taken; on the last try that is an error like any other. */
function openSender(
  { listen, mayLackAddress = false }: SocketConfig,
  port: number,
  zeroChecksum: boolean,
  lastTry: boolean,
): number | undefined {
  try {
    return openUdp({
      address: toBytes(listen.ip),
      port,
      zeroChecksumSend: zeroChecksum,
      sendOnly: true,
      pathNews: true,
      freeBind: mayLackAddress,
      receiveBufferBytes: NEWS_BUFFER_BYTES,
      sendBufferBytes: SEND_BUFFER_BYTES,
      label: formatEndpoint({ ip: listen.ip, port }),
    });
  } catch (error) {
    if (!lastTry && error instanceof NativeError && error.code === 'EADDRINUSE') return undefined;
    throw error;
  }
}
