/**
 * The datapath: devices on one side, the policy of `core` on the other. It obeys commands and pumps whichever device
 * has something; it never waits. The worker (worker.ts) gives it Linux devices, tests give it a network in memory.
 */
import { transmit } from '../../core/encap.js';
import { receive } from '../../core/decap.js';
import { Destinations, type AddressBook } from '../../core/destinations.js';
import { dropOfPortError, dropOfSendError } from '../../core/drops.js';
import { type AskedLeases, createAskedLeases } from '../../core/asked-leases.js';
import { DhcpLeases, type LeaseNews } from '../../core/dhcp-leases.js';
import { announce } from '../../core/inject.js';
import { LinkProtection, type ProtectionRules } from '../../core/link-protection.js';
import { Mux } from '../../core/mux.js';
import type { Notice } from '../../core/notices.js';
import { OutputList, Outputs } from '../../core/outputs.js';
import { Overlay, type Port, type Question, type Shared } from '../../core/overlay.js';
import { createPresence, Presence } from '../../core/presence.js';
import { recentTargets, targetRows } from '../../core/target-rows.js';
import { AGE_EVERY_MS, TICK_MS } from '../../core/target-table.js';
import { AnswerLimit, answerTooBig, type RouteMtuBytes } from '../../core/too-big.js';
import type { PortDevice, UnderlaySocket } from '../../io/contract.js';
import type { FrameBatch } from '../../wire/descriptor.js';
import { fromHalves, highOf, lowOf, type MacAddress } from '../../wire/mac.js';
import { PathListener, type PathPlatform } from './path-listener.js';
import type { Command, PeerChange, Report, Token } from './protocol.js';

/** What the datapath runs on. */
export interface Platform extends AddressBook, PathPlatform {
  createBatch(direction: 'transmit' | 'receive' | 'replay'): FrameBatch;
  port(fd: number): PortDevice;
  /** With segmentation, what fits together may leave as one message for the kernel to cut. */
  socket(fd: number, segmentation: boolean): UnderlaySocket;
  /** Where `watch` was held back. */
  begin(): void;
  readonly routeMtuBytes: RouteMtuBytes;
}

interface AttachedPort {
  readonly fd: number;
  readonly device: PortDevice;
  readonly overlay: Overlay;
  readonly port: Port;
  /** Of all queues of the port. */
  readonly asked: AskedLeases;
  /** Goes on when the rules change. */
  leases: DhcpLeases;
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
  readonly #paths: PathListener;
  #questions: Question[] = [];
  #leaseNews: LeaseNews[] = [];
  #agedMs = 0;
  #peerChanges: PeerChange[] = [];
  #notices: Notice[] = [];

  constructor(platform: Platform, report: (report: Report) => void) {
    this.#platform = platform;
    this.#report = report;
    this.#transmitBatch = platform.createBatch('transmit');
    this.#receiveBatch = platform.createBatch('receive');
    this.#shared = {
      outputs: new Outputs(),
      destinations: new Destinations(platform),
      budget: { usedBytes: 0 },
      replay: platform.createBatch('replay'),
      ask: (question) => {
        this.#questions.push(question);
      },
      routeMtuBytes: (from, to) => platform.routeMtuBytes(from, to),
      pathHeard: (report, isBelieved) => {
        this.#paths.heard(report, isBelieved);
      },
      peerChanged: (overlay, ip, isPeer) => {
        this.#peerChanges.push({ overlay, ip, isPeer });
      },
      notice: (notice) => {
        this.#notices.push(notice);
      },
      nowTick: 0,
    };
    this.#paths = new PathListener(platform, this.#shared);
  }

  /** Monotonic time, before anything else of a turn. */
  setTime(nowMs: number): void {
    this.#shared.nowTick = Math.floor(nowMs / TICK_MS) | 0;
    this.#paths.turn(nowMs);
    if (nowMs - this.#agedMs >= AGE_EVERY_MS) this.#age(nowMs);
  }

  #age(nowMs: number): void {
    for (const { overlay } of this.#overlays.values()) overlay.age(nowMs - this.#agedMs);
    this.#shared.destinations.paths.age(this.#shared.nowTick);
    this.#agedMs = nowMs;
  }

  /** The descriptor of this token has something in its error queue. Whether there was anything. */
  hear(token: Token): boolean {
    const heard = this.#paths.hear(token, this.#sockets.get(token));
    const news = this.#paths.take();
    if (news !== undefined) this.#report({ kind: 'paths', news });
    if (this.#notices.length > 0) this.#reportNotices();
    return heard;
  }

  /** One batch from the device of this token, through the policy, out. Whether there was anything. */
  pump(token: Token): boolean {
    const port = this.#ports.get(token);
    const moved = port === undefined ? this.#pumpSocket(token) : this.#pumpPort(token, port);
    if (this.#questions.length > 0) this.#reportQuestions();
    if (this.#leaseNews.length > 0) this.#reportLeases();
    if (this.#peerChanges.length > 0) this.#reportPeers();
    if (this.#notices.length > 0) this.#reportNotices();
    return moved;
  }

  #pumpPort(token: Token, { device, overlay, port }: AttachedPort): boolean {
    const batch = this.#transmitBatch;
    const count = device.receive(batch);
    if (count < 0) {
      this.#removePort(token);
      this.#report({ kind: 'fault', token, errno: -count });
      return false;
    }
    transmit(overlay, port, batch, count);
    this.#shared.outputs.flush(batch);
    answerTooBig(overlay, port, batch);
    return count > 0;
  }

  /** A socket that reports an error has been told of some datagram's fate, and goes on. */
  #pumpSocket(token: Token): boolean {
    const socket = this.#sockets.get(token);
    if (socket === undefined) return false;
    const batch = this.#receiveBatch;
    const count = socket.device.receive(batch);
    if (count <= 0) return false;
    receive(socket.mux, batch, count);
    this.#shared.outputs.flush(batch);
    return true;
  }

  obey(command: Command): void {
    this.#obey(command);
    if (this.#peerChanges.length > 0) this.#reportPeers();
  }

  #obey(command: Command): void {
    switch (command.kind) {
      case 'add-socket': {
        const { token, fd, counters } = command;
        this.#sockets.set(token, { fd, device: this.#platform.socket(fd, false), mux: new Mux(counters) });
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
      case 'set-route-mtus':
        this.#paths.obey(command, this.#sockets, (id) => this.#overlays.get(id)?.overlay.counters);
        if ('reply' in command) this.#reply(command.reply, true);
        return;
      case 'add-overlay':
        this.#addOverlay(command);
        return;
      case 'remove-overlay':
        this.#removeOverlay(command.overlay);
        this.#reply(command.reply, true);
        return;
      case 'add-port':
        this.#addPort(command);
        return;
      case 'set-mac':
        this.#setMac(command.token, command.mac, command.protection);
        return;
      case 'protect':
        this.#protect(command.token, command.protection);
        return;
      case 'remove-port':
        this.#removePort(command.token);
        this.#reply(command.reply, true);
        return;
      case 'begin':
        this.#platform.begin();
        this.#reply(command.reply, true);
        return;
      case 'count-targets': {
        const counts = [...this.#overlays].map(([id, { overlay }]) => [id, overlay.targets.size] as const);
        this.#reply(command.reply, new Map(counts));
        return;
      }
      case 'ping':
      case 'stop':
        this.#reply(command.reply, true);
        return;
      default:
        this.#obeyOverlay(command);
    }
  }

  /** Commands to one overlay. One that is gone has nothing to do, and says so to whoever waits for a reply. */
  #obeyOverlay(
    command: Extract<
      Command,
      {
        kind:
          | 'answer'
          | 'set-target'
          | 'invalidate'
          | 'set-destination'
          | 'set-peers'
          | 'set-loops'
          | 'announce'
          | 'delete-target'
          | 'targets'
          | 'recent-targets'
          | 'restore-targets';
      }
    >,
  ): void {
    const overlay = this.#overlays.get(command.overlay)?.overlay;
    switch (command.kind) {
      case 'answer':
        overlay?.answer(command.lookup, command.answer);
        break;
      case 'set-target':
        if (overlay === undefined) break;
        if (command.unlessKnown === true && overlay.targets.knows(command.mac, this.#shared.nowTick)) break;
        overlay.setTarget(command.mac, command.to, command.ttlMs);
        break;
      case 'invalidate':
        if (command.macs === undefined) overlay?.invalidate(undefined);
        else for (const mac of command.macs) overlay?.invalidate(mac);
        break;
      case 'set-destination':
        overlay?.setPoint(command.destination);
        break;
      case 'set-peers':
        overlay?.setPeers(command.peers);
        break;
      case 'set-loops':
        overlay?.loops.name(command.destinations, this.#shared.destinations);
        break;
      case 'announce':
        if (overlay !== undefined) announce(overlay, command.frame);
        break;
      case 'delete-target':
        this.#reply(command.reply, overlay?.deleteTarget(command.mac) ?? false);
        break;
      case 'targets':
        this.#reply(command.reply, overlay ? targetRows(overlay, command.after, command.limit) : []);
        break;
      case 'recent-targets':
        this.#reply(command.reply, overlay ? recentTargets(overlay, command.limit) : []);
        break;
      case 'restore-targets':
        // The first to be put in is the first to make room.
        for (const { mac, to } of command.targets.toReversed()) overlay?.restoreTarget(mac, to);
        break;
    }
    if (this.#questions.length > 0) this.#reportQuestions();
  }

  #addOverlay(command: Extract<Command, { kind: 'add-overlay' }>): void {
    const { options, socket, senderFds, segmentation, counters, stations } = command;
    const { capacityFrames } = this.#transmitBatch;
    const senders = senderFds.map(
      (fd) => new OutputList(this.#platform.socket(fd, segmentation), capacityFrames, dropOfSendError),
    );
    const overlay = new Overlay(options, this.#shared, senders, counters, stations);
    this.#overlays.set(options.id, { overlay, socket });
    this.#sockets.get(socket)?.mux.add(overlay);
  }

  #removeOverlay(id: number): void {
    const entry = this.#overlays.get(id);
    if (entry === undefined) return;
    for (const [token, attached] of this.#ports) {
      if (attached.overlay === entry.overlay) this.#removePort(token);
    }
    this.#sockets.get(entry.socket)?.mux.remove(entry.overlay);
    entry.overlay.close();
    this.#shared.destinations.paths.nameRoutes(id, []);
    this.#overlays.delete(id);
  }

  #addPort(command: Extract<Command, { kind: 'add-port' }>): void {
    const overlay = this.#overlays.get(command.overlay)?.overlay;
    if (overlay === undefined) return;
    const { token, fd, name, mac, vid, own, protection, counters } = command;
    const device = this.#platform.port(fd);
    const output = new OutputList(device, this.#transmitBatch.capacityFrames, dropOfPortError);
    const port: Port = {
      name,
      macHigh: highOf(mac),
      macLow: lowOf(mac),
      vid,
      own,
      output,
      answers: new AnswerLimit(),
      counters,
      presence: new Presence(command.presence ?? createPresence()),
      protection: undefined,
    };
    const asked = command.askedLeases ?? createAskedLeases();
    overlay.addPort(port);
    this.#ports.set(token, {
      fd,
      device,
      overlay,
      port,
      asked,
      leases: this.#leasesOf(overlay, port, asked),
    });
    this.#protect(token, protection);
    this.#platform.watch(fd, token);
  }

  #leasesOf({ options: { id } }: Overlay, { name, macHigh, macLow }: Port, asked: AskedLeases): DhcpLeases {
    return new DhcpLeases(macHigh, macLow, asked, (family, ip, validS) => {
      this.#leaseNews.push({ overlay: id, port: name, family, ip, validS });
    });
  }

  #setMac(token: Token, mac: MacAddress, rules: ProtectionRules | undefined): void {
    const attached = this.#ports.get(token);
    if (attached === undefined) return;
    const { overlay, port, asked } = attached;
    overlay.setPortMac(port, mac);
    attached.leases = this.#leasesOf(overlay, port, asked);
    this.#protect(token, rules);
  }

  #protect(token: Token, rules: ProtectionRules | undefined): void {
    const attached = this.#ports.get(token);
    if (attached === undefined) return;
    const { port, leases } = attached;
    port.protection = rules && new LinkProtection(rules, fromHalves(port.macHigh, port.macLow), leases);
  }

  #removePort(token: Token): void {
    const attached = this.#ports.get(token);
    if (attached === undefined) return;
    this.#ports.delete(token);
    attached.overlay.removePort(attached.port);
    this.#platform.unwatch(attached.fd);
  }

  #reply(reply: number, value: Extract<Report, { kind: 'reply' }>['value']): void {
    this.#report({ kind: 'reply', reply, value });
  }

  /** Many misses, one message. */
  #reportQuestions(): void {
    const questions = this.#questions;
    this.#questions = [];
    this.#report({ kind: 'lookups', questions });
  }

  #reportLeases(): void {
    const news = this.#leaseNews;
    this.#leaseNews = [];
    this.#report({ kind: 'leases', news });
  }

  #reportNotices(): void {
    const notices = this.#notices;
    this.#notices = [];
    this.#report({ kind: 'notices', notices });
  }

  #reportPeers(): void {
    const changes = this.#peerChanges;
    this.#peerChanges = [];
    this.#report({ kind: 'peers', changes });
  }
}
