// docs/virtual-machines.md, typed as it stands: a machine of QEMU on a macvtap link over a VNIC, and the XML for libvirt. The
// other end is the kernel's own vxlan.
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { blocks, commandsUnder } from '../helpers/documents.js';
import {
  type Boot,
  bootArguments,
  Machine,
  MACHINE_PROGRAMS,
  makeMacvtapNode,
  prepareBoot,
} from '../helpers/machine.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, type Bed, type Namespace } from '../helpers/netns.js';
import { run, waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';
import { newBed } from '../helpers/tunnels.js';
import { Typist } from '../helpers/typist.js';

const PAGE = 'docs/virtual-machines.md';
const MACHINE = { v4: '10.55.55.2', v6: 'fd55::2' } as const;
const FILE_BYTES = 24 << 20;

interface Scene {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
  readonly boot: Boot;
}

const skipXml = skipUnless({ programs: ['virt-xml-validate', 'xmllint'] });
await t.test('libvirt takes the XML of the page', { skip: skipXml }, async (t) => {
  const bed = newBed(t);
  const file = path.join(bed.directory(), 'domain.xml');
  for (const devices of blocks(PAGE, 'xml')) {
    writeFileSync(
      file,
      `<domain type='kvm'><name>guest</name><memory>262144</memory><os><type>hvm</type></os><devices>${devices}</devices></domain>`,
    );
    t.equal((await run(['virt-xml-validate', file, 'domain'])).code, 0, devices.split('\n')[0]);
  }
  writeFileSync(
    file,
    "<domain type='kvm'><name>guest</name><devices><interface type='no'/></devices></domain>",
  );
  t.not((await run(['virt-xml-validate', file, 'domain'])).code, 0, 'and not any XML');
});

/** Boots as the page says; `edit`: what is another way here. Resolves when its link has the addresses. */
async function start({ bed, a, daemon, boot }: Scene, lines: readonly string[], edit = ''): Promise<Machine> {
  const qemu = lines.at(-1) ?? '';
  const typist = new Typist(a, daemon);
  await typist.type(...lines.slice(0, -1));
  const nodes = bed.directory();
  await makeMacvtapNode(a, 'macvtap0', nodes);
  const line = qemu
    .replace(/-accel kvm -m \d+/, bootArguments(boot))
    .replace('/dev/tap', `${nodes}/tap`)
    .replace(edit, '');
  const machine = await Machine.boot(a, line);
  await machine.exec(`ip addr add ${MACHINE.v4}/24 dev eth0 && ip -6 addr add ${MACHINE.v6}/64 dev eth0`);
  await machine.exec('ip link set eth0 up');
  return machine;
}

/** Bytes of a frame on average, out of and into a link, while something is done. */
async function frameBytes(host: Namespace, device: string, work: () => Promise<unknown>): Promise<number[]> {
  interface Sums {
    readonly bytes: number;
    readonly packets: number;
  }
  const read = async (): Promise<Sums[]> => {
    const [{ stats64 }] = JSON.parse(await host.ip(`-j -s link show ${device}`)) as [
      { stats64: { tx: Sums; rx: Sums } },
    ];
    return [stats64.tx, stats64.rx];
  };
  const before = await read();
  await work();
  const after = await read();
  return after.map(({ bytes, packets }, at) => (bytes - before[at].bytes) / (packets - before[at].packets));
}

/** Files both ways, over both families: each arrives with its hash. */
async function carryFiles(t: Test, { bed, b }: Scene, machine: Machine): Promise<void> {
  const directory = bed.directory();
  const bytes = randomBytes(FILE_BYTES);
  writeFileSync(path.join(directory, 'file'), bytes);
  const hash = createHash('sha256').update(bytes).digest('hex');
  const server = b.spawn(['busybox', 'httpd', '-f', '-p', '8080', '-h', directory]);
  for (const address of [b.overlay.v4, `[${b.overlay.v6}]`])
    t.match(
      await machine.exec(`wget -q -O /tmp/file http://${address}:8080/file && sha256sum /tmp/file`),
      hash,
      `${FILE_BYTES >> 20} MiB into the machine from ${address}`,
    );
  await machine.exec('httpd -p 8080 -h /tmp');
  for (const address of [MACHINE.v4, `[${MACHINE.v6}]`])
    t.match(
      await b.exec(['sh', '-c', `busybox wget -q -O - http://${address}:8080/file | sha256sum`]),
      hash,
      `${FILE_BYTES >> 20} MiB out of the machine at ${address}`,
    );
  await machine.exec('killall httpd');
  await server.stop();
}

const skip = skipUnlessNetns(MACHINE_PROGRAMS);
await t.test('a machine on a VNIC', { skip }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  let boot: Boot;
  try {
    await a.ip('link add veth-a type veth peer name veth-b');
    await a.ip('link add link veth-a name probe0 type macvtap mode passthru');
    await a.ip('link delete veth-a');
    boot = await prepareBoot(bed);
  } catch (error) {
    const skip = `no macvtap, or no kernel for a machine: ${(error as Error).message}`;
    await t.test('it boots', { skip }, () => undefined);
    return;
  }
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, name: 'demo0' }));
  const scene = { bed, a, b, daemon, boot };

  const lines = commandsUnder(PAGE, 'QEMU alone');
  const machine = await start(scene, lines);
  t.match(await machine.exec('cat /sys/class/net/eth0/mtu'), /^1450$/m, 'host_mtu tells it');
  t.ok(await reaches(b, MACHINE.v4));
  t.ok(await reaches(b, MACHINE.v6));
  t.match(await machine.exec(`ping -c 3 ${b.overlay.v4}`), /3 packets received/);
  t.match(await machine.exec(`ping -c 3 ${b.overlay.v6}`), /3 packets received/);
  t.equal((await ping(b, MACHINE.v4, { packetBytes: 1450 })).received, 3, 'the largest packet');
  const server = b.spawn('iperf3 -s --forceflush');
  await server.waitForOutput(/listening/);
  const sizes = await frameBytes(a, 'foo0', async () => {
    for (const reverse of ['', '-R']) {
      const printed = await machine.exec(`iperf3 -c ${b.overlay.v4} -t 3 -f m ${reverse}`);
      t.comment(`iperf3 ${reverse}: ${/.*receiver/.exec(printed)?.[0] ?? printed}`);
    }
  });
  t.ok(
    Math.min(...sizes) > 6000,
    `superframes go through macvtap: ${sizes.map(Math.round).join(' and ')} bytes`,
  );
  await carryFiles(t, scene, machine);
  await machine.stop();

  // As libvirt does it, and with the MTU that it leaves the machine.
  await daemon.ok('delete-vnic foo0');
  t.notOk(await a.hasDevice('macvtap0'), 'the macvtap link goes with the VNIC');
  const [create] = commandsUnder(PAGE, 'libvirt');
  const other = await start(scene, [create, ...lines.slice(1)], ',host_mtu=1450');
  t.match(await other.exec('cat /sys/class/net/eth0/mtu'), /^1500$/m);
  // The MAC of the machine before is believed for up to 45 s (RFC 4861 6.3.2).
  await b.ip('neigh flush dev vx0');
  await waitUntil(() => reaches(b, MACHINE.v6), { what: 'the machine' });
  await carryFiles(t, scene, other);
  t.match(await other.exec(`ping -c 3 -s 1472 ${b.overlay.v4}`), /[23] packets received/);
  const [{ mac, counters }] = await daemon.vnics();
  const [overlay] = await daemon.overlays('demo0');
  t.equal(mac, '52:54:00:12:34:56');
  t.equal(counters['mac_spoofed'], 0);
  t.ok(overlay.counters['too_big_answers'] > 0, 'it was told the size that fits');
  await other.stop();
});
