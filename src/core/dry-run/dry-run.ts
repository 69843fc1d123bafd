/**
 * A dry run: what would be done with one frame now (`dladm explain`). The frame goes through the functions that
 * forward, transmit.ts and receive.ts, on a scratch overlay: an overlay of its own, which knows what the real
 * one knows of this frame's MACs, peers and paths, and refuses what the real one would refuse. Its outputs
 * record. Whatever these functions change is thrown away, so nothing is sent, counted or remembered, and
 * nothing of the hot path knows of it.
 *
 *   real overlay:     ports   rows of its MACs   peer?   path MTUs, loops   shares and allowances
 *                       |            |             |            |                  |
 *                       v copies     v             v            v                  v
 *   scratch overlay:  transmit / receive -> answers of the plugin -> recorded sends, deliveries, drops
 *
 * A question to the plugin is recorded too. The control side puts it to the plugin, and asks for another dry run
 * of the same frame, with the answer.
 */
import { DROPS, type DropReason } from '../../model/drops.js';
import { ADDRESS, HEADROOM_BYTES, MAX_FRAME_BYTES, PORT } from '../../wire/descriptor.js';
import * as ethernet from '../../wire/ethernet.js';
import { type Endpoint, writeV6 } from '../../wire/ip.js';
import { highOf, lowOf, type MacAddress } from '../../wire/mac.js';
import { Alarms } from '../queues/alarms.js';
import { type CounterName, createCounters, readCounters } from '../counts/counters.js';
import { Destinations } from '../tables/destinations.js';
import { Drops } from '../counts/drops.js';
import {
  createBatch,
  type DryDelivery,
  type DrySend,
  place,
  RecordingPort,
  RecordingSocket,
} from './dry-outputs.js';
import type { LookupResult, Question } from '../lookup.js';
import { answer } from '../lookups.js';
import { NONE } from '../tables/mac-index.js';
import { sendReplies } from '../probe/made-frames.js';
import { LoopbackReplies } from '../probe/loopback-replies.js';
import { Mux } from '../mux.js';
import { OutputList, Outputs } from '../outputs.js';
import { HERE, Overlay, type Shared } from '../overlay.js';
import { TunnelEnds } from '../tables/tunnel-ends.js';
import { PendingBudget } from '../queues/pending-queue.js';
import type { Port } from '../port.js';
import { INQUIRY } from '../queues/questions.js';
import { receive } from '../receive.js';
import { NOWHERE } from '../tables/target-table.js';
import { answerTooBig } from '../too-big.js';
import { transmit } from '../transmit.js';

/** A frame to run; plain data, since it is sent to threads. */
export interface DryFrame {
  readonly frame: Uint8Array;
  /** The port that sends it, or the datagram that it arrives in. */
  readonly from: { readonly port: string } | { readonly peer: Endpoint; readonly vnetid: number };
  /** The plugin's answers so far, in the order of its questions. */
  readonly answers: readonly LookupResult[];
}

export interface DryRun {
  readonly sends: readonly DrySend[];
  readonly deliveries: readonly DryDelivery[];
  readonly drops: readonly DropReason[];
  /** Every other counter that would grow, with what it would grow by. */
  readonly counters: Readonly<Partial<Record<CounterName, number>>>;
  /** The question that the frame waits for; undefined if it waits for none. */
  readonly question: Question | undefined;
}

/** Runs a frame of a port, or one out of the tunnel. A port that does not exist sends nothing. */
export function dryRun(real: Overlay, { frame, from, answers }: DryFrame): DryRun {
  const port = 'port' in from ? real.ports.find(({ name }) => name === from.port) : undefined;
  const scratch = new Scratch(real, port);
  for (const mac of macsOf(frame)) scratch.know(mac);
  if ('peer' in from) scratch.receive(frame, from.peer, from.vnetid);
  else scratch.transmit(frame);
  for (const result of answers) scratch.answer(result);
  return scratch.result();
}

function macsOf(frame: Uint8Array): readonly MacAddress[] {
  if (frame.length < ethernet.HEADER_BYTES) return [];
  return [ethernet.destination(frame, 0), ethernet.source(frame, 0)];
}

class Scratch {
  readonly #real: Overlay;
  readonly #overlay: Overlay;
  /** The port that sends the frame: the real one, and that of the scratch overlay. */
  readonly #port: Port | undefined;
  readonly #ownPort: Port | undefined;
  readonly #counters = createCounters();
  readonly #sends: DrySend[] = [];
  readonly #deliveries: DryDelivery[] = [];
  readonly #portCounters = createCounters();
  readonly #asked: Question[] = [];
  /** Real slots with a path that is known by now. */
  readonly #paths = new Set<number>();

  constructor(real: Overlay, port: Port | undefined) {
    this.#real = real;
    this.#port = port;
    const { nowTick, routeMtuBytes } = real.shared;
    const ignore = (): void => undefined;
    // The members are in the order of the real one (engine.ts), so that V8 has one kind of object.
    const shared: Shared = {
      outputs: new Outputs(),
      destinations: new Destinations({ setAddress: ignore }),
      budget: new PendingBudget(),
      replay: createBatch(MAX_FRAME_BYTES),
      alarms: new Alarms(),
      random: () => 0,
      ask: (question) => {
        this.#asked.push(question);
      },
      routeMtuBytes,
      pathHeard: ignore,
      peerChanged: ignore,
      peersMoved: ignore,
      notice: ignore,
      replies: new LoopbackReplies(),
      probed: ignore,
      origin: { port: undefined, isUnderlay: false },
      nowTick,
    };
    shared.destinations.paths.imitateRoutes(real.shared.destinations.paths);
    const sockets = real.txSockets.map(({ dropOf }, index) => {
      return new OutputList(new RecordingSocket(real, shared.destinations, index, this.#sends), 1, dropOf);
    });
    const drops = new Drops(this.#counters, shared);
    const overlay = new Overlay(real.options, shared, sockets, drops);
    this.#overlay = overlay;
    if (real.point !== NOWHERE) {
      const point = endpointOf(real, real.point);
      overlay.setPoint(point);
      this.#knowPath(point);
    }
    overlay.loops.name(real.loops.ips);
    while (overlay.loops.sweep());
    overlay.setPorts(real.ports.map((each) => this.#portLike(each, each === port)));
    overlay.loopbackAnswers.imitate(real.loopbackAnswers);
    if (port === undefined) return;
    const own = overlay.ports[real.ports.indexOf(port)];
    this.#ownPort = own;
    overlay.questions.imitate(real.questions, port, own);
    overlay.frames.imitate(real.frames, port, own);
    overlay.pending.imitate(real.pending, port, own);
  }

  /** Lets the scratch overlay know what the real one knows of a MAC: also an entry that has expired, since it still
   * holds its destinations. */
  know(mac: MacAddress): void {
    const [real, overlay] = [this.#real, this.#overlay];
    const { targets, shared } = real;
    const { nowTick } = shared;
    const [high, low] = [highOf(mac), lowOf(mac)];
    if (real.stations?.has(high, low, nowTick) === true) overlay.stations?.learn(high, low, nowTick);
    const row = targets.find(high, low);
    if (row === NONE || overlay.targets.find(high, low) !== NONE) return;
    const own = overlay.targets.insert(high, low, nowTick);
    const slots = real.held.floods.get(row) ?? [targets.destination(row)].filter((slot) => slot !== NOWHERE);
    const to = slots.map((slot) => endpointOf(real, slot));
    const destination = to.length > 0 ? overlay.held.assign(own, overlay.held.acquireAll(to)) : NOWHERE;
    overlay.targets.imitate(own, targets, row, destination);
    for (const each of to) this.#knowPath(each);
    const open = real.questions.of(row);
    if (open !== undefined) overlay.questions.add(own, { ...open, lookup: overlay.nextLookup() }, INQUIRY);
    const [port, ownPort] = [this.#port, this.#ownPort];
    if (port !== undefined && ownPort !== undefined)
      overlay.pending.imitateRow(own, real.pending, row, port, ownPort);
  }

  /** Lets the scratch overlay know the path of a destination. It ends with the last entry that holds it, unless
   * entries hold it that the scratch overlay does not have. */
  #knowPath(to: Endpoint): void {
    const real = this.#real.shared.destinations;
    const own = this.#overlay.shared.destinations;
    const known = real.slotOf(to);
    if (known === undefined || this.#paths.has(known)) return;
    this.#paths.add(known);
    const held = own.slotOf(to);
    const isHeldByOthers = real.references(known) > (held === undefined ? 0 : own.references(held));
    const slot = isHeldByOthers ? own.acquire(to) : held;
    if (slot !== undefined) own.paths.imitate(slot, real.paths, known);
  }

  /** The port sends the frame, if there is one. */
  transmit(frame: Uint8Array): void {
    const overlay = this.#overlay;
    const own = this.#ownPort;
    if (own === undefined) return;
    const batch = createBatch(frame.length);
    place(batch, frame, HEADROOM_BYTES);
    transmit(overlay, own, batch, 1, 1);
    answerTooBig(overlay, own, batch, overlay.shared.outputs.flush(batch));
  }

  /** The frame arrives in a datagram of `peer`, behind a header with this VNI. */
  receive(frame: Uint8Array, peer: Endpoint, vnetid: number): void {
    const [real, overlay] = [this.#real, this.#overlay];
    const { encapsulation, shared } = overlay;
    const { headerBytes } = encapsulation;
    const datagram = new Uint8Array(headerBytes + frame.length);
    encapsulation.writeHeader(datagram, 0, vnetid);
    datagram.set(frame, headerBytes);
    const batch = createBatch(datagram.length);
    // The inner frame is aligned, as behind a header that a socket has read.
    place(batch, datagram, HEADROOM_BYTES - headerBytes);
    writeV6(peer.ip, new Uint8Array(batch.descriptors.buffer), ADDRESS * Int32Array.BYTES_PER_ELEMENT);
    batch.descriptors[PORT] = peer.port;
    if (real.peers.hasAddress(peer.ip)) overlay.peers.add(peer.ip, NONE, shared.nowTick);
    const mux = new Mux(encapsulation, shared, this.#counters);
    mux.add(overlay);
    receive(mux, batch, 1);
    shared.outputs.flush(batch);
    // In the next turn.
    sendReplies(shared, () => overlay);
  }

  /** Answers the question that the frame waits for. */
  answer(result: LookupResult): void {
    const question = this.#awaited();
    if (question === undefined) return;
    if (result.kind === 'redirect') this.know(result.to);
    if (result.kind === 'target') for (const to of result.to) this.#knowPath(to);
    answer(this.#overlay, question.lookup, result);
  }

  result(): DryRun {
    const counters = readCounters(this.#counters);
    const grown = Object.entries(counters).filter(([, value]) => value > 0) as [CounterName, number][];
    return {
      sends: this.#sends,
      deliveries: this.#deliveries,
      drops: grown.map(([name]) => name).filter(isReason),
      counters: Object.fromEntries(grown.filter(([name]) => !isReason(name))),
      question: this.#awaited(),
    };
  }

  /** The question about the frame itself, or about the MAC, that the frame waits for. */
  #awaited(): Question | undefined {
    const { pending, questions } = this.#overlay;
    const about = this.#asked.find(({ lookup }) => pending.isWaitedFor(-lookup));
    const row = questions.rows.find((each) => pending.isWaitedFor(each));
    return about ?? (row === undefined ? undefined : questions.of(row));
  }

  /** Members in the order of a real port (attached-port.ts). */
  #portLike(port: Port, isSender: boolean): Port {
    const sink = new RecordingPort(port, this.#deliveries);
    return {
      name: port.name,
      macHigh: port.macHigh,
      macLow: port.macLow,
      vid: port.vid,
      own: port.own,
      output: new OutputList(sink, 1, port.output.dropOf),
      answers: port.answers.copy(),
      questions: port.questions.copy(),
      counters: this.#portCounters,
      presence: port.presence.copy(),
      tunnelEnds: new TunnelEnds(),
      // Other ports' rules are about frames that they send.
      protection: isSender ? port.protection?.copy() : undefined,
    };
  }
}

const isReason = (name: string): name is DropReason => Object.hasOwn(DROPS, name);

/** Returns the endpoint of a slot, or this overlay's own. */
export function endpointOf({ options, shared }: Overlay, slot: number): Endpoint {
  return slot === HERE ? options.listen : shared.destinations.endpoint(slot);
}
