// Two hosts and a varpd on one of them, and what a restart must not change.

import { readdirSync, readFileSync } from 'node:fs';

import { type Test } from 'tap';

import { directOverlay } from './daemon.js';
import { daemonUser } from './daemon-user.js';
import { skipUnlessNetns } from './need.js';
import { addKernelVxlan, Bed, type Namespace } from './netns.js';
import { waitUntil } from './process.js';

export const skip = skipUnlessNetns();

export interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
}

export async function site(t: Test): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  return { bed, a, b };
}

export const create = ({ a, b }: Site, more = ''): string =>
  directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, more);

/** All of a device that a restart must leave alone: its number, MAC, addresses, and the routes over it. */
export async function identity(host: Namespace, device: string): Promise<unknown> {
  // The overlay's own interface gets its automatic address only once it is used.
  const hasAutomatic = async (): Promise<boolean> =>
    (await host.ip(`-6 addr show dev ${device} scope link`)) !== '';
  await waitUntil(hasAutomatic, { what: `the automatic address of ${device}` });
  const [link] = JSON.parse(await host.ip(`-j addr show dev ${device}`)) as {
    ifindex: number;
    address: string;
    addr_info: { local: string }[];
  }[];
  const routes = await host.ip(`route show dev ${device} proto static`);
  const { ifindex, address, addr_info: addresses } = link;
  return {
    ifindex,
    address,
    addresses: addresses.map(({ local }) => local),
    routes: routes.replaceAll('linkdown', '').trim(),
  };
}

/** Of every thread of a process: what it may do, and as whom. */
export function threads(pid: number): Record<string, string>[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => {
    const text = readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8');
    return Object.fromEntries(
      [...text.matchAll(/^(\w+):[\t ]*(.*)$/gm)].map(([, name, value]) => [name, value]),
    );
  });
}

export const NET_ADMIN = '0000000000001000';
/** Root, in whatever groups this test is. */
export const OWN = (): { uid: string; gid: string; groups: string } => ({
  uid: `${daemonUser().uid}`,
  gid: `${daemonUser().gid}`,
  groups: '',
});

export function checkRights(t: Test, pid: number, ids: { uid: string; gid: string; groups: string }): void {
  const all = threads(pid);
  t.ok(all.length > 5, `${all.length} threads`);
  const wrong = all.filter(
    (one) =>
      ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].some((name) => one[name] !== NET_ADMIN) ||
      one['NoNewPrivs'] !== '1' ||
      one['Seccomp'] !== '2' ||
      one['Uid'] !== Array(4).fill(ids.uid).join('\t') ||
      one['Gid'] !== Array(4).fill(ids.gid).join('\t') ||
      one['Groups'].trim() !== ids.groups,
  );
  t.same(wrong, [], 'each has CAP_NET_ADMIN alone, can have no more, and may not make every system call');
}
