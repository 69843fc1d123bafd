/** One capture in one thread: copies frames into its ring, each with the place where it was seen. capture.ts has the picture. */
import {
  ADDRESS,
  DESCRIPTOR_WORDS,
  type FrameBatch,
  GSO_TYPE,
  LENGTH,
  OFFSET,
  PORT,
  RUN_END,
  runFrames,
  SEGMENT,
} from '../../wire/descriptor.js';
import { GSO_NONE } from '../../wire/virtio-net.js';
import * as vlan from '../../wire/vlan.js';
import { type FilterRules, FrameFilter } from './capture-filter.js';
import * as ring from './capture-ring.js';
import { COUNTER } from '../counts/counters.js';
import { wireFrames } from '../counts/frame-count.js';
import type { Mux } from '../mux.js';
import { type OutputList, STRIP_TAG } from '../outputs.js';
import type { Overlay } from '../overlay.js';
import type { Port } from '../port.js';

/** The capture that the control side asks for. */
export interface CaptureRules {
  /** One port alone, by its name; else the whole overlay. */
  readonly port?: string;
  readonly filter: FilterRules;
  /** Only dropped frames. */
  readonly isDropsOnly: boolean;
  /** Only frames that are dropped for this reason, the index of its counter. */
  readonly reason?: number;
  /** Bytes of a frame that are copied. */
  readonly snapBytes: number;
  /** Superframes are copied whole, for the control side to cut. */
  readonly isCut: boolean;
}

/** Descriptors of a batch that are watched: those of the largest, of a socket that takes runs apart (worker.ts). */
const MAX_FRAMES = 4096;
/** Behind the two addresses stands the tag. */
const ADDRESSES_BYTES = 12; // IEEE 802.1Q-2018 9.3

/** Only capture.ts uses it. */
export class Tap {
  readonly overlay: Overlay;
  /** The mux of the socket that the overlay receives from. */
  readonly mux: Mux | undefined;
  readonly #rules: CaptureRules;
  /** The port that is captured alone, by its name of now. */
  #port: string | undefined;
  readonly #filter: FrameFilter;
  readonly #ring: ring.RingWriter;
  readonly #nowMs: () => number;
  /** The batch of the records and offsets below. */
  #batch: FrameBatch | undefined;
  /** By frame: its record, or LOST_RECORD. */
  readonly #records = new Int32Array(MAX_FRAMES);
  /** By frame: where it began. */
  readonly #offsets = new Int32Array(MAX_FRAMES);
  /** The list that is delivered, and by entry: its record, and its argument. */
  #list: OutputList | undefined;
  #entryRecords = new Int32Array(0);
  #arguments = new Int32Array(0);
  /** The entry of the list that was refused. */
  #refused = -1;

  constructor(
    overlay: Overlay,
    mux: Mux | undefined,
    rules: CaptureRules,
    writer: ring.RingWriter,
    nowMs: () => number,
  ) {
    this.overlay = overlay;
    this.mux = mux;
    this.#rules = rules;
    this.#port = rules.port;
    this.#filter = new FrameFilter(rules.filter);
    this.#ring = writer;
    this.#nowMs = nowMs;
  }

  fromPort(port: Port, batch: FrameBatch, count: number, isNew: boolean): void {
    if (!this.#isOf(port)) return;
    this.#watch(batch, count);
    if (!isNew || this.#rules.isDropsOnly) return;
    const timeMs = this.#nowMs();
    for (let index = 0; index < count; index++)
      this.#records[index] = this.#put(ring.FROM_PORT, port, batch, index, 0, 0, timeMs);
  }

  fromTunnel(mux: Mux, batch: FrameBatch, count: number): void {
    const { encapsulation } = mux;
    this.#watch(batch, count);
    if (this.#rules.isDropsOnly) return;
    const timeMs = this.#nowMs();
    for (let index = 0; index < count; index++) {
      const at = index * DESCRIPTOR_WORDS;
      const outer = batch.descriptors[at + OFFSET];
      const header = encapsulation.check(batch.bytes, outer, batch.descriptors[at + LENGTH]);
      if (header < 0 || encapsulation.id(batch.bytes, outer) !== this.overlay.options.vnetid) continue;
      this.#records[index] = this.#put(ring.FROM_TUNNEL, undefined, batch, index, header, header, timeMs);
    }
  }

  /** The frames of the list are about to go out. */
  delivering(list: OutputList, batch: FrameBatch): void {
    this.#list = list;
    if (this.#arguments.length < list.count) {
      this.#arguments = new Int32Array(list.count);
      this.#entryRecords = new Int32Array(list.count);
    }
    const timeMs = this.#nowMs();
    for (let entry = 0; entry < list.count; entry++) {
      // The argument of one that is refused is lost.
      this.#arguments[entry] = list.entries[2 * entry + 1];
      this.#entryRecords[entry] = this.#rules.isDropsOnly
        ? ring.LOST_RECORD
        : this.#putEntry(list, batch, list.entries[2 * entry], entry, timeMs);
    }
  }

  /** The next drop is of this entry of the list. */
  refused(entry: number): void {
    this.#refused = entry;
  }

  dropped(reason: number, batch: FrameBatch, index: number, socket: Mux | undefined): void {
    const entry = this.#refused;
    this.#refused = -1;
    const isKnown = this.#batch === batch;
    const record = entry >= 0 ? this.#entryRecords[entry] : isKnown ? this.#records[index] : ring.LOST_RECORD;
    if (record !== ring.LOST_RECORD) {
      this.#ring.mark(record, reason);
      return;
    }
    // A frame with no record either did not match, or there was no room for it, or nothing but drops is wanted.
    if (!this.#rules.isDropsOnly && (entry >= 0 || isKnown) && socket === undefined) return;
    if (this.#rules.reason !== undefined && this.#rules.reason !== reason) return;
    const dropped = this.#putDropped(batch, index, entry, reason, socket);
    if (dropped !== ring.LOST_RECORD) this.#ring.mark(dropped, reason);
  }

  /** A frame that waited. */
  droppedHeld(reason: number, bytes: Uint8Array, descriptor: Int32Array, port: Port | undefined): void {
    const { reason: wanted } = this.#rules;
    if (!this.#isOf(port) || (wanted !== undefined && wanted !== reason)) return;
    if (this.#filter.peer !== undefined) return;
    const [length, strip] = [descriptor[LENGTH], isInserted(port)];
    const record = this.#putBytes(
      ring.FROM_PORT,
      port,
      bytes,
      0,
      descriptor,
      0,
      length,
      strip,
      0,
      this.#nowMs(),
    );
    if (record !== ring.LOST_RECORD) this.#ring.mark(record, reason);
  }

  /** Gives all records so far to the reader; there is no current batch any more. */
  publish(): void {
    this.#batch = undefined;
    this.#list = undefined;
    this.#ring.publish();
  }

  #isOf(port: Port | undefined): boolean {
    return this.#port === undefined || port?.name === this.#port;
  }

  renamed(from: string, to: string): void {
    if (this.#port === from) this.#port = to;
  }

  #watch(batch: FrameBatch, count: number): void {
    this.#batch = batch;
    this.#records.fill(ring.LOST_RECORD, 0, count);
    for (let index = 0; index < count; index++)
      this.#offsets[index] = batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET];
  }

  #putEntry(list: OutputList, batch: FrameBatch, index: number, entry: number, timeMs: number): number {
    const { overlay } = this;
    const sender = overlay.txSockets.indexOf(list);
    if (sender < 0) {
      const port = portOf(overlay, list);
      if (port === undefined || !this.#isOf(port)) return ring.LOST_RECORD;
      const strip = (this.#arguments[entry] & STRIP_TAG) !== 0 ? 1 : 0;
      return this.#put(ring.TO_PORT, port, batch, index, 0, 0, timeMs, strip);
    }
    const slot = this.#arguments[entry];
    const { destinations } = overlay.shared;
    if (this.#rules.port !== undefined) return ring.LOST_RECORD;
    const { peer } = this.#filter;
    if (peer !== undefined && !destinations.isAt(slot, peer, 0)) return ring.LOST_RECORD;
    const record = this.#put(
      ring.TO_TUNNEL,
      undefined,
      batch,
      index,
      0,
      overlay.encapsulation.headerBytes,
      timeMs,
    );
    if (record === ring.LOST_RECORD) return record;
    const { words } = this.#ring;
    words[record + ring.SENDER] = sender;
    destinations.copyAddress(slot, words, record + ring.DESCRIPTOR + ADDRESS);
    words[record + ring.DESCRIPTOR + PORT] = destinations.find(slot)?.port ?? 0;
    return record;
  }

  /** Records a frame of the current batch that has no record yet. */
  #putDropped(
    batch: FrameBatch,
    index: number,
    entry: number,
    reason: number,
    socket: Mux | undefined,
  ): number {
    const timeMs = this.#nowMs();
    if (socket !== undefined) {
      if (this.#rules.port !== undefined || !this.#filter.takesUnknown) return ring.LOST_RECORD;
      return this.#put(ring.FROM_SOCKET, undefined, batch, index, 0, 0, timeMs);
    }
    if (entry >= 0) return this.#putEntry(this.#list!, batch, index, entry, timeMs);
    const { origin } = this.overlay.shared;
    const offset = batch.descriptors[index * DESCRIPTOR_WORDS + OFFSET];
    const before = this.#batch === batch ? this.#offsets[index] : undefined;
    if (origin.isUnderlay && this.#rules.port !== undefined) return ring.LOST_RECORD;
    if (origin.isUnderlay)
      return this.#put(
        ring.FROM_TUNNEL,
        undefined,
        batch,
        index,
        0,
        before === undefined ? 0 : offset - before,
        timeMs,
      );
    const port = origin.port as Port | undefined;
    if (!this.#isOf(port)) return ring.LOST_RECORD;
    // A tag that varpd has put on is none of the port's.
    const isTagged =
      before === undefined ? reason !== COUNTER.tx_vlan && isInserted(port) === 1 : offset < before;
    return this.#put(ring.FROM_PORT, port, batch, index, 0, 0, timeMs, isTagged ? 1 : 0);
  }

  /** Every frame of a run, or the one. `skip`: of its bytes, the header of the tunnel that is still before it; `lead`: bytes of
   * that header. Returns the record of the first one. */
  #put(
    point: number,
    port: Port | undefined,
    batch: FrameBatch,
    index: number,
    skip: number,
    lead: number,
    timeMs: number,
    strip = 0,
  ): number {
    const { bytes, descriptors } = batch;
    const at = index * DESCRIPTOR_WORDS;
    const isFromPeer = point === ring.FROM_TUNNEL || point === ring.FROM_SOCKET;
    const { peer } = this.#filter;
    if (peer !== undefined && !(isFromPeer && isAddress(peer, descriptors, at)) && point !== ring.TO_TUNNEL)
      return ring.LOST_RECORD;
    const frames = runFrames(descriptors, at);
    const first = descriptors[at + OFFSET];
    if (frames === 1)
      return this.#putBytes(
        point,
        port,
        bytes,
        first + skip,
        descriptors,
        at,
        descriptors[at + LENGTH] - skip,
        strip,
        lead,
        timeMs,
      );
    let record: number = ring.LOST_RECORD;
    for (let ordinal = 0; ordinal < frames; ordinal++) {
      const offset = first + ordinal * descriptors[at + SEGMENT];
      const length = Math.min(descriptors[at + LENGTH], descriptors[at + RUN_END] - offset) - skip;
      const each = this.#putBytes(
        point,
        port,
        bytes,
        offset + skip,
        descriptors,
        at,
        length,
        strip,
        lead,
        timeMs,
      );
      if (ordinal === 0) record = each;
    }
    return record;
  }

  /** A frame of `length` bytes that begins at `frame`. */
  #putBytes(
    point: number,
    port: Port | undefined,
    bytes: Uint8Array,
    frame: number,
    descriptors: Int32Array,
    at: number,
    length: number,
    strip: number,
    lead: number,
    timeMs: number,
  ): number {
    const writer = this.#ring;
    const { snapBytes, isCut } = this.#rules;
    // The last datagram of a run may be too short for a frame.
    if (length < 0) return ring.LOST_RECORD;
    if (point !== ring.FROM_SOCKET && !this.#filter.matches(bytes, frame, length, port?.vid ?? 0))
      return ring.LOST_RECORD;
    const cut = strip * vlan.HEADER_BYTES;
    const isSuperframe = descriptors[at + GSO_TYPE] !== GSO_NONE;
    const captured = isCut && isSuperframe ? length - cut : Math.min(length - cut, snapBytes);
    const packets = isCut && isSuperframe ? wireFrames(descriptors, at) : 1;
    const place = port === undefined ? ring.TUNNEL : writer.placeOf(port.name);
    const record = writer.begin(place, lead + captured, timeMs, packets);
    if (record === ring.LOST_RECORD) return record;
    const { words } = writer;
    words[record + ring.POINT] = point;
    words[record + ring.FRAME_BYTES] = length - cut;
    words[record + ring.LEAD] = lead;
    words[record + ring.REASON] = 0;
    words[record + ring.SENDER] = 0;
    for (let word = 0; word < DESCRIPTOR_WORDS; word++)
      words[record + ring.DESCRIPTOR + word] = descriptors[at + word];
    const data = record + ring.DATA;
    if (cut === 0) {
      writer.copy(bytes, frame - lead, lead + captured, data);
    } else {
      writer.copy(bytes, frame, Math.min(ADDRESSES_BYTES, captured), data);
      if (captured > ADDRESSES_BYTES)
        writer.copy(
          bytes,
          frame + ADDRESSES_BYTES + cut,
          captured - ADDRESSES_BYTES,
          data + ADDRESSES_BYTES / 4,
        );
    }
    return record;
  }
}

function portOf({ ports }: Overlay, list: OutputList): Port | undefined {
  for (const port of ports) if (port.output === list) return port;
  return undefined;
}

/** 1: the frames of this port have been given a tag. */
function isInserted(port: Port | undefined): number {
  return port !== undefined && port.vid !== 0 ? 1 : 0;
}

function isAddress(words: Int32Array, descriptors: Int32Array, at: number): boolean {
  for (let word = 0; word < 4; word++) if (words[word] !== descriptors[at + ADDRESS + word]) return false;
  return true;
}
