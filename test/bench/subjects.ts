// What is measured: each subject joins two fresh hosts in its own way, with the same addresses and MTU.
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { fromRoot } from '../helpers/need.js';
import { addKernelVxlan, type Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';

export const VNETID = 42;
/** Ethernet, IPv4, UDP and VXLAN headers: what the tunnel takes of the underlay's MTU. */
const TUNNEL_BYTES = 50;

export interface Tunnel {
  readonly a: Namespace;
  readonly b: Namespace;
  /** Where a reaches b. */
  readonly target: string;
  /** The processes that forward, one a host; none when the kernel does it. */
  readonly pids: readonly number[];
}

export interface Subject {
  readonly name: string;
  readonly title: string;
  build(bed: Bed, mtuBytes: number): Promise<Tunnel>;
}

const hosts = (bed: Bed, mtuBytes: number): Promise<[Namespace, Namespace]> =>
  bed.twoHosts({ mtuBytes, v6: false });

const plumb = async (host: Namespace, device: string, mtuBytes: number): Promise<void> =>
  host.plumb(device, { mtuBytes: mtuBytes - TUNNEL_BYTES, v6: false });

const veth: Subject = {
  name: 'veth',
  title: 'raw veth, no tunnel',
  async build(bed, mtuBytes) {
    const [a, b] = await hosts(bed, mtuBytes);
    return { a, b, target: b.underlay.v4, pids: [] };
  },
};

const kernel: Subject = {
  name: 'kernel',
  title: 'kernel vxlan',
  async build(bed, mtuBytes) {
    const [a, b] = await hosts(bed, mtuBytes);
    for (const [host, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      const options = { vnetid: VNETID, local: host.underlay.v4, remote: peer.underlay.v4 };
      await plumb(host, await addKernelVxlan(host, options), mtuBytes);
    }
    return { a, b, target: b.overlay.v4, pids: [] };
  },
};

const plain: Subject = {
  name: 'plain',
  title: 'plain C forwarder',
  async build(bed, mtuBytes) {
    const [a, b] = await hosts(bed, mtuBytes);
    const program = fromRoot('dist/test/bench/plain-forwarder');
    const pids: number[] = [];
    for (const [host, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      const child = host.spawn([program, 'tap0', host.underlay.v4, peer.underlay.v4, `${VNETID}`]);
      const isUp = async (): Promise<boolean> => child.ended || (await host.hasDevice('tap0'));
      await waitUntil(isUp, { what: 'the plain forwarder' });
      if (child.ended) throw new Error(child.stderr);
      await plumb(host, 'tap0', mtuBytes);
      pids.push(child.pid);
    }
    return { a, b, target: b.overlay.v4, pids };
  },
};

const varpd: Subject = {
  name: 'varpd',
  title: 'varpd',
  async build(bed, mtuBytes) {
    const [a, b] = await hosts(bed, mtuBytes);
    const pids: number[] = [];
    for (const [host, peer] of [
      [a, b],
      [b, a],
    ] as const) {
      const daemon = await Daemon.start(bed, host);
      const addresses = { from: host.underlay.v4, to: peer.underlay.v4, vnetid: VNETID };
      await daemon.ok(directOverlay(addresses, `-t -p mtu=${mtuBytes - TUNNEL_BYTES}`));
      await plumb(host, 'overlay0', mtuBytes);
      pids.push(daemon.pid);
    }
    return { a, b, target: b.overlay.v4, pids };
  },
};

export const subjects: readonly Subject[] = [veth, kernel, plain, varpd];
