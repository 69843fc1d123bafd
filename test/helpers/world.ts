// The law that no frame is lost without a trace: one overlay, hostile owners and peers, and an account of every frame. Throws
// where the account does not balance.
import { type CounterName, readCounters } from '../../src/core/counts/counters.js';
import { type MemoryFrame, WHOLE } from '../../src/io/memory.js';
import { type DropReason, DROPS } from '../../src/model/drops.js';
import { Lab, MTU_BYTES, type Net, type Tap } from './lab.js';

export function equal(found: unknown, expected: unknown, what: string): void {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: found ${left}, expected ${right}`);
}

const REASONS = Object.keys(DROPS) as DropReason[];
const SEND_DROPS: readonly string[] = [
  'tx_malformed',
  'tx_path_mtu',
  'tx_queue_full',
  'tx_unreachable',
  'tx_firewall',
  'tx_error',
];
const isPortDrop = (name: string) => name.startsWith('port_');
const isReceiveDrop = (name: string) => name.startsWith('rx_');
const isSendDrop = (name: string) => SEND_DROPS.includes(name);
const isTransmitDrop = (name: string) => !isPortDrop(name) && !isReceiveDrop(name) && !isSendDrop(name);

/** One overlay among hostile owners and peers, and what has become of their frames. */
export class World {
  readonly lab = new Lab();
  readonly vtep = this.lab.vtep('192.0.2.1', { senders: 3, batchFrames: 4 });
  readonly peer = this.lab.peer('192.0.2.2');
  readonly stranger = this.lab.peer('192.0.2.3');
  readonly net: Net;
  readonly taps: Tap[] = [];
  readonly live: Tap[] = [];
  #sent = 0;
  /** Of the frames sent: gone into the tunnel, to one local port, or dropped before either. */
  #settled = 0;

  readonly #isStrict: boolean;
  readonly #mtuBytes: number;

  constructor(options: ConstructorParameters<typeof Net>[2]) {
    this.#mtuBytes = options.mtuBytes ?? MTU_BYTES;
    this.#isStrict = options.strictSource === true;
    this.net = this.vtep.overlay(options);
  }

  addPort(mac: number, vid: number, own: boolean): void {
    const tap = this.net.port(mac, { vid, own });
    this.taps.push(tap);
    this.live.push(tap);
  }

  /** What an action did to the counters; the laws that hold of any action are checked. */
  did(action: () => void, isGroup = false): Record<CounterName, number> & { left: number } {
    const datagrams = this.lab.datagrams.length;
    const before = this.#read();
    action();
    const after = this.#read();
    const change = Object.fromEntries(
      Object.entries(after).map(([name, value]) => [name, value - before[name as CounterName]]),
    ) as Record<CounterName, number>;
    const sum = (which: (name: string) => boolean) => total(change, which);
    const left = this.lab.datagrams.slice(datagrams).filter(({ from }) => from.port !== 4789).length;
    equal(change.tx_frames, left + sum(isSendDrop), 'into the tunnel = sent + refused');
    const heard = this.live.flatMap((tap) => tap.takeWhole()).reduce((sum, one) => sum + framesOf(one), 0);
    equal(this.#portFrames(), heard + sum(isPortDrop), 'to ports = taken + refused');
    this.#settled += change.tx_frames + sum(isTransmitDrop) + (isGroup ? 0 : change.local_frames);
    return { ...change, left };
  }

  transmit(tap: Tap, bytes: Uint8Array, header = WHOLE): void {
    const isGroup = bytes.length > 0 && (bytes[0] & 1) === 1;
    this.#sent++;
    const before = this.#settled;
    const { rx_frames, ...change } = this.did(() => {
      tap.sendWith(header, bytes);
    }, isGroup);
    equal([rx_frames, total(change, isReceiveDrop)], [0, 0], 'a frame from a port was not received');
    const outcomes = this.#settled - before;
    if (outcomes === 1) return;
    const to = bytes.subarray(0, 6).reduce((mac, byte) => mac * 256 + byte, 0);
    // A group frame waits for an answer of its own; all to one unicast MAC wait for the same.
    const waits = isGroup
      ? change.lookups === 1
      : this.net.targets().some(({ mac, state }) => mac === to && state === 'pending');
    equal([outcomes, waits], [0, true], 'one outcome, or it waits');
  }

  receive(bytes: Uint8Array, isKnown: boolean, tos: number): void {
    const from = isKnown ? this.peer : this.stranger;
    const change = this.did(() => {
      this.vtep.listener.inbox.push({ from: from.local, to: this.vtep.endpoint, tos, bytes });
      this.lab.run();
    });
    const outcomes = [change.rx_frames, ...REASONS.filter(isReceiveDrop).map((name) => change[name])].filter(
      Boolean,
    );
    equal(outcomes.length, 1, 'delivered, or one reason');
    // Of a peer on the same machine, a superframe may come that was never cut: it counts as its segments.
    if (bytes.length <= this.#mtuBytes) equal(outcomes, [1], 'one frame');
    // With strict-source an inner source that is not known is asked about, and always one that a port has.
    const source = bytes.subarray(14, 20).reduce((mac, byte) => mac * 256 + byte, 0);
    const isAsked = this.#isStrict || this.live.some(({ mac }) => mac === source);
    const asked = isAsked ? 0 : change.lookups;
    equal([change.left, change.tx_frames, asked], [0, 0, 0], 'split horizon');
  }

  /** All that waits is lost with the overlay, and counted. */
  end(): void {
    this.did(() => {
      this.net.remove();
    });
    equal(this.#settled, this.#sent, 'every frame has one outcome');
  }

  #read(): Record<CounterName, number> {
    const own = this.net.counters;
    const socket = readCounters(this.vtep.socketCounters);
    return Object.fromEntries(
      Object.entries(own).map(([name, value]) => [name, value + socket[name as CounterName]]),
    ) as Record<CounterName, number>;
  }

  #lastPortFrames = 0;

  #portFrames(): number {
    const now = this.taps.reduce((count, tap) => count + tap.counters.rx_frames, 0);
    const change = now - this.#lastPortFrames;
    this.#lastPortFrames = now;
    return change;
  }
}

/** As they are on a wire. */
function framesOf({ bytes, header }: MemoryFrame): number {
  return header.gsoType === 0 ? 1 : Math.ceil((bytes.length - header.headerLength) / header.gsoSize);
}

function total(change: Partial<Record<CounterName, number>>, which: (name: string) => boolean): number {
  return REASONS.filter(which).reduce((sum, name) => sum + (change[name] ?? 0), 0);
}
