/**
 * Congestion marks across the tunnel: RFC 6040, normal mode. Encapsulation copies the inner ECN field to the outer
 * one; decapsulation combines the two as below (RFC 6040 4.2, figure 4), or drops.
 *
 *                 outer: Not-ECT   ECT(0)    ECT(1)    CE
 *   inner Not-ECT        Not-ECT   Not-ECT   Not-ECT   drop
 *   inner ECT(0)         ECT(0)    ECT(0)    ECT(1)    CE
 *   inner ECT(1)         ECT(1)    ECT(1)    ECT(1)    CE
 *   inner CE             CE        CE        CE        CE
 */
import { read16 } from '../wire/bytes.js';
import * as ethernet from '../wire/ethernet.js';
import * as ipv4 from '../wire/ipv4.js';
import * as ipv6 from '../wire/ipv6.js';

const { NOT_ECT, ECT_0, ECT_1, CE } = ipv4;

/** Returns the inner ECN field after decapsulation; -1 = drop the frame. */
export function combine(inner: number, outer: number): number {
  if (outer === CE) return inner === NOT_ECT ? -1 : CE;
  return inner === ECT_0 && outer === ECT_1 ? ECT_1 : inner;
}

/** Writes the combined field into the inner packet at `payload`. Returns false if the frame must be dropped.
 * A payload that is not a valid IP packet has no ECN field and passes unchanged. */
export function decapsulate(bytes: Uint8Array, payload: number, end: number, outer: number): boolean {
  const etherType = read16(bytes, payload - 2);
  if (etherType === ethernet.IPV4 && ipv4.check(bytes, payload, end - payload) > 0) {
    const inner = ipv4.ecn(bytes, payload);
    const result = combine(inner, outer);
    if (result >= 0 && result !== inner) ipv4.setEcn(bytes, payload, result);
    return result >= 0;
  }
  if (etherType === ethernet.IPV6 && ipv6.check(bytes, payload, end - payload) > 0) {
    const inner = ipv6.ecn(bytes, payload);
    const result = combine(inner, outer);
    if (result >= 0 && result !== inner) ipv6.setEcn(bytes, payload, result);
    return result >= 0;
  }
  return true;
}
