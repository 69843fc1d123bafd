/** What this kernel can do for TAPs and UDP sockets, found out by trying. index.ts hands it on. */
import { addon } from './addon.js';
import { probeTapFeatures, type TapFeatures } from './tap-device.js';

export interface Features extends TapFeatures {
  /** Many datagrams sent as one message, since Linux 4.18; received as one, since 5.0. */
  readonly udpSegmentation: boolean;
  readonly udpCoalescing: boolean;
}

/** Options of UDP sockets, udp(7). */
const UDP_OPTION = { SEGMENT: 103, GRO: 104 } as const;

export function probeFeatures(): Features {
  return {
    ...probeTapFeatures(),
    udpSegmentation: addon.udpProbe(UDP_OPTION.SEGMENT) === 0,
    udpCoalescing: addon.udpProbe(UDP_OPTION.GRO) === 0,
  };
}
