/**
 * The underlay as one overlay sees it, by the kernel's account. An event only says that something has
 * changed; the present state is asked here, so that an event that is late, lost or out of order cannot leave
 * a wrong picture.
 */
import type { LinkInfo } from '../../dgram-extra/index.js';
import type { LinkState, UnderlayLink, UnderlayView, Way } from '../../model/underlay-state.js';
import { type IpAddress, isV4 } from '../../wire/ip.js';
import { Egress, type PortTable } from './egress.js';
import type { HostRoute, LinkKernel } from './links.js';

/**
 * Routes of one overlay that are looked at. An overlay with more of them still notices a lost link, since its
 * routes share their links.
 */
const MAX_WAYS = 1024;

export interface UnderlaySlot {
  readonly overlay: string;
  readonly listenIp: IpAddress;
  readonly destinations: Iterable<IpAddress>;
}

type KnownLink = Pick<UnderlayLink, 'name'> & { readonly index: number };

/** Answers that the kernel has given in one round. */
interface Round {
  readonly infos: Map<number, LinkInfo | undefined>;
  readonly links: Map<number, UnderlayLink>;
  readonly ways: Map<string, Way>;
  readonly egress: Egress;
  readonly before: ReadonlyMap<string, KnownLink>;
}

interface AddressEntry {
  readonly index: number;
  readonly state: 'good' | 'tentative' | 'duplicate';
}

export class UnderlayViewer {
  readonly #kernel: LinkKernel;
  readonly #ports: PortTable;
  /** Undefined: the kernel has to be asked. */
  #addresses: Map<IpAddress, AddressEntry> | undefined;
  /**
   * Link of each listen address, and link of the route to each destination; the last one while there is none
   * now.
   */
  #lastLinks = new Map<string, KnownLink>();
  /** Links by index, as the last round of all overlays found them. */
  #seen: ReadonlyMap<number, UnderlayLink> = new Map();
  #egress: Egress | undefined;

  constructor(kernel: LinkKernel, ports: PortTable) {
    this.#kernel = kernel;
    this.#ports = ports;
  }

  /** Whether a route of the last round of all overlays leads over this link, or over one upon it. */
  goesBy(index: number): boolean {
    return this.#egress?.links.has(index) === true;
  }

  /** Whether the last round of all overlays rests on something that the kernel sends no events about. */
  get isTransient(): boolean {
    return this.#egress?.asksBridge === true;
  }

  /** Events about addresses were lost. */
  forgetAddresses(): void {
    this.#addresses = undefined;
  }

  addressChanged(ip: IpAddress, entry: AddressEntry | undefined): void {
    if (entry !== undefined) this.#addresses?.set(ip, entry);
    else this.#addresses?.delete(ip);
  }

  #address(ip: IpAddress): AddressEntry | undefined {
    this.#addresses ??= new Map(this.#kernel.addresses().map(({ ip, ...entry }) => [ip, entry]));
    return this.#addresses.get(ip);
  }

  /**
   * Starts a round. Each question is asked once in it, however many overlays there are. `ofAll`: the round
   * serves all overlays, and links that none of them uses are forgotten.
   */
  round(ofAll: boolean): (slot: UnderlaySlot) => UnderlayView {
    const infos = new Map<number, LinkInfo | undefined>();
    const round: Round = {
      infos,
      links: new Map(),
      ways: new Map(),
      egress: new Egress(this.#kernel, this.#ports, (index) => this.#info(index, infos)),
      before: this.#lastLinks,
    };
    const { ways, before } = round;
    if (ofAll) {
      this.#lastLinks = new Map();
      this.#seen = round.links;
      this.#egress = round.egress;
    }
    return ({ overlay, listenIp, destinations }) => {
      const address = this.addressState(listenIp);
      const home = this.#home(listenIp, before);
      const found: Way[] = [];
      for (const to of destinations) {
        if (found.length === MAX_WAYS) break;
        const key = `${listenIp} ${to}`;
        let way = ways.get(key);
        if (way === undefined) {
          way = this.#way(listenIp, to, key, round);
          ways.set(key, way);
        }
        found.push(way);
      }
      return { overlay, listenIp, address, home: home && this.#link(home, round), ways: found };
    };
  }

  /**
   * Whether a link that the last round of all overlays saw is in another state now. This asks once for each
   * link, and not about routes.
   */
  linksChanged(): boolean {
    return [...this.#seen].some(([index, { state }]) => stateOf(this.#kernel.link(index)) !== state);
  }

  addressState(ip: IpAddress): UnderlayView['address'] {
    const entry = this.#address(ip);
    if (entry !== undefined && entry.state !== 'good') return entry.state;
    // A whole prefix may belong to this host (`ip route add local`). An IPv4 address on a link that is down
    // belongs to none.
    return this.#kernel.route(ip)?.isLocal === true ? 'good' : 'absent';
  }

  #home(ip: IpAddress, before: ReadonlyMap<string, KnownLink>): KnownLink | undefined {
    return this.#known(ip, this.#address(ip)?.index, before);
  }

  /** The link of this index, or the last one where there is none; remembered under `key`. */
  #known(
    key: string,
    index: number | undefined,
    before: ReadonlyMap<string, KnownLink>,
  ): KnownLink | undefined {
    const last = before.get(key);
    const name = index === undefined || index === last?.index ? undefined : this.#kernel.link(index)?.name;
    const known = name === undefined ? last : { index: index!, name };
    if (known !== undefined) this.#lastLinks.set(key, known);
    return known;
  }

  #way(from: IpAddress, to: IpAddress, key: string, round: Round): Way {
    const route = this.#kernel.route(to, from);
    const known = this.#known(key, route?.index, round.before);
    const link = known && this.#link(known, round);
    if (route === undefined)
      return { to, hasRoute: false, hasOtherSource: this.#kernel.route(to) !== undefined, link };
    const into = route.isLocal ? undefined : round.egress.portOf(route.index, route.via ?? to);
    return {
      to,
      hasRoute: true,
      link,
      index: route.isLocal ? undefined : route.index,
      into,
      mtuBytes: narrower(to, route, this.#info(route.index, round.infos)),
    };
  }

  #info(index: number, infos: Map<number, LinkInfo | undefined>): LinkInfo | undefined {
    if (!infos.has(index)) infos.set(index, this.#kernel.link(index));
    return infos.get(index);
  }

  #link({ index, name }: KnownLink, { links, infos }: Round): UnderlayLink {
    const cached = links.get(index);
    if (cached !== undefined) return cached;
    const info = this.#info(index, infos);
    const link = { name: info?.name ?? name, state: stateOf(info), mtuBytes: info?.mtuBytes };
    links.set(index, link);
    return link;
  }
}

/**
 * MTU of a route that carries less than its link. Tunnels have to be held to it, since sockets of the
 * datapath look at the link alone.
 */
function narrower(to: IpAddress, route: HostRoute, link: LinkInfo | undefined): number | undefined {
  if (route.isLocal || link === undefined) return undefined;
  const mtuBytes = route.mtuBytes ?? (isV4(to) ? undefined : link.mtu6Bytes);
  return mtuBytes !== undefined && mtuBytes < link.mtuBytes ? mtuBytes : undefined;
}

function stateOf(info: ReturnType<LinkKernel['link']>): LinkState {
  if (info === undefined) return 'gone';
  if (!info.up) return 'down';
  return info.carrier ? 'good' : 'no carrier';
}
