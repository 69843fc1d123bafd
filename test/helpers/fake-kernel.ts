// Links, addresses and routes that a test sets, in place of the kernel's; what it does not tell of is not heard.
import type { HostAddress, HostEvent, HostEvents, LinkKernel } from '../../src/daemon/links.js';
import type { LinkInfo, RouteInfo } from '../../src/dgram-extra/index.js';
import type { IpAddress } from '../../src/wire/ip.js';

export class FakeKernel implements LinkKernel {
  readonly links = new Map<number, LinkInfo>();
  readonly hostAddresses = new Map<IpAddress, HostAddress>();
  /** Index of the link to a destination. */
  readonly routes = new Map<IpAddress, number>();
  /** Of the link to all others, if there is one. */
  defaultRoute: number | undefined;
  /** How often it was asked for each. */
  readonly asked = { link: 0, addresses: 0, route: 0 };
  /** What every question fails with. */
  failure: Error | undefined;
  closed = false;
  #events: HostEvent[] = [];
  #lost = false;
  #readable: (() => void) | undefined;
  #isArmed = true;

  setLink(index: number, name: string, { up = true, carrier = true, mac = index } = {}): void {
    const rest = { mtuBytes: 1500, alias: '', master: 0, kind: 'tun' };
    this.links.set(index, { index, name, up, carrier, mac: Uint8Array.of(mac), ...rest });
  }

  setAddress(ip: IpAddress, index: number, state: HostAddress['state'] = 'good'): void {
    this.hostAddresses.set(ip, { ip, index, state });
  }

  /** Calls back as the kernel would: once, until it is asked to do so again. */
  tell(...events: readonly HostEvent[]): void {
    this.#events.push(...events);
    this.#call();
  }

  loseMessages(): void {
    this.#lost = true;
    this.#call();
  }

  link(link: string | number): LinkInfo | undefined {
    this.#ask('link');
    return typeof link === 'number'
      ? this.links.get(link)
      : [...this.links.values()].find(({ name }) => name === link);
  }

  addresses(): readonly HostAddress[] {
    this.#ask('addresses');
    return [...this.hostAddresses.values()];
  }

  route(to: IpAddress): RouteInfo | undefined {
    this.#ask('route');
    const home = this.hostAddresses.get(to);
    if (home !== undefined)
      return this.links.get(home.index)?.up === true ? { isLocal: true, index: 1 } : undefined;
    const index = this.routes.get(to) ?? this.defaultRoute;
    return index === undefined ? undefined : { isLocal: false, index };
  }

  listen(readable: () => void): HostEvents {
    this.#readable = readable;
    return {
      read: () => {
        const read = { events: this.#events, lost: this.#lost };
        this.#events = [];
        this.#lost = false;
        return read;
      },
      again: () => {
        this.#isArmed = true;
        if (this.#events.length > 0 || this.#lost) this.#call();
      },
      close: () => {
        this.closed = true;
      },
    };
  }

  #ask(what: keyof FakeKernel['asked']): void {
    this.asked[what]++;
    if (this.failure !== undefined) throw this.failure;
  }

  #call(): void {
    if (!this.#isArmed) return;
    this.#isArmed = false;
    this.#readable?.();
  }
}
