/** What the registry wants to know about the links of this host. */
import { networkInterfaces } from 'node:os';
import { linkInfo, linksWithAlias } from '../dgram-extra/index.js';
import { type IpAddress, parse as parseIp } from '../wire/ip.js';

export interface Links {
  /** Whether there is a link of this name, in the network namespace of varpd, that is not varpd's own. */
  isForeign(name: string): boolean;
  /** Names of varpd's own, those an earlier one has left included. */
  own(): string[];
  /** MTU of the link that has this address; undefined when none that is up has it. */
  mtuBytesOf(ip: IpAddress): number | undefined;
}

/** `alias` marks the links of this varpd. */
export const hostLinks = (alias: string): Links => ({
  isForeign(name) {
    const link = linkInfo(name);
    return link !== undefined && link.alias !== alias;
  },
  own: () => linksWithAlias(alias),
  mtuBytesOf(ip) {
    const [name] =
      Object.entries(networkInterfaces()).find(([, addresses]) =>
        addresses?.some(({ address }) => parseIp(address) === ip),
      ) ?? [];
    return name === undefined ? undefined : linkInfo(name)?.mtuBytes;
  },
});
