// Without a forwarding process: the bare cable, and the kernel's own VXLAN over it.
import { addKernelVxlan } from '../../helpers/netns.js';
import { FAMILIES } from '../../helpers/tunnels.js';
import { hosts, innerMtu, joinHosts, type Subject, VNETID } from './tunnel.js';

export const veth: Subject = {
  name: 'veth',
  title: 'the bare veth pair: no tunnel',
  families: FAMILIES,
  missing: () => false,
  async build(bed, terms) {
    const [a, b] = await hosts(bed, terms);
    return { a, b, target: b.underlay[terms.family], pids: [] };
  },
};

export const kernel: Subject = {
  name: 'kernel',
  title: "the kernel's vxlan: in the kernel, no process",
  families: FAMILIES,
  missing: () => false,
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const { family } = terms;
    return joinHosts(pair, innerMtu(terms), async (host, peer) => {
      const options = { vnetid: VNETID, local: host.underlay[family], remote: peer.underlay[family] };
      return { device: await addKernelVxlan(host, options) };
    });
  },
};
