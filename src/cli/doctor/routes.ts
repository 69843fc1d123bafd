/** Looks at the listen address of an overlay, and at the routes to its destinations. */
import { hostAddresses, linkInfo, type LinkInfo, routeMtuBytes, routeTo } from '../../dgram-extra/index.js';
import { encapsulation, overheadBytes } from '../../encap/index.js';
import { counted } from '../../model/sentences.js';
import { family, type IpAddress, isV4, readV6, toBytes } from '../../wire/ip.js';
import { fail, firstOf, ok, type Plain, skip, warn } from './finding.js';
import type { OverlaySubject } from './subject.js';
import { textOf } from './system.js';

export interface RouteFacts {
  readonly to: IpAddress;
  /** Link that it leaves by; undefined = there is no route from the listen address. */
  readonly link: string | undefined;
  /** There is a route from another address of this host. */
  readonly hasOtherSource: boolean;
  /** Port of an overlay that it leads into. */
  readonly into: string | undefined;
  readonly mtuBytes: number | undefined;
}

export interface RoutesFacts extends Pick<OverlaySubject, 'name' | 'encap' | 'listenIp' | 'mtuBytes'> {
  readonly address: 'good' | 'tentative' | 'duplicate' | 'absent';
  /** Link that has the listen address. */
  readonly home: string | undefined;
  /** Packets from elsewhere arrive by that link: it is neither loopback nor a dummy. */
  readonly isHomeOnWire: boolean;
  /** Its filter is strict: 1 of net.ipv4.conf.*.rp_filter. */
  readonly isStrict: boolean;
  /** Interfaces of this overlay. */
  readonly ports: readonly string[];
  readonly routes: readonly RouteFacts[];
  /** Destinations, of which some may not have been looked at. */
  readonly destinationCount: number;
}

/** As in daemon/underlay: 5 us each, and routes of one host differ little. */
const MAX_ROUTES = 1024;
/** Links that are followed one upon another. */
const MAX_DEPTH = 8;

/** `portNames`: interfaces of all overlays. */
export function readRoutes(overlay: OverlaySubject, portNames: ReadonlySet<string>): RoutesFacts {
  const { name, encap, listenIp, mtuBytes, destinations, vnics } = overlay;
  const source = toBytes(listenIp);
  const entry = hostAddresses().find(({ address }) => readV6(address, 0) === listenIp);
  const home = entry && linkInfo(entry.index);
  const isHere = routeTo(source)?.isLocal === true;
  const all = [...new Set(destinations.map(({ ip }) => ip))];
  return {
    name,
    encap,
    listenIp,
    mtuBytes,
    address: entry !== undefined && entry.state !== 'good' ? entry.state : isHere ? 'good' : 'absent',
    home: home?.name,
    isHomeOnWire: home !== undefined && home.name !== 'lo' && home.kind !== 'dummy',
    isStrict: home !== undefined && isV4(listenIp) && isStrict(home.name),
    ports: [name, ...vnics.map((vnic) => vnic.name)],
    routes: spread(all).map((to) => readRoute(to, source, portNames)),
    destinationCount: all.length,
  };
}

/** From all parts of a long list. */
function spread(all: readonly IpAddress[]): IpAddress[] {
  const step = Math.max(1, all.length / MAX_ROUTES);
  return Array.from({ length: Math.min(all.length, MAX_ROUTES) }, (_, at) => all[Math.floor(at * step)]);
}

function readRoute(ip: IpAddress, from: Uint8Array, portNames: ReadonlySet<string>): RouteFacts {
  const to = toBytes(ip);
  const route = routeTo(to, from);
  const link = route && linkInfo(route.index);
  return {
    to: ip,
    link: link?.name,
    hasOtherSource: route === undefined && routeTo(to) !== undefined,
    into: link && portBelow(link, portNames),
    mtuBytes: route && routeMtuBytes(from, to, ip),
  };
}

/** The link itself may be a port, or sit on one: a VLAN or macvlan of it. */
function portBelow(link: LinkInfo, portNames: ReadonlySet<string>): string | undefined {
  let at: LinkInfo | undefined = link;
  for (let depth = 0; at !== undefined && depth < MAX_DEPTH; depth++) {
    if (portNames.has(at.name)) return at.name;
    if (at.lower === 0 || at.kind === 'veth') return undefined;
    at = linkInfo(at.lower);
  }
  return undefined;
}

/** The kernel takes the larger one of `all` and the link's own (ip-sysctl.rst). */
function isStrict(link: string): boolean {
  const value = (name: string): number => Number(textOf(`/proc/sys/net/ipv4/conf/${name}/rp_filter`) ?? 0);
  return Math.max(value('all'), value(link)) === 1;
}

export function checkRoutes(facts: RoutesFacts): Plain[] {
  const { address, destinationCount } = facts;
  const first = addressFinding(facts);
  const codes = ['ROUTE', 'ROUTE-LOOP', 'ROUTE-MTU', 'RP-FILTER'] as const;
  if (address === 'absent')
    return [first, ...codes.map((code) => skip(code, 'the listen address is not there'))];
  if (destinationCount === 0) return [first, ...codes.map((code) => skip(code, 'no destination is known'))];
  return [first, routeFinding(facts), loopFinding(facts), mtuFinding(facts), filterFinding(facts)];
}

function addressFinding({ address, listenIp, encap, home }: RoutesFacts): Plain {
  switch (address) {
    case 'good':
      return ok('LISTEN-ADDRESS', `${listenIp} is an address of ${home ?? 'this host'}`);
    case 'absent':
      return fail(
        'LISTEN-ADDRESS',
        `${listenIp} is not an address of this host`,
        `ip addr add ${listenIp}/PREFIX dev LINK, or create the overlay with another ${encap}/listen_ip`,
      );
    case 'tentative':
      return warn(
        'LISTEN-ADDRESS',
        `${listenIp} is not in use yet: duplicate address detection goes on`,
        'wait a moment; varpd starts the overlay when it ends',
      );
    case 'duplicate':
      return fail(
        'LISTEN-ADDRESS',
        `${listenIp} is the address of another host too, says duplicate address detection`,
        'give one of the two hosts another address',
      );
  }
}

function routeFinding({ routes, listenIp, destinationCount }: RoutesFacts): Plain {
  const lost = routes.filter(({ link }) => link === undefined);
  if (lost.length === 0) {
    const looked = routes.length === destinationCount ? 'all' : `${routes.length} of`;
    return ok('ROUTE', `there are routes to ${looked} ${counted(destinationCount, 'destination')}`);
  }
  const [{ hasOtherSource }] = lost;
  const to = firstOf(lost.map((route) => route.to));
  return hasOtherSource
    ? fail(
        'ROUTE',
        `there is no route from ${listenIp} to ${to}, only from other addresses`,
        `ip route get ${lost[0].to} from ${listenIp}; ip rule`,
      )
    : fail(
        'ROUTE',
        `there is no route to ${to}`,
        `ip route add ${lost[0].to} via ROUTER; does the link have a carrier?`,
      );
}

function loopFinding({ routes, ports }: RoutesFacts): Plain {
  const looping = routes.filter(({ into }) => into !== undefined && ports.includes(into));
  if (looping.length === 0) return ok('ROUTE-LOOP', 'no route leads into this overlay');
  const [{ to, into }] = looping;
  return fail(
    'ROUTE-LOOP',
    `the route to ${firstOf(looping.map((route) => route.to))} leads into ${into}, a port of this overlay: nothing is sent there`,
    `ip route add ${to} dev LINK, with the link of the underlay; a default route into the overlay needs such a route for each destination`,
  );
}

function mtuFinding({ routes, mtuBytes, encap, listenIp }: RoutesFacts): Plain {
  if (mtuBytes === undefined) return skip('ROUTE-MTU', 'the overlay does not run, and has no MTU set');
  const needed = mtuBytes + overheadBytes(encapsulation(encap), family(listenIp));
  const narrow = routes.filter((route) => route.mtuBytes !== undefined && route.mtuBytes < needed);
  if (narrow.length === 0)
    return ok('ROUTE-MTU', `every route carries the ${needed} bytes of a packet of ${mtuBytes}`);
  const least = Math.min(...narrow.map((route) => route.mtuBytes!));
  return fail(
    'ROUTE-MTU',
    `the route to ${firstOf(narrow.map(({ to }) => to))} carries ${least} bytes, a packet of ${mtuBytes} needs ${needed}`,
    `raise the MTU of ${narrow[0].link} to ${needed}, or dladm restart for an overlay without \`mtu\` (docs/mtu.md)`,
  );
}

/** The kernel asks for the route back, from the address that the packet came to (fib_validate_source). */
function filterFinding({ routes, home, isHomeOnWire, isStrict: strict, listenIp }: RoutesFacts): Plain {
  if (!isV4(listenIp)) return ok('RP-FILTER', 'IPv6 has no such filter');
  if (!strict || !isHomeOnWire) return ok('RP-FILTER', `the filter of ${home ?? 'the link'} is off or loose`);
  const other = routes.filter(({ link }) => link !== undefined && link !== home);
  if (other.length === 0)
    return ok('RP-FILTER', `every route leaves by ${home}, as the strict filter wants it`);
  return warn(
    'RP-FILTER',
    `the filter of ${home} is strict, and the route to ${firstOf(other.map(({ to }) => to))} leaves by ${other[0].link}: what comes back by ${home} is dropped`,
    `sysctl -w net.ipv4.conf.${home}.rp_filter=2`,
  );
}
