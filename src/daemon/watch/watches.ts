/**
 * The watches of all clients (watch.start). Looks at the overlays once for all clients, and makes each line once. Without a
 * client nothing is looked at.
 */
import type { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { encodeMessage } from '../../control/framing.js';
import type { OverlayHealth, OverlayStatistics, UnderlayInfo } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import {
  PRIVATE_KIND,
  type StateEvent,
  WATCH_KINDS,
  type WatchEvent,
  type WatchInfo,
  type WatchKind,
} from '../../control/watch-messages.js';
import type { WatchedDatapath } from '../../datapath/watch-contract.js';
import { inBackground } from '../../model/background.js';
import { invalidError, OverlayError, STATUS_WORDS } from '../../model/errors.js';
import { printable } from '../../model/properties.js';
import { oneOf } from '../../model/sentences.js';
import type { LogLine } from '../log.js';
import { TargetChanges } from './target-changes.js';
import { WatchClient, type Wish } from './watch-client.js';

/** A change of state is told within this time. */
const LOOK_MS = 1_000;
/** Looks from one line of counters to the next: their rates are of the last 2 to 4 seconds. */
const LOOKS_OF_COUNTERS = 2;
/** A slice of the control thread's time. */
const SLICE_MS = 2;
/** Each has a queue of 256 KiB, and a place among the clients of the control socket. */
const MAX_WATCHES = 32;

interface WatchedOverlay {
  readonly id: number;
  readonly name: string;
  readonly datapath: WatchedDatapath;
  readonly health: { report(): OverlayHealth };
  readonly links: { readonly destinationCount: number; readonly info: Pick<UnderlayInfo, 'state'> };
  ports(): readonly { readonly name: string; readonly state: string }[];
}

export interface WatchedPlaces<Overlay extends WatchedOverlay> {
  /** Overlays that run, by name. */
  readonly overlays: ReadonlyMap<string, Overlay>;
  /** Overlays that are stored and do not run, with the reason. */
  readonly offlineOverlays: ReadonlyMap<string, string>;
}

export interface WatchSources<Overlay extends WatchedOverlay> {
  readonly places: WatchedPlaces<Overlay>;
  readonly statistics: (overlay: Overlay) => OverlayStatistics;
  /** Calls with every line of the log, until the function that it returns is called. */
  readonly listen: (heard: (line: LogLine) => void) => () => void;
  readonly about: Pick<WatchInfo, 'version' | 'pid' | 'startedAt'>;
}

export interface StartedWatch {
  readonly result: WatchInfo;
  /** Writes to the client. Resolves when the watch is over. */
  readonly run: (client: Duplex) => Promise<void>;
}

type State = Omit<StateEvent, 'kind' | 'at' | 'isGone'>;

export class Watches<Overlay extends WatchedOverlay> {
  readonly #sources: WatchSources<Overlay>;
  readonly #clients = new Set<WatchClient>();
  /** The state that was told last, by overlay; `key` is its text. */
  #known = new Map<string, { readonly state: State; readonly key: string }>();
  readonly #targets = new TargetChanges((event) => {
    this.#tell(event);
  });
  #started = 0;
  #looks = 0;
  #isLooking = false;
  #timer: NodeJS.Timeout | undefined;
  #forgetLog: (() => void) | undefined;

  constructor(sources: WatchSources<Overlay>) {
    this.#sources = sources;
  }

  /** Throws an OverlayError. `run` must be called. */
  start({ kinds, overlays }: Methods['watch.start']['params'], mayChange: boolean): StartedWatch {
    const wish: Wish = {
      kinds: kindsOf(kinds, mayChange),
      overlays: overlays === undefined ? undefined : new Set(overlays),
    };
    const { places, about } = this.#sources;
    for (const name of overlays ?? [])
      if (!places.overlays.has(name) && !places.offlineOverlays.has(name))
        throw new OverlayError('NOT_FOUND', `${printable(name)}: ${STATUS_WORDS.NOT_FOUND}`);
    if (this.#started >= MAX_WATCHES)
      throw new OverlayError('AGAIN', `${this.#started} clients watch, which is the limit`);
    this.#started++;
    const run = async (socket: Duplex): Promise<void> => {
      const client = new WatchClient(socket, wish, () => this.#states(wish));
      try {
        this.#clients.add(client);
        this.#follow(true);
        await client.run();
      } finally {
        this.#clients.delete(client);
        this.#started--;
        this.#follow(false);
      }
    };
    return { result: { ...about, kinds: WATCH_KINDS.filter((kind) => wish.kinds.has(kind)) }, run };
  }

  #wanted(kind: WatchKind): boolean {
    return [...this.#clients].some(({ wish }) => wish.kinds.has(kind));
  }

  /** Begins and ends what the clients of now want. `isNew`: a client has come. */
  #follow(isNew: boolean): void {
    if (this.#clients.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      this.#known.clear();
    } else {
      if (this.#timer === undefined) this.#lookAtStates(false);
      this.#timer ??= setInterval(() => {
        inBackground('watch', this.#look());
      }, LOOK_MS).unref();
    }
    if (!this.#wanted('targets')) this.#targets.stop();
    else if (isNew) this.#targets.follow(this.#sources.places.overlays.values(), true);
    if (!this.#wanted('log')) {
      this.#forgetLog?.();
      this.#forgetLog = undefined;
    } else
      this.#forgetLog ??= this.#sources.listen(({ level, time, msg }) => {
        this.#tell({ kind: 'log', at: time, level, message: msg });
      });
  }

  async #look(): Promise<void> {
    if (this.#isLooking) return;
    this.#isLooking = true;
    try {
      await this.#lookAtAll();
    } finally {
      this.#isLooking = false;
    }
  }

  async #lookAtAll(): Promise<void> {
    const { places } = this.#sources;
    this.#lookAtStates(true);
    if (this.#wanted('targets')) this.#targets.follow(places.overlays.values(), false);
    this.#looks++;
    if (this.#looks % LOOKS_OF_COUNTERS === 0 && this.#wanted('counters')) await this.#lookAtCounters();
    for (const client of this.#clients) client.beAlive();
  }

  async #lookAtCounters(): Promise<void> {
    const { places, statistics } = this.#sources;
    let startedMs = performance.now();
    for (const name of [...places.overlays.keys()]) {
      const overlay = places.overlays.get(name);
      if (overlay === undefined) continue;
      const clients = [...this.#clients].filter((client) => client.wants('counters', name));
      if (clients.length === 0) continue;
      const { counters, lookups, drops, ports } = statistics(overlay);
      const at = new Date().toISOString();
      this.#tell({ kind: 'counters', at, overlay: name, counters, lookups, drops, ports });
      if (performance.now() - startedMs < SLICE_MS) continue;
      await turn();
      startedMs = performance.now();
    }
  }

  /** Without `isTold` the states are only remembered. */
  #lookAtStates(isTold: boolean): void {
    const before = this.#known;
    this.#known = new Map(
      this.#present().map((state) => [state.overlay, { state, key: JSON.stringify(state) }]),
    );
    if (!isTold) return;
    for (const [name, { state, key }] of this.#known)
      if (before.get(name)?.key !== key) this.#tellState(state, false);
    for (const [name, { state }] of before) if (!this.#known.has(name)) this.#tellState(state, true);
  }

  #present(): State[] {
    const { overlays, offlineOverlays } = this.#sources.places;
    const running = [...overlays.values()].map((overlay): State => {
      const { status, details, notes = null } = overlay.health.report();
      return {
        overlay: overlay.name,
        status,
        details,
        notes,
        underlay: overlay.links.info.state,
        peers: overlay.links.destinationCount,
        ports: overlay.ports().map(({ name, state }) => ({ name, state })),
      };
    });
    const nothing = { notes: null, underlay: null, peers: null, ports: [] };
    const offline = [...offlineOverlays].map(([overlay, details]): State => ({
      overlay,
      status: 'OFFLINE',
      details,
      ...nothing,
    }));
    return [...running, ...offline];
  }

  /** The states that this client wants, as they are when it takes them. */
  *#states(wish: Wish): Generator<string, void> {
    for (const name of [...this.#known.keys()]) {
      const state = this.#known.get(name)?.state;
      if (state !== undefined && wish.overlays?.has(name) !== false)
        yield encodeMessage(stateEvent(state, false));
    }
  }

  #tellState(state: State, isGone: boolean): void {
    this.#tell(stateEvent(state, isGone));
  }

  #tell(event: Exclude<WatchEvent, { kind: 'missed' }>): void {
    const overlay = event.kind === 'log' ? undefined : event.overlay;
    let line: string | undefined;
    for (const client of this.#clients)
      if (client.wants(event.kind, overlay)) client.offer(event.kind, (line ??= encodeMessage(event)));
  }
}

function stateEvent(state: State, isGone: boolean): StateEvent {
  return { kind: 'state', at: new Date().toISOString(), isGone, ...state };
}

function kindsOf(kinds: readonly string[] | undefined, mayChange: boolean): ReadonlySet<WatchKind> {
  if (kinds === undefined) return new Set(WATCH_KINDS.filter((kind) => mayChange || kind !== PRIVATE_KIND));
  const chosen = kinds.map((kind) => {
    const known = WATCH_KINDS.find((one) => one === kind);
    if (known !== undefined) return known;
    throw invalidError(
      `nothing of the kind '${printable(kind)}' can be watched, expected ${oneOf(WATCH_KINDS)}`,
    );
  });
  if (!mayChange && chosen.includes(PRIVATE_KIND))
    throw new OverlayError('DENIED', `only root and the configured group may watch the ${PRIVATE_KIND}`);
  return new Set(chosen);
}
