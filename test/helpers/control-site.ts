// Two hosts and a varpd on one of them, and what an operator sees of it.

import { type Test } from 'tap';

import { Daemon, directOverlay, VARPD_MAIN } from './daemon.js';
import { skipUnlessNetns } from './need.js';
import { addKernelVxlan, Bed, type Namespace } from './netns.js';
import { type Result } from './process.js';

export const skip = skipUnlessNetns();
/** What an idle daemon with one overlay may take (issue 2). */
export const IDLE_LIMIT_KIB = 120 << 10;

export interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
}

/** Two hosts, and a daemon on the first. */
export async function site(t: Test): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a)).explain(t);
  return { bed, a, b, daemon };
}

/** create-overlay from a to b. */
export const create = ({ a, b }: Pick<Site, 'a' | 'b'>, more = '', name = 'overlay0', vnetid = 42): string =>
  directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid, name }, more);

/** The peer of overlay0: the kernel's own vxlan. */
export async function plumbPeer({ a, b }: Pick<Site, 'a' | 'b'>, vnetid = 42, port = 4789): Promise<string> {
  const ends = { local: b.underlay.v4, remote: a.underlay.v4 };
  return addKernelVxlan(b, { device: `vx${vnetid}`, vnetid, port, ...ends });
}

/** A daemon that is not the bed's: whatever it is told, and for as long as it likes. */
export const varpd = (daemon: Daemon, args: readonly string[]): Promise<Result> =>
  daemon.host.run(daemon.startable([process.execPath, VARPD_MAIN, ...args]));

export const devicesOf = async (host: Namespace): Promise<string[]> =>
  (JSON.parse(await host.ip('-j link show')) as { ifname: string }[]).map(({ ifname }) => ifname).sort();

export const boundPorts = async (host: Namespace): Promise<string[]> =>
  (await host.exec('ss -Hulna'))
    .split('\n')
    .map((line) => line.split(/\s+/)[3] ?? '')
    .sort();

/** All that must be the same after a restart. */
export async function remembered(daemon: Daemon, host: Namespace): Promise<unknown> {
  const overlays = (await daemon.overlays()).filter(({ temporary }) => !temporary);
  const vnics = (await daemon.vnics()).filter(({ temporary }) => !temporary);
  const macs = await Promise.all(overlays.map(({ name }) => host.macOf(name)));
  return {
    overlays: overlays.map(({ name, mode, properties, health }) => ({ name, mode, properties, health })),
    vnics: vnics.map(({ name, over, mac, vid, mtuBytes, state }) => ({
      name,
      over,
      mac,
      vid,
      mtuBytes,
      state,
    })),
    macs,
  };
}
