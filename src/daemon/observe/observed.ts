/**
 * The parts of an overlay that metrics and the log of drops may see (overlays/directory.ts has the overlays).
 */
import type { LookupStatistics, RunningOverlayInfo } from '../../control/messages.js';
import type { OverlayDatapath } from '../../datapath/contract.js';
import type { MacAddress } from '../../plugin/contract.js';
import type { Health } from '../health.js';
import type { Destination, Endpoint } from '../../wire/ip.js';

export interface ObservedPort {
  readonly name: string;
  readonly state: string;
  /** Empty for a port without a device. */
  readonly counters: Readonly<Record<string, number>>;
}

export interface ObservedOverlay {
  readonly id: number;
  readonly name: string;
  readonly plan: { readonly vnetid: number; readonly search: string; readonly encap: string };
  readonly listen: Endpoint;
  readonly datapath: Pick<OverlayDatapath, 'counters' | 'drops' | 'recordedPeers' | 'targetCount'>;
  readonly links: { readonly carrier: boolean; readonly destinationCount: number };
  readonly plugin: {
    readonly lookupTimes: Omit<LookupStatistics, 'asked'>;
    readonly counts: { readonly answers: AnswerTimes; readonly exits: number };
  };
  readonly health: Pick<Health, 'note' | 'endNote' | 'tell' | 'report' | 'troubleCounts'>;
  info(): RunningOverlayInfo;
  ports(): readonly ObservedPort[];
  /** The place of each port by the plugin: null if it does not know the MAC, undefined if it cannot tell. */
  places(): Iterable<ObservedPlace>;
}

/** How long a plugin took to answer: all lookups since the start of its overlay. */
export interface AnswerTimes {
  /** Number of answers within each bound. */
  readonly within: readonly { readonly boundS: number; readonly count: number }[];
  readonly count: number;
  readonly sumS: number;
}

export interface ObservedPlace {
  readonly port: string;
  readonly mac: MacAddress;
  readonly place: Destination | null | undefined;
}

export interface Observed {
  /** Overlays that run, by name. */
  readonly overlays: ReadonlyMap<string, ObservedOverlay>;
  readonly counts: Readonly<Record<'overlays' | 'vnics', number>>;
  /** Stored, and not running. */
  readonly offline: Observed['counts'];
}
