/** The network namespace of a container: a VNIC's interface is moved there, gets its addresses and routes, and is checked. */
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs';
import {
  addAddress,
  addRoute,
  hostAddresses,
  inNetwork,
  isOwnNetwork,
  linkInfo,
  type LinkInfo,
  moveLink,
  routesOf,
  setLink,
} from '../dgram-extra/index.js';
import { errorCode, errorText } from '../model/errors.js';
import { family, type IpAddress, isV4, toBytes, V4_BITS, V6_BITS } from '../wire/ip.js';
import { formatMac, readMac } from '../wire/mac.js';
import { CniError, CODE } from './errors.js';
import { type CniResult, type CniRoute, type Network, readAddress, readNetwork } from './result.js';

/** Runs `work` with a descriptor of the namespace. Throws a CniError when there is none. */
export async function withNamespace<T>(file: string, work: (namespace: number) => Promise<T>): Promise<T> {
  const namespace = open(file);
  try {
    return await work(namespace);
  } finally {
    closeSync(namespace);
  }
}

function open(file: string): number {
  if (file === '') throw new CniError(CODE.INVALID_ENVIRONMENT, 'missing or invalid: CNI_NETNS');
  try {
    const namespace = openSync(file, 'r');
    if (!isOwnNetwork(namespace)) return namespace;
    closeSync(namespace);
  } catch (error) {
    const code = errorCode(error) === 'ENOENT' ? CODE.UNKNOWN_CONTAINER : CODE.IO;
    throw new CniError(code, 'the network namespace of the container cannot be opened', errorText(error));
  }
  const details = `CNI_NETNS ${file} is the network namespace of the host, where VNICs are already`;
  throw new CniError(CODE.INVALID_ENVIRONMENT, 'missing or invalid: CNI_NETNS', details);
}

/** Throws a CniError when the namespace has a link of this name, or is no network namespace. */
export function refuseTaken(namespace: number, ifname: string): void {
  if (inNetwork(namespace, () => linkInfo(ifname)) !== undefined)
    throw new CniError(CODE.FAILED, `the container has an interface ${ifname} already`);
}

/** Moves the interface of a new VNIC into the namespace. Throws a CniError when it is not in this one. */
export function moveIn(namespace: number, vnic: string, ifname: string): LinkInfo {
  const link = linkInfo(vnic);
  if (link === undefined)
    throw new CniError(
      CODE.FAILED,
      `${vnic} is not in the network namespace of varpd-cni`,
      'run the engine of the containers in the network namespace of varpd',
    );
  moveLink(link.index, namespace, ifname);
  return link;
}

interface Settings {
  readonly mtu?: number | undefined;
}

/**
 * Sets addresses and routes of the result, and brings the interface up. The kernel tells the stations that knew an address
 * by another MAC (Documentation/networking/ip-sysctl.rst, arp_notify and ndisc_notify). Throws the kernel's error.
 */
export function configure(
  namespace: number,
  ifname: string,
  { ips, routes }: Pick<CniResult, 'ips' | 'routes'>,
  { mtu }: Settings,
): void {
  const networks = ips.map(({ address }) => readNetwork(address));
  const gateways = ips.flatMap(({ gateway }) => (gateway === undefined ? [] : [readAddress(gateway)]));
  inNetwork(namespace, () => {
    const link = linkInfo(ifname);
    if (link === undefined) throw new CniError(CODE.FAILED, `${ifname} is not in the container any more`);
    if (mtu !== undefined) setLink(ifname, { mtuBytes: mtu });
    setting(`ipv4/conf/${ifname}/arp_notify`, 1);
    setting(`ipv6/conf/${ifname}/ndisc_notify`, 1);
    // Some engines switch IPv6 off in new namespaces.
    if (networks.some(({ ip }) => family(ip) === 6)) setting(`ipv6/conf/${ifname}/disable_ipv6`, 0);
    for (const { ip, bits } of networks) addAddress(link.index, toBytes(ip), bits);
    setLink(ifname, { up: true });
    // A container on several networks may have the route by another one, such as the default route.
    for (const route of routes) addRoute(link.index, routeOf(route, gateways));
  });
}

/** A kernel without IPv6, or without the setting, has no use for it. */
function setting(name: string, value: number): void {
  const file = `/proc/sys/net/${name}`;
  if (existsSync(file)) writeFileSync(file, String(value));
}

/** Without a router of its own a route has that of the addresses, if they have one. */
function routeOf(route: CniRoute, gateways: readonly IpAddress[]) {
  const { ip, bits } = readNetwork(route.dst);
  const { gw, scope, priority, table, mtu, advmss } = route;
  const via =
    gw === undefined
      ? scope === undefined && gateways.find((gateway) => family(gateway) === family(ip))
      : readAddress(gw);
  return {
    destination: networkBytes({ ip, bits }),
    bits,
    via: via ? toBytes(via) : undefined,
    ...{ priority, scope, mtuBytes: mtu, advertisedMss: advmss },
    table,
  };
}

/** The sixteen bytes of a prefix, without those of a station behind it. */
function networkBytes({ ip, bits }: Network): Uint8Array {
  const end = isV4(ip) ? V6_BITS - V4_BITS + bits : bits;
  return toBytes(ip).map((byte, at) => byte & (0xff00 >> Math.min(8, Math.max(0, end - 8 * at))));
}

/** Returns a sentence for everything that is not as the result says. */
export function differences(
  namespace: number,
  ifname: string,
  mac: string | undefined,
  { ips, routes }: Pick<CniResult, 'ips' | 'routes'>,
): string[] {
  return inNetwork(namespace, () => {
    const link = linkInfo(ifname);
    if (link === undefined) return [`the container has no interface ${ifname}`];
    const found: string[] = [];
    const its = formatMac(readMac(link.mac, 0));
    if (link.kind !== 'tun') found.push(`${ifname} is no interface of varpd`);
    if (mac !== undefined && its !== mac.toLowerCase())
      found.push(`${ifname} has the MAC ${its}, not ${mac}`);
    if (!link.up) found.push(`${ifname} is down`);
    const addresses = hostAddresses().filter(({ index }) => index === link.index);
    for (const { address } of ips) {
      const bytes = toBytes(readNetwork(address).ip);
      if (!addresses.some((one) => Buffer.compare(one.address, bytes) === 0))
        found.push(`${ifname} has no address ${address}`);
    }
    const known = routes.length === 0 ? [] : routesOf();
    for (const { dst } of routes) {
      const network = readNetwork(dst);
      const bytes = networkBytes(network);
      const isThere = known.some(
        (one) => one.bits === network.bits && Buffer.compare(one.destination, bytes) === 0,
      );
      if (!isThere) found.push(`there is no route to ${dst}`);
    }
    return found;
  });
}
