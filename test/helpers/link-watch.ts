// A link watch over a kernel that a test plays.

import { type Test } from 'tap';

import { LinkWatch } from '../../src/daemon/underlay/link-watch.js';
import type { PortDeviceInfo } from '../../src/datapath/contract.js';
import type { TunInfo } from '../../src/dgram-extra/index.js';
import { type Verdict } from '../../src/model/underlay-state.js';
import { type IpAddress } from '../../src/wire/ip.js';
import { readMac } from '../../src/wire/mac.js';
import { FakeKernel } from './fake-kernel.js';
import { address } from './lab.js';
import { waitUntil } from './process.js';

export const LISTEN = address('10.0.0.1');
export const [TWO, THREE] = [address('10.0.0.2'), address('10.0.0.3')];
export const UNDER = 7;
export const OVERLAY = 'overlay0';

export function newLog() {
  const lines: string[] = [];
  const add = (_kind: string, message: string): void => {
    lines.push(message);
  };
  return { debug: add, info: add, warn: add, error: add, lines };
}

export function newWatch(t: Test) {
  const kernel = new FakeKernel();
  kernel.setLink(UNDER, 'under0');
  kernel.setAddress(LISTEN, UNDER);
  kernel.routes.set(TWO, UNDER);
  const log = newLog();
  const watch = new LinkWatch(kernel, log);
  t.teardown(() => {
    watch.close();
  });
  return { kernel, log, watch };
}

export function follow(watch: LinkWatch, ...destinations: readonly IpAddress[]) {
  const verdicts: Verdict[] = [];
  const set = new Set(destinations);
  const heard = (verdict: Verdict): void => {
    verdicts.push(verdict);
  };
  const following = watch.followUnderlay({ overlay: OVERLAY, listenIp: LISTEN, destinations: set, heard });
  const becomes = (sentence: string | undefined): Promise<void> =>
    waitUntil(() => verdicts.at(-1)?.sentence === sentence, {
      stepMs: 2,
      what: sentence ?? 'all to be well',
    });
  return { verdicts, destinations: set, following, becomes };
}

export function portOf(kernel: FakeKernel, index: number, port: string) {
  const device = {
    elsewhere: undefined as PortDeviceInfo | undefined,
    isGone: false,
    troubles: [] as string[],
    checks: [] as string[],
  };
  return Object.assign(device, {
    overlay: OVERLAY,
    port,
    device: (): PortDeviceInfo | undefined => {
      if (device.isGone || device.elsewhere !== undefined)
        return device.isGone ? undefined : device.elsewhere;
      const link = kernel.links.get(index);
      return link && { name: link.name, mac: readMac(link.mac, 0), isHere: true };
    },
    check: (name: string | undefined, tun: TunInfo | undefined): readonly string[] => {
      device.checks.push(`${name} ${tun === undefined ? 'unasked' : tun.queues}`);
      return [...device.troubles];
    },
  });
}
