/**
 * The list of all properties of an overlay.
 *
 * Three owners share it: the overlay itself (`mtu`, `vnetid`, `encap`, `varpd/id`, `search`), the tunnel and
 * the lookup plugin. Properties of the tunnel have the name of the encapsulation before the slash
 * (`vxlan/...`, `geneve/...`), those of the plugin have its name (`direct/...`).
 */
import { type Encapsulation, encapsulation, ENCAPSULATION_NAMES } from '../encap/index.js';
import type { PropertySpec, PropertyValue } from '../plugin/properties.js';
import {
  type Endpoint,
  family,
  type IpAddress,
  is6to4,
  isBroadcast,
  isLinkLocal,
  isMulticast,
  isUnspecified,
  isV4Compatible,
  MAX_PORT,
} from '../wire/ip.js';
import { OFFLOAD_WORDS, readOffloads } from './offloads.js';
import {
  DECIMAL,
  MAX_ID,
  MAX_MTU_BYTES,
  MIN_MTU_BYTES,
  type OwnedSpec,
  type PropertySet,
} from './properties.js';

export const MAX_QUEUES = 16; // a thread and some 17 MB each; more cores than that have no use for one overlay
const MAX_SOURCE_PORTS = 256; // one socket each; more paths than that has no link aggregate or ECMP group
const DEFAULT_SOURCE_PORTS = 64; // conformance V6: spreads 256 flows well, costs 64 descriptors

export const LINK_STATE = ['up', 'follow'] as const;

const UDP_CHECKSUM = ['auto', 'full', 'zero'] as const;
const ACCEPT = ['known', 'any'] as const;
const VLAN = ['keep', 'drop'] as const;
const DSCP = ['zero', 'copy'] as const;
const STRICT_SOURCE = ['off', 'on'] as const;
const LOOPBACK = ['on', 'off'] as const;

const AGAIN = 'delete the overlay, and create it again';

/** Returns the properties of an overlay in the order in which they are shown. `searches`: the names of all
 * plugins loaded. */
export function overlaySpecs(
  encap: Encapsulation,
  plugin: readonly PropertySpec[],
  searches: readonly string[],
): readonly OwnedSpec[] {
  return [
    {
      name: 'mtu',
      type: 'uint',
      required: false,
      min: MIN_MTU_BYTES,
      max: MAX_MTU_BYTES,
      permission: 'rw',
      about:
        'Largest packet on the overlay. The default is the least that the routes to the destinations carry, less the headers; ' +
        'more than that is refused.',
    },
    {
      name: 'vnetid',
      type: 'uint',
      required: false,
      min: 0,
      max: encap.maxId,
      permission: 'rw',
      hasOption: true,
      about:
        'The VNI, which `-v` gives. With another one the overlay is another network: its targets are forgotten, and its plugin ' +
        'is started for that network.',
    },
    {
      name: 'encap',
      type: 'choice',
      required: false,
      choices: ENCAPSULATION_NAMES,
      permission: 'r-',
      isOwn: true,
      fixed: `its sockets and its peers speak the one that it was created with; ${AGAIN}`,
      about: 'The encapsulation. `-e` sets it.',
    },
    {
      name: 'varpd/id',
      type: 'uint',
      required: false,
      max: MAX_ID,
      permission: 'r-',
      isOwn: true,
      fixed: 'varpd chooses it',
      about: 'A number that varpd gives each overlay.',
    },
    ...tunnelSpecs(encap),
    {
      name: 'offload',
      type: 'string',
      required: false,
      permission: 'rw',
      default: OFFLOAD_WORDS[0],
      possible: OFFLOAD_WORDS.join(),
      readList: readOffloads,
      about:
        'The offloads that the overlay may use, if this kernel has them. `auto`: all but `tunnel`. `off`: none, frame by frame, to compare or ' +
        'to find a fault. A list, such as `checksum,tso,train`: these alone.',
    },
    choice(
      'link-state',
      LINK_STATE,
      'Whether ports lose their carrier while no destination can be reached. `follow` needs Linux 5.0.',
    ),
    QUEUES_SPEC,
    {
      name: 'search',
      type: 'choice',
      required: false,
      choices: searches,
      permission: 'r-',
      isOwn: true,
      fixed: `what is known of its targets comes from the plugin; ${AGAIN}`,
      about: 'The lookup plugin. `-s` sets it.',
    },
    ...plugin.map((spec): OwnedSpec =>
      spec.changeable === true
        ? { ...spec, permission: 'rw' }
        : { ...spec, permission: 'r-', fixed: `its plugin takes a value only at its start; ${AGAIN}` },
    ),
  ];
}

/** Encapsulation -> the properties of an overlay that has it, without those of its plugin. */
export const specsByEncapsulation = (): ReadonlyMap<string, readonly OwnedSpec[]> =>
  new Map(ENCAPSULATION_NAMES.map((name) => [name, overlaySpecs(encapsulation(name), [], [])]));

// -- The tunnel

/** Properties that every encapsulation has. */
function tunnelSpecs({ name: encap, defaultPort }: Encapsulation): readonly OwnedSpec[] {
  return [
    {
      name: `${encap}/listen_ip`,
      type: 'ip',
      required: true,
      permission: 'rw',
      refuse: refuseListenIp,
      about:
        'An address of this host: where datagrams are received, and the source of all that is sent. IPv4 or IPv6. Overlays may share it.',
    },
    {
      name: `${encap}/listen_port`,
      type: 'uint',
      required: true,
      permission: 'rw',
      default: `${defaultPort}`,
      min: 1,
      max: MAX_PORT,
      about: 'The UDP port at which they are received. One port of an address is for one encapsulation.',
    },
    {
      name: `${encap}/source_ports`,
      type: 'uint',
      required: false,
      permission: 'rw',
      default: `${DEFAULT_SOURCE_PORTS}`,
      min: 1,
      max: MAX_SOURCE_PORTS,
      about:
        'Sending sockets, bound in 49152-65535; the inner flow chooses one, so that the underlay can spread flows. 1 = the listen port.',
    },
    choice(
      `${encap}/udp_checksum`,
      UDP_CHECKSUM,
      'Outer UDP checksum. `auto`: full, but zero on IPv4 without the offload `train`. `zero` and sending many frames as one message ' +
        'exclude each other in the kernel. Both are received.',
    ),
    choice(
      `${encap}/accept`,
      ACCEPT,
      'Frames from peers only (destinations, and the peers that the plugin names), or from every address that reaches the port.',
    ),
    choice(
      `${encap}/strict-source`,
      STRICT_SOURCE,
      'An inner source must live, by the plugin, at the VTEP that sent it. An unknown MAC is asked about, and its frames are ' +
        'dropped until the answer is there. With one destination for all it is that one.',
    ),
    choice(
      `${encap}/vlan`,
      VLAN,
      'Inner 802.1Q tags are carried through the tunnel, or such frames dropped.',
    ),
    choice(`${encap}/dscp`, DSCP, 'Outer DSCP. Congestion marks (ECN) always follow RFC 6040.'),
    choice(
      `${encap}/loopback`,
      LOOPBACK,
      'Loopback messages (IEEE 802.1Q 20.2, `dladm probe`) of peers to the MAC of a port: varpd answers them in the name of ' +
        'the port, or delivers them as any other frame.',
    ),
  ];
}

/** The values of the tunnel's properties. */
export interface TunnelValues {
  readonly listen: Endpoint;
  readonly sourcePorts: number;
  readonly udpChecksum: (typeof UDP_CHECKSUM)[number];
  readonly accept: (typeof ACCEPT)[number];
  readonly strictSource: boolean;
  readonly vlan: (typeof VLAN)[number];
  readonly dscp: (typeof DSCP)[number];
  readonly answersLoopback: boolean;
}

export function tunnelValues({ name: encap }: Encapsulation, properties: PropertySet): TunnelValues {
  return {
    listen: { ip: properties.ip(`${encap}/listen_ip`), port: properties.uint(`${encap}/listen_port`) },
    sourcePorts: properties.uint(`${encap}/source_ports`),
    udpChecksum: properties.word(`${encap}/udp_checksum`, UDP_CHECKSUM),
    accept: properties.word(`${encap}/accept`, ACCEPT),
    strictSource: properties.word(`${encap}/strict-source`, STRICT_SOURCE) === 'on',
    vlan: properties.word(`${encap}/vlan`, VLAN),
    dscp: properties.word(`${encap}/dscp`, DSCP),
    answersLoopback: properties.word(`${encap}/loopback`, LOOPBACK) === 'on',
  };
}

/** Refuses an address that a peer cannot answer to: every packet sent has it as its source. */
function refuseListenIp(value: PropertyValue): string | undefined {
  const ip = value as IpAddress;
  const isGood = !isUnspecified(ip) && !isBroadcast(ip) && !isMulticast(ip) && isRoutable(ip);
  return isGood
    ? undefined
    : 'a unicast address of this host, neither 6to4, v4-compatible nor IPv6 link-local';
}

/** Returns false for the forms that illumos refuses, and for a link-local IPv6 address, which is ambiguous
 * without its interface. */
function isRoutable(ip: IpAddress): boolean {
  return !isV4Compatible(ip) && !is6to4(ip) && !(family(ip) === 6 && isLinkLocal(ip));
}

// -- Threads

/** Number of threads that carry the overlay; `auto` = one per core. */
const QUEUES_SPEC: OwnedSpec = {
  name: 'queues',
  type: 'string',
  required: false,
  default: '1',
  permission: 'r-',
  fixed: `the interfaces of its ports are made with that many queues; ${AGAIN}`,
  possible: `auto,1-${MAX_QUEUES}`,
  about: 'Threads that carry the overlay, `auto` = one a core.',
  refuse: (value) =>
    value === 'auto' || (DECIMAL.test(String(value)) && Number(value) >= 1 && Number(value) <= MAX_QUEUES)
      ? undefined
      : `auto, or a whole number from 1 to ${MAX_QUEUES}`,
};

/** Returns the number of threads for a value of the property, on a machine with this number of cores. */
export function queueCount(text: string, cores: number): number {
  return text === 'auto' ? Math.min(MAX_QUEUES, cores) : Number(text);
}

/** The first choice is the default. */
function choice(name: string, choices: readonly [string, ...string[]], about: string): OwnedSpec {
  return { name, type: 'choice', required: false, permission: 'rw', default: choices[0], choices, about };
}
