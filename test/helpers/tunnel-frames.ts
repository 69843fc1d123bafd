// What leaves as tunnel frames, as a device has cut it: right bytes, sums, lengths, marks and source ports.
import type { Test } from 'tap';

import { Capture } from './capture.js';
import { UNDERLAY_DEVICE } from './netns.js';
import { carry, OFFLOAD, siteWithKernel } from './tunnel-offload.js';
import { type Family, FRAGMENTS } from './tunnels.js';

/** Frames of MiBs are many more. */
const FEW = 500;

export async function tunnelFrames(t: Test, family: Family): Promise<void> {
  const site = await siteWithKernel(t, {
    family,
    extra: 'udpcsum udp6zerocsumrx',
    more: '-p vxlan/dscp=copy',
  });
  const { bed, a, b, daemon } = site;
  t.equal(await daemon.ok('show-overlay -p -o offloads overlay0'), `${OFFLOAD}\n`);
  // IPv4 packets of TCP have a traffic class; the tunnel has it too.
  const mark = 'meta l4proto tcp ip dscp set af41';
  await a.exec('nft add table inet m');
  await a.exec(['nft', 'add chain inet m out { type route hook output priority mangle; }']);
  await a.exec(`nft add rule inet m out ${mark}`);
  const capture = await Capture.start(bed, b, UNDERLAY_DEVICE, 'udp port 4789');
  t.ok((await carry(t, site)) > 10, 'superframes have left whole');
  await capture.stop();
  const ip = family === 'v4' ? 'ip' : 'ipv6';
  const own = `vxlan && ${ip}.src == ${a.underlay[family]} && tcp`;
  const bad = `tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0 || ${FRAGMENTS}`;
  const outer =
    family === 'v4' ? ['ip.ttl#1 == 64', 'ip.dsfield.dscp#1'] : ['ipv6.hlim#1 == 64', 'ipv6.tclass.dscp#1'];
  const found = {
    wrong: await capture.count(`${own} && (${bad})`),
    long: await capture.count(`${own} && frame.len > 1514`),
    otherTtl: await capture.count(`${own} && !(${outer[0]})`),
    otherClass: await capture.count(
      `${own} && ${family === 'v4' ? '!ipv6' : 'ip'} && !(${outer[1]} == 34) && tcp.len > 0`,
    ),
  };
  t.same(found, { wrong: 0, long: 0, otherTtl: 0, otherClass: 0 });
  // On a busy machine tcpdump leaves some out.
  const right = `${own} && tcp.checksum.status == 1 && udp.checksum.status == 1`;
  t.ok((await capture.count(right)) > FEW, 'and out of many');
  const rows = await capture.fields(`${own} && tcp.dstport`, ['tcp.stream', 'udp.srcport']);
  const ports = new Map<string, Set<string>>();
  for (const row of rows) {
    const [stream] = row['tcp.stream'];
    ports.set(stream, (ports.get(stream) ?? new Set()).add(row['udp.srcport'][0]));
  }
  t.ok(ports.size >= 3, 'of all flows');
  t.ok(
    [...ports.values()].every(({ size }) => size === 1),
    'each has one source port, in whichever way a frame leaves',
  );
}
