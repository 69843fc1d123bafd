// One daemon, and a host at the other end that only listens or sends what it is given.

import { type Test } from 'tap';

import { Daemon } from './daemon.js';
import { Bed, type Namespace } from './netns.js';
import { reaches } from './traffic.js';

export const VXLAN_PORT = 4789; // RFC 7348 5
export const FAMILIES = ['v4', 'v6'] as const;
export type Family = (typeof FAMILIES)[number];
/** A VNIC over overlay0, in VLAN 5. */
export const VNIC = 'vlan0';
export const FRAGMENTS = 'ip.flags.mf == 1 || ip.frag_offset > 0 || ipv6.fraghdr';

/** Two hosts, of which the first has a daemon and devices that say nothing of their own accord. */
export async function oneDaemon(
  t: Test,
  mtuBytes = 1500,
): Promise<{ bed: Bed; a: Namespace; b: Namespace; daemon: Daemon }> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts({ mtuBytes });
  // The kernel queues a hundred packets for a neighbour that it does not know yet, and drops the others.
  for (const family of FAMILIES) await reaches(a, b.underlay[family]);
  await a.quietNewDevices();
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  return { bed, a, b, daemon };
}
