/**
 * Presence: whether a station with the MAC of a port is behind that port now. A VNIC that has been created
 * with the MAC is no proof: a guest moves from host to host, and a virtual router has one MAC on several
 * hosts.
 *
 *   QUIET       the port has sent nothing since it came up, or since the knowledge about its MAC was discarded
 *   HEARD       the port has sent a frame from its MAC, and no frame from that MAC has come from elsewhere since
 *   ELSEWHERE   a frame from its MAC has come out of the tunnel, and the port has sent none from it since
 *
 * The words are in memory shared by the threads of all the port's queues and the control side. Only the
 * control side knows whether the interface is up. There is no lock: each word is stored whole, and a thread
 * that is late by a frame is right with the next one.
 */
import { type MacIndex, NONE } from './tables/mac-index.js';
import { TICK_MS } from './tables/target-table.js';

/** The presence of one port. */
export type PresenceMemory = Int32Array<SharedArrayBuffer>;

const STATE = 0;
/** Tick of the last frame that the port sent from its MAC; meaningless while QUIET. */
const SENT = 1;
const IS_DOWN = 2;
const WORDS = 3;

const QUIET = 0;
const HEARD = 1;
const ELSEWHERE = 2;

/** An echo is a frame of this host that comes back; it does so within the round trip of any underlay. Two
 * virtual routers advertise 1 s apart (RFC 5798 5.2.7), so an advertisement of the other router is not taken
 * for an echo. */
const ECHO_TICKS = 200 / TICK_MS;
/** A station that has sent within this time is here, whatever the plugin says. A virtual router that is
 * master never misses three advertisements in a row: its backup would take over (RFC 5798 6.1). */
const ALIVE_TICKS = 4000 / TICK_MS;

export function createPresence(): PresenceMemory {
  return new Int32Array(new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT));
}

/** Notes whether the interface is down, as the control side has found out. No station is behind an interface
 * that is down. */
export function setDown(memory: PresenceMemory, isDown: boolean): void {
  if (isDown) memory[STATE] = QUIET;
  memory[IS_DOWN] = isDown ? 1 : 0;
}

export class Presence {
  readonly #memory: PresenceMemory;

  constructor(memory: PresenceMemory) {
    this.#memory = memory;
  }

  /** Returns one of the same state, in memory of its own. */
  copy(): Presence {
    const memory = createPresence();
    memory.set(this.#memory);
    return new Presence(memory);
  }

  /** Notes that the port has sent a frame from its MAC. The memory is written only if that changes something,
   * since other threads read it. */
  sent(nowTick: number): void {
    const memory = this.#memory;
    if (memory[SENT] !== nowTick) memory[SENT] = nowTick;
    if (memory[STATE] !== HEARD) memory[STATE] = HEARD;
  }

  /** Notes that a frame from the port's MAC came from another host and was accepted. */
  heardElsewhere(): void {
    if (this.#memory[STATE] !== ELSEWHERE) this.#memory[STATE] = ELSEWHERE;
  }

  /** Discards what is known of the MAC's place. */
  forget(): void {
    this.#memory[STATE] = QUIET;
  }

  get isDown(): boolean {
    return this.#memory[IS_DOWN] !== 0;
  }

  get isElsewhere(): boolean {
    return this.#memory[STATE] === ELSEWHERE;
  }

  /** Returns whether the port has sent from its MAC so lately that the MAC is here, whatever plugin or peers
   * say. */
  isAlive(nowTick: number): boolean {
    return this.#sentWithin(nowTick, ALIVE_TICKS);
  }

  /** Returns whether a frame from the port's MAC that comes out of the tunnel may be an echo. */
  mayEcho(nowTick: number): boolean {
    return this.#sentWithin(nowTick, ECHO_TICKS);
  }

  #sentWithin(nowTick: number, ticks: number): boolean {
    const memory = this.#memory;
    return memory[STATE] === HEARD && memory[IS_DOWN] === 0 && ((nowTick - memory[SENT]) | 0) < ticks;
  }
}

interface Ports {
  readonly ports: readonly { readonly presence: Presence }[];
  readonly portIndex: MacIndex;
}

/** Discards the presence of the port with this MAC: the plugin's next answer counts more than frames heard before. */
export function forgetPresence({ ports, portIndex }: Ports, high: number, low: number): void {
  const index = portIndex.get(high, low);
  if (index !== NONE) ports[index].presence.forget();
}

/** The same for all ports. */
export function forgetPresences({ ports }: Ports): void {
  for (const { presence } of ports) presence.forget();
}
