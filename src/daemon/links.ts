/** What the registry wants to know about the links of this host. */
import { networkInterfaces } from 'node:os';
import { linkInfo } from '../dgram-extra/index.js';
import { type IpAddress, parse as parseIp } from '../wire/ip.js';

export interface Links {
  /** In the network namespace of varpd. */
  exists(name: string): boolean;
  /** MTU of the link that has this address; undefined when none that is up has it. */
  mtuBytesOf(ip: IpAddress): number | undefined;
}

export const hostLinks: Links = {
  exists: (name) => linkInfo(name) !== undefined,
  mtuBytesOf(ip) {
    const [name] =
      Object.entries(networkInterfaces()).find(([, addresses]) =>
        addresses?.some(({ address }) => parseIp(address) === ip),
      ) ?? [];
    return name === undefined ? undefined : linkInfo(name)?.mtuBytes;
  },
};
