/** Converts the configuration of an overlay for its datapath threads, and its offloads for an operator. */
import type { OverlayOptions } from '../../../core/overlay.js';
import type { Features } from '../../../dgram-extra/index.js';
import type { Offload, OverlayConfig } from '../../contract.js';

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
    keepApart: config.offload === 'off',
    negativeTtlMs: config.negativeTtlMs,
    maxTargets: config.maxTargets,
    answersLoopback: config.answersLoopback,
  };
}

/** Returns the offloads in force. `segmentation`: the kernel cuts messages of its sockets. */
export function offloadsOf(
  { offload }: OverlayConfig,
  segmentation: boolean,
  features: Features,
): readonly Offload[] {
  const isOn = offload === 'auto';
  const offloads: Readonly<Record<Offload, boolean>> = {
    checksum: features.tapChecksum,
    tso: isOn && features.tapTcpSegmentation,
    uso: isOn && features.tapUdpSegmentation,
    gso: segmentation && features.udpSegmentation,
    gro: isOn && features.udpCoalescing,
  };
  return (Object.keys(offloads) as Offload[]).filter((name) => offloads[name]);
}
