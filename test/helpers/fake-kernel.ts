// Links, addresses and routes that a test sets, in place of the kernel's; what it does not tell of is not heard.
import type {
  HostAddress,
  HostEvent,
  HostEvents,
  HostRoute,
  LinkKernel,
} from '../../src/daemon/underlay/links.js';
import type { LinkInfo } from '../../src/dgram-extra/index.js';
import type { IpAddress } from '../../src/wire/ip.js';
import { BYTES as MAC_BYTES, type MacAddress, readMac, writeMac } from '../../src/wire/mac.js';

/** `mac` is the index of the link when left out. */
type LinkShape = Partial<Omit<LinkInfo, 'index' | 'name' | 'mac'>> & {
  readonly mac?: MacAddress;
};

export class FakeKernel implements LinkKernel {
  readonly links = new Map<number, LinkInfo>();
  readonly hostAddresses = new Map<IpAddress, HostAddress>();
  /** Index of the link to a destination. */
  readonly routes = new Map<IpAddress, number>();
  /** The router on the way to a destination. */
  readonly routers = new Map<IpAddress, IpAddress>();
  /** What the route to a destination was told to carry. */
  readonly routeMtus = new Map<IpAddress, number>();
  /** MACs of neighbours, whichever link they are behind. */
  readonly neighbours = new Map<IpAddress, MacAddress>();
  /** Index of the link behind which the one bridge there is has seen a MAC. */
  readonly seenBehind = new Map<MacAddress, number>();
  /** Sources that no route leads from. */
  readonly routeless = new Set<IpAddress>();
  /** Of the link to all others, if there is one. */
  defaultRoute: number | undefined;
  /** How often it was asked for each. */
  readonly asked = { link: 0, addresses: 0, route: 0, neighbour: 0 };
  /** What every question fails with. */
  failure: Error | undefined;
  closed = false;
  #events: HostEvent[] = [];
  #lost = false;
  #readable: (() => void) | undefined;
  #isArmed = true;

  setLink(index: number, name: string, { mac = index, ...shape }: LinkShape = {}): void {
    const bytes = new Uint8Array(MAC_BYTES);
    writeMac(bytes, 0, mac);
    const usual = { up: true, carrier: true, mtuBytes: 1500, master: 0, lower: 0, kind: 'tun' };
    this.links.set(index, { index, name, ...usual, ...shape, mac: bytes });
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

  route(to: IpAddress, from?: IpAddress): HostRoute | undefined {
    this.#ask('route');
    const home = this.hostAddresses.get(to);
    if (home !== undefined)
      return this.links.get(home.index)?.up === true ? { isLocal: true, index: 1 } : undefined;
    const index = this.routes.get(to) ?? this.defaultRoute;
    if (index === undefined || (from !== undefined && this.routeless.has(from))) return undefined;
    return { isLocal: false, index, via: this.routers.get(to), mtuBytes: this.routeMtus.get(to) };
  }

  neighbourMac(_index: number, ip: IpAddress): Uint8Array | undefined {
    this.#ask('neighbour');
    const mac = this.neighbours.get(ip);
    if (mac === undefined) return undefined;
    const bytes = new Uint8Array(MAC_BYTES);
    writeMac(bytes, 0, mac);
    return bytes;
  }

  bridgePortOf(_bridge: number, mac: Uint8Array): number | undefined {
    return this.seenBehind.get(readMac(mac, 0));
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
