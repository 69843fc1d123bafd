/**
 * The lookup plugin contract: everything a plugin author needs to know is in this file.
 *
 * A plugin is a directory whose `index.js` has a LookupPlugin as its default export. varpd loads it once; every
 * overlay made with `-s NAME` gets an Instance of its own. Instances are independent of each other.
 *
 * Guarantees to an Instance
 *   - no call before `start` resolved, none after `stop` was called;
 *   - at most one `resolve` in flight per MAC; calls for different MACs may overlap;
 *   - each call has a deadline (1 s unless configured): its signal is aborted, the answer is thrown away and the
 *     waiting frames are dropped as `lookup_timeout`;
 *   - an answer older than an `invalidate` of the same MAC is thrown away, the question is asked again;
 *   - a throw, a hang or nonsense makes that overlay degraded and touches no other; what was resolved before
 *     stays in use.
 */
import type { Endpoint, IpAddress } from '../wire/ip.js';

/** A MAC address as a 48-bit number: de:ad:be:ef:00:01 is 0xdeadbeef0001. */
export type MacAddress = number;

/** Where a frame is sent: a VTEP's address and UDP port on the underlay. */
export type Destination = Endpoint;

/** Value of a property: a whole number, an address, or text. */
export type PropertyValue = number | IpAddress | string;

/** One property that a plugin owns; shown by `dladm show-overlay`, given by `dladm create-overlay -p`. */
export interface PropertySpec {
  /** `plugin/property`, at most 63 characters. */
  readonly name: string;
  readonly type: 'uint' | 'ip' | 'string' | 'choice';
  /** create-overlay fails, naming all such, when one is unset. */
  readonly required: boolean;
  /** Text, as an operator would type it. */
  readonly default?: string;
  /** Bounds of a `uint`. */
  readonly min?: number;
  readonly max?: number;
  /** The words of a `choice`. */
  readonly choices?: readonly string[];
  /** A last check of a well-formed value: what was expected, in a sentence, or undefined when it is good. */
  readonly refuse?: (value: PropertyValue) => string | undefined;
}

/** The properties of one overlay, checked against their specs; reading a name that has no value is an error. */
export interface Properties {
  has(name: string): boolean;
  uint(name: string): number;
  ip(name: string): IpAddress;
  text(name: string): string;
}

/** The frame that waits for an answer. */
export interface Lookup {
  readonly destinationMac: MacAddress;
  readonly sourceMac: MacAddress;
  /** EtherType behind any VLAN tags. */
  readonly etherType: number;
  /** 802.1Q VLAN id, 0 when untagged. */
  readonly vlan: number;
}

/** ttlMs: how long the answer may be used without asking again; for ever when left out. A drop without one lasts
 * the daemon's `negativeTtlMs`. */
export type Answer =
  | { readonly kind: 'target'; readonly to: Destination; readonly ttlMs?: number }
  /** One copy to each, never back to where the frame came from. */
  | { readonly kind: 'flood'; readonly to: readonly Destination[]; readonly ttlMs?: number }
  | { readonly kind: 'drop'; readonly reason: string; readonly ttlMs?: number };

/** What an instance may ask of, and tell, the overlay it serves. Callable from any context, at any time. */
export interface Host {
  readonly overlay: string;
  readonly vnetid: number;
  readonly log: PluginLog;
  /** Monotonic milliseconds. */
  now(): number;
  /** Push an answer before it is asked for. */
  setTarget(mac: MacAddress, to: Destination, ttlMs?: number): void;
  /** Forget one MAC, or all; the next frame asks again. Frames known to others go on undisturbed. */
  invalidate(mac?: MacAddress): void;
  /** The underlay addresses that frames of this network may come from, as a whole. Destinations of targets need
   * not be named. A plugin that never calls it accepts from the destinations it answered, and from no other. */
  setPeers(peers: readonly IpAddress[]): void;
  /** Works on what it has: `dladm show-overlay -f` shows the sentence. */
  degrade(sentence: string): void;
  /** All is well again. */
  restore(): void;
}

export interface PluginLog {
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface Instance {
  /** Check, read, connect. A rejection makes create-overlay fail and undoes it. */
  start(properties: Properties, signal: AbortSignal): Promise<void>;
  /** Undo `start`. May be called twice, and after a failed start. */
  stop(): Promise<void>;
  /** Mode `point` only, and demanded of it: the one destination of every frame. Called once, after `start`. */
  defaultDestination?(): Destination;
  /** Mode `dynamic` only, and demanded of it: where does this MAC live? */
  resolve?(lookup: Lookup, signal: AbortSignal): Answer | Promise<Answer>;
}

export interface LookupPlugin {
  readonly apiVersion: 1;
  /** What `-s` takes, and the prefix of its properties: `files` owns `files/...`. At most 31 characters. */
  readonly name: string;
  /** `point`: one destination for all. `dynamic`: asked per MAC. */
  readonly mode: 'point' | 'dynamic';
  readonly properties: readonly PropertySpec[];
  /** One instance an overlay. No I/O here. */
  create(host: Host): Instance;
}
