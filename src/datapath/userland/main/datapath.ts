/**
 * The control side's half of the datapath: makes the overlays (overlay.ts), their ports (ports.ts) and their sockets
 * (underlay.ts), and brings what the datapath threads report to whom it concerns.
 *
 * The first thread is always there. An overlay with several queues is carried by as many threads: the further ones are
 * started for the first overlay that wants them, and end with the last. Queue 0 of everything belongs to thread 0, and
 * so on.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { PathReport } from '../../../core/overlay-options.js';
import { createStationMemory } from '../../../core/stations.js';
import { closeTaps, type Features, probeFeatures, routeMtuBytes } from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
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
import { type OverlaySockets, UnderlaySockets } from './underlay.js';

/** For the threads to come round, of the 2 s that varpd has to end: one may have a thousand copies of a frame to write. */
const THREADS_END_MS = 300;

export class DatapathControl implements Datapath {
  #features = probeFeatures();
  readonly #failed: (error: Error) => void;
  readonly #inherited: Inherited;
  readonly #threads: DatapathThread[] = [];
  /** By `varpd/id`, as the threads know them. */
  readonly #overlays = new Map<number, UserlandOverlay>();
  /** Queues of each, also while it is being removed. */
  readonly #queues = new Map<UserlandOverlay, number>();
  readonly #ports: Ports;
  readonly #underlay: UnderlaySockets;
  #lastToken = WAKE;
  #isHeld: boolean;
  #closing = false;

  private constructor(inherited: Inherited, failed: (error: Error) => void) {
    this.#inherited = inherited;
    this.#failed = failed;
    this.#isHeld = inherited.hasStandIn;
    const nextToken = (): number => ++this.#lastToken;
    this.#ports = new Ports(this.#threads, inherited, () => this.features, nextToken);
    this.#underlay = new UnderlaySockets({
      left: (name) => inherited.take(name),
      giveBack: inherited.giveBack,
      nextToken,
      forget: inherited.forget,
      opened: (queue, socket) => {
        const { token, fd, encapsulation, counters } = socket;
        inherited.keep([socket]);
        this.#threads[queue].post({ kind: 'add-socket', token, fd, encapsulation, counters });
      },
      closing: async (queue, token) => {
        await this.#threads[queue].request({ kind: 'remove-socket', token });
      },
      senderOpened: (queue, sender) => {
        this.#threads[queue].post({ kind: 'add-sender', ...sender });
      },
      senderClosing: (queue, token) => this.#threads[queue].request({ kind: 'remove-sender', token }),
    });
  }

  /** Of TAPs nothing is known until one can be made: /dev/net/tun may come later than varpd. */
  get features(): Readonly<Record<keyof Features | 'tapSteering', boolean>> {
    if (!this.#features.tapChecksum) this.#features = probeFeatures();
    return { ...this.#features, tapSteering: canSteer() };
  }

  /** Resolves when the first thread runs. `failed`: a datapath thread is gone, and nothing moves any more. */
  static async start(inherited: Inherited, failed: (error: Error) => void): Promise<DatapathControl> {
    const control = new DatapathControl(inherited, failed);
    await control.#need(1)[0].started();
    return control;
  }

  addOverlay(config: OverlayConfig, listener: OverlayListener): OverlayDatapath {
    const { id, queues } = config;
    const links = this.#need(queues);
    let sockets: OverlaySockets;
    try {
      sockets = this.#underlay.open(config);
    } catch (error) {
      inBackground('ending datapath threads', this.#dismiss());
      throw error;
    }
    const context = {
      links,
      sockets,
      ports: this.#ports,
      features: () => this.features,
      leaving: () => void this.#overlays.delete(id),
      left: async () => {
        this.#queues.delete(overlay);
        await this.#dismiss();
      },
    };
    const overlay = new UserlandOverlay(config, context, listener);
    this.#overlays.set(id, overlay);
    this.#queues.set(overlay, queues);
    const { options, counterArrays } = overlay;
    const { tokens, senderFds, segmentation } = sockets;
    // One that is asked about becomes one of a fixed destination if its plugin, started later, is such.
    const stations = createStationMemory();
    links.forEach((link, queue) => {
      const own = { socket: tokens[queue], counters: counterArrays[queue] };
      link.post({ kind: 'add-overlay', options, senderFds, segmentation, stations, ...own });
    });
    return overlay;
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
    await Promise.all(this.#threads.map((thread) => thread.request({ kind: 'ping' })));
  }

  async begin(): Promise<void> {
    // A thread that is said to run may still be loading what it needs.
    if (!this.#isHeld) return this.ping();
    this.#isHeld = false;
    await Promise.all(this.#threads.map((thread) => thread.request({ kind: 'begin' })));
  }

  retain(): Retained {
    return retain(() => this.#inventory(), this.#threads.length);
  }

  async release(): Promise<Handover> {
    if (this.#closing) return { descriptors: [], lists: [] };
    this.#closing = true;
    const inventory = this.#inventory();
    const lists = await storedLists(inventory);
    await Promise.all(this.#threads.map((thread) => thread.stop()));
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
    const stopping = Promise.all(this.#threads.map((thread) => thread.stop()));
    const late = delay(THREADS_END_MS, 'late' as const, { ref: false });
    const isLate = (await Promise.race([stopping, late])) === 'late';
    this.#ports.dropElsewhere();
    // What a thread still uses is closed by the end of the process: its number would soon be something else's.
    if (isLate) throw new Error('a datapath thread does not come round, and is left with its descriptors');
    closeTaps([...this.#ports.open, ...this.#underlay.release()].map(({ fd }) => fd));
  }

  /** The first `count` threads; those that are not there yet are started. */
  #need(count: number): DatapathThread[] {
    while (this.#threads.length < count)
      this.#threads.push(
        new DatapathThread(this.#threads.length, this.#isHeld, { heard: this.#hear, failed: this.#failed }),
      );
    return this.#threads.slice(0, count);
  }

  /** Ends the threads that no overlay wants. */
  async #dismiss(): Promise<void> {
    const wanted = Math.max(1, ...this.#queues.values());
    await Promise.all(this.#threads.splice(wanted).map((thread) => thread.stop()));
  }

  /** A report of the thread of this index, perhaps about overlays that are gone meanwhile. */
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
      case 'peers':
        for (const [id, changes] of byOverlay(report.changes))
          overlays.get(id)?.peersChanged(thread, changes);
        return;
      case 'paths':
        tellOfPaths(thread, report.news, this.#threads, (news) => {
          this.#pathLearned(news);
        });
        return;
      case 'fault':
        this.#ports.fault(report);
    }
  };

  /** One line about a path is enough, whichever overlays send there. */
  #pathLearned({ overlay, to: { ip }, mtuBytes }: PathReport): void {
    const sender =
      overlay === undefined
        ? [...this.#overlays.values()].find((one) => one.sendsTo(ip))
        : this.#overlays.get(overlay);
    sender?.listener?.pathLearned(ip, mtuBytes);
  }
}

/** The news of one turn by overlay; nearly always there is one. */
function byOverlay<T extends { readonly overlay: number }>(news: readonly T[]): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const one of news) {
    const group = groups.get(one.overlay);
    if (group === undefined) groups.set(one.overlay, [one]);
    else group.push(one);
  }
  return groups;
}
