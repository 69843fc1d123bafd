/**
 * Facts that the plugin of one overlay has told, as far as they outlive the instance that told them: the snapshot, and the
 * addresses that ports may send from. When a plugin is in trouble, or is started again, both stay in force until an
 * instance replaces them. Also the datapath of the overlay, since effects of a snapshot must reach it in any case.
 */
import type { MappingInfo } from '../../control/messages.js';
import type { LookupAnswer, LookupRequest, OverlayDatapath } from '../../datapath/contract.js';
import type { Destination, Endpoint, IpAddress } from '../../wire/ip.js';
import type { MacAddress } from '../../wire/mac.js';
import type { Health } from '../health.js';
import type { Log } from '../log.js';
import { type AskedPlugin, carryOut } from './carry-out.js';
import type { Eventually } from './deadline.js';
import { LookupTimes } from './lookup-times.js';
import { Snapshots } from './mapping/snapshots.js';
import { proxyFor } from './proxy.js';

/** The part of an overlay that its plugin speaks to. */
export type PluginDatapath = Pick<
  OverlayDatapath,
  'answer' | 'setTargets' | 'invalidate' | 'setPeers' | 'announce'
>;

/** The overlay that an instance serves. */
export interface ServedOverlay {
  readonly overlay: string;
  readonly vnetid: number;
  readonly listen: Endpoint;
}

export class PluginKnowledge {
  readonly snapshots: Snapshots;
  readonly #listen: Endpoint;
  /** Set once the datapath knows the overlay. */
  datapath: PluginDatapath | undefined;
  /** The data that the plugin answers out of; null while it has not said so. */
  mapping: MappingInfo | null = null;
  /** All instances count here, one after the other. */
  readonly times: LookupTimes;
  /** Whether the latest instance has a `resolve`, so that a MAC which the snapshot lacks is a question. */
  hasResolve = true;
  /** Addresses that the ports may send from, by MAC; undefined while the plugin sets no rule. */
  #allowed: ReadonlyMap<MacAddress, readonly IpAddress[]> | undefined;
  #hasAllowed = false;

  /** `times`: of the place before. */
  constructor(
    served: ServedOverlay,
    { log, health }: { readonly log: Log; readonly health: Health },
    times = new LookupTimes(),
  ) {
    this.times = times;
    this.#listen = served.listen;
    this.snapshots = new Snapshots(served.listen, {
      invalidate: (macs) => {
        this.datapath?.invalidate(macs);
      },
      announce: (frame) => {
        this.datapath?.announce(frame);
      },
      tell: (sentence) => {
        log.info(`snapshot ${served.overlay}`, `${served.overlay}: ${sentence}`);
        health.remark(sentence);
      },
      inForce: (revision, entries) => {
        this.inForce(revision, entries);
      },
    });
  }

  inForce(revision: string, entries: number): void {
    this.mapping = { revision, entries, at: new Date().toISOString() };
  }

  setAllowedIps(allowed: ReadonlyMap<MacAddress, readonly IpAddress[]> | undefined): void {
    this.#allowed = allowed;
    this.#hasAllowed = true;
  }

  /**
   * Addresses that a port with this MAC may send from; undefined when the plugin sets no rule. Empty for a MAC that the
   * list of the plugin lacks: a port that comes while the plugin is in trouble is closed, and not open. `before` is the
   * answer until an instance of this process has given a list, or has said that there is none.
   */
  allowedIps(mac: MacAddress, before: readonly IpAddress[] | undefined): readonly IpAddress[] | undefined {
    if (!this.#hasAllowed) return before;
    return this.#allowed === undefined ? undefined : (this.#allowed.get(mac) ?? []);
  }

  /** Where the snapshot places this MAC: null if nowhere, undefined if it cannot tell. */
  placeOf(mac: MacAddress): Destination | null | undefined {
    const { snapshots } = this;
    const to = snapshots.destinationsOf(mac);
    if (to === undefined) return snapshots.isInForce && !this.hasResolve ? null : undefined;
    return to.length === 1 ? to[0] : undefined;
  }

  /** Answers a lookup while there is no instance: out of the snapshot, or with a drop. */
  answer(request: LookupRequest): LookupAnswer {
    const known = this.snapshots.answer(request, () => undefined);
    if (known !== undefined) return known;
    const isComplete = this.snapshots.isInForce && !this.hasResolve && request.frame === undefined;
    return { kind: 'drop', reason: isComplete ? 'lookup_drop' : 'lookup_failed' };
  }

  /**
   * Answers a lookup that the snapshot does not, for an instance without `resolve`: broadcasts go to a proxy that the
   * instance has facts for, or to the flood list of the snapshot; any other frame is dropped.
   */
  otherwise(
    request: LookupRequest,
    { instance, ask, warn }: Omit<AskedPlugin, 'listen'>,
  ): Eventually<LookupAnswer> {
    const { destinationMac, etherType, frame } = request;
    const unknown: LookupAnswer = { kind: 'drop', reason: 'lookup_drop' };
    const what = frame === undefined ? undefined : proxyFor(destinationMac, etherType);
    if (what === undefined) return unknown;
    const otherwise = this.snapshots.floodOf(destinationMac) ?? [];
    const has = typeof instance[what === 'dhcp' ? 'dhcpServer' : 'neighbor'] === 'function';
    if (has)
      return carryOut({ instance, ask, listen: this.#listen, warn }, frame, {
        kind: 'proxy',
        what,
        otherwise,
      });
    if (what !== 'dhcp' && this.snapshots.hasAddresses) return { kind: 'drop', reason: 'proxy_unknown' };
    return otherwise.length > 0 ? { kind: 'target', to: otherwise, ttlMs: 0 } : unknown;
  }
}
