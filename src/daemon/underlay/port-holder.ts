/** Finds the program that has a UDP port which varpd cannot bind, as far as the kernel tells. */
import { readFileSync } from 'node:fs';
import { tunnelLinksOn } from '../../dgram-extra/index.js';
import { userName } from '../../plugin/trusted-place.js';

/** Never throws: it helps to report an error. */
export function portHolder(port: number): string {
  const holder = attempt(() => kernelLinkOf(port)) ?? attempt(() => userOf(port)) ?? 'another program';
  return `${holder}; as root, 'ss -ulnp sport = :${port}' says more`;
}

function kernelLinkOf(port: number): string | undefined {
  const links = tunnelLinksOn(port);
  if (links.length === 0) return undefined;
  return `the kernel's own link ${links.slice(0, 3).join(', ')}, which has it on every address`;
}

/**
 * The user of the program. varpd may not see the descriptors of other processes, but it may see their user.
 * proc(5), /proc/net/udp.
 */
function userOf(port: number): string | undefined {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const row = ['udp', 'udp6']
    .flatMap((table) => (attempt(() => readFileSync(`/proc/self/net/${table}`, 'utf8')) ?? '').split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .find((cells) => cells.length > 9 && cells[1].endsWith(suffix));
  return row === undefined ? undefined : `another program of user ${userName(Number(row[7])) ?? row[7]}`;
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
