/** Questions to the plugin of an overlay, and its answers, as the datapath has them. */
import type { DropReason } from '../model/drops.js';
import type { Endpoint } from '../wire/ip.js';
import type { MacAddress } from '../wire/mac.js';

/** A frame without a known destination. */
export interface Miss {
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  readonly etherType: number;
  readonly vlan: number;
}

/** A question to the plugin about a miss. */
export interface Question extends Miss {
  readonly overlay: number;
  readonly lookup: number;
  /** Only for a frame to a group MAC: a copy of its beginning. The question is about this frame alone. */
  readonly frame?: Uint8Array;
}

/** ttlMs 0: the answer is for this frame alone. */
export type LookupResult =
  | {
      readonly kind: 'target';
      readonly to: readonly Endpoint[];
      readonly ttlMs: number;
      readonly staleMs?: number | undefined;
    }
  | { readonly kind: 'drop'; readonly reason: DropReason; readonly ttlMs?: number }
  /** `reply` and `redirect` answer only a question with a frame. */
  | { readonly kind: 'reply'; readonly frame: Uint8Array; readonly counter: 'proxy_arp' | 'proxy_ndp' }
  | { readonly kind: 'redirect'; readonly to: MacAddress };
