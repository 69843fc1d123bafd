// Tunnels in a process: ours, and a plain VXLAN in C.
import type { EncapsulationName } from '../../../src/encap/index.js';
import { OFFLOADS } from '../../../src/model/offloads.js';
import { Daemon, type DaemonOptions, directOverlay } from '../../helpers/daemon.js';
import { fromRoot } from '../../helpers/need.js';
import type { Bed } from '../../helpers/netns.js';
import { FAMILIES } from '../../helpers/tunnels.js';
import {
  endOf,
  hosts,
  innerMtu,
  joinHosts,
  type Subject,
  type Terms,
  type Tunnel,
  VNETID,
} from './tunnel.js';

const PLAIN_FORWARDER = fromRoot('dist/test/bench/plain-forwarder');

export const plain: Subject = {
  name: 'plain',
  title: 'plain C forwarder: one read and one send a frame, one peer, no lookup',
  families: ['v4'],
  missing: () => false,
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    return joinHosts(pair, innerMtu(terms), (host, peer) => {
      const words = ['tap0', host.underlay.v4, peer.underlay.v4, `${VNETID}`];
      return endOf(host, host.spawn([PLAIN_FORWARDER, ...words]), 'tap0');
    });
  },
};

/** `options`: of both daemons. */
export async function buildVarpd(
  bed: Bed,
  terms: Terms,
  options: DaemonOptions = {},
  encap: EncapsulationName = 'vxlan',
  /** Called with each daemon once its overlay is there. */
  beside: (daemon: Daemon) => Promise<unknown> = () => Promise.resolve(),
): Promise<Tunnel> {
  const pair = await hosts(bed, terms);
  const { family } = terms;
  const mtuBytes = innerMtu(terms);
  const properties = [`mtu=${mtuBytes}`, ...terms.properties].map((text) => `-p ${text}`).join(' ');
  return joinHosts(pair, mtuBytes, async (host, peer) => {
    const daemon = await Daemon.start(bed, host, options);
    const addresses = { from: host.underlay[family], to: peer.underlay[family], vnetid: VNETID, encap };
    await daemon.ok(directOverlay(addresses, `-t ${properties}`));
    await beside(daemon);
    return { device: 'overlay0', pid: daemon.pid };
  });
}

export const varpd: Subject = {
  name: 'varpd',
  title: 'varpd',
  families: FAMILIES,
  missing: () => false,
  build: (bed, terms) => buildVarpd(bed, terms),
};

/** Superframes leave as tunnel frames where the wire takes them whole. */
export const varpdTunnel: Subject = {
  ...varpd,
  name: 'varpd-tunnel',
  title: 'varpd with the offload tunnel',
  build: (bed, terms) => {
    const offload = `offload=${OFFLOADS.join()}`;
    return buildVarpd(bed, { ...terms, properties: [...terms.properties, offload] });
  },
};
