/** What the plugin of an overlay is asked, and what it answers, as the datapath has it. */
import type { DropReason } from '../model/drops.js';
import type { Endpoint } from '../wire/ip.js';
import type { MacAddress } from '../wire/mac.js';

/** A frame whose destination is not known. */
export interface Miss {
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  readonly etherType: number;
  readonly vlan: number;
}

/** What the plugin of an overlay is asked about a miss. */
export interface Question extends Miss {
  readonly overlay: number;
  readonly lookup: number;
  /** Of a frame to a group MAC: its beginning, a copy. Such a question is about this frame alone. */
  readonly frame?: Uint8Array;
}

/** ttlMs 0 = for this frame alone. */
export type LookupResult =
  | { readonly kind: 'target'; readonly to: readonly Endpoint[]; readonly ttlMs: number }
  | { readonly kind: 'drop'; readonly reason: DropReason; readonly ttlMs?: number }
  /** Only to a question with a frame, as the next one. */
  | { readonly kind: 'reply'; readonly frame: Uint8Array; readonly counter: 'proxy_arp' | 'proxy_ndp' }
  | { readonly kind: 'redirect'; readonly to: MacAddress };
