// Numbers of hosts and MACs, and what they are called on the wire.
import type { Endpoint, IpAddress } from '../../src/wire/ip.js';
import { address } from '../helpers/lab.js';

const UDP_PORT = 4789;
/** Locally administered; of stations, and of the own interfaces of the hosts. */
const [STATIONS, INTERFACES] = [0x0200_0000_0000, 0x0600_0000_0000];

const endpoints: Endpoint[] = [];
const numbers = new Map<IpAddress, number>();

/** Where a host listens: an address of 10.0.0.0/8. The same object each time. */
export function endpointOf(host: number): Endpoint {
  const known = endpoints.at(host);
  if (known !== undefined) return known;
  for (let index = endpoints.length; index <= host; index++) {
    const number = index + 1;
    const ip = address(`10.${number >> 16}.${(number >> 8) & 0xff}.${number & 0xff}`);
    endpoints.push({ ip, port: UDP_PORT });
    numbers.set(ip, index);
  }
  return endpoints[host];
}

/** The host that listens there. */
export const hostOf = ({ ip }: Endpoint): number => numbers.get(ip)!;

export const macOf = (station: number): number => STATIONS + station;
export const numberOf = (mac: number): number => mac - STATIONS;
export const interfaceMacOf = (host: number): number => INTERFACES + host;
