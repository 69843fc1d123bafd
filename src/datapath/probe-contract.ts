/** The part of the contract (contract.ts) for probes: frames of one port, and what comes back to them. */
import type { ProbeFrame, ProbeRules } from '../core/probe/probe.js';
import type { DropReason } from '../model/drops.js';
import type { Endpoint } from '../wire/ip.js';
import type { MacAddress } from '../wire/mac.js';

/** Events of a probe. Times are on one monotonic clock. News of several threads come in any order. */
export interface ProbeListener {
  /** `dropped`: the reason, if the frame was dropped before it left. A frame that waits for a lookup was sent. */
  sent(id: number, atMs: number, dropped: DropReason | undefined): void;
  /** A loopback reply; `id` is its transaction. `mac`: the station that answered; `from`: its VTEP, and the UDP
   * port that the reply was sent from. */
  replied(id: number, atMs: number, mac: MacAddress, from: Endpoint): void;
  /** An ARP reply or a neighbour advertisement about the address of the probe. */
  neighbor(atMs: number, mac: MacAddress, from: Endpoint): void;
}

export interface FrameProbe {
  /** UDP ports that the overlay sends from. The flow of a frame chooses one, by its place in this list. */
  readonly sourcePorts: readonly number[];
  /** Sends frames in order, as frames of the port with this name, with the tag that they have on the overlay. */
  send(port: string, frames: readonly ProbeFrame[]): void;
  /** Resolves when nothing more is heard. */
  stop(): Promise<void>;
}

export interface ProbedDatapath {
  /** Begins a probe: every thread hears its replies once it has resolved. An overlay has one at a time. */
  probe(rules: ProbeRules, heard: ProbeListener): Promise<FrameProbe>;
}
