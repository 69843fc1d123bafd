/**
 * Underlay sockets, shared and counted: one listening socket an address and port, whichever overlays are on it, and
 * one pool of sending sockets for each way of sending from there.
 */
import { createCounters, type Counters } from '../../core/counters.js';
import { OverlayError } from '../../core/errors.js';
import { NativeError, closeDescriptor, openUdp } from '../../dgram-extra/index.js';
import { formatEndpoint, isV4, toBytes, type Endpoint } from '../../wire/ip.js';
import * as vxlan from '../../wire/vxlan.js';
import type { Descriptor, OverlayConfig } from './contract.js';
import type { Token } from './protocol.js';

/** 4 MiB: what arrives at 10 Gbit/s while the worker is kept off the processor for 3 ms. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** A sending socket fills only while its device is slower than the overlay; more would be delay. */
const SEND_BUFFER_BYTES = 4 * 1024 * 1024;
/** The least the kernel gives: a sending socket receives nothing. */
const NO_RECEIVE_BUFFER_BYTES = 1;

const SOURCE_PORT_COUNT = vxlan.MAX_SOURCE_PORT - vxlan.MIN_SOURCE_PORT + 1;

type SocketConfig = Pick<OverlayConfig, 'listen' | 'sourcePorts' | 'udpChecksum' | 'offload'>;

/** An overlay's hold on its sockets. */
export interface Lease {
  readonly token: Token;
  /** One a source port. */
  readonly senderFds: readonly number[];
  /** Whether the kernel cuts what these sockets are given (UDP_SEGMENT). */
  readonly segmentation: boolean;
  /** Of the listening socket. */
  readonly counters: Counters;
  /** The last one out closes the sockets. */
  release(): Promise<void>;
}

interface Pool {
  readonly fds: readonly number[];
  references: number;
}

interface Listener {
  readonly token: Token;
  readonly listen: Endpoint;
  readonly fd: number;
  readonly counters: Counters;
  readonly zeroChecksum: boolean;
  readonly pools: Map<string, Pool>;
  references: number;
}

export interface ReleasedSocket extends Descriptor {
  readonly token: Token;
  readonly zeroChecksum: boolean;
}

export interface UnderlayEvents {
  /** A socket that an earlier daemon has left. */
  left(name: string): number | undefined;
  nextToken(): Token;
  opened(token: Token, fd: number, counters: Counters): void;
  /** Resolves when the worker no longer uses the socket. */
  closing(token: Token): Promise<void>;
}

export class Underlay {
  readonly #events: UnderlayEvents;
  readonly #listeners = new Map<string, Listener>();

  constructor(events: UnderlayEvents) {
    this.#events = events;
  }

  /** Throws the system's error when address or port cannot be had; nothing stays open then. */
  lease(config: SocketConfig): Lease {
    const name = formatEndpoint(config.listen);
    const zeroChecksum = sendsZeroChecksum(config);
    const listener = this.#listeners.get(name) ?? this.#openListener(config.listen, zeroChecksum);
    const isNew = listener.references === 0;
    const poolName = `${config.sourcePorts} ports, ${zeroChecksum ? 'zero' : 'full'} checksum`;
    try {
      const pool = listener.pools.get(poolName) ?? openPool(config, listener, zeroChecksum);
      listener.pools.set(poolName, pool);
      pool.references++;
    } catch (error) {
      if (isNew) closeDescriptor(listener.fd);
      throw error;
    }
    listener.references++;
    if (isNew) {
      this.#listeners.set(name, listener);
      this.#events.opened(listener.token, listener.fd, listener.counters);
    }
    return {
      token: listener.token,
      senderFds: listener.pools.get(poolName)?.fds ?? [],
      segmentation: config.offload === 'auto' && !zeroChecksum,
      counters: listener.counters,
      release: () => this.#release(name, poolName),
    };
  }

  /** The listening sockets are the caller's, the others closed. Nobody may use them any more. */
  release(): ReleasedSocket[] {
    return [...this.#listeners.values()].map(({ token, listen, fd, zeroChecksum, pools }) => {
      for (const { fds } of pools.values()) for (const one of fds) if (one !== fd) closeDescriptor(one);
      return { name: socketDescriptor(listen, zeroChecksum), fd, token, zeroChecksum };
    });
  }

  #openListener(listen: Endpoint, zeroChecksum: boolean): Listener {
    const fd =
      this.#events.left(socketDescriptor(listen, zeroChecksum)) ?? openListener(listen, zeroChecksum);
    const token = this.#events.nextToken();
    return { token, listen, fd, counters: createCounters(), zeroChecksum, pools: new Map(), references: 0 };
  }

  async #release(name: string, poolName: string): Promise<void> {
    const listener = this.#listeners.get(name);
    const pool = listener?.pools.get(poolName);
    if (listener === undefined || pool === undefined) return;
    if (--pool.references === 0) {
      listener.pools.delete(poolName);
      for (const fd of pool.fds) if (fd !== listener.fd) closeDescriptor(fd);
    }
    if (--listener.references > 0) return;
    this.#listeners.delete(name);
    await this.#events.closing(listener.token);
    closeDescriptor(listener.fd);
  }
}

/** vxlan/udp_checksum. `auto`: RFC 7348 5 says SHOULD be zero, RFC 8200 8.1 wants one on IPv6; and the kernel cuts
 * (UDP_SEGMENT) only what has one. */
function sendsZeroChecksum({ listen, udpChecksum, offload }: SocketConfig): boolean {
  return udpChecksum === 'zero' || (udpChecksum === 'auto' && offload === 'off' && isV4(listen.ip));
}

/** The name under which a listening socket is handed to the next daemon: one that finds it need not set it up. systemd
 * takes no colon in it. */
function socketDescriptor({ ip, port }: Endpoint, zeroChecksum: boolean): string {
  return `udp/${Buffer.from(toBytes(ip)).toString('hex')}/${port}/${zeroChecksum ? 'zero' : 'full'}`;
}

function openListener(listen: Endpoint, zeroChecksum: boolean): number {
  return openUdp({
    address: toBytes(listen.ip),
    port: listen.port,
    zeroChecksumSend: zeroChecksum,
    zeroChecksumReceive: true,
    coalesce: true,
    receiveBufferBytes: RECEIVE_BUFFER_BYTES,
    sendBufferBytes: SEND_BUFFER_BYTES,
    label: formatEndpoint(listen),
  });
}

/** One source port = the listening socket itself. More = sockets at random free ports of the range RFC 7348 5
 * recommends, so that two daemons, or one restarted, do not meet. */
function openPool({ listen, sourcePorts }: SocketConfig, listener: Listener, zeroChecksum: boolean): Pool {
  if (sourcePorts === 1) {
    if (listener.zeroChecksum === zeroChecksum) return { fds: [listener.fd], references: 0 };
    const mode = listener.zeroChecksum ? 'zero' : 'full';
    throw new OverlayError(
      'INVALID',
      `vxlan/udp_checksum: another overlay on ${formatEndpoint(listen)} sends ${mode} checksums, and with ` +
        'vxlan/source_ports=1 both share one socket; give it more source ports, or the same mode and offload',
    );
  }
  const fds: number[] = [];
  let port = Math.floor(Math.random() * SOURCE_PORT_COUNT);
  try {
    for (let tried = 0; fds.length < sourcePorts; tried++) {
      const fd = openSender(
        listen,
        vxlan.MIN_SOURCE_PORT + port,
        zeroChecksum,
        tried === SOURCE_PORT_COUNT - 1,
      );
      if (fd !== undefined) fds.push(fd);
      port = (port + 1 + Math.floor(Math.random() * 64)) % SOURCE_PORT_COUNT;
    }
  } catch (error) {
    for (const fd of fds) closeDescriptor(fd);
    throw error;
  }
  return { fds, references: 0 };
}

/** Undefined when the port is taken; on the last try that is an error like any other. */
function openSender(
  listen: Endpoint,
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
      receiveBufferBytes: NO_RECEIVE_BUFFER_BYTES,
      sendBufferBytes: SEND_BUFFER_BYTES,
      label: formatEndpoint({ ip: listen.ip, port }),
    });
  } catch (error) {
    if (!lastTry && error instanceof NativeError && error.code === 'EADDRINUSE') return undefined;
    throw error;
  }
}
