/** What this kernel can do for TAPs and UDP sockets, found out by trying. index.ts hands it on. */
import { addon, TAP_CARRIER, TAP_OFFLOAD } from './addon.js';

/** Flags of TUNSETOFFLOAD (linux/if_tun.h): what the stack may hand over unfinished. */
export const TUN_F = { CSUM: 0x01, TSO4: 0x02, TSO6: 0x04, TSO_ECN: 0x08, USO4: 0x20, USO6: 0x40 } as const;

export interface Features {
  readonly tapChecksum: boolean;
  readonly tapTcpSegmentation: boolean;
  readonly tapUdpSegmentation: boolean;
  readonly tapCarrier: boolean;
  /** Many datagrams sent as one message, since Linux 4.18; received as one, since 5.0. */
  readonly udpSegmentation: boolean;
  readonly udpCoalescing: boolean;
}

/** Options of UDP sockets, udp(7). */
const UDP_OPTION = { SEGMENT: 103, GRO: 104 } as const;

/** Tries each feature once, those of TAPs on one that is gone again afterwards; false without the right to make one. */
export function probeFeatures(): Features {
  const fd = addon.tapOpen('varpd-probe%d', 0);
  const can = (flags: number): boolean => fd >= 0 && addon.tapSet(fd, TAP_OFFLOAD, flags) >= 0;
  const features = {
    tapChecksum: can(TUN_F.CSUM),
    tapTcpSegmentation: can(TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.TSO_ECN),
    tapUdpSegmentation: can(TUN_F.CSUM | TUN_F.TSO4 | TUN_F.TSO6 | TUN_F.USO4 | TUN_F.USO6),
    tapCarrier: fd >= 0 && addon.tapSet(fd, TAP_CARRIER, 1) >= 0,
    udpSegmentation: addon.udpProbe(UDP_OPTION.SEGMENT) === 0,
    udpCoalescing: addon.udpProbe(UDP_OPTION.GRO) === 0,
  };
  if (fd >= 0) addon.closeDescriptor(fd);
  return features;
}
