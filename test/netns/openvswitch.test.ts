// Tunnels to Open vSwitch's userland datapath, by VXLAN and by Geneve.

import t from 'tap';

import { ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { OpenVSwitch, skipUnlessOpenVSwitch } from '../helpers/openvswitch.js';
import { ping, reaches, udpEcho } from '../helpers/traffic.js';
import { newBed, tcpBothWays, VNETID } from '../helpers/tunnels.js';
import { part, usual } from '../helpers/whole.js';

const skipOvs = skipUnlessOpenVSwitch();
for (const encap of ENCAPSULATION_NAMES) {
  await t.test(`a tunnel to Open vSwitch's userland datapath by ${encap}`, { skip: skipOvs }, async (t) => {
    const bed = newBed(t);
    const [a, b] = await bed.twoHosts();
    // It reads packets raw: a checksum left to a device that has none would be a wrong one (io-notes, pitfall 13).
    await b.exec(`ethtool -K ${UNDERLAY_DEVICE} tx off`);
    const ovs = await OpenVSwitch.start(bed, a);
    const daemon = (await Daemon.start(bed, b, { withoutRoot: true })).explain(t);
    const mtuBytes = 1430; // for both families
    const megabytes = encap === 'geneve' ? 100 : 20;
    const all = [
      ['over IPv4, without checksums', 'v4', `-p ${encap}/udp_checksum=zero`],
      ['over IPv4, with checksums', 'v4', `-p ${encap}/udp_checksum=full`],
      ['over IPv6', 'v6', ''],
    ] as const;
    for (const [name, family, more] of usual(all, (each) => (each === all[1]) === (encap === 'vxlan'))) {
      await t.test(name, async (t) => {
        const ends = { from: b.underlay[family], to: a.underlay[family], vnetid: VNETID, encap };
        await daemon.ok(directOverlay(ends, `-t -p mtu=${mtuBytes} ${more}`));
        await b.plumb('overlay0');
        await ovs.tunnel(a.underlay[family], b.underlay[family], VNETID, encap);
        t.ok(await reaches(a, b.overlay.v4, 10_000), 'the tunnel is up');
        t.equal(
          (await ping(a, b.overlay.v4, { packetBytes: mtuBytes })).received,
          3,
          'ping, the largest packet',
        );
        t.equal((await ping(b, a.overlay.v6, { packetBytes: mtuBytes })).received, 3, 'both ways');
        t.same(await udpEcho(b, a), [1, 100, 1000, 1400], 'UDP');
        await tcpBothWays(t, { a, b }, part(megabytes << 20));
        await daemon.ok('delete-overlay overlay0');
      });
    }
    await t.test('in a VLAN', async (t) => {
      const ends = { from: b.underlay.v4, to: a.underlay.v4, vnetid: VNETID, encap };
      await daemon.ok(directOverlay(ends, '-t'));
      await daemon.ok('create-vnic -t -l overlay0 -v 5 five0');
      await b.plumb('five0', { mtuBytes });
      await ovs.tunnel(a.underlay.v4, b.underlay.v4, VNETID, encap);
      await ovs.configure('set port br-int tag=5');
      t.ok(await reaches(a, b.overlay.v4, 10_000));
      await tcpBothWays(t, { a, b }, part(20 << 20));
    });
  });
}
