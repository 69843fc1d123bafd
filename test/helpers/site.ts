// Two hosts with a tunnel between them, and what health says of it.
import type { Test } from 'tap';

import type { OverlayInfo } from '../../src/control/messages.js';
import { Daemon, directOverlay } from './daemon.js';
import { addKernelVxlan, Bed, type Namespace } from './netns.js';
import { waitUntil } from './process.js';
import { reaches } from './traffic.js';

export interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
}

/** Two hosts and a cable, which go with the test. */
export async function newHosts(t: Pick<Test, 'teardown'>): Promise<Omit<Site, 'daemon'>> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  return { bed, a, b };
}

/** Host a with a varpd and overlay0, and the kernel's vxlan on b. */
export async function newSite(t: Test, family: 'v4' | 'v6', more = ''): Promise<Site> {
  const { bed, a, b } = await newHosts(t);
  const [from, to] = [a.underlay[family], b.underlay[family]];
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await daemon.ok(directOverlay({ from, to }, more));
  await a.plumb('overlay0');
  await b.plumb(await addKernelVxlan(b, { vnetid: 42, local: to, remote: from }), { mtuBytes: 1400 });
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  return { bed, a, b, daemon };
}

export const overlayOf = async (daemon: Daemon): Promise<OverlayInfo> =>
  (await daemon.overlays('overlay0'))[0];

/** Milliseconds until the overlay's health is like this; asked all the time. */
export async function healthBecomes(t: Test, daemon: Daemon, health: RegExp | 'ONLINE'): Promise<number> {
  const startedMs = performance.now();
  let last: unknown;
  const isSo = async (): Promise<boolean> => {
    const now = (await overlayOf(daemon)).health;
    last = now;
    return health === 'ONLINE'
      ? now.status === health
      : now.status !== 'ONLINE' && health.test(now.details ?? '');
  };
  await waitUntil(isSo, { stepMs: 2, what: `health ${health}` }).catch((error: unknown) => {
    t.fail(`${String(error)}; it is ${JSON.stringify(last)}`);
  });
  return performance.now() - startedMs;
}
