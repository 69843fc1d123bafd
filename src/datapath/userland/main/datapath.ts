/**
 * The control side's half of the datapath. It makes the overlays (overlay.ts), their ports (ports.ts) and
 * their sockets (underlay.ts), and passes the reports of the datapath threads (threads.ts) to the overlays
 * that they concern.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { PathReport } from '../../../core/overlay-options.js';
import { createStationMemory } from '../../../core/tables/stations.js';
import { closeTaps, type Features, probeFeatures, routeMtuBytes } from '../../../dgram-extra/index.js';
import { errorText, OverlayError } from '../../../model/errors.js';
import { type IpAddress, toBytes } from '../../../wire/ip.js';
import type {
  Datapath,
  Handover,
  Inherited,
  OverlayConfig,
  OverlayDatapath,
  OverlayListener,
  Retained,
} from '../../contract.js';
import { WAKE } from '../protocol.js';
import { type Inventory, retain, storedLists, tapDescriptors } from './handover.js';
import { UserlandOverlay } from './overlay.js';
import { tellOfPaths } from './paths.js';
import { Ports } from './ports.js';
import { canSteer } from './steering.js';
import { discardTap, hasLeftTap } from './taps.js';
import { DatapathThread, type ThreadNews } from './thread.js';
import { Threads } from './threads.js';
import { SharedTunnelPort, withTunnelPort } from './tunnel-port.js';
import { type OverlaySockets, UnderlaySockets } from './underlay.js';

/** Time for the threads to end, out of the 2 s that varpd has: a thread may have a thousand copies of a frame
 * to write. */
const THREADS_END_MS = 300;

export class DatapathControl implements Datapath {
  #features = probeFeatures();
  readonly #inherited: Inherited;
  readonly #threads: Threads;
  /** Resolves when the first thread runs. */
  readonly #ready: Promise<unknown>;
  /** `varpd/id` -> overlay; the threads use the same number. */
  readonly #overlays = new Map<number, UserlandOverlay>();
  readonly #ports: Ports;
  readonly #underlay: UnderlaySockets;
  readonly #tunnelPort = new SharedTunnelPort();
  #lastToken = WAKE;
  #isHeld: boolean;
  #closing = false;

  /** The threads start meanwhile (`begin`). `failed`: a datapath thread has ended, and nothing moves any more. Throws the
   * system's error. */
  constructor(inherited: Inherited, failed: (error: Error) => void) {
    this.#inherited = inherited;
    this.#isHeld = inherited.hasStandIn;
    const events = { heard: this.#hear, failed };
    this.#threads = new Threads((index) => new DatapathThread(index, this.#isHeld, events));
    this.#ready = this.#needThreads(this, 1);
    this.#ready.catch(() => undefined);
    const nextToken = (): number => ++this.#lastToken;
    this.#ports = new Ports(this.#threads.list, inherited, () => this.features, nextToken);
    this.#underlay = new UnderlaySockets({
      left: (name) => inherited.take(name),
      giveBack: inherited.giveBack,
      nextToken,
      forget: inherited.forget,
      opened: (queue, socket) => {
        const { token, fd, encapsulation, counters, examples } = socket;
        inherited.keep([socket]);
        this.#threads.list[queue].post({
          kind: 'add-socket',
          token,
          fd,
          encapsulation,
          counters,
          examples,
        });
      },
      closing: async (queue, token) => {
        await this.#threads.list[queue].request({ kind: 'remove-socket', token });
      },
      senderOpened: (queue, sender) => {
        this.#threads.list[queue].post({ kind: 'add-sender', ...sender });
      },
      senderClosing: (queue, token) => this.#threads.list[queue].request({ kind: 'remove-sender', token }),
    });
  }

  /** Features of TAPs are unknown until a TAP can be made: /dev/net/tun may appear after varpd has started. */
  get features(): Readonly<Record<keyof Features | 'tapSteering', boolean>> {
    if (!this.#features.tapChecksum) this.#features = probeFeatures();
    return { ...this.#features, tapSteering: canSteer() };
  }

  async addOverlay(config: OverlayConfig, listener: OverlayListener): Promise<OverlayDatapath> {
    const { id, queues } = config;
    const links = await this.#needThreads(config, queues);
    let sockets: OverlaySockets;
    try {
      if (this.#closing) throw new Error('the datapath is ending');
      sockets = this.#openSockets(config);
    } catch (error) {
      await this.#threads.release(config);
      throw error;
    }
    const context = {
      links,
      sockets,
      openSockets: (next: OverlayConfig) => this.#openSockets(next),
      ports: this.#ports,
      features: () => this.features,
      leaving: () => void this.#overlays.delete(id),
      left: () => this.#threads.release(config),
    };
    const overlay = new UserlandOverlay(config, context, listener);
    this.#overlays.set(id, overlay);
    const { options, counterArrays, exampleArrays } = overlay;
    const { tokens, senders } = sockets;
    // An overlay in mode dynamic changes to mode point if its plugin, started later, has a fixed destination.
    const stations = createStationMemory();
    links.forEach((link, queue) => {
      const own = {
        socket: tokens[queue],
        counters: counterArrays[queue],
        examples: exampleArrays[queue],
      };
      link.post({ kind: 'add-overlay', options, ...senders, stations, ...own });
    });
    overlay.restore(config.known);
    return overlay;
  }

  #openSockets(config: OverlayConfig): OverlaySockets {
    return withTunnelPort(this.#underlay.open(config), config, this.#tunnelPort);
  }

  /** Rejects with an OverlayError. */
  async #needThreads(owner: object, count: number): Promise<readonly DatapathThread[]> {
    try {
      return await this.#threads.need(owner, count);
    } catch (error) {
      const cure = `raise varpd's limits of open files, memory and threads${count > 1 ? ', or use fewer queues' : ''}`;
      const line = `one of ${count} datapath threads does not start: ${errorText(error)}: ${cure}`;
      throw new OverlayError('NO_MEMORY', line, [line], error);
    }
  }

  hasLeft(port: string): boolean {
    return hasLeftTap(port, this.#inherited);
  }

  discard(port: string): void {
    discardTap(port, this.#inherited);
  }

  routeMtuBytes(listenIp: IpAddress, to: IpAddress): number {
    return routeMtuBytes(toBytes(listenIp), toBytes(to), `the route from ${listenIp} to ${to}`);
  }

  socketCounters(): ReadonlyMap<string, Record<string, number>> {
    return this.#underlay.counters();
  }

  async ping(): Promise<void> {
    await this.#threads.requestAll({ kind: 'ping' });
  }

  async begin(): Promise<void> {
    await this.#ready;
    if (!this.#isHeld) return;
    this.#isHeld = false;
    await this.#threads.requestAll({ kind: 'begin' });
  }

  retain(): Retained {
    return retain(() => this.#inventory(), this.#threads.list.length);
  }

  async release(): Promise<Handover> {
    if (this.#closing) return { descriptors: [], lists: [] };
    this.#closing = true;
    const inventory = this.#inventory();
    const lists = await storedLists(inventory);
    await this.#threads.stop();
    this.#ports.closeTemporary();
    return { descriptors: [...this.#underlay.release(), ...tapDescriptors(this.#ports.lasting)], lists };
  }

  #inventory(): Inventory {
    return {
      sockets: this.#underlay.sockets,
      overlays: [...this.#overlays.values()],
      ports: this.#ports.lasting,
    };
  }

  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const stopping = this.#threads.stop();
    const late = delay(THREADS_END_MS, 'late' as const, { ref: false });
    const isLate = (await Promise.race([stopping, late])) === 'late';
    this.#ports.dropElsewhere();
    // A descriptor that a thread still uses is closed by the end of the process: its number would soon be
    // another descriptor's.
    if (isLate) throw new Error('a datapath thread does not respond and is left behind');
    closeTaps([...this.#ports.open, ...this.#underlay.release()].map(({ fd }) => fd));
  }

  /** Handles a report of thread `thread`, which may be about overlays that are gone. */
  readonly #hear = (report: ThreadNews, thread: number): void => {
    const overlays = this.#overlays;
    switch (report.kind) {
      case 'lookups':
        for (const [id, questions] of byOverlay(report.questions)) overlays.get(id)?.heard(thread, questions);
        return;
      case 'leases':
        for (const [id, news] of byOverlay(report.news)) overlays.get(id)?.listener?.leased(news);
        return;
      case 'notices':
        for (const [id, notices] of byOverlay(report.notices)) overlays.get(id)?.listener?.noticed(notices);
        return;
      case 'probes':
        for (const [id, news] of byOverlay(report.news)) overlays.get(id)?.probed(news);
        return;
      case 'peers':
        for (const [id, changes] of byOverlay(report.changes))
          overlays.get(id)?.peersChanged(thread, changes);
        return;
      case 'peers-moved':
        overlays.get(report.overlay)?.peersMoved(thread, report.memory);
        return;
      case 'paths':
        tellOfPaths(thread, report.news, this.#threads.list, (news) => {
          this.#pathLearned(news);
        });
        return;
      case 'fault':
        this.#ports.fault(report);
    }
  };

  /** One event about a path is enough, even if several overlays send there. */
  #pathLearned({ overlay, to: { ip }, mtuBytes }: PathReport): void {
    const sender =
      overlay === undefined
        ? [...this.#overlays.values()].find((one) => one.sendsTo(ip))
        : this.#overlays.get(overlay);
    sender?.listener?.pathLearned(ip, mtuBytes);
  }
}

/** Groups the news of one turn by overlay; nearly always there is one. */
function byOverlay<T extends { readonly overlay: number }>(news: readonly T[]): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const one of news) {
    const group = groups.get(one.overlay);
    if (group === undefined) groups.set(one.overlay, [one]);
    else group.push(one);
  }
  return groups;
}
