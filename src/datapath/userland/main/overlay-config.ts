/** Converts the configuration of an overlay for its datapath threads, and its offloads for an operator. */
import type { OverlayOptions } from '../../../core/overlay.js';
import type { Features } from '../../../dgram-extra/index.js';
import type { Offload } from '../../../model/offloads.js';
import type { Sending } from '../../../model/peer-report.js';
import { isSameEndpoint, isV4 } from '../../../wire/ip.js';
import type { OverlayConfig } from '../../contract.js';

/** The part of the configuration that the sockets follow. */
export type SocketConfig = Pick<
  OverlayConfig,
  'encapsulation' | 'listen' | 'mayLackAddress' | 'queues' | 'sourcePorts' | 'udpChecksum' | 'offload'
>;

/** The sockets that an overlay sends from. */
export interface Senders {
  /** One descriptor per source port. */
  readonly senderFds: readonly number[];
  /** Whether these sockets take messages that the kernel then cuts (UDP_SEGMENT). */
  readonly segmentation: boolean;
  /** The tunnel port (tunnel-port.ts). */
  readonly tunnelFd?: number | undefined;
}

export function optionsOf(config: OverlayConfig): OverlayOptions {
  return {
    id: config.id,
    encapsulation: config.encapsulation,
    vnetid: config.vnetid,
    mtuBytes: config.mtuBytes,
    listen: config.listen,
    destination: config.destination,
    acceptAny: config.accept === 'any',
    strictSource: config.strictSource,
    carryTags: config.vlan === 'keep',
    copyDscp: config.dscp === 'copy',
    keepApart: !config.offload.includes('coalesce'),
    keepTunnels: !config.offload.includes('nested'),
    negativeTtlMs: config.negativeTtlMs,
    maxTargets: config.maxTargets,
    answersLoopback: config.answersLoopback,
  };
}

/** Returns the offloads in force. */
export function offloadsInForce(
  { offload }: OverlayConfig,
  { segmentation, tunnelFd }: Senders,
  features: Features,
): readonly Offload[] {
  const isThere: Readonly<Record<Offload, boolean>> = {
    checksum: features.tapChecksum,
    tso: features.tapTcpSegmentation,
    uso: features.tapUdpSegmentation,
    train: segmentation && features.udpSegmentation,
    tunnel: tunnelFd !== undefined && features.tapTcpSegmentation,
    coalesce: features.udpCoalescing,
    nested: features.tapTunnelSegmentation,
  };
  return offload.filter((name) => isThere[name]);
}

/** <encap>/udp_checksum. `auto`: RFC 7348 5 says SHOULD be zero, RFC 8926 3.3 MAY; RFC 8200 8.1 wants a
 * checksum on IPv6; and the kernel cuts messages (UDP_SEGMENT) only with a checksum. */
export function sendsZeroChecksum({
  listen,
  udpChecksum,
  offload,
}: Pick<SocketConfig, 'listen' | 'udpChecksum' | 'offload'>): boolean {
  return udpChecksum === 'zero' || (udpChecksum === 'auto' && !offload.includes('train') && isV4(listen.ip));
}

/** Whether an overlay with the configuration `next` needs other sockets than with `now`. */
export function needsSockets(now: SocketConfig, next: SocketConfig): boolean {
  return (
    !isSameEndpoint(now.listen, next.listen) ||
    now.sourcePorts !== next.sourcePorts ||
    now.offload.includes('train') !== next.offload.includes('train') ||
    now.offload.includes('tunnel') !== next.offload.includes('tunnel') ||
    sendsZeroChecksum(now) !== sendsZeroChecksum(next)
  );
}

export function sendingOf(config: OverlayConfig): Sending {
  return {
    checksum: sendsZeroChecksum(config) ? 'zero' : 'full',
    maySendTrains: config.offload.includes('train'),
  };
}
