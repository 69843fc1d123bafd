/**
 * The link protection of one VNIC on the control thread. It joins the operator's settings, the plugin's
 * answer about the MAC and the addresses that DHCP has leased into the rules that the datapath applies.
 *
 *   addresses in force = those of the plugin, if it names any; else `allowed-ips`; and the leased ones, if `allowed-ips` is
 *                        empty or `dynamic-methods` has their method
 *
 * Leases outlast the daemon: a guest does not know of a restart, and goes on sending from its address.
 */
import type { LinkPropertyRow } from '../../control/messages.js';
import { FOR_EVER_S, type LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { ProtectionRules } from '../../core/protection/link-protection.js';
import {
  formatPrefix,
  LINK_PROPERTIES,
  type LinkValues,
  parseClientId,
  parsePrefix,
  type Protection,
  PROTECTIONS,
  valuesOf,
} from '../../model/link-properties.js';
import { type IpAddress, isV4, parse as parseIp, type Prefix, V4_BITS, V6_BITS } from '../../wire/ip.js';
import type { StoredLease } from '../state/state-schema.js';

/**
 * Most leases at a time, as many as may be listed. A guest that is granted more loses the one that ends
 * first.
 */
const MAX_LEASES = 32;
/** setTimeout takes no more; a later end is looked at again. */
const MAX_TIMER_MS = 0x7fff_ffff;

export class VnicProtection {
  #values: LinkValues;
  /** Address -> end on the monotonic clock. */
  readonly #leases = new Map<IpAddress, number>();
  /** Addresses that the plugin allows for the MAC; undefined = the plugin does not decide about it. */
  #named: readonly IpAddress[] | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #changed: () => void;

  /** `changed`: called when the rules have changed because a lease has ended. */
  constructor(values: LinkValues, leases: readonly StoredLease[], changed: () => void) {
    this.#values = values;
    this.#changed = changed;
    for (const [text, endsAtMs] of leases) {
      const ip = parseIp(text);
      if (ip !== undefined) this.#leases.set(ip, endsAtMs === null ? Infinity : fromWall(endsAtMs));
    }
    this.#expire();
  }

  get values(): LinkValues {
    return this.#values;
  }

  setValues(values: LinkValues): void {
    this.#values = values;
  }

  /** Addresses that the plugin allows; undefined = the plugin does not decide about them. */
  get named(): readonly IpAddress[] | undefined {
    return this.#named;
  }

  setNamed(ips: readonly IpAddress[] | undefined): void {
    this.#named = ips;
  }

  /** Returns whether the lease was news; if so, the rules may have changed. */
  hear({ family, ip, validS }: LeaseNews): boolean {
    if (validS === 0) {
      const ended = [...this.#leases.keys()].filter((one) =>
        ip === undefined ? isV4(one) === (family === 4) : one === ip,
      );
      for (const one of ended) this.#leases.delete(one);
      return ended.length > 0;
    }
    if (ip === undefined) return false;
    this.#leases.set(ip, validS === FOR_EVER_S ? Infinity : performance.now() + validS * 1000);
    if (this.#leases.size > MAX_LEASES) this.#leases.delete(this.#endsFirst(ip));
    this.#arm();
    return true;
  }

  /**
   * Whether the operator has set a protection that depends on the MAC, so that a change of the MAC would
   * evade it.
   */
  get restsOnMac(): boolean {
    return valuesOf(this.#values, 'protection').some((type) => type !== 'restricted');
  }

  /** The rules in force; undefined = there are none. */
  rules(): ProtectionRules | undefined {
    const types = this.#types();
    if (types.length === 0) return undefined;
    const any = valuesOf(this.#values, 'allow-all-dhcp-cids')[0] === 'true';
    const clientIds = valuesOf(this.#values, 'allowed-dhcp-cids').flatMap(
      (text) => parseClientId(text) ?? [],
    );
    return { types, addresses: this.#addresses(), clientIds: any ? 'any' : clientIds };
  }

  rows(link: string): LinkPropertyRow[] {
    return linkRows(link, this.#values, (name) => this.#effective(name));
  }

  leases(): StoredLease[] {
    return [...this.#leases].map(([ip, end]) => [ip, end === Infinity ? null : toWall(end)]);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #types(): readonly Protection[] {
    const set = valuesOf(this.#values, 'protection');
    const forced = this.#named === undefined ? [] : ['mac-nospoof', 'ip-nospoof'];
    return PROTECTIONS.filter((type) => set.includes(type) || forced.includes(type));
  }

  #addresses(): Prefix[] {
    if (this.#named !== undefined) return this.#named.map(whole);
    const listed = valuesOf(this.#values, 'allowed-ips').flatMap((text) => parsePrefix(text) ?? []);
    const methods = valuesOf(this.#values, 'dynamic-methods');
    const counts = (ip: IpAddress): boolean =>
      listed.length === 0 || methods.includes(isV4(ip) ? 'dhcpv4' : 'dhcpv6');
    return [...listed, ...[...this.#leases.keys()].filter(counts).map(whole)];
  }

  /** A list that no protection uses has no effect. */
  #effective(name: string): readonly string[] {
    const types = this.#types();
    switch (name) {
      case 'protection':
        return types;
      case 'allowed-ips':
        return types.includes('ip-nospoof') ? [...new Set(this.#addresses().map(formatPrefix))] : [];
      case 'dynamic-methods':
        return types.includes('ip-nospoof') && this.#named === undefined ? valuesOf(this.#values, name) : [];
      default:
        return types.includes('dhcp-nospoof') ? valuesOf(this.#values, name) : [];
    }
  }

  #endsFirst(newest: IpAddress): IpAddress {
    const others = [...this.#leases].filter(([ip]) => ip !== newest);
    return others.reduce((a, b) => (b[1] < a[1] ? b : a))[0];
  }

  /** Forgets leases that are over. Returns whether there were any. */
  #expire(): boolean {
    const over = [...this.#leases].filter(([, end]) => end <= performance.now());
    for (const [ip] of over) this.#leases.delete(ip);
    this.#arm();
    return over.length > 0;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = Math.min(...this.#leases.values());
    if (next === Infinity) return;
    const delayMs = Math.min(MAX_TIMER_MS, Math.max(0, Math.ceil(next - performance.now())));
    this.#timer = setTimeout(() => {
      if (this.#expire()) this.#changed();
    }, delayMs);
    this.#timer.unref();
  }
}

export function linkRows(
  link: string,
  values: LinkValues,
  effective: (name: string) => readonly string[],
): LinkPropertyRow[] {
  return LINK_PROPERTIES.map(({ name, default: fallback, possible }) => ({
    link,
    property: name,
    permission: 'rw',
    value: valuesOf(values, name),
    effective: effective(name),
    default: fallback,
    possible,
  }));
}

function whole(ip: IpAddress): Prefix {
  return { ip, bits: isV4(ip) ? V4_BITS : V6_BITS };
}

/** The disk has the time of day, since another process has another monotonic clock. */
function toWall(monotonicMs: number): number {
  return Math.round(Date.now() + monotonicMs - performance.now());
}

function fromWall(wallMs: number): number {
  return performance.now() + wallMs - Date.now();
}
