/**
 * The link watch: tells overlays what has become of their underlay, and of the interfaces of their ports.
 *
 * The kernel says that something has changed (link-events.ts), and then everything that is followed is asked again. The
 * first event of a storm is acted on at once, the others after a pause that grows with what a round costs, so that
 * a host whose routes change all the time gives this a fifth of a processor at most; meanwhile the kernel keeps
 * its messages, and when it has to throw some away says so. Each round that heard something is followed by another:
 * of routes that go with a link or an address the kernel says nothing, and they go after it has spoken.
 *
 * Of carriers the kernel tells once a second at most, whichever link's they are: the first that is lost is told of at
 * once, one that is lost within a second of that only after it. So for that second the links in use are looked at.
 *
 * What the kernel does not tell of at all is looked at once a second, while there is any: interfaces of ports in other
 * network namespaces and the settings of all TAPs (port-watch.ts), and what a bridge has seen where a way goes by one (egress.ts).
 */
import { judge, type RouteMtu, routeMtus, type Verdict, type Way } from '../../model/underlay-state.js';
import type { IpAddress } from '../../wire/ip.js';
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import type { HostEvent, HostEvents, LinkKernel } from './links.js';
import { type FollowedPort, type PortLink, PortWatch, type WatchedPort } from './port-watch.js';
import { UnderlayViewer } from './underlay-view.js';

/** Between two rounds. Degraded is said within 100 ms: this, a round, and the round after it. */
const MIN_PAUSE_MS = 20;
/** Pause : round. */
const PAUSE_FACTOR = 4;
/** After one that failed: for want of descriptors or memory, which others have to give back. */
const FAILURE_PAUSE_MS = 1000;

/** After news of a link: the second of net/core/link_watch.c (`linkwatch_nextevent`), and what it takes to come round. */
const WATCHFUL_MS = 1100;

/** Between two looks at what the kernel does not tell of. */
const LOOK_MS = 1000;

export interface UnderlayFollower {
  readonly overlay: string;
  readonly listenIp: IpAddress;
  readonly destinations: Iterable<IpAddress>;
  /** `narrow`: the destinations whose routes carry less than their links. */
  heard(verdict: Verdict, narrow: readonly RouteMtu[]): void;
}

export interface Following {
  stop(): void;
}

export class LinkWatch {
  readonly #log: Log;
  readonly #viewer: UnderlayViewer;
  readonly #events: HostEvents;
  readonly #underlays = new Set<UnderlayFollower>();
  readonly #ports: PortWatch;
  readonly #awaited = new Set<{ readonly ip: IpAddress; readonly appeared: () => void }>();
  /** Overlay -> its ways, as they were found last. */
  readonly #ways = new Map<string, readonly Way[]>();
  readonly #waysOf = (overlay: string): readonly Way[] => this.#ways.get(overlay) ?? [];
  #pause: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  /** Whoever is told something may ask for a look: the next round has it. */
  #isInRound = false;
  /** Something may have happened that the kernel tells of later. */
  #watchfulUntilMs = -Infinity;
  #isWatchful = false;
  /** Something to look at once the pause is over. */
  #stale = false;
  /** There is something to read, and nobody will say so again. */
  #readable = false;

  constructor(kernel: LinkKernel, log: Log) {
    this.#log = log;
    // Listen first: what changes between the two is heard of.
    this.#events = kernel.listen(() => {
      this.#readable = true;
      this.#wake();
    });
    this.#ports = new PortWatch(kernel);
    this.#viewer = new UnderlayViewer(kernel, this.#ports);
  }

  close(): void {
    clearTimeout(this.#pause);
    clearTimeout(this.#look);
    this.#underlays.clear();
    this.#ports.clear();
    this.#awaited.clear();
    this.#events.close();
  }

  /** Is told before this returns, and then of each round; what it does with a verdict that it knows is its own affair. */
  followUnderlay(follower: UnderlayFollower): Following {
    this.#underlays.add(follower);
    const verdict = this.#safely(() => {
      const view = this.#viewer.round(false)(follower);
      this.#ways.set(follower.overlay, view.ways);
      return [judge(view, this.#waysOf), routeMtus(view.ways)] as const;
    });
    if (verdict === undefined) this.#lookAgain();
    else follower.heard(...verdict);
    return {
      stop: () => {
        this.#underlays.delete(follower);
        this.#ways.delete(follower.overlay);
      },
    };
  }

  /** Those of a follower are others now. */
  destinationsChanged(): void {
    this.#lookAgain();
  }

  /** Whether this host can send from there now. */
  isUsable(ip: IpAddress): boolean {
    return this.#safely(() => this.#viewer.addressState(ip)) === 'good';
  }

  /** `appeared` is called once, as soon as this is an address that can be used: perhaps at the next event. */
  awaitAddress(ip: IpAddress, appeared: () => void): Following {
    const one = { ip, appeared };
    this.#awaited.add(one);
    return {
      stop: () => {
        this.#awaited.delete(one);
      },
    };
  }

  /** Is told how it is before this returns, unless the kernel cannot be asked, and then of changes; `used`: of each address
   * and master that it gets. */
  followPort(port: WatchedPort, heard: (link: PortLink) => void, used?: () => void): Following {
    const followed = this.#ports.add(port, heard, used);
    const isDone = this.#safely(() => {
      this.#ports.look(followed);
      return true;
    });
    if (isDone === undefined) this.#ports.setStale(followed);
    this.#planLook();
    // One that was taken over may have routes already.
    if (isDone === undefined || this.#carries(followed)) this.#lookAgain();
    return {
      stop: () => {
        const isNews = this.#carries(followed);
        this.#ports.remove(followed);
        if (isNews) this.#lookAgain();
      },
    };
  }

  /** Whether the way of some overlay goes by it, as far as is known. */
  #carries({ index, master }: FollowedPort): boolean {
    return (
      (index !== undefined && this.#viewer.goesBy(index)) || (master !== 0 && this.#viewer.goesBy(master))
    );
  }

  #lookAgain(): void {
    this.#stale = true;
    this.#wake();
  }

  #wake(): void {
    if (this.#pause === undefined && !this.#isInRound) this.#round();
  }

  #round(): void {
    const startedMs = performance.now();
    this.#isInRound = true;
    const found = this.#safely(() => this.#readAndLook());
    this.#isInRound = false;
    // Of what goes after a message there may be none: once more.
    if (found === 'heard' || found === undefined) this.#stale = true;
    if (found === 'quiet') {
      this.#pause = undefined;
      if (!this.#readable) return;
      this.#readable = false;
      this.#events.again();
      return;
    }
    const leastMs = found === undefined ? FAILURE_PAUSE_MS : MIN_PAUSE_MS;
    const pauseMs = Math.max(leastMs, PAUSE_FACTOR * (performance.now() - startedMs));
    this.#pause = setTimeout(() => {
      this.#round();
    }, pauseMs);
    this.#pause.unref();
  }

  #readAndLook(): 'heard' | 'looked' | 'quiet' {
    const isHeard = this.#read();
    // Once more when the time is over, however long ago the last look was.
    const wasWatchful = this.#isWatchful;
    this.#isWatchful = performance.now() < this.#watchfulUntilMs;
    if (!isHeard && !this.#stale && !(wasWatchful && this.#viewer.linksChanged()))
      return this.#isWatchful ? 'looked' : 'quiet';
    this.#stale = false;
    this.#lookAtAll();
    return isHeard ? 'heard' : 'looked';
  }

  /** Undefined when the kernel could not be asked, as without a descriptor to spare: what was known stands. */
  #safely<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#log.error('links ask', `links: the kernel cannot be asked: ${systemErrorText(error)}`);
      return undefined;
    }
  }

  /** Whether there was anything. */
  #read(): boolean {
    if (!this.#readable) return false;
    const { events, lost } = this.#events.read();
    for (const event of events) this.#hear(event);
    if (lost) {
      this.#log.warn('links', 'links: the kernel has lost messages for us: everything is looked at again');
      this.#ports.forget();
      this.#viewer.forgetAddresses();
    }
    return lost || events.length > 0;
  }

  #hear(event: HostEvent): void {
    if (event.about === 'address') {
      const { ip, gone, index, state } = event;
      if (!gone) this.#ports.used(index);
      this.#viewer.addressChanged(ip, gone ? undefined : { index, state });
    } else if (event.about === 'link') {
      this.#watchfulUntilMs = performance.now() + WATCHFUL_MS;
      this.#ports.hear(event);
    }
  }

  #lookAtAll(): void {
    // First: whether a way leads into a port is asked then.
    this.#ports.lookAtStale();
    const round = this.#viewer.round(true);
    const views = [...this.#underlays].map((follower) => [follower, round(follower)] as const);
    for (const [, { overlay, ways }] of views) this.#ways.set(overlay, ways);
    for (const [follower, view] of views)
      if (this.#underlays.has(follower)) follower.heard(judge(view, this.#waysOf), routeMtus(view.ways));
    this.#planLook();
    for (const one of this.#awaited) {
      if (this.#viewer.addressState(one.ip) !== 'good') continue;
      this.#awaited.delete(one);
      one.appeared();
    }
  }

  // -- What the kernel does not tell of

  #planLook(): void {
    if (this.#look !== undefined || (this.#ports.isEmpty && !this.#viewer.isTransient)) return;
    this.#look = setTimeout(() => {
      this.#look = undefined;
      this.#safely(() => {
        this.#ports.lookElsewhere();
        this.#ports.checkSettings();
      });
      if (this.#viewer.isTransient) this.#lookAgain();
      this.#planLook();
    }, LOOK_MS);
    this.#look.unref();
  }
}
