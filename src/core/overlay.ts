/**
 * Theory of operation
 *
 * An overlay is one virtual layer-2 network on this host: a VNI, ports (TAPs), and a way to find the VTEP of
 * each MAC. The datapath (this folder, run by a datapath thread) moves frames and waits for nothing but
 * frames. The control side (main thread) has plugins, the command line and persistence. A known flow goes at
 * full speed, the plugin is asked about an unknown MAC, and trouble of the control side stops no known flow.
 * docs/architecture.md describes the other folders.
 *
 * The structures of an overlay, in each of its threads:
 *
 *   Mux -- VNI --> Overlay -- portIndex: MAC ----> Port -- output -----> TAP
 *                     |                             `- protection, presence, counters
 *                     |------ targets: MAC ------> row -- slot ------> Destinations {ip, UDP port}, PathMtus
 *                     |                             |- FLOOD -> held.floods     (one table per thread)
 *                     |                             |- HERE --> own port
 *                     |                             `- DROP
 *                     |------ questions, frames --> open questions about MACs, about broadcasts
 *                     |------ pending ------------> frames that wait for an answer, within the thread's budget
 *                     |------ peers --------------> addresses that frames are accepted from, their records
 *                     `------ txSockets: flow ----> OutputList --> socket of a source port
 *
 * The life of a lookup:
 *
 *   datapath thread                       control thread                         plugin
 *
 *   transmit.ts: no target for the MAC
 *   hold(): its row is PENDING,
 *     the frame is in `pending`
 *   questions.ts: one a MAC ------------> datapath, overlay, PluginInstance ---> resolve()
 *   (other frames meanwhile)                deadline, check of the answer <----- answer
 *   lookups.ts: the row is VALID <------- answer, eventfd
 *   tunnel.ts: its frames leave
 *
 * A frame leaves (transmit.ts): TAP -> batch -> tag of an access port -> link protection -> size check -> a
 * local port whose station is behind it (presence.ts; stations.ts in mode point), or the tunnel (tunnel.ts).
 * The tunnel's destination is the one of mode point, or that of the frame's row. A group frame goes to every
 * other local port of its VLAN, and into the tunnel as well. All frames to a unicast MAC wait for one lookup.
 * A frame to a group MAC has a lookup of its own, which a proxy may answer (frame-lookups.ts, proxy-*.ts).
 * The sender of a packet that does not fit gets the size that fits (too-big.ts).
 *
 * A frame arrives (receive.ts): socket -> batch -> check of the tunnel header (encap/) -> VNI -> is the
 * sender a peer? -> is the frame whole, no echo of this host (presence.ts), and from the VTEP of its MAC
 * (strict-source.ts, if enabled)? -> congestion marks -> port by destination MAC, else the own port -> TAP.
 * varpd answers loopback messages in the name of their port (loopback.ts), in a turn of their own.
 * It never enters a tunnel (split horizon): no code path leads from receive.ts to a socket.
 *
 * Targets: target-table.ts has the state diagram. One lookup is in flight per MAC. Each lookup has a number,
 * and an answer counts only if that number is still awaited. If a MAC is invalidated meanwhile, the plugin is
 * asked again, under another number. refresher.ts asks about targets in use before they get stale.
 *
 * Proxies: ARP, NDP and DHCP use broadcast. A proxy makes one frame to one station of it: a reply to the port
 * that asked, built from the plugin's facts, or the request itself with another destination MAC. A proxy
 * learns nothing from guests, caches nothing and multiplies nothing.
 *
 * VLANs: on the overlay a frame has a tag or has none. A port with a vid sees only that VLAN, untagged. A
 * port without a vid sees every frame as it is. The table is keyed by MAC alone: a MAC lives at the same
 * place in all VLANs.
 *
 * Queues: several threads may carry an overlay, each with these structures of its own. A flow stays in one
 * thread in each direction, which keeps its frames in order. A target that one thread gets is sent to the
 * others too.
 *
 * Limits, for each thread: 16 MiB of waiting frames in all, 128 KiB per MAC (pending-queue.ts), 256 group
 * frames per overlay (frame-lookups.ts), 1,024 open questions (questions.ts). Every port has its share of
 * each (shares.ts). Targets as configured, and 65,536 MACs without a target (target-table.ts). 4 VLAN tags
 * and 8 IPv6 extension headers are parsed; MTU 576 to 8900.
 *
 * Not done: learning MACs from traffic in mode dynamic (the plugin is the authority), multicast groups on the
 * underlay, STP.
 */
import type { Encapsulation } from '../encap/contract.js';
import { encapsulation, headerOf } from '../encap/index.js';
import { DESCRIPTOR_WORDS, type FrameBatch } from '../wire/descriptor.js';
import type { Endpoint } from '../wire/ip.js';
import { fromHalves, highOf, lowOf, type MacAddress } from '../wire/mac.js';
import { Allowance } from './queues/allowance.js';
import { COUNTER, type Counters } from './counts/counters.js';
import type { Drops } from './counts/drops.js';
import { wireFrames } from './counts/frame-count.js';
import { FrameLookups } from './queues/frame-lookups.js';
import { HeldDestinations } from './tables/held-destinations.js';
import type { Miss, Question } from './lookup.js';
import { LOOPBACK_RATE } from './probe/loopback-replies.js';
import { LoopMarks } from './loops.js';
import { MacIndex, NONE } from './tables/mac-index.js';
import { Notices } from './notices.js';
import type { OutputList } from './outputs.js';
import type { OverlayOptions, Shared } from './overlay-options.js';
import { Peers } from './peers/peers.js';
import { PendingQueue } from './queues/pending-queue.js';
import type { Port } from './port.js';
import { forgetPresence, forgetPresences } from './presence.js';
import type { Probe } from './probe/probe.js';
import { type Asker, CONFIRMATION, INQUIRY, Questions } from './queues/questions.js';
import { Refresher } from './queues/refresher.js';
import { createStationMemory, type StationMemory, Stations } from './tables/stations.js';
import { Sweeper } from './tables/sweeper.js';
import { NOWHERE, PENDING, TargetTable } from './tables/target-table.js';

export type { OverlayOptions, Shared } from './overlay-options.js';
export type { LookupResult, Miss, Question } from './lookup.js';
export type { Port } from './port.js';

/** MACs that are asked about, or known to be nowhere for a while. This is more than one second brings, the
 * time for which "nowhere" is believed by default; 4 MiB. */
const MAX_ASKED = 65_536;

export { FLOOD, HERE } from './tables/target-table.js';

export class Overlay {
  options: OverlayOptions;
  readonly shared: Shared;
  readonly counters: Counters;
  readonly drops: Drops;
  /** One output list per source port; the flow chooses. */
  txSockets: readonly OutputList[];
  readonly encapsulation: Encapsulation;
  /** The header that goes before each frame, as words in host byte order. */
  header: Int32Array;
  readonly peers: Peers;
  readonly pending: PendingQueue;
  readonly targets: TargetTable;
  readonly frames = new FrameLookups(this);
  readonly notices: Notices;
  /** Mode point: the slot of the one destination. NOWHERE in mode dynamic. */
  point: number;
  /** Mode point: stations that were heard behind the own port. */
  stations: Stations | undefined;
  ports: readonly Port[] = [];
  ownPort: Port | undefined;
  /** MAC -> index into `ports`. */
  readonly portIndex = new MacIndex();
  readonly loops: LoopMarks;
  readonly held: HeldDestinations;
  readonly questions: Questions;
  readonly refresher: Refresher;
  /** Rate of answers to loopback messages. */
  readonly loopbackAnswers: Allowance;
  /** Set while a probe of this overlay runs. */
  probe: Probe | undefined;
  #lastLookup = 0;
  readonly #sweeper: Sweeper;

  readonly #stationMemory: () => StationMemory;

  /** `stations`: memory shared by all threads that carry the overlay, if there are several. */
  constructor(
    options: OverlayOptions,
    shared: Shared,
    txSockets: readonly OutputList[],
    drops: Drops,
    stations?: StationMemory,
  ) {
    this.options = options;
    this.shared = shared;
    this.questions = new Questions(shared);
    this.loopbackAnswers = new Allowance(shared, LOOPBACK_RATE);
    this.txSockets = txSockets;
    this.drops = drops;
    this.counters = drops.counters;
    this.peers = new Peers({
      changed: (ip, isPeer) => {
        shared.peerChanged(options.id, ip, isPeer);
      },
      moved: (memory) => {
        shared.peersMoved(options.id, memory);
      },
      isOpen: options.acceptAny,
    });
    this.notices = new Notices(options.id, shared);
    this.pending = new PendingQueue(shared.budget, drops, (row) => {
      if (row < 0) this.frames.lost(row);
    });
    this.targets = new TargetTable(
      options.maxTargets,
      MAX_ASKED,
      this.#forget,
      (row) => {
        this.refresher.used(row);
      },
      shared.random,
    );
    this.refresher = new Refresher(this);
    this.loops = new LoopMarks(shared.destinations);
    this.held = new HeldDestinations(this);
    this.#sweeper = new Sweeper(this.targets, this.held);
    this.encapsulation = encapsulation(options.encapsulation);
    this.header = headerOf(this.encapsulation, options.vnetid);
    this.point = options.destination === undefined ? NOWHERE : this.held.acquire(options.destination);
    this.#stationMemory = () => stations ?? createStationMemory();
    if (this.point !== NOWHERE) this.stations = new Stations(this.#stationMemory());
  }

  /** Keeps times of long ago from seeming recent: TargetTable.age. */
  age(sinceMs: number): void {
    this.targets.age(this.shared.nowTick, sinceMs);
    this.stations?.age(this.shared.nowTick);
    this.peers.records.age(this.shared.nowTick);
  }

  /** Mode point: sets the destination of every frame that is not local. */
  setPoint(destination: Endpoint): void {
    const before = this.point;
    // Released after the new one is held, so that a peer that stays is a peer all the time.
    this.point = this.held.acquire(destination);
    this.stations ??= new Stations(this.#stationMemory());
    if (before !== NOWHERE) this.held.release(before);
  }

  /** Drops all that waits for an answer; `sweep` releases the destinations. */
  close(): void {
    this.frames.close();
    for (const row of this.questions.rows) this.#drop(row);
    this.pending.close();
    this.refresher.close();
    this.#sweeper.expireAll();
    if (this.point !== NOWHERE) this.held.release(this.point);
  }

  /** Removes some of the entries that expired by `invalidate` or `close`. Returns whether there may be more. */
  sweep(): boolean {
    return this.#sweeper.sweep(this.#forget);
  }

  // ---- Ports

  addPort(port: Port): void {
    this.setPorts([...this.ports, port]);
  }

  removePort(port: Port): void {
    this.setPorts(this.ports.filter((other) => other !== port));
  }

  /** Sends frames to this MAC to the port from now on, and no longer those to its former MAC. */
  setPortMac(port: Port, mac: MacAddress): void {
    port.macHigh = highOf(mac);
    port.macLow = lowOf(mac);
    this.setPorts(this.ports);
  }

  /** Replaces all ports. */
  setPorts(ports: readonly Port[]): void {
    this.ports = ports;
    this.ownPort = ports.find((port) => port.own);
    this.portIndex.clear();
    ports.forEach((port, index) => {
      this.portIndex.set(port.macHigh, port.macLow, index);
    });
  }

  // ---- Lookups

  /** Returns whether one more question may be asked that no frame waits for. If so, it counts as asked. */
  admitsInquiry(): boolean {
    return this.questions.admits(INQUIRY);
  }

  /** Makes a unicast frame of `port` wait, since its destination is unknown. The plugin is asked once. `row`
   * may be NONE; `marks` are those of the pending queue. */
  hold(port: Port, row: number, batch: FrameBatch, index: number, miss: Miss, marks: number): void {
    const { targets, shared, drops } = this;
    const frames = wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
    let waiting = row;
    if (waiting === NONE || targets.state(waiting, shared.nowTick) !== PENDING) {
      // It may have been asked about before its time was over.
      const isAsked = waiting !== NONE && this.questions.of(waiting) !== undefined;
      if (!isAsked && !this.questions.admits(port)) {
        drops.add(COUNTER.lookup_busy, frames, batch, index);
        return;
      }
      waiting = this.inquire(waiting, miss, port);
      if (isAsked) this.questions.join(waiting, port);
    } else this.questions.join(waiting, port);
    targets.touch(waiting, shared.nowTick);
    if (!this.pending.hold(waiting, port, batch, index, marks))
      drops.add(COUNTER.pending_full, frames, batch, index);
  }

  /** Asks where a MAC lives, unless that is asked already, for an asker that has been admitted; no frame need
   * wait. `row` may be NONE. Returns the row that awaits the answer. */
  inquire(row: number, miss: Miss, asker: Asker = INQUIRY): number {
    const { targets, shared } = this;
    const isAsked = row !== NONE && this.questions.of(row) !== undefined;
    if (!isAsked) this.#makeRoom();
    const mac = miss.destinationMac;
    const waiting = row === NONE ? targets.insert(highOf(mac), lowOf(mac), shared.nowTick) : row;
    if (row !== NONE) this.#reopen(row, targets.isKept(row, shared.nowTick));
    if (isAsked) this.questions.describe(waiting, miss);
    else this.#ask(waiting, miss, asker);
    return waiting;
  }

  #reopen(row: number, isKept: boolean): void {
    if (!isKept) this.held.releaseAll(row);
    this.refresher.forget(row);
    this.targets.reopen(row, this.shared.nowTick, isKept);
  }

  #isPending(row: number): boolean {
    return this.targets.state(row, this.shared.nowTick) === PENDING;
  }

  /** Forgets one MAC, or all. A pending MAC stays pending and is asked about again, since the answer under
   * way is out of date. If all are forgotten, `sweep` is to be called until it returns false. */
  invalidate(mac: MacAddress | undefined): void {
    this.frames.invalidate(mac);
    if (mac === undefined) {
      forgetPresences(this);
      for (const row of this.questions.rows) this.#askAgain(row);
      this.#sweeper.expireAll();
    } else {
      const [high, low] = [highOf(mac), lowOf(mac)];
      forgetPresence(this, high, low);
      const row = this.targets.find(high, low);
      if (row !== NONE) this.#invalidateRow(row);
    }
  }

  #invalidateRow(row: number): void {
    if (this.#isPending(row)) this.#askAgain(row);
    else this.#drop(row);
  }

  /** Asks again, since the answer under way is out of date. No frame waits for the answer about a target in
   * use, so that question is only given up. */
  #askAgain(row: number): void {
    const [question, asker] = [this.questions.of(row), this.questions.askerOf(row)];
    this.questions.remove(row);
    if (question === undefined || asker === undefined || !this.#isPending(row)) return;
    this.#reopen(row, false);
    this.#ask(row, question, asker);
  }

  /** Removes a target, and loses the frames that wait for it. Returns whether it was there. */
  deleteTarget(mac: MacAddress): boolean {
    const row = this.targets.find(highOf(mac), lowOf(mac));
    if (row === NONE) return false;
    this.#drop(row);
    return true;
  }

  #ask(row: number, miss: Miss, asker: Asker): void {
    const question = { ...miss, overlay: this.options.id, lookup: this.nextLookup() };
    this.questions.add(row, question, asker);
    this.ask(question);
  }

  /** Makes room for one more question. The asker with the most open questions gives up its oldest one, with
   * the frames that wait for it. */
  #makeRoom(): void {
    const row = this.questions.inTheWay;
    if (row === undefined) return;
    if (!this.#isPending(row)) {
      this.questions.remove(row);
      this.refresher.postpone(row);
      return;
    }
    this.questions.remove(row);
    this.pending.drop(row, COUNTER.lookup_busy);
    this.held.releaseAll(row);
    this.targets.remove(row);
  }

  /** Asks about a target in use. Returns false if too many questions are open. The question has no frame to describe. */
  confirm(row: number): boolean {
    if (!this.questions.admits(CONFIRMATION)) return false;
    const destinationMac = fromHalves(this.targets.macHigh(row), this.targets.macLow(row));
    const { macHigh = 0, macLow = 0 } = this.ownPort ?? {};
    const sourceMac = fromHalves(macHigh, macLow);
    this.#makeRoom();
    this.#ask(row, { destinationMac, sourceMac, etherType: 0, vlan: 0 }, CONFIRMATION);
    return true;
  }

  nextLookup(): number {
    return ++this.#lastLookup;
  }

  ask(question: Question): void {
    this.counters[COUNTER.lookups]++;
    this.shared.ask(question);
  }

  #drop(row: number): void {
    this.#forget(row);
    this.targets.remove(row);
  }

  /** Releases all that belongs to an entry, but not the entry itself. */
  readonly #forget = (row: number): void => {
    this.questions.remove(row);
    this.refresher.forget(row);
    this.pending.drop(row, COUNTER.pending_lost);
    this.held.releaseAll(row);
  };
}
