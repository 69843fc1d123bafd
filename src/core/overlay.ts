/**
 * Theory of operation
 *
 * An overlay is one virtual layer-2 network on this host: a VNI, ports (TAPs), and a way to know behind which VTEP
 * each MAC lives. The datapath (this folder, run by a datapath thread) moves frames and waits for nothing but frames. The
 * control side (main thread) has plugins, the command line and persistence. A known flow goes at full speed, an unknown
 * MAC is asked about, and trouble of the control side stops no known flow. docs/architecture.md has the rooms around it.
 *
 * The structures of an overlay, in each of its threads:
 *
 *   Mux -- VNI --> Overlay -- portIndex: MAC ----> Port -- output -----> TAP
 *                     |                             `- protection, presence, counters
 *                     |------ targets: MAC ------> row -- slot ------> Destinations {ip, UDP port}, PathMtus
 *                     |                             |- FLOOD -> held.floods     (of the thread, for all overlays)
 *                     |                             |- HERE --> own port
 *                     |                             `- DROP
 *                     |------ questions, frames --> open questions about MACs, about broadcasts
 *                     |------ pending ------------> frames that wait for an answer, within the thread's budget
 *                     |------ peers --------------> addresses that frames are accepted from
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
 *   tunnel.ts: what waited leaves
 *
 * A frame leaves (transmit.ts): TAP -> batch -> the tag of an access port -> link protection -> does it fit? -> a local port
 * that has its station behind it (presence.ts; stations.ts in mode point), or the tunnel (tunnel.ts): by the one destination of
 * mode point, or by its row. A group frame goes to every other local port of its VLAN, and into the tunnel as well. For a
 * unicast MAC all frames wait for one lookup; for a group MAC each frame has its own, which a proxy may answer
 * (frame-lookups.ts, proxy-*.ts). The sender of a packet that does not fit is told the size that does (too-big.ts).
 *
 * A frame arrives (receive.ts): socket -> batch -> the header of its encapsulation (encap/) -> VNI -> a peer? -> whole, no
 * echo of this host (presence.ts), from the VTEP of its MAC (strict-source.ts, on demand) -> congestion marks combined ->
 * port by its destination MAC, or the own port -> TAP. It never enters a tunnel (split horizon): there is no code path from
 * receive.ts to a socket.
 *
 * Targets: target-table.ts has the state diagram. One lookup is in flight per MAC; each has a number, and an answer
 * counts only if its number is still the one awaited, so a MAC that was invalidated meanwhile is asked about again.
 *
 * Proxies: ARP, NDP and DHCP need broadcast, and each becomes one frame to one station: a reply to the port that asked,
 * built from the plugin's facts, or the request itself with another destination MAC. Nothing is learned from guests,
 * nothing is cached, nothing multiplies.
 *
 * VLANs: on the overlay a frame has a tag or has none. A port with a vid sees that VLAN alone, untagged; a port
 * without one sees everything as it is. The table is keyed by MAC alone: one MAC lives at one place in all VLANs.
 *
 * Queues: several threads may carry an overlay, each with all of this for itself. A flow keeps to one of them in
 * each direction, so its order is kept; a target that one is told, the others are told.
 *
 * Limits, for each thread: 16 MiB of waiting frames in all, 128 KiB per MAC (pending-queue.ts), 256 group frames per
 * overlay (frame-lookups.ts), 1,024 open questions (questions.ts); in each of these every port has its share (shares.ts).
 * Targets as configured, 65,536 MACs without one (target-table.ts).
 * 4 VLAN tags and 8 IPv6 extension headers are looked behind; MTU 576 to 8900.
 *
 * Not done: learning MACs from traffic where a plugin is asked (it is the authority), multicast groups on the underlay, STP.
 */
import type { Encapsulation } from '../encap/contract.js';
import { encapsulation } from '../encap/index.js';
import { DESCRIPTOR_WORDS, type FrameBatch } from '../wire/descriptor.js';
import type { Endpoint } from '../wire/ip.js';
import { fromHalves, highOf, lowOf, type MacAddress } from '../wire/mac.js';
import type { AddressTable } from './address-table.js';
import { COUNTER, type Counters } from './counters.js';
import type { Drops } from './drops.js';
import { wireFrames } from './frame-count.js';
import { FrameLookups } from './frame-lookups.js';
import { HeldDestinations } from './held-destinations.js';
import type { Miss, Question } from './lookup.js';
import { LoopMarks } from './loops.js';
import { MacIndex, NONE } from './mac-index.js';
import { Notices } from './notices.js';
import type { OutputList } from './outputs.js';
import type { OverlayOptions, Shared } from './overlay-options.js';
import { Peers } from './peers.js';
import { PendingQueue } from './pending-queue.js';
import type { Port } from './port.js';
import { forgetPresence } from './presence.js';
import { type Asker, CONFIRMATION, INQUIRY, Questions } from './questions.js';
import { createStationMemory, type StationMemory, Stations } from './stations.js';
import { Sweeper } from './sweeper.js';
import { NOWHERE, PENDING, TargetTable } from './target-table.js';

export type { OverlayOptions, Shared } from './overlay-options.js';
export type { LookupResult, Miss, Question } from './lookup.js';
export type { Port } from './port.js';

/** MACs that are asked about, or nowhere for now: those of a second, for which that is believed, and more; 4 MiB. */
const MAX_ASKED = 65_536;

export { FLOOD, HERE } from './target-table.js';

export class Overlay {
  readonly options: OverlayOptions;
  readonly shared: Shared;
  readonly counters: Counters;
  readonly drops: Drops;
  /** One list a source port; the flow chooses. */
  readonly txSockets: readonly OutputList[];
  readonly encapsulation: Encapsulation;
  /** The header that goes before each frame, as words in host byte order. */
  readonly header: Int32Array;
  readonly peers: Peers;
  readonly pending: PendingQueue;
  readonly targets: TargetTable;
  readonly frames = new FrameLookups(this);
  readonly notices: Notices;
  /** Mode point: the one slot. NOWHERE in mode dynamic. */
  point: number;
  /** Mode point: who was heard behind the own port. */
  stations: Stations | undefined;
  ports: readonly Port[] = [];
  ownPort: Port | undefined;
  /** MAC -> index into `ports`. */
  readonly portIndex = new MacIndex();
  readonly loops: LoopMarks;
  readonly held: HeldDestinations;
  readonly questions: Questions;
  #lastLookup = 0;
  readonly #sweeper: Sweeper;

  readonly #stationMemory: () => StationMemory;

  /** `stations`: of all threads that carry the overlay, where there are several. */
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
    this.txSockets = txSockets;
    this.drops = drops;
    this.counters = drops.counters;
    this.peers = new Peers((ip, isPeer) => {
      shared.peerChanged(options.id, ip, isPeer);
    });
    this.notices = new Notices(options.id, shared);
    this.pending = new PendingQueue(shared.budget, drops, (row) => {
      if (row < 0) this.frames.lost(row);
    });
    this.targets = new TargetTable(
      options.maxTargets,
      MAX_ASKED,
      (row) => {
        this.#forget(row);
      },
      (row) => {
        this.#confirm(row);
      },
    );
    this.loops = new LoopMarks(shared.destinations);
    const { targets, peers, loops } = this;
    const { listen } = options;
    this.held = new HeldDestinations({ listen, destinations: shared.destinations, targets, peers, loops });
    this.#sweeper = new Sweeper(targets, this.held);
    this.encapsulation = encapsulation(options.encapsulation);
    const header = new Uint8Array(this.encapsulation.headerBytes);
    this.encapsulation.writeHeader(header, 0, options.vnetid);
    this.header = new Int32Array(header.buffer);
    this.point = options.destination === undefined ? NOWHERE : this.held.acquire(options.destination);
    this.#stationMemory = () => stations ?? createStationMemory();
    if (this.point !== NOWHERE) this.stations = new Stations(this.#stationMemory());
  }

  /** Times that are long over do not come again: TargetTable.age. */
  age(sinceMs: number): void {
    this.targets.age(this.shared.nowTick, sinceMs);
    this.stations?.age(this.shared.nowTick);
  }

  /** Mode point: where every frame that is not local goes from now on. */
  setPoint(destination: Endpoint): void {
    const before = this.point;
    // After the new one is held: who stays a peer never stops being one.
    this.point = this.held.acquire(destination);
    this.stations ??= new Stations(this.#stationMemory());
    if (before !== NOWHERE) this.held.release(before);
  }

  /** Nothing waits for an answer any more; `sweep` lets go of the destinations. */
  close(): void {
    this.frames.close();
    for (const row of this.questions.rows) this.#forget(row);
    this.pending.close();
    this.#sweeper.expireAll();
    if (this.point !== NOWHERE) this.held.release(this.point);
  }

  /** Takes out some of the entries that are over since all were invalidated, or since `close`. Whether there may be more. */
  sweep(): boolean {
    return this.#sweeper.sweep((row) => {
      this.#forget(row);
    });
  }

  // ---- Ports

  addPort(port: Port): void {
    this.#setPorts([...this.ports, port]);
  }

  removePort(port: Port): void {
    this.#setPorts(this.ports.filter((other) => other !== port));
  }

  /** Frames to this MAC go to the port from now on, and those to the MAC it had no longer do. */
  setPortMac(port: Port, mac: MacAddress): void {
    port.macHigh = highOf(mac);
    port.macLow = lowOf(mac);
    this.#setPorts(this.ports);
  }

  #setPorts(ports: readonly Port[]): void {
    this.ports = ports;
    this.ownPort = ports.find((port) => port.own);
    this.portIndex.clear();
    ports.forEach((port, index) => {
      this.portIndex.set(port.macHigh, port.macLow, index);
    });
  }

  // ---- Lookups

  /** Whether one more question may be asked that no frame waits for. It counts as asked then. */
  admitsInquiry(): boolean {
    return this.questions.admits(INQUIRY);
  }

  /** Frame `index` of `port`, unicast, has no known destination: it waits, and the plugin is asked once. `row` may be NONE;
   * `marks` are those of the pending queue. */
  hold(port: Port, row: number, batch: FrameBatch, index: number, miss: Miss, marks: number): void {
    const { targets, shared, drops } = this;
    const frames = wireFrames(batch.descriptors, index * DESCRIPTOR_WORDS);
    let waiting = row;
    if (waiting === NONE || targets.state(waiting, shared.nowTick) !== PENDING) {
      if (!this.questions.admits(port)) {
        drops.add(COUNTER.lookup_busy, frames, batch, index);
        return;
      }
      waiting = this.inquire(waiting, miss, port);
    } else this.questions.join(waiting, port);
    targets.touch(waiting, shared.nowTick);
    if (!this.pending.hold(waiting, port, batch, index, marks))
      drops.add(COUNTER.pending_full, frames, batch, index);
  }

  /** Where a MAC lives is to be known, though nothing may wait for it: asked, by one that may. `row` may be NONE; the one
   * that waits is returned. */
  inquire(row: number, miss: Miss, asker: Asker = INQUIRY): number {
    this.#makeRoom();
    const { targets, shared } = this;
    const mac = miss.destinationMac;
    const waiting = row === NONE ? targets.insert(highOf(mac), lowOf(mac), shared.nowTick) : row;
    if (row !== NONE) {
      this.held.releaseAll(row);
      targets.reopen(row);
    }
    this.#ask(waiting, miss, asker);
    return waiting;
  }

  /** Forgets one MAC or all. What is pending stays so and is asked again, since the answer under way is too old. Of all,
   * nothing is used any more; `sweep` is to be called until there is no more. */
  invalidate(mac: MacAddress | undefined): void {
    this.frames.invalidate(mac);
    forgetPresence(this, mac);
    if (mac === undefined) {
      for (const row of this.questions.rows) this.#askAgain(row);
      this.#sweeper.expireAll();
    } else {
      const row = this.targets.find(highOf(mac), lowOf(mac));
      if (row !== NONE) this.#invalidateRow(row);
    }
  }

  #invalidateRow(row: number): void {
    if (this.questions.of(row) !== undefined && !this.targets.isStale(row)) {
      this.#askAgain(row);
      return;
    }
    this.#forget(row);
    this.targets.remove(row);
  }

  /** The answer under way is too old. Nothing waits for that about a target of before a restart. */
  #askAgain(row: number): void {
    const [question, asker] = [this.questions.of(row), this.questions.askerOf(row)];
    this.questions.remove(row);
    if (question !== undefined && asker !== undefined && !this.targets.isStale(row))
      this.#ask(row, question, asker);
  }

  /** Whether the MAC was there. Frames that wait for it are lost. */
  deleteTarget(mac: MacAddress): boolean {
    const row = this.targets.find(highOf(mac), lowOf(mac));
    if (row === NONE) return false;
    this.#forget(row);
    this.targets.remove(row);
    return true;
  }

  /** Where a MAC was before a restart: used, and asked about once it is. What is known already stays. */
  restoreTarget(mac: MacAddress, to: readonly Endpoint[]): void {
    if (this.stations !== undefined) {
      if (to.every((one) => this.held.isOwn(one)))
        this.stations.learn(highOf(mac), lowOf(mac), this.shared.nowTick);
      return;
    }
    if (to.length === 0 || this.targets.find(highOf(mac), lowOf(mac)) !== NONE) return;
    const row = this.targets.insert(highOf(mac), lowOf(mac), this.shared.nowTick);
    this.targets.settleStale(row, this.held.acquireFor(row, to), this.shared.nowTick);
  }

  setPeers(table: AddressTable): void {
    this.peers.name(table);
  }

  #ask(row: number, miss: Miss, asker: Asker): void {
    const question = { ...miss, overlay: this.options.id, lookup: this.nextLookup() };
    this.questions.add(row, question, asker);
    this.ask(question);
  }

  /** For one question more: the oldest of who has most of them under way is given up, with what waits for it. */
  #makeRoom(): void {
    const row = this.questions.inTheWay;
    if (row === undefined) return;
    this.questions.remove(row);
    // A target of before a restart stays in use, and is asked about again.
    if (this.targets.isStale(row)) return;
    this.pending.drop(row, COUNTER.lookup_busy);
    this.targets.remove(row);
  }

  /** A target of before a restart is in use: asked about, or once it is used again where too much is under way. There is
   * no frame to tell of. */
  #confirm(row: number): void {
    if (this.questions.of(row) !== undefined || !this.questions.admits(CONFIRMATION)) return;
    const destinationMac = fromHalves(this.targets.macHigh(row), this.targets.macLow(row));
    const { macHigh = 0, macLow = 0 } = this.ownPort ?? {};
    const sourceMac = fromHalves(macHigh, macLow);
    this.#makeRoom();
    this.#ask(row, { destinationMac, sourceMac, etherType: 0, vlan: 0 }, CONFIRMATION);
  }

  nextLookup(): number {
    return ++this.#lastLookup;
  }

  ask(question: Question): void {
    this.counters[COUNTER.lookups]++;
    this.shared.ask(question);
  }

  /** All that hangs on an entry, but not the entry. */
  #forget(row: number): void {
    this.questions.remove(row);
    this.pending.drop(row, COUNTER.pending_lost);
    this.held.releaseAll(row);
  }
}
