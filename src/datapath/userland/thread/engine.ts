/**
 * The datapath, between devices and the policy of `core`. The engine obeys commands and pumps ready devices; it
 * never waits. The worker (worker.ts) gives it Linux devices, and tests give it a network in memory.
 */
import { Alarms } from '../../../core/queues/alarms.js';
import { Captures } from '../../../core/capture/capture.js';
import { type AddressBook, Destinations } from '../../../core/tables/destinations.js';
import { LoopbackReplies } from '../../../core/probe/loopback-replies.js';
import { sendReplies } from '../../../core/probe/made-frames.js';
import { changeOptions, Mux } from '../../../core/mux.js';
import { Drops, forgetOrigin } from '../../../core/counts/drops.js';
import { OutputList, Outputs } from '../../../core/outputs.js';
import type { RouteMtuBytes } from '../../../core/overlay-options.js';
import { Overlay, type Shared } from '../../../core/overlay.js';
import { PendingBudget } from '../../../core/queues/pending-queue.js';
import { receive } from '../../../core/receive.js';
import { AGE_EVERY_MS, TICK_MS } from '../../../core/tables/target-table.js';
import type { Encapsulation } from '../../../encap/contract.js';
import { encapsulation } from '../../../encap/index.js';
import { DATAGRAMS, type PortDevice, type SendingWays, type UnderlaySocket } from '../../../io/contract.js';
import { dropOfSendError } from '../../../model/drops.js';
import type { RouteFacts } from '../../../model/underlay-state.js';
import type { FrameBatch } from '../../../wire/descriptor.js';
import type { Command, Report, Token } from '../protocol.js';
import { AttachedPort } from './attached-port.js';
import { obeyCapture } from './capture-commands.js';
import { nowMs } from './clock.js';
import { News } from './news.js';
import { obeyOverlay } from './overlay-commands.js';
import { PathListener, type PathPlatform } from './path-listener.js';
import { QUESTION_SEGMENTS, TURN_SEGMENTS } from './port-turn.js';
import { Sweeps } from './sweeps.js';

/** The platform that the datapath runs on. */
export interface Platform extends AddressBook, PathPlatform {
  createBatch(direction: 'transmit' | 'receive' | 'replay'): FrameBatch;
  port(fd: number, headerBytes: number): PortDevice;
  socket(fd: number, encapsulation: Encapsulation, ways: SendingWays): UnderlaySocket;
  /** Begins to watch descriptors, if `watch` was held back. */
  begin(): void;
  readonly routeMtuBytes: RouteMtuBytes;
  /** Random numbers from 0 to below 1. */
  readonly random: () => number;
}

interface AttachedSocket {
  readonly fd: number;
  readonly device: UnderlaySocket;
  readonly mux: Mux;
}

export class DatapathEngine {
  readonly #platform: Platform;
  readonly #report: (report: Report) => void;
  readonly #shared: Shared;
  readonly #transmitBatch: FrameBatch;
  readonly #receiveBatch: FrameBatch;
  readonly #ports = new Map<Token, AttachedPort>();
  readonly #sockets = new Map<Token, AttachedSocket>();
  readonly #overlays = new Map<number, { overlay: Overlay; socket: Token }>();
  /** Ports with frames that were read and are not yet served. */
  readonly #waiting = new Set<Token>();
  /** Ports among these that have had their turn in this round. */
  readonly #served = new Set<Token>();
  readonly #paths: PathListener;
  readonly #news: News;
  readonly #captures = new Captures(nowMs);
  #agedMs = 0;
  readonly #sweeps = new Sweeps(() => this.#shared.nowTick);

  constructor(platform: Platform, report: (report: Report) => void) {
    this.#platform = platform;
    this.#report = report;
    this.#news = new News(report);
    this.#transmitBatch = platform.createBatch('transmit');
    this.#receiveBatch = platform.createBatch('receive');
    this.#shared = {
      outputs: new Outputs(),
      destinations: new Destinations(platform),
      budget: new PendingBudget(),
      replay: platform.createBatch('replay'),
      alarms: new Alarms(),
      random: platform.random,
      ask: (question) => {
        this.#shared.outputs.spentSegments += QUESTION_SEGMENTS;
        this.#news.asked(question);
      },
      routeMtuBytes: (from, to) => platform.routeMtuBytes(from, to),
      pathHeard: (report, isBelieved) => {
        this.#paths.heard(report, isBelieved);
      },
      peerChanged: (overlay, ip, isPeer) => {
        this.#news.peerChanged({ overlay, ip, isPeer });
      },
      peersMoved: (overlay, memory) => {
        this.#report({ kind: 'peers-moved', overlay, memory });
      },
      notice: (notice) => {
        this.#news.noticed(notice);
      },
      replies: new LoopbackReplies(),
      probed: (news) => {
        this.#news.probed(news);
      },
      origin: { port: undefined, isUnderlay: false },
      nowTick: 0,
    };
    this.#paths = new PathListener(platform, this.#shared);
  }

  /** Sets the monotonic time, and does a part of what is due by then. To be called first in a turn. */
  setTime(nowMs: number): void {
    this.#shared.nowTick = Math.floor(nowMs / TICK_MS) | 0;
    this.#paths.turn(nowMs);
    if (nowMs - this.#agedMs >= AGE_EVERY_MS) this.#age(nowMs);
    const { alarms, nowTick } = this.#shared;
    if (!alarms.isDue(nowTick)) return;
    forgetOrigin(this.#shared);
    alarms.run(nowTick);
    this.#endTurn();
  }

  /** Milliseconds until something is due without a frame or a command; -1 if nothing is. */
  get waitMs(): number {
    return this.#shared.alarms.waitMs(this.#shared.nowTick);
  }

  #age(nowMs: number): void {
    for (const { overlay } of this.#overlays.values()) overlay.age(nowMs - this.#agedMs);
    const { paths } = this.#shared.destinations;
    paths.age();
    this.#sweeps.begin(paths);
    this.#agedMs = nowMs;
  }

  /** Reads the error queue of a socket. Returns whether it had any message. */
  hear(token: Token): boolean {
    const heard = this.#paths.hear(token, this.#sockets.get(token));
    const news = this.#paths.take();
    if (news !== undefined) this.#report({ kind: 'paths', news });
    this.#endTurn();
    return heard;
  }

  /** Whether there are frames for `resume`. */
  get hasWaiting(): boolean {
    return this.#waiting.size > 0 || !this.#shared.replies.isEmpty;
  }

  /** Ends a round: sends replies to loopback messages, and gives a turn to each port with frames that were read,
   * unless it has had one in this round. Ports that have just become ready come before, so that they need not
   * wait for ports that never finish. Returns whether there was a turn. */
  resume(): boolean {
    let isAny = sendReplies(this.#shared, (id) => this.#overlays.get(id)?.overlay);
    if (isAny) this.#endTurn();
    if (this.#waiting.size === 0 && this.#served.size === 0) return isAny;
    for (const token of this.#waiting) {
      if (this.#served.has(token)) continue;
      this.pump(token);
      isAny = true;
    }
    this.#served.clear();
    return isAny;
  }

  /** Gives a device a turn of at most one batch. Returns whether there was a frame. */
  pump(token: Token): boolean {
    const port = this.#ports.get(token);
    const moved = port === undefined ? this.#pumpSocket(token) : this.#pumpPort(token, port);
    this.#endTurn();
    return moved;
  }

  #pumpPort(token: Token, { turn }: AttachedPort): boolean {
    const count = turn.take(this.#transmitBatch);
    if (count < 0) {
      this.#removePort(token);
      this.#report({ kind: 'fault', token, errno: -count });
      return false;
    }
    if (turn.isWaiting) {
      this.#waiting.add(token);
      this.#served.add(token);
    } else if (this.#waiting.size > 0) {
      // The set is nearly always empty, and hashing is a good part of a turn's cost.
      this.#waiting.delete(token);
    }
    return count > 0;
  }

  /** Gives a socket a turn. An error of a socket is about a datagram that it sent, and does not end it. */
  #pumpSocket(token: Token): boolean {
    const socket = this.#sockets.get(token);
    if (socket === undefined) return false;
    const batch = this.#receiveBatch;
    const { device, mux } = socket;
    let count = device.receive(batch);
    if (count <= 0) return false;
    // No port is charged for this turn. A sum that only grew would not stay a small integer.
    this.#shared.outputs.spentSegments = 0;
    while (count > 0) {
      receive(mux, batch, count);
      this.#shared.outputs.flush(batch);
      count = count === batch.capacityFrames ? (device.rest?.(batch) ?? 0) : 0;
    }
    return true;
  }

  /** Ends a turn: reports its news, and shows captured frames to the control thread. */
  #endTurn(): void {
    this.#news.send();
    this.#captures.publish();
  }

  /** Sweeps a part of a table. To be called once a turn, until it returns false. */
  tidy(): boolean {
    if (this.#sweeps.isDone) return false;
    this.#sweeps.goOn();
    this.#endTurn();
    return !this.#sweeps.isDone;
  }

  /** Begins a turn of commands, which lasts until `isSpent`. */
  beginCommands(): void {
    forgetOrigin(this.#shared);
    this.#shared.outputs.spentSegments = 0;
  }

  /** Whether answers have sent a port's share of a turn: further commands wait for the next turn. */
  get isSpent(): boolean {
    return this.#shared.outputs.spentSegments >= TURN_SEGMENTS;
  }

  obey(command: Command): void {
    this.#obey(command);
    this.#endTurn();
  }

  #obey(command: Command): void {
    switch (command.kind) {
      case 'add-socket': {
        const { token, fd, counters, examples } = command;
        const encap = encapsulation(command.encapsulation);
        const device = this.#platform.socket(fd, encap, DATAGRAMS);
        this.#sockets.set(token, { fd, device, mux: new Mux(encap, this.#shared, counters, examples) });
        this.#platform.watch(fd, token);
        return;
      }
      case 'remove-socket': {
        const socket = this.#sockets.get(command.token);
        this.#sockets.delete(command.token);
        if (socket !== undefined) this.#platform.unwatch(socket.fd);
        this.#reply(command.reply, true);
        return;
      }
      case 'add-sender':
      case 'remove-sender':
      case 'paths':
        this.#paths.obey(command, this.#sockets, (id) => this.#overlays.get(id)?.overlay.counters);
        if ('reply' in command) this.#reply(command.reply, true);
        return;
      case 'set-route-mtus':
        this.#nameRoutes(command.overlay, command.routes);
        return;
      case 'add-overlay':
        this.#addOverlay(command);
        return;
      case 'change-overlay':
        this.#changeOverlay(command);
        this.#reply(command.reply, true);
        return;
      case 'remove-overlay':
        this.#removeOverlay(command.overlay);
        this.#reply(command.reply, true);
        return;
      case 'add-port':
        this.#addPort(command);
        return;
      case 'set-mac':
        this.#ports.get(command.token)?.setMac(command.mac, command.protection);
        return;
      case 'set-vid':
        this.#ports.get(command.token)?.setVid(command.vid);
        return;
      case 'protect':
        this.#ports.get(command.token)?.protect(command.protection);
        return;
      case 'rename-port':
        this.#ports.get(command.token)?.rename(command.name, this.#captures);
        return;
      case 'remove-port':
        this.#removePort(command.token);
        this.#reply(command.reply, true);
        return;
      case 'start-capture':
      case 'stop-capture':
        obeyCapture(this.#captures, command, this.#overlays, this.#sockets);
        if ('reply' in command) this.#reply(command.reply, true);
        return;
      case 'count-targets':
        this.#reply(command.reply, this.#overlays.get(command.overlay)?.overlay.targets.size ?? 0);
        return;
      case 'begin':
      case 'ping':
        if (command.kind === 'begin') this.#platform.begin();
        this.#reply(command.reply, true);
        return;
      case 'stop':
        return; // the loop of the thread (worker.ts) ends by itself
      default:
        obeyOverlay(this.#overlays.get(command.overlay)?.overlay, command, this.#sweeps, (reply, value) => {
          this.#reply(reply, value);
        });
    }
  }

  #addOverlay(command: Extract<Command, { kind: 'add-overlay' }>): void {
    const { options, socket, counters, examples, stations } = command;
    const drops = new Drops(counters, this.#shared, examples);
    const overlay = new Overlay(options, this.#shared, this.#senders(command), drops, stations);
    this.#overlays.set(options.id, { overlay, socket });
    this.#sockets.get(socket)?.mux.add(overlay);
  }

  #senders(command: Extract<Command, { kind: 'add-overlay' | 'change-overlay' }>): OutputList[] {
    const { capacityFrames } = this.#transmitBatch;
    const encap = encapsulation(command.options.encapsulation);
    return command.senderFds.map((fd) => {
      const device = this.#platform.socket(fd, encap, command);
      return new OutputList(device, capacityFrames, dropOfSendError);
    });
  }

  #changeOverlay(command: Extract<Command, { kind: 'change-overlay' }>): void {
    const { options, socket } = command;
    const entry = this.#overlays.get(options.id);
    if (entry === undefined) return;
    const { overlay, socket: before } = entry;
    const [from, to] = [before, socket].map((token) => this.#sockets.get(token)?.mux);
    if (changeOptions(overlay, options, from, to)) this.#sweeps.begin(overlay);
    overlay.txSockets = this.#senders(command);
    this.#overlays.set(options.id, { overlay, socket });
  }

  #removeOverlay(id: number): void {
    const entry = this.#overlays.get(id);
    if (entry === undefined) return;
    for (const [token, attached] of this.#ports) {
      if (attached.overlay === entry.overlay) this.#removePort(token);
    }
    this.#sockets.get(entry.socket)?.mux.remove(entry.overlay);
    entry.overlay.close();
    this.#captures.forget(entry.overlay);
    this.#nameRoutes(id, []);
    this.#overlays.delete(id);
    this.#sweeps.begin(entry.overlay);
  }

  #nameRoutes(overlay: number, routes: readonly RouteFacts[]): void {
    const { paths } = this.#shared.destinations;
    paths.nameRoutes(overlay, routes);
    this.#sweeps.begin(paths);
  }

  #addPort(command: Extract<Command, { kind: 'add-port' }>): void {
    const overlay = this.#overlays.get(command.overlay)?.overlay;
    if (overlay === undefined) return;
    const { token, fd, headerBytes } = command;
    const attached = new AttachedPort(command, {
      overlay,
      device: this.#platform.port(fd, headerBytes),
      capacityFrames: this.#transmitBatch.capacityFrames,
      shared: this.#shared,
      leased: (news) => {
        this.#news.leased(news);
      },
    });
    this.#ports.set(token, attached);
    this.#platform.watch(fd, token);
  }

  #removePort(token: Token): void {
    const attached = this.#ports.get(token);
    if (attached === undefined) return;
    this.#ports.delete(token);
    this.#waiting.delete(token);
    attached.overlay.removePort(attached.port);
    this.#platform.unwatch(attached.fd);
  }

  #reply(reply: number, value: Extract<Report, { kind: 'reply' }>['value']): void {
    this.#report({ kind: 'reply', reply, value });
  }
}
