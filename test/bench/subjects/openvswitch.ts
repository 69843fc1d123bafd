// Open vSwitch's userland datapath: two bridges a host, one that has the underlay device, one that has the tunnel.
import { OpenVSwitch, skipUnlessOpenVSwitch } from '../../helpers/openvswitch.js';
import { hosts, joinHosts, type Subject, VNETID, VXLAN_BYTES } from './tunnel.js';

const packages = ['openvswitch-switch'];

export const openvswitch: Subject = {
  name: 'ovs',
  title: "Open vSwitch's userland datapath: VXLAN",
  packages,
  missing() {
    const missing = skipUnlessOpenVSwitch();
    return missing === false ? false : `${missing}: apt-get install ${packages.join(' ')}`;
  },
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const { mtuBytes } = terms;
    const innerMtuBytes = mtuBytes - VXLAN_BYTES;
    return joinHosts(pair, innerMtuBytes, async (host, peer) => {
      const ovs = await OpenVSwitch.start(bed, host, { mtuBytes, innerMtuBytes, v6: false });
      await ovs.tunnel(host.underlay.v4, peer.underlay.v4, VNETID);
      return { device: 'br-int', pid: ovs.pid };
    });
  },
};
