// Without a forwarding process: the bare cable, and the kernel's own VXLAN over it.
import { addKernelVxlan } from '../../helpers/netns.js';
import { hosts, joinHosts, type Subject, VNETID, VXLAN_BYTES } from './tunnel.js';

export const veth: Subject = {
  name: 'veth',
  title: 'the bare veth pair: no tunnel',
  missing: () => false,
  async build(bed, terms) {
    const [a, b] = await hosts(bed, terms);
    return { a, b, target: b.underlay.v4, pids: [] };
  },
};

export const kernel: Subject = {
  name: 'kernel',
  title: "the kernel's vxlan: in the kernel, no process",
  missing: () => false,
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    return joinHosts(pair, terms.mtuBytes - VXLAN_BYTES, async (host, peer) => {
      const options = { vnetid: VNETID, local: host.underlay.v4, remote: peer.underlay.v4 };
      return { device: await addKernelVxlan(host, options) };
    });
  },
};
