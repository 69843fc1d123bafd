/**
 * The links of this host: the questions that varpd asks the kernel about them, and the events that it hears.
 */
import { networkInterfaces } from 'node:os';
import {
  type AddressInfo,
  allowAutomaticAddress,
  bridgePortOf,
  hostAddresses,
  isSilent,
  type LinkEvent,
  LinkEvents,
  linkInfo,
  type LinkInfo,
  linkOffloads,
  neighbourMac,
  type RouteInfo,
  routeTo,
  TUN_F,
} from '../../dgram-extra/index.js';
import { type IpAddress, parse as parseIp, readV6, toBytes } from '../../wire/ip.js';

/** Kinds of tunnel frames: with and without an outer UDP checksum. */
export type TunnelChecksum = 'full' | 'zero';

export interface TunnelLinks {
  /** Whether the device of this link takes such tunnel frames whole. */
  takesTunnels(name: string, checksum: TunnelChecksum): boolean;
}

/** The interfaces of overlays themselves. Such an interface is no station until it is used as one. */
export interface SilentLinks {
  /** Whether the interface gets no automatic IPv6 address, and has neither an address nor a master. */
  isSilent(name: string): boolean;
  /** Lets the interface get an automatic IPv6 address. Throws the system's error. */
  allowAutomaticAddress(name: string): void;
}

export interface Links extends SilentLinks, TunnelLinks {
  /** Whether there is a link of this name in the network namespace of varpd. */
  exists(name: string): boolean;
  /**
   * MTU of the link that has this address. Undefined for loopback, and when no link that is up has the
   * address.
   */
  mtuBytesOf(ip: IpAddress): number | undefined;
}

const TUNNEL_FLAGS = { full: TUN_F.UDP_TUNNEL_GSO_CSUM, zero: TUN_F.UDP_TUNNEL_GSO } as const;

export const hostLinks: Links = {
  exists: (name) => linkInfo(name) !== undefined,
  isSilent,
  allowAutomaticAddress,
  takesTunnels: (name, checksum) => ((linkOffloads(name)?.inForce ?? 0) & TUNNEL_FLAGS[checksum]) !== 0,
  mtuBytesOf(ip) {
    const [name] =
      Object.entries(networkInterfaces()).find(([, addresses]) =>
        addresses?.some(({ address, internal }) => !internal && parseIp(address) === ip),
      ) ?? [];
    return name === undefined ? undefined : linkInfo(name)?.mtuBytes;
  },
};

export interface HostAddress extends Pick<AddressInfo, 'index' | 'state'> {
  readonly ip: IpAddress;
}

/** A change. An address in it has the form that varpd uses. */
export type HostEvent =
  | Exclude<LinkEvent, { about: 'address' }>
  | ({ readonly about: 'address'; readonly gone: boolean } & HostAddress);

export interface HostEvents {
  /** `lost`: there were more events, and everything has to be asked again. */
  read(): { readonly events: readonly HostEvent[]; readonly lost: boolean };
  /** Asks for one more call of `readable`. */
  again(): void;
  close(): void;
}

/** The route of packets to an address. */
export interface HostRoute extends Pick<RouteInfo, 'isLocal' | 'index' | 'mtuBytes'> {
  /** The router that they go by; undefined when the destination is a neighbour. */
  readonly via?: IpAddress | undefined;
}

/** The questions that the link watch asks, and the events that it hears. */
export interface LinkKernel {
  /** The link with this name or index. */
  link(link: string | number): LinkInfo | undefined;
  addresses(): readonly HostAddress[];
  route(to: IpAddress, from?: IpAddress): HostRoute | undefined;
  /** The MAC of a neighbour behind this link, as far as it is known now. */
  neighbourMac(index: number, ip: IpAddress): Uint8Array | undefined;
  /** Index of the link behind which a bridge has seen this MAC. */
  bridgePortOf(bridge: number, mac: Uint8Array): number | undefined;
  /** `readable` is called once when there is an event to read. */
  listen(readable: () => void): HostEvents;
}

export const hostKernel: LinkKernel = {
  link: linkInfo,
  addresses: () => hostAddresses().map(readable),
  route(to, from) {
    const route = routeTo(toBytes(to), from === undefined ? undefined : toBytes(from));
    return route && { ...route, via: route.via && readV6(route.via, 0) };
  },
  neighbourMac: (index, ip) => neighbourMac(index, toBytes(ip)),
  bridgePortOf,
  listen(heard) {
    const source = new LinkEvents(heard);
    return {
      read() {
        const { events, lost } = source.read();
        const own = events.map((event) =>
          event.about === 'address' ? { about: event.about, gone: event.gone, ...readable(event) } : event,
        );
        return { events: own, lost };
      },
      again: () => {
        source.again();
      },
      close: () => {
        source.close();
      },
    };
  },
};

function readable({ address, index, state }: AddressInfo): HostAddress {
  return { ip: readV6(address, 0), index, state };
}
