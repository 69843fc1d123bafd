/** The features of this kernel for TAPs and UDP sockets. Each is tried once. */
import { addon } from './addon.js';
import * as kernel from './kernel-numbers.js';
import { probeTapFeatures, type TapFeatures } from './tap-device.js';

export interface Features extends TapFeatures {
  /** Many datagrams are sent as one message (since Linux 4.18), and received as one message (since 5.0). */
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
