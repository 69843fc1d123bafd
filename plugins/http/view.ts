/** The knowledge of an overlay about its network, the same in every mode. */
import type { DefaultAge } from './freshness.js';
import type { Answer, Destination, IpAddress, MacAddress } from '../../src/plugin/index.js';

export interface View {
  /** Rejects with a StoreTrouble when the store does not answer, or not as it should. */
  start(signal: AbortSignal): Promise<void>;
  /** Gets everything that is in use again. */
  reload(signal: AbortSignal): Promise<void>;
  /** The store is asked in another way from now on (another token or certificate). */
  renewed(): void;
  /** The overlay has ended. Keeps what the next process may use. */
  close(): Promise<void>;
  /** Another store is asked from now on: gets everything in use from there. Rejects when it does not answer. */
  move(signal: AbortSignal): Promise<void>;
  /** The store before is asked again, since `move` has failed. */
  moveBack(): void;
  /** How long an answer without an age of its own may be used. */
  useAge(age: DefaultAge): void;
  /** Answers about a unicast MAC. */
  resolve(mac: MacAddress): Answer | Promise<Answer>;
  neighbor(ip: IpAddress): MacAddress | null | Promise<MacAddress | null>;
  dhcpServer(client: MacAddress): MacAddress | null | Promise<MacAddress | null>;
  /** undefined = the store does not answer. */
  placeOf(mac: MacAddress): Destination | null | undefined | Promise<Destination | null | undefined>;
  /** Returns the addresses that a MAC may send from. Rejects when the store does not answer. */
  ipsOf(mac: MacAddress): readonly IpAddress[] | Promise<readonly IpAddress[]>;
}

/** News of a view for the overlay. */
export interface ViewEvents {
  /** The VTEPs of the network have changed; every one is in the list once. */
  vteps(list: readonly Destination[]): void;
  /** Entries have changed that ports of this host may have. */
  entries(): void;
}

/** Returns why a target cannot be used; undefined if it can. */
export function otherFamily(ip: string, family: 4 | 6): string | undefined {
  return ip.includes(':') === (family === 6) ? undefined : `${ip} is not of the family of the listen address`;
}

export const UNKNOWN = 'the store has no such MAC';
