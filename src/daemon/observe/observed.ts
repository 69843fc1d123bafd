/** What is observed: overlays as whoever has them (overlays/directory.ts) lets them be seen. */
import type { RunningOverlayInfo } from '../../control/messages.js';
import type { OverlayDatapath } from '../../datapath/contract.js';
import type { Endpoint } from '../../wire/ip.js';

export interface ObservedPort {
  readonly name: string;
  readonly state: string;
  /** None without a device. */
  readonly counters: Readonly<Record<string, number>>;
}

export interface ObservedOverlay {
  readonly id: number;
  readonly name: string;
  readonly plan: { readonly vnetid: number; readonly search: string };
  readonly listen: Endpoint;
  readonly datapath: Pick<OverlayDatapath, 'counters' | 'targetCount'>;
  readonly links: { readonly carrier: boolean; readonly destinationCount: number };
  info(): RunningOverlayInfo;
  ports(): readonly ObservedPort[];
}

export interface Observed {
  /** Those that run, by name. */
  readonly overlays: ReadonlyMap<string, ObservedOverlay>;
  readonly counts: Readonly<Record<'overlays' | 'vnics', number>>;
  /** Stored, and not running. */
  readonly offline: Observed['counts'];
}
