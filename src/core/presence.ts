/**
 * Presence: whether a station with the MAC of a port is behind that port now. That a VNIC has been created with a MAC
 * does not make it so: a guest moves from host to host, and a virtual router has one MAC on several hosts.
 *
 *   QUIET       the port has sent nothing since it came up, or since what is known of its MAC was thrown away
 *   HEARD       its owner has sent a frame from its MAC, and nobody elsewhere has since
 *   ELSEWHERE   a frame from its MAC came out of the tunnel, and its owner has sent nothing since
 *
 * The words are in memory that the threads of all its queues see, and the control side, which alone knows whether the
 * interface is up. No lock: each word is whole, and whoever is late by a frame is right with the next one.
 */
import { highOf, lowOf, type MacAddress } from '../wire/mac.js';
import { type MacIndex, NONE } from './mac-index.js';
import { TICK_MS } from './target-table.js';

/** Of one port. */
export type PresenceMemory = Int32Array<SharedArrayBuffer>;

const STATE = 0;
/** Tick of the last frame of its owner; meaningless while QUIET. */
const SENT = 1;
const IS_DOWN = 2;
const WORDS = 3;

const QUIET = 0;
const HEARD = 1;
const ELSEWHERE = 2;

/** A frame that comes back does so within the round trip of any underlay; advertisements of two virtual routers are
 * 1 s apart (RFC 5798 5.2.7), so those of one pass between those of the other. */
const ECHO_TICKS = 200 / TICK_MS;
/** Whoever has sent within this time is here, whatever the plugin says: a virtual router that is the master never misses three
 * advertisements in a row, its backup takes over then (RFC 5798 6.1). */
const ALIVE_TICKS = 4000 / TICK_MS;

export function createPresence(): PresenceMemory {
  return new Int32Array(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT));
}

/** What the control side has heard of the interface. Nobody is behind one that is down. */
export function setDown(memory: PresenceMemory, isDown: boolean): void {
  if (isDown) memory[STATE] = QUIET;
  memory[IS_DOWN] = isDown ? 1 : 0;
}

export class Presence {
  readonly #memory: PresenceMemory;

  constructor(memory: PresenceMemory) {
    this.#memory = memory;
  }

  /** Its owner has sent a frame from its MAC. Written only where that changes something: others read it. */
  sent(nowTick: number): void {
    const memory = this.#memory;
    if (memory[SENT] !== nowTick) memory[SENT] = nowTick;
    if (memory[STATE] !== HEARD) memory[STATE] = HEARD;
  }

  /** A frame from its MAC came from another host, and was let in. */
  heardElsewhere(): void {
    if (this.#memory[STATE] !== ELSEWHERE) this.#memory[STATE] = ELSEWHERE;
  }

  /** Where the MAC is has to be found out again. */
  forget(): void {
    this.#memory[STATE] = QUIET;
  }

  get isDown(): boolean {
    return this.#memory[IS_DOWN] !== 0;
  }

  get isElsewhere(): boolean {
    return this.#memory[STATE] === ELSEWHERE;
  }

  /** Whether its owner has been heard so lately that its MAC is here, whatever anybody says. */
  isAlive(nowTick: number): boolean {
    return this.#sentWithin(nowTick, ALIVE_TICKS);
  }

  /** Whether a frame from its MAC that comes from elsewhere may be one of its own, come back. */
  mayEcho(nowTick: number): boolean {
    return this.#sentWithin(nowTick, ECHO_TICKS);
  }

  #sentWithin(nowTick: number, ticks: number): boolean {
    const memory = this.#memory;
    return memory[STATE] === HEARD && memory[IS_DOWN] === 0 && ((nowTick - memory[SENT]) | 0) < ticks;
  }
}

/** Of the port with this MAC, or of all: what the plugin says next is worth more than what was heard. */
export function forgetPresence(
  { ports, portIndex }: { readonly ports: readonly { presence: Presence }[]; readonly portIndex: MacIndex },
  mac: MacAddress | undefined,
): void {
  if (mac === undefined) {
    for (const { presence } of ports) presence.forget();
  } else {
    const index = portIndex.get(highOf(mac), lowOf(mac));
    if (index !== NONE) ports[index].presence.forget();
  }
}
