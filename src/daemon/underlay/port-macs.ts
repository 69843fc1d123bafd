/**
 * Decides which MAC each port of one overlay has in force. When the MAC of a device is changed, the overlay
 * follows, unless
 *
 *   - link protection keeps the port to the configured MAC: otherwise a user of the device, in a container
 *     too, could shake off the protection by one command;
 *   - another port has that MAC: the port that is configured with it keeps it, otherwise the port that had it
 *     first;
 *   - the MAC cannot be that of a station.
 *
 * Then the configured MAC stays in force, and no frame reaches the port before the device has that MAC again.
 */
import { isMulticast, type MacAddress, ZERO } from '../../wire/mac.js';

export interface PortMac {
  readonly configured: MacAddress;
  /** Whether link protection keeps the port to the configured MAC. */
  readonly isPinned: () => boolean;
}

interface Entry extends PortMac {
  /** MAC of the device; undefined until it is known. */
  device: MacAddress | undefined;
  inForce: MacAddress;
  refusal: Refusal | undefined;
}

/** Reason why a port does not get the MAC that its device has. */
export type Refusal =
  | { readonly why: 'protected' | 'no station'; readonly device: MacAddress }
  | { readonly why: 'taken'; readonly device: MacAddress; readonly by: string };

export interface MacNews {
  readonly port: string;
  readonly mac: MacAddress;
  /** Whether another MAC is in force than before. */
  readonly isOther: boolean;
  readonly refusal: Refusal | undefined;
}

export class PortMacs {
  readonly #entries = new Map<string, Entry>();
  /** Ports that are not as configured, or have just become so. */
  readonly #odd = new Set<string>();

  add(port: string, { configured, isPinned }: PortMac): void {
    this.#entries.set(port, {
      configured,
      isPinned,
      device: undefined,
      inForce: configured,
      refusal: undefined,
    });
  }

  remove(port: string): void {
    this.#entries.delete(port);
    this.#odd.delete(port);
  }

  inForce(port: string): MacAddress | undefined {
    return this.#entries.get(port)?.inForce;
  }

  /** Whether a port has this MAC in force. */
  has(mac: MacAddress): boolean {
    for (const { inForce } of this.#entries.values()) if (inForce === mac) return true;
    return false;
  }

  saw(port: string, device: MacAddress): void {
    const entry = this.#entries.get(port);
    if (entry === undefined) return;
    entry.device = device;
    if (device !== entry.configured || entry.inForce !== entry.configured || entry.refusal !== undefined)
      this.#odd.add(port);
  }

  /** Whether `settle` may return news of this port. */
  isOdd(port: string): boolean {
    return this.#odd.has(port);
  }

  /** Decides again, and returns the changes. */
  settle(): MacNews[] {
    if (this.#odd.size === 0) return [];
    const refusals = this.#refusals();
    const news: MacNews[] = [];
    for (const port of this.#odd) {
      const entry = this.#entries.get(port)!;
      if (entry.device === entry.configured) this.#odd.delete(port);
      const refusal = refusals.get(port);
      const mac = refusal === undefined ? (entry.device ?? entry.configured) : entry.configured;
      const isOther = mac !== entry.inForce;
      if (!isOther && isSame(refusal, entry.refusal)) continue;
      entry.inForce = mac;
      entry.refusal = refusal;
      news.push({ port, mac, isOther, refusal });
    }
    return news;
  }

  /**
   * A refused port has its configured MAC. If another port wanted that MAC, it is refused too, and so on. No
   * two ports are configured with one MAC, so no two ports end with one.
   */
  #refusals(): Map<string, Refusal> {
    const refusals = new Map<string, Refusal>();
    const wanting = new Map<string, MacAddress>();
    const late = new Map<string, MacAddress>();
    const owners = new Map<MacAddress, string>();
    for (const [port, { configured, device, inForce, isPinned }] of this.#entries) {
      if (device === undefined || device === configured) owners.set(configured, port);
      else if (device === ZERO || isMulticast(device)) refusals.set(port, { why: 'no station', device });
      else if (isPinned()) refusals.set(port, { why: 'protected', device });
      else (device === inForce ? wanting : late).set(port, device);
      if (refusals.has(port)) owners.set(configured, port);
    }
    for (const [port, device] of late) wanting.set(port, device);
    for (let isStable = false; !isStable;) {
      isStable = true;
      const claimed = new Map(owners);
      for (const [port, device] of wanting) {
        const by = claimed.get(device);
        if (by === undefined) {
          claimed.set(device, port);
          continue;
        }
        refusals.set(port, { why: 'taken', device, by });
        wanting.delete(port);
        owners.set(this.#entries.get(port)!.configured, port);
        isStable = false;
      }
    }
    return refusals;
  }
}

function isSame(a: Refusal | undefined, b: Refusal | undefined): boolean {
  const by = (one: Refusal | undefined): string | undefined => (one?.why === 'taken' ? one.by : undefined);
  return a?.why === b?.why && a?.device === b?.device && by(a) === by(b);
}
