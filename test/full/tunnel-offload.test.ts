// Superframes that leave whole, as tunnel frames: round the firewall of the host, and trains in their place wherever that way is
// closed.
import t from 'tap';

import { Capture } from '../helpers/capture.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { overlayOf } from '../helpers/site.js';
import { reaches, transferTcp } from '../helpers/traffic.js';
import { tunnelFrames } from '../helpers/tunnel-frames.js';
import {
  BYTES,
  carry,
  counted,
  leavesBy,
  OFFLOAD,
  siteWithKernel,
  skip,
  WITH_CHECKSUM,
} from '../helpers/tunnel-offload.js';
import { newBed, VNETID } from '../helpers/tunnels.js';

/** Setting of the device's feature -> what counts then. */
const WAYS = [
  ['off', 'tx_train'],
  ['on', 'tx_tunnel'],
] as const;

t.jobs = 2;

t.test('frames over IPv6', { skip }, (t) => tunnelFrames(t, 'v6'));

t.test('frames in a VLAN, between two varpds, without a checksum outside', { skip }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const daemons: Daemon[] = [];
  for (const [here, there] of [
    [a, b],
    [b, a],
  ]) {
    const daemon = (await Daemon.start(bed, here)).explain(t);
    const ends = { from: here.underlay.v4, to: there.underlay.v4, vnetid: VNETID };
    const more = '-p vxlan/vlan=keep -p vxlan/udp_checksum=zero';
    await daemon.ok(directOverlay(ends, `-p offload=${OFFLOAD} ${more}`));
    await daemon.ok('create-vnic -l overlay0 -v 7 vnic0');
    await here.plumb('vnic0');
    daemons.push(daemon);
  }
  t.ok(await reaches(a, b.overlay.v4), 'the VLAN is up');
  const capture = await Capture.start(bed, b, UNDERLAY_DEVICE, 'udp port 4789');
  t.ok((await carry(t, { bed, a, b, daemon: daemons[0] })) > 10, 'superframes have left whole');
  await capture.stop();
  const whole = `vxlan && vlan.id == 7 && ip.src == ${a.underlay.v4} && tcp && frame.len > 1518`;
  t.ok((await capture.count(whole)) > 10, 'and arrive so');
  t.equal(await capture.count(`vxlan && !(udp.checksum == 0)`), 0);
});

t.test('hosts that keep such frames from others', { skip: skip || skipUnlessNetns(['nft']) }, async (t) => {
  const site = await siteWithKernel(t);
  const { a } = site;
  await a.exec('nft add table ip f');
  await a.exec(['nft', 'add chain ip f forward { type filter hook forward priority 0; policy drop; }']);
  await leavesBy(t, site, 'tunnel');
  await a.sysctl('net.ipv4.conf.all.rp_filter', 1);
  await a.sysctl(`net.ipv4.conf.${UNDERLAY_DEVICE}.rp_filter`, 1);
  await leavesBy(t, site, 'tunnel');
  await a.exec(['nft', 'add chain ip f post { type nat hook postrouting priority srcnat; }']);
  await a.exec(['nft', `add rule ip f post oifname ${UNDERLAY_DEVICE} masquerade`]);
  await leavesBy(t, site, 'tunnel');
  for (const name of ['ip_forward', 'conf.all.forwarding', 'conf.all.accept_local'])
    t.equal((await a.exec(`sysctl -n net.ipv4.${name}`)).trim(), '0', `${name} is as it was`);
});

t.test('where the way is closed, and open again', { skip }, async (t) => {
  const site = await siteWithKernel(t);
  const { a, b, daemon } = site;
  await leavesBy(t, site, 'tunnel');
  await a.exec(`ethtool -K ${UNDERLAY_DEVICE} ${WITH_CHECKSUM} off`);
  await leavesBy(t, site, 'train');
  await a.exec(`ethtool -K ${UNDERLAY_DEVICE} ${WITH_CHECKSUM} on`);
  await leavesBy(t, site, 'tunnel');
  // A policy for other hosts: it may be meant for these next.
  const policy = 'dir out src 192.0.2.1 dst 192.0.2.2';
  await a.ip(`xfrm policy add ${policy} tmpl proto esp mode transport`);
  const isUp = async (): Promise<boolean> => (await a.ip('-br link show varpd-out0')).includes(',UP');
  await waitUntil(async () => !(await isUp()), { what: 'the tunnel port to be down' });
  t.equal(await carry(t, site), 0, 'IPsec: none leaves whole');
  await a.ip(`xfrm policy delete ${policy}`);
  await waitUntil(isUp, { what: 'the tunnel port to be up' });
  await leavesBy(t, site, 'tunnel');
  await daemon.ok('restart');
  await leavesBy(t, site, 'tunnel');
  await a.ip('link delete varpd-out0');
  t.ok((await transferTcp(a, b, { bytes: BYTES })).exact, 'a kernel that refuses them');
  t.equal(await counted(daemon, 'tx_tunnel_refused'), 1);
  t.match(await daemon.ok('show-peers -p -o path,pathreason overlay0'), /^train:.*refused/);
  await daemon.ok('set-overlayprop -p offload=auto overlay0');
  await daemon.ok(`set-overlayprop -p offload=${OFFLOAD} overlay0`);
  await leavesBy(t, site, 'tunnel');
  await daemon.ok('reset-overlayprop -p offload overlay0');
  const links = async (): Promise<string> => a.ip('-br link');
  await waitUntil(async () => !(await links()).includes('varpd-out'), { what: 'the tunnel port to go' });
});

t.test('while the way changes, under TCP', { skip }, async (t) => {
  const { a, b, daemon } = await siteWithKernel(t);
  let isOver = false;
  const carryOn = async (): Promise<number> => {
    let exact = 0;
    for (; !isOver; exact++)
      if (!(await transferTcp(a, b, { bytes: 8 * BYTES })).exact) throw new Error('other bytes arrived');
    return exact;
  };
  const changeOn = async (): Promise<void> => {
    for (const [setting, counter] of Array.from({ length: 6 }, () => WAYS).flat()) {
      await a.exec(`ethtool -K ${UNDERLAY_DEVICE} ${WITH_CHECKSUM} ${setting}`);
      const before = await counted(daemon, counter);
      await waitUntil(async () => (await counted(daemon, counter)) > before, { what: `more ${counter}` });
    }
  };
  const [transfers] = await Promise.all([carryOn(), changeOn().finally(() => (isOver = true))]);
  t.ok(transfers > 0, 'all bytes arrive');
  const { counters } = await overlayOf(daemon);
  const drops = Object.entries(counters).filter(
    ([name, count]) => count > 0 && /too_big|error|malformed|truncated|_refused/.test(name),
  );
  t.same(drops, [], 'and no frame is lost or refused for it');
});
