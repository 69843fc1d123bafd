/**
 * Underlay sockets, shared and counted: one listening socket an address and port, whichever overlays are on it, and
 * one pool of sending sockets for each way of sending from there.
 *
 * With several queues there is a listening socket for each thread, and the kernel picks one by the outer addresses and
 * ports: by the flow, if the peer has a source port for each. (A program that looks at the inner flow would be wrong:
 * what the kernel has put together, UDP_GRO, is one outer flow, of many inner ones.) All threads send from one pool,
 * so that a flow has its source port whichever thread sends it.
 */
import { COUNTER, type Counters, createCounters, readCounters } from '../../../core/counters.js';
import { createDropExamples, type DropExamples } from '../../../core/drop-examples.js';
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
import { type Endpoint, formatEndpoint, isV4, toBytes } from '../../../wire/ip.js';
import { MAX_DYNAMIC_PORT, MIN_DYNAMIC_PORT } from '../../../wire/udp.js';
import type { Descriptor, OverlayConfig } from '../../contract.js';
import type { Token } from '../protocol.js';

/** 4 MiB: what arrives at 10 Gbit/s while the worker is kept off the processor for 3 ms. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** A sending socket fills only while its device is slower than the overlay; more would be delay. */
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;
/** A sending socket receives nothing but what ICMP says, 1 to 4 KiB each; the kernel takes it twice. */
const NEWS_BUFFER_BYTES = 32 * 1024;

/** Source ports spread flows over paths. RFC 7348 5, RFC 8926 3.3 */
const SOURCE_PORT_COUNT = MAX_DYNAMIC_PORT - MIN_DYNAMIC_PORT + 1;

type SocketConfig = Pick<
  OverlayConfig,
  'encapsulation' | 'listen' | 'mayLackAddress' | 'queues' | 'sourcePorts' | 'udpChecksum' | 'offload'
>;

/** An overlay's hold on its sockets. */
export interface OverlaySockets {
  /** One a queue: the listening sockets. */
  readonly tokens: readonly Token[];
  /** One a source port. */
  readonly senderFds: readonly number[];
  /** Their UDP ports. */
  readonly senderPorts: readonly number[];
  /** Whether the kernel cuts what these sockets are given (UDP_SEGMENT). */
  readonly segmentation: boolean;
  /** Of the listening sockets, as they are now. */
  counters(): readonly Counters[];
  /** One a thread. */
  readonly examples: readonly DropExamples[];
  /** The last one out closes the sockets; `isKept`: but those that an earlier daemon had left. */
  release(isKept: boolean): Promise<void>;
}

interface Pool {
  readonly fds: readonly number[];
  readonly ports: readonly number[];
  /** Which thread hears what ICMP says to which of them. */
  readonly heard: readonly { readonly queue: number; readonly token: Token }[];
  references: number;
}

interface ListeningSocket extends Descriptor {
  readonly token: Token;
  readonly encapsulation: EncapsulationName;
  readonly counters: Counters;
  readonly examples: DropExamples;
  /** An earlier daemon had left it. */
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
  /** A socket that an earlier daemon has left. */
  left(name: string): number | undefined;
  /** One of those that cannot be used just now. */
  giveBack(sockets: readonly Descriptor[]): void;
  /** One that is closed: the next daemon is not to find it. */
  forget(names: readonly string[]): Promise<void>;
  nextToken(): Token;
  opened(queue: number, socket: ListeningSocket): void;
  /** Resolves when the thread of this queue no longer uses the socket. */
  closing(queue: number, token: Token): Promise<void>;
  /** One that is sent from, of those that have `socket` listen for them in this queue; it may be that itself. */
  senderOpened(queue: number, sender: Sender): void;
  senderClosing(queue: number, token: Token): Promise<unknown>;
}

export class UnderlaySockets {
  readonly #events: UnderlayEvents;
  readonly #listeners = new Map<string, Listener>();

  constructor(events: UnderlayEvents) {
    this.#events = events;
  }

  /** Throws the system's error when address or port cannot be had; nothing stays open then. */
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
      senderFds: pool.fds,
      senderPorts: pool.ports,
      segmentation: config.offload === 'auto' && !zeroChecksum,
      counters: () => listener.sockets.map(countersNow),
      examples: listener.sockets.map(({ examples }) => examples),
      release: (isKept) => this.#release(name, poolName, isKept),
    };
  }

  /** After the threads know who listens. */
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

  /** Those that listen. */
  get sockets(): HandedSocket[] {
    return [...this.#listeners.values()].flatMap(({ encapsulation, sockets, zeroChecksum }) =>
      sockets.map(({ name, fd, token }) => ({ name, fd, token, encapsulation, zeroChecksum })),
    );
  }

  /** Of the listening sockets, by address and port. */
  counters(): ReadonlyMap<string, Record<string, number>> {
    return new Map(
      [...this.#listeners].map(([name, { sockets }]) => [name, readCounters(...sockets.map(countersNow))]),
    );
  }

  /** The listening sockets are the caller's, the others closed. Nobody may use them any more. */
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

/** What the kernel counts is read when somebody asks; nobody else writes that counter. It counts modulo 2^32, for as long as
 * the socket is open, whichever daemon has it: the first one's losses, and those of a restart, are the next one's too. */
function countersNow({ fd, counters }: ListeningSocket): Counters {
  const dropped = udpDropped(fd);
  if (dropped !== undefined)
    counters[COUNTER.rx_queue_full] += (dropped - counters[COUNTER.rx_queue_full]) >>> 0;
  return counters;
}

/** Resolves when the address is free. */
async function closeAll(sockets: readonly Descriptor[], events: UnderlayEvents): Promise<void> {
  for (const { fd } of sockets) closeDescriptor(fd);
  await events.forget(sockets.map(({ name }) => name));
}

/** What an earlier daemon had left is for the next attempt. */
async function closeOrReturn(sockets: readonly ListeningSocket[], events: UnderlayEvents): Promise<void> {
  events.giveBack(sockets.filter(({ isLeft }) => isLeft));
  await closeAll(
    sockets.filter(({ isLeft }) => !isLeft),
    events,
  );
}

/** <encap>/udp_checksum. `auto`: RFC 7348 5 says SHOULD be zero, RFC 8926 3.3 MAY; RFC 8200 8.1 wants one on IPv6; and the kernel cuts
 * (UDP_SEGMENT) only what has one. */
function sendsZeroChecksum({ listen, udpChecksum, offload }: SocketConfig): boolean {
  return udpChecksum === 'zero' || (udpChecksum === 'auto' && offload === 'off' && isV4(listen.ip));
}

/** The name under which a listening socket is handed to the next daemon: one that finds it need not set it up. systemd
 * takes no colon in it. */
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
  try {
    for (let queue = 0; queue < queues; queue++) {
      const name = socketDescriptor(listen, zeroChecksum, queue);
      const left = events.left(name);
      const fd =
        left ??
        openUdp({
          address: toBytes(listen.ip),
          port: listen.port,
          // The first is refused where anyone listens, another varpd with several queues too.
          admitOthers: queues > 1 && queue === 0,
          reusePort: queue > 0,
          zeroChecksumSend: zeroChecksum,
          zeroChecksumReceive: true,
          coalesce: true,
          freeBind: mayLackAddress,
          receiveBufferBytes: RECEIVE_BUFFER_BYTES,
          sendBufferBytes: SEND_BUFFER_BYTES,
          label: formatEndpoint(listen),
        });
      const isLeft = left !== undefined;
      // Who left it may have been of another version, and may have let the kernel cut (io/linux.ts).
      if (isLeft) {
        adoptUdp(fd, false, formatEndpoint(listen));
        setUdpCoalescing(fd, true);
      }
      const memory = { counters: createCounters(), examples: createDropExamples() };
      sockets.push({ name, token: events.nextToken(), encapsulation, fd, ...memory, isLeft });
    }
  } catch (error) {
    inBackground('closing sockets', closeOrReturn(sockets, events));
    throw error;
  }
  return { encapsulation, sockets, zeroChecksum, pools: new Map(), references: 0 };
}

/** A datagram does not say which encapsulation it has: its UDP port does. */
function encapsulationError(config: SocketConfig, listener: Listener): OverlayError {
  const { encapsulation: name, listen } = config;
  return new OverlayError(
    'INVALID',
    `encap: another overlay on ${formatEndpoint(listen)} is ${listener.encapsulation}; ` +
      `found ${name}, expected ${listener.encapsulation}, or another ${name}/listen_ip or ${name}/listen_port`,
  );
}

/** The kernel picks a socket before anyone sees the VNI: what is for one overlay comes to the threads of all. */
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

/** One source port = the listening socket itself. More = sockets at random free ports of the range RFC 7348 5
 * recommends, so that two daemons, or one restarted, do not meet. */
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
      `${encap}/udp_checksum: another overlay on ${formatEndpoint(listen)} sends ${mode} checksums, and with ` +
        `${encap}/source_ports=1 both share one socket; give it more source ports, or the same mode and offload`,
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

/** The kernel gives what ICMP says to any of those that share the port. */
function listeningPool(listen: Endpoint, { sockets }: Listener): Pool {
  for (const { fd } of sockets) adoptUdp(fd, true, formatEndpoint(listen));
  const heard = sockets.map(({ token }, queue) => ({ queue, token }));
  return { fds: [sockets[0].fd], ports: [listen.port], heard, references: 0 };
}

/** Undefined when the port is taken; on the last try that is an error like any other. */
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
