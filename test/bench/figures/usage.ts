// What the forwarding processes of a tunnel take of the machine.
import { cpuSeconds, residentKib } from '../../helpers/procfs.js';
import type { Tunnel } from '../subjects/tunnel.js';

const RSS_INTERVAL_MS = 200;

/** CPU time of all forwarding processes, user and system. */
export const cpuOf = ({ pids }: Tunnel): number => pids.reduce((total, pid) => total + cpuSeconds(pid), 0);

/** Of the largest forwarding process; null when there is none. */
export const largestRssMib = ({ pids }: Tunnel): number | null =>
  pids.length === 0 ? null : Math.max(...pids.map(residentKib)) / 1024;

/** Does something, and watches how large largestRssMib becomes meanwhile. */
export async function watchRss<T>(
  tunnel: Tunnel,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly peakMib: number | null }> {
  let peakMib = largestRssMib(tunnel);
  const sampler = setInterval(() => {
    if (peakMib !== null) peakMib = Math.max(peakMib, largestRssMib(tunnel) ?? 0);
  }, RSS_INTERVAL_MS);
  try {
    const result = await work();
    return { result, peakMib };
  } finally {
    clearInterval(sampler);
  }
}
