/** What this kernel can do for TAPs and UDP sockets, found out by trying. index.ts hands it on. */
import { addon } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { probeTapFeatures, type TapFeatures } from './tap-device.js';

export interface Features extends TapFeatures {
  /** Many datagrams sent as one message, since Linux 4.18; received as one, since 5.0. */
  readonly udpSegmentation: boolean;
  readonly udpCoalescing: boolean;
}

export function probeFeatures(): Features {
  return {
    ...probeTapFeatures(),
    udpSegmentation: addon.udpProbe(kernel.UDP_SEGMENT) === 0,
    udpCoalescing: addon.udpProbe(kernel.UDP_GRO) === 0,
  };
}
