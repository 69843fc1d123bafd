// Open vSwitch's userland datapath: two bridges a host, one that has the underlay device, one that has the tunnel.
import { OpenVSwitch, skipUnlessOpenVSwitch } from '../../helpers/openvswitch.js';
import { FAMILIES } from '../../helpers/tunnels.js';
import { hosts, innerMtu, joinHosts, type Subject, VNETID } from './tunnel.js';

const packages = ['openvswitch-switch'];

export const openvswitch: Subject = {
  name: 'ovs',
  title: "Open vSwitch's userland datapath: VXLAN",
  packages,
  families: FAMILIES,
  missing() {
    const missing = skipUnlessOpenVSwitch();
    return missing === false ? false : `${missing}: apt-get install ${packages.join(' ')}`;
  },
  async build(bed, terms) {
    const pair = await hosts(bed, terms);
    const { mtuBytes, family } = terms;
    const innerMtuBytes = innerMtu(terms);
    return joinHosts(pair, innerMtuBytes, async (host, peer) => {
      const ovs = await OpenVSwitch.start(bed, host, { mtuBytes, innerMtuBytes, v6: family === 'v6' });
      await ovs.tunnel(host.underlay[family], peer.underlay[family], VNETID);
      return { device: 'br-int', pid: ovs.pid };
    });
  },
};
