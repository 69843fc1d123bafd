/** Counts which work the stack behind a port has left to varpd. */
import { FLAGS, GSO_TYPE } from '../../wire/descriptor.js';
import * as virtio from '../../wire/virtio-net.js';
import { COUNTER, type Counters } from './counters.js';

/** Counts a frame or superframe as the offload that it needs. */
export function countOffload(counters: Counters, descriptors: Int32Array, at: number): void {
  const type = descriptors[at + GSO_TYPE];
  if (type === virtio.GSO_NONE) {
    if ((descriptors[at + FLAGS] & virtio.NEEDS_CHECKSUM) !== 0) counters[COUNTER.tx_checksum]++;
  } else if ((type & virtio.GSO_TUNNEL) !== 0) counters[COUNTER.tx_nested]++;
  else if (type === virtio.GSO_UDP_L4) counters[COUNTER.tx_uso]++;
  else counters[COUNTER.tx_tso]++;
}
