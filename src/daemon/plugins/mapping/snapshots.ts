/**
 * The snapshot of one overlay (`Host.replaceAll`, `Host.changeSnapshot`): it is checked and put in force in slices,
 * all or nothing, and answers lookups. It outlives the instance that gave it: when the process of a plugin has died,
 * the snapshot answers until the next instance replaces it.
 */
import type { LookupAnswer, LookupRequest } from '../../../datapath/contract.js';
import { counted } from '../../../model/sentences.js';
import type { Difference } from '../../../plugin/contract.js';
import { printable } from '../../../model/properties.js';
import type { Destination, Endpoint, IpAddress } from '../../../wire/ip.js';
import { BROADCAST, type MacAddress } from '../../../wire/mac.js';
import { AnswerError, shown } from '../plugin-answer.js';
import { announcement, orFlood, proxy, proxyFor } from '../proxy.js';
import { compare, Effects } from './difference.js';
import { Mapping } from './mapping.js';
import { MAX_PLACES } from './places.js';
import type { Place } from './place-reader.js';
import { MAX_ROWS, RowReader } from './rows.js';
import { inSlices } from './slices.js';

const MAX_REVISION_CHARACTERS = 255;
/** Announcements between two pauses. */
const STEP_FRAMES = 64;

/** The effects of a snapshot outside of it. */
export interface SnapshotEffects {
  /** Takes MACs out of the target table. */
  invalidate(macs: readonly MacAddress[]): void;
  announce(frame: Uint8Array): void;
  /** News for the log and for `dladm show-overlay -f`. */
  tell(sentence: string): void;
  /** A snapshot, or a change of it, is in force with so many targets. */
  inForce(revision: string, targets: number): void;
}

export class Snapshots {
  readonly #listen: Endpoint;
  readonly #effects: SnapshotEffects;
  #mapping: Mapping | undefined;
  /** Ends when all that was asked for until now has been done: snapshots come into force in their order. */
  #last: Promise<unknown> = Promise.resolve();
  #isEnded = false;

  constructor(listen: Endpoint, effects: SnapshotEffects) {
    this.#listen = listen;
    this.#effects = effects;
  }

  /** Whether a snapshot is in force. */
  get isInForce(): boolean {
    return this.#mapping !== undefined;
  }

  get hasAddresses(): boolean {
    return (this.#mapping?.addressCount ?? 0) > 0;
  }

  // -- Answers

  /** Answer to a lookup out of the snapshot; undefined if the snapshot does not have it. `warn` gets sentences. */
  answer(request: LookupRequest, warn: (message: string) => void): LookupAnswer | undefined {
    const mapping = this.#mapping;
    const { destinationMac, etherType, frame } = request;
    if (mapping === undefined) return undefined;
    if (frame === undefined) {
      const to = mapping.destinationsOf(destinationMac);
      return to && { kind: 'target', to, ttlMs: Infinity };
    }
    const what = proxyFor(destinationMac, etherType);
    const to = this.floodOf(destinationMac);
    if (what === undefined) return to && flood(to);
    if (what === 'dhcp' || mapping.addressCount === 0) return undefined;
    const neighbor = (ip: IpAddress): MacAddress | null => mapping.ownerOf(ip) ?? null;
    const answer = proxy(what, frame, { neighbor, dhcpServer: () => null }, warn);
    // Facts out of a table are there at once.
    if (answer instanceof Promise) return undefined;
    const done = orFlood(answer, to ?? []);
    const isUnknown = done.kind === 'drop' && (done.reason === 'proxy_unknown' || done.reason === 'tx_group');
    return isUnknown ? undefined : done;
  }

  /** The MAC that has an address; undefined if the snapshot lacks it. */
  ownerOf(ip: IpAddress): MacAddress | undefined {
    return this.#mapping?.ownerOf(ip);
  }

  /** Where a MAC lives; undefined if the snapshot lacks it. */
  destinationsOf(mac: MacAddress): readonly Destination[] | undefined {
    return this.#mapping?.destinationsOf(mac);
  }

  /** Destinations that get copies of frames to a group MAC: its own row, or that of the broadcast address. */
  floodOf(group: MacAddress): readonly Destination[] | undefined {
    return this.#mapping?.destinationsOf(group) ?? this.#mapping?.destinationsOf(BROADCAST);
  }

  // -- Changes

  /** Rejects with an AnswerError, and the snapshot before stays in force. */
  replaceAll(snapshot: unknown): Promise<Difference> {
    return this.#next(() => this.#replace(members(snapshot, 'a snapshot')));
  }

  /** Rejects with an AnswerError, and changes nothing then. */
  change(change: unknown): Promise<Difference> {
    return this.#next(() => this.#change(members(change, 'a change of a snapshot')));
  }

  #next(work: () => Generator<undefined, Difference>): Promise<Difference> {
    const done = this.#last.then(() => inSlices(this.#untilEnd(work())));
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Resolves when no snapshot is being put in force. */
  async settle(): Promise<void> {
    await this.#last;
  }

  /** The overlay has ended: nothing is put in force any more. */
  end(): void {
    this.#isEnded = true;
    this.#mapping = undefined;
  }

  *#untilEnd<T>(work: Generator<undefined, T>): Generator<undefined, T> {
    for (;;) {
      if (this.#isEnded) throw new AnswerError('gave a snapshot to an overlay that has ended');
      const step = work.next();
      if (step.done === true) return step.value;
      yield;
    }
  }

  *#replace(snapshot: Members): Generator<undefined, Difference> {
    const fresh = new Mapping(checkRevision(snapshot['revision']));
    const reader = new RowReader(this.#listen);
    yield* reader.targets(snapshot['targets'], (mac, place) => {
      if (fresh.setTarget(mac, place.key, () => place.to) !== 'added')
        throw new AnswerError('gave a MAC that an earlier row has as well');
    });
    yield* reader.addresses(snapshot['addresses'], (ip, mac) => {
      if (fresh.setAddress(ip, mac) !== 'added')
        throw new AnswerError('gave an address that an earlier row has as well');
    });
    const effects = yield* compare(this.#mapping ?? new Mapping(''), fresh);
    this.#mapping = fresh;
    this.#report(effects.counts, fresh);
    yield* this.#spread(effects);
    return effects.counts;
  }

  *#change(change: Members): Generator<undefined, Difference> {
    const mapping = this.#mapping;
    if (mapping === undefined)
      throw new AnswerError('changed a snapshot, and there is none: call replaceAll first');
    const revision = checkRevision(change['revision']);
    const { targets = [], addresses = [], removedMacs = [], removedIps = [] } = change;
    const reader = new RowReader(this.#listen);
    // Everything is read before anything changes. A later row about the same MAC replaces an earlier one.
    const places = new Map<MacAddress, Place>();
    const owners = new Map<string, MacAddress>();
    const macs: MacAddress[] = [];
    const ips: string[] = [];
    const fresh = new Set<string>();
    yield* reader.targets(targets, (mac, place) => {
      places.set(mac, place);
      if (mapping.placeNumber(place.key) < 0) fresh.add(place.key);
    });
    yield* reader.addresses(addresses, (ip, mac) => owners.set(ip, mac));
    yield* reader.macs(removedMacs, (mac) => macs.push(mac));
    yield* reader.ips(removedIps, (ip) => ips.push(ip));
    if (mapping.placeCount + fresh.size > MAX_PLACES)
      throw new AnswerError(`gave a snapshot with more than ${MAX_PLACES} different destinations`);
    if (mapping.size + places.size > MAX_ROWS || mapping.addressCount + owners.size > MAX_ROWS)
      throw new AnswerError(`gave a snapshot with more than ${MAX_ROWS} targets or addresses`);
    const effects = new Effects();
    yield* apply(mapping, { places, owners, macs, ips }, effects);
    mapping.revision = revision;
    this.#report(effects.counts, mapping);
    yield* this.#spread(effects);
    return effects.counts;
  }

  /** Tells the target table and the neighbour caches. Flows to MACs that have not moved go on. */
  *#spread({ stale, moves }: Effects): Generator<undefined, void> {
    for (const macs of stale) {
      this.#effects.invalidate(macs);
      yield;
    }
    for (const [index, { ip, mac }] of moves.entries()) {
      this.#effects.announce(announcement(ip, mac));
      if (index % STEP_FRAMES === STEP_FRAMES - 1) yield;
    }
  }

  #report({ added, changed, removed, moved }: Difference, { revision, size, addressCount }: Mapping): void {
    const at = new Date().toISOString().replace(/\.\d+/, '');
    this.#effects.tell(
      `snapshot '${printable(revision)}': ${counted(size, 'target')} (+${added} -${removed} ~${changed}), ` +
        `${counted(addressCount, 'address', 'addresses')} (${moved} moved), at ${at}`,
    );
    this.#effects.inForce(revision, size);
  }
}

interface Changes {
  readonly places: ReadonlyMap<MacAddress, Place>;
  readonly owners: ReadonlyMap<string, MacAddress>;
  readonly macs: readonly MacAddress[];
  readonly ips: readonly string[];
}

/** Cannot fail, and goes on to its end. Yields after every row. */
function* apply(mapping: Mapping, changes: Changes, effects: Effects): Generator<undefined, void> {
  const { places, owners, macs, ips } = changes;
  for (const mac of macs) {
    if (places.has(mac) || !mapping.removeTarget(mac)) continue;
    effects.removed++;
    effects.forget(mac);
    yield;
  }
  for (const [mac, place] of places) {
    const result = mapping.setTarget(mac, place.key, () => place.to);
    if (result === 'same') continue;
    effects[result]++;
    effects.forget(mac);
    yield;
  }
  for (const ip of ips) {
    if (!owners.has(ip)) mapping.removeAddress(ip);
    yield;
  }
  for (const [ip, mac] of owners) {
    if (mapping.setAddress(ip, mac) === 'changed') effects.move(ip as IpAddress, mac);
    yield;
  }
}

/** Copies for all, and none back to the sender: for this frame alone. */
function flood(to: readonly Destination[]): LookupAnswer {
  return to.length === 0 ? { kind: 'drop', reason: 'lookup_drop' } : { kind: 'target', to, ttlMs: 0 };
}

type Members = Readonly<Record<string, unknown>>;

function members(value: unknown, what: string): Members {
  if (typeof value === 'object' && value !== null) return value as Members;
  throw new AnswerError(`gave ${shown(value)} where ${what} was expected`);
}

/** Throws an AnswerError. */
export function checkRevision(revision: unknown): string {
  if (typeof revision === 'string' && revision.length <= MAX_REVISION_CHARACTERS) return revision;
  throw new AnswerError(
    `gave ${shown(revision)} where a revision of at most ${MAX_REVISION_CHARACTERS} characters was expected`,
  );
}
