/**
 * The link watch tells overlays about changes of their underlay and of the interfaces of their ports.
 *
 * An event of the kernel (link-events.ts) only says that something has changed; the watch then asks again
 * about everything that it follows (a round). The first event of a storm starts a round at once. The next
 * round starts after a pause that grows with the cost of a round. So a host with routes that change all the
 * time spends a fifth of a processor here at most. During a pause the kernel keeps its messages, and it says
 * so when it has to throw some away. A round that read an event is followed by one more round: when a link or
 * an address goes, its routes go after the event, and the kernel sends no event for them.
 *
 * The kernel reports changes of carriers once a second at most, for all links together. The first lost
 * carrier is reported at once, a second one within that second only when the second is over. So the watch
 * looks at the links in use itself for that second.
 *
 * Some changes cause no event at all. These are looked at once a second, as long as there is anything to look
 * at: interfaces of ports in other network namespaces, the settings of all TAPs (port-watch.ts), and the MAC
 * table of a bridge that a route leads through (egress.ts).
 */
import {
  judge,
  type NarrowWay,
  narrowestWay,
  type UnderlayView,
  type Verdict,
  type Way,
} from '../../model/underlay-state.js';
import type { IpAddress } from '../../wire/ip.js';
import type { Log } from '../log.js';
import { systemErrorText } from '../system-error.js';
import type { HostEvent, HostEvents, LinkKernel } from './links.js';
import { type FollowedPort, type PortLink, PortWatch, type WatchedPort } from './port-watch.js';
import { UnderlayViewer } from './underlay-view.js';

/**
 * Least pause between two rounds. Degraded is reported within 100 ms: this pause, a round, and the round
 * after it.
 */
const MIN_PAUSE_MS = 20;
/** Pause after a round, as a multiple of the length of the round. */
const PAUSE_FACTOR = 4;
/**
 * Pause after a round that failed for want of descriptors or memory: other programs have to release some
 * first.
 */
const FAILURE_PAUSE_MS = 1000;

/**
 * How long links are looked at after an event of a link: the second of net/core/link_watch.c
 * (`linkwatch_nextevent`), and some time for the event to arrive.
 */
const WATCHFUL_MS = 1100;

/** Time between two looks at the settings that cause no event. */
const LOOK_MS = 1000;

export interface UnderlayFollower {
  readonly overlay: string;
  readonly listenIp: IpAddress;
  readonly destinations: Iterable<IpAddress>;
  heard(verdict: Verdict, ways: readonly Way[], narrowest: NarrowWay | undefined): void;
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
  /** Routes of each overlay by its name, as the last round found them. */
  readonly #ways = new Map<string, readonly Way[]>();
  readonly #waysOf = (overlay: string): readonly Way[] => this.#ways.get(overlay) ?? [];
  #pause: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  /** A follower that is notified may ask for another look; the next round serves it. */
  #isInRound = false;
  /** Until then a change may have happened that the kernel reports later. */
  #watchfulUntilMs = -Infinity;
  #isWatchful = false;
  /** There is something to look at once the pause is over. */
  #stale = false;
  /** There is an event to read, and the kernel will not report it again. */
  #readable = false;

  constructor(kernel: LinkKernel, log: Log) {
    this.#log = log;
    // The watch listens before it asks, so that a change between the two is noticed.
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

  /**
   * Notifies the follower before this returns, and again after each round. A follower may hear the same
   * verdict again.
   */
  followUnderlay(follower: UnderlayFollower): Following {
    this.#underlays.add(follower);
    const view = this.#safely(() => this.#viewer.round(false)(follower));
    if (view !== undefined) {
      this.#ways.set(follower.overlay, view.ways);
      this.#tell(follower, view);
    } else this.#lookAgain();
    return {
      stop: () => {
        this.#underlays.delete(follower);
        this.#ways.delete(follower.overlay);
      },
    };
  }

  /** The destinations of a follower have changed. */
  destinationsChanged(): void {
    this.#lookAgain();
  }

  /** Whether this host can send from this address now. */
  isUsable(ip: IpAddress): boolean {
    return this.#safely(() => this.#viewer.addressState(ip)) === 'good';
  }

  /** Calls `appeared` once, as soon as the address can be used, which may be at the next event. */
  awaitAddress(ip: IpAddress, appeared: () => void): Following {
    const one = { ip, appeared };
    this.#awaited.add(one);
    return {
      stop: () => {
        this.#awaited.delete(one);
      },
    };
  }

  /**
   * Notifies `heard` before this returns, unless the kernel cannot be asked, and again at each change. Calls
   * `used` for each address and each master that the interface gets.
   */
  followPort(port: WatchedPort, heard: (link: PortLink) => void, used?: () => void): Following {
    const followed = this.#ports.add(port, heard, used);
    const isDone = this.#safely(() => {
      this.#ports.look(followed);
      return true;
    });
    if (isDone === undefined) this.#ports.setStale(followed);
    this.#planLook();
    // A port that was taken over may have routes already.
    if (isDone === undefined || this.#carries(followed)) this.#lookAgain();
    return {
      stop: () => {
        const isNews = this.#carries(followed);
        this.#ports.remove(followed);
        if (isNews) this.#lookAgain();
      },
    };
  }

  /** Whether the route of an overlay leads into this port, as far as is known. */
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
    // Routes may go after an event without an event of their own, so one more round follows.
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
    // One more look follows when the watchful time is over, however long ago the last look was.
    const wasWatchful = this.#isWatchful;
    this.#isWatchful = performance.now() < this.#watchfulUntilMs;
    if (!isHeard && !this.#stale && !(wasWatchful && this.#viewer.linksChanged()))
      return this.#isWatchful ? 'looked' : 'quiet';
    this.#stale = false;
    this.#lookAtAll();
    return isHeard ? 'heard' : 'looked';
  }

  /**
   * Returns undefined when the kernel could not be asked, for example for want of a descriptor. The last
   * known state stays in force.
   */
  #safely<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      this.#log.error('links ask', `links: the kernel cannot be asked: ${systemErrorText(error)}`);
      return undefined;
    }
  }

  /** Returns whether there were events. */
  #read(): boolean {
    if (!this.#readable) return false;
    const { events, lost } = this.#events.read();
    for (const event of events) this.#hear(event);
    if (lost) {
      this.#log.warn('links', 'links: the kernel has lost messages: varpd reads all links and routes again');
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
    // Ports come first: the rounds below ask whether a route leads into one.
    this.#ports.lookAtStale();
    const round = this.#viewer.round(true);
    const views = [...this.#underlays].map((follower) => [follower, round(follower)] as const);
    for (const [, { overlay, ways }] of views) this.#ways.set(overlay, ways);
    for (const [follower, view] of views) if (this.#underlays.has(follower)) this.#tell(follower, view);
    this.#planLook();
    for (const one of this.#awaited) {
      if (this.#viewer.addressState(one.ip) !== 'good') continue;
      this.#awaited.delete(one);
      one.appeared();
    }
  }

  #tell(follower: UnderlayFollower, view: UnderlayView): void {
    follower.heard(judge(view, this.#waysOf), view.ways, narrowestWay(view));
  }

  // -- Changes that cause no event

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
