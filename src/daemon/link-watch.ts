/**
 * The link watch: tells overlays what has become of their underlay, and of the interfaces of their ports.
 *
 * The kernel says that something has changed (link-events.ts), and then everything that is followed is asked anew. The
 * first event of a storm is acted on at once, the others after a pause that grows with what a round costs, so that
 * a host whose routes change all the time gives this a fifth of a processor at most; meanwhile the kernel keeps
 * its messages, and when it has to throw some away says so. Each round that heard something is followed by another:
 * of routes that go with a link or an address the kernel says nothing, and they go after it has spoken.
 *
 * Of carriers the kernel tells once a second at most, whichever link's they are: the first that is lost is told of at
 * once, one that is lost within a second of that only after it. So for that second the links in use are looked at.
 */
import { judge, type Verdict } from '../core/underlay-state.js';
import type { IpAddress } from '../wire/ip.js';
import type { HostEvent, HostEvents, LinkKernel } from './links.js';
import type { Log } from './log.js';
import { systemErrorText } from './system-error.js';
import { UnderlayViewer } from './underlay-view.js';

/** Between two rounds. Degraded is said within 100 ms: this, a round, and the round after it. */
const MIN_PAUSE_MS = 20;
/** Pause : round. */
const PAUSE_FACTOR = 4;
/** After one that failed: for want of descriptors or memory, which others have to give back. */
const FAILURE_PAUSE_MS = 1000;

/** After news of a link: the second of net/core/link_watch.c (`linkwatch_nextevent`), and what it takes to come round. */
const WATCHFUL_MS = 1100;

/** Of a port's interface. `elsewhere`: in another network namespace, or removed, which its descriptor tells. */
export type PortLink =
  { readonly state: 'up' | 'down' | 'elsewhere' } | { readonly state: 'renamed'; readonly name: string };

export interface UnderlayFollower {
  readonly listenIp: IpAddress;
  readonly destinations: Iterable<IpAddress>;
  heard(verdict: Verdict): void;
}

export interface Following {
  stop(): void;
}

interface FollowedPort {
  readonly name: string;
  /** By which it is known when it comes back: another interface may have its name by then. */
  mac: string | undefined;
  readonly heard: (link: PortLink) => void;
  readonly used: (() => void) | undefined;
  /** Undefined while it is elsewhere. */
  index: number | undefined;
  state: string;
}

export class LinkWatch {
  readonly #kernel: LinkKernel;
  readonly #log: Log;
  readonly #viewer: UnderlayViewer;
  readonly #events: HostEvents;
  readonly #underlays = new Set<UnderlayFollower>();
  readonly #ports = new Set<FollowedPort>();
  readonly #portsByIndex = new Map<number, FollowedPort>();
  readonly #missingPorts = new Map<string, FollowedPort>();
  /** Ports that something was said of. */
  readonly #stalePorts = new Set<FollowedPort>();
  readonly #awaited = new Set<{ readonly ip: IpAddress; readonly appeared: () => void }>();
  #pause: NodeJS.Timeout | undefined;
  /** Something may have happened that the kernel tells of later. */
  #watchfulUntilMs = -Infinity;
  #isWatchful = false;
  /** Something to look at once the pause is over. */
  #stale = false;
  /** There is something to read, and nobody will say so again. */
  #readable = false;

  constructor(kernel: LinkKernel, log: Log) {
    this.#kernel = kernel;
    this.#log = log;
    // Listen first: what changes between the two is heard of.
    this.#events = kernel.listen(() => {
      this.#readable = true;
      this.#wake();
    });
    this.#viewer = new UnderlayViewer(kernel);
  }

  close(): void {
    clearTimeout(this.#pause);
    this.#underlays.clear();
    this.#ports.clear();
    this.#awaited.clear();
    this.#events.close();
  }

  /** Is told at once, and then of each round; what it does with a verdict that it knows is its own affair. */
  followUnderlay(follower: UnderlayFollower): Following {
    this.#underlays.add(follower);
    const verdict = this.#safely(() => judge(this.#viewer.round(false)(follower)));
    if (verdict === undefined) this.#lookAgain();
    else follower.heard(verdict);
    return {
      stop: () => {
        this.#underlays.delete(follower);
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

  /** A port whose interface has this name now. Is told of changes alone; `used`: of each address and master that it has. */
  followPort(name: string, heard: (link: PortLink) => void, used?: () => void): Following {
    const port: FollowedPort = { name, heard, used, mac: undefined, index: undefined, state: 'up' };
    this.#ports.add(port);
    const isDone = this.#safely(() => {
      this.#find(port);
      return true;
    });
    if (isDone === undefined) {
      this.#stalePorts.add(port);
      this.#lookAgain();
    }
    return {
      stop: () => {
        this.#ports.delete(port);
        this.#stalePorts.delete(port);
        this.#lose(port);
        this.#missingPorts.delete(name);
      },
    };
  }

  #lookAgain(): void {
    this.#stale = true;
    this.#wake();
  }

  #wake(): void {
    if (this.#pause === undefined) this.#round();
  }

  #round(): void {
    const startedMs = performance.now();
    const found = this.#safely(() => this.#readAndLook());
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
    this.#look();
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
      this.#log.warn('links', 'links: the kernel has lost messages for us: everything is looked at anew');
      for (const port of this.#ports) this.#stalePorts.add(port);
      this.#viewer.forgetAddresses();
    }
    return lost || events.length > 0;
  }

  #hear(event: HostEvent): void {
    if (event.about === 'address') {
      const { ip, gone, index, state } = event;
      if (!gone) this.#portsByIndex.get(index)?.used?.();
      this.#viewer.addressChanged(ip, gone ? undefined : { index, state });
    } else if (event.about === 'link') {
      this.#watchfulUntilMs = performance.now() + WATCHFUL_MS;
      const port = this.#portsByIndex.get(event.index) ?? this.#missingPorts.get(event.name);
      if (port !== undefined) this.#stalePorts.add(port);
    }
  }

  #look(): void {
    const view = this.#viewer.round(true);
    for (const follower of this.#underlays) follower.heard(judge(view(follower)));
    for (const port of this.#stalePorts) {
      this.#lookAtPort(port);
      this.#stalePorts.delete(port);
    }
    for (const one of this.#awaited) {
      if (this.#viewer.addressState(one.ip) !== 'good') continue;
      this.#awaited.delete(one);
      one.appeared();
    }
  }

  // -- Ports

  #lookAtPort(port: FollowedPort): void {
    const { index } = port;
    const link = index === undefined ? undefined : this.#kernel.link(index);
    if (link !== undefined && link.master !== 0) port.used?.();
    if (link === undefined) {
      this.#lose(port);
      this.#find(port);
      return;
    }
    if (link.name !== port.name) this.#tell(port, { state: 'renamed', name: link.name });
    else this.#tell(port, { state: link.up ? 'up' : 'down' });
  }

  /** By its name: it has just been made, or has come back. */
  #find(port: FollowedPort): void {
    const link = this.#kernel.link(port.name);
    const mac = link?.mac.join(':');
    if (link === undefined || (port.mac !== undefined && port.mac !== mac)) {
      this.#missingPorts.set(port.name, port);
      this.#tell(port, { state: 'elsewhere' });
      return;
    }
    this.#missingPorts.delete(port.name);
    port.mac = mac;
    port.index = link.index;
    this.#portsByIndex.set(link.index, port);
    this.#tell(port, { state: link.up ? 'up' : 'down' });
  }

  #lose(port: FollowedPort): void {
    if (port.index !== undefined) this.#portsByIndex.delete(port.index);
    port.index = undefined;
  }

  #tell(port: FollowedPort, link: PortLink): void {
    const state = link.state === 'renamed' ? `renamed ${link.name}` : link.state;
    if (port.state === state) return;
    port.state = state;
    port.heard(link);
  }
}
