// docs/containers.md, typed as it stands: a VNIC in the namespace of a container, and each command of dladm while it is there.
import { copyFileSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { Daemon, directOverlay, DLADM_MAIN } from '../helpers/daemon.js';
import { commandsUnder, textOf } from '../helpers/documents.js';
import { copyLibraries } from '../helpers/machine.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import type { Bed } from '../helpers/netns.js';
import { exec, findProgram, waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';
import { newBed } from '../helpers/tunnels.js';
import { Typist } from '../helpers/typist.js';
import { SteadyPing } from '../helpers/zlan.js';

const PAGE = 'docs/containers.md';
const OTHER = { v4: '10.55.55.3', v6: 'fd55::3' } as const;
const skip = skipUnlessNetns(['unshare', 'nsenter']);

/** Two hosts; the second has its VNIC in its own namespace. */
async function pair(t: Test) {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const [daemon, other] = [(await Daemon.start(bed, a)).explain(t), (await Daemon.start(bed, b)).explain(t)];
  for (const [one, from, to] of [
    [daemon, a, b],
    [other, b, a],
  ] as const)
    await one.ok(directOverlay({ from: from.underlay.v4, to: to.underlay.v4, name: 'demo0' }));
  await other.ok('create-vnic -l demo0 foo0');
  await b.plumb('foo0');
  return { bed, a, b, daemon, other };
}

async function healthBecomes(daemon: Daemon, expected: RegExp): Promise<void> {
  await waitUntil(
    async () => {
      const [{ health }] = await daemon.overlays('demo0');
      return expected.test(health.details ?? health.status);
    },
    { what: `health ${expected}` },
  );
}

/** A shell with its commands, as the root file system of a container. */
async function rootFileSystem(bed: Bed): Promise<string> {
  const root = path.join(bed.directory(), 'root');
  const busybox = findProgram('busybox') ?? '';
  mkdirSync(path.join(root, 'bin'), { recursive: true });
  await copyLibraries(busybox, root);
  copyFileSync(busybox, path.join(root, 'bin/busybox'));
  for (const name of ['ip', 'ping']) symlinkSync('busybox', path.join(root, 'bin', name));
  return root;
}

/** Podman with a storage, and control groups of version 2, that this command alone sees. */
const PRIVATE = `
mount -t tmpfs tmpfs /run && mkdir /run/netns && touch /run/netns/$1 && mount --bind /proc/self/ns/net /run/netns/$1
umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers
shift; exec "$@"`;

await t.test('a VNIC in a namespace', { skip }, async (t) => {
  const { bed, a, b, daemon, other } = await pair(t);
  const web = await bed.host();
  const typist = new Typist(a, daemon, { 'ip netns add web': 'true', '/netns/web': `/netns/${web.name}` });
  // `web` is a word of its own in a command, and the bed has made the namespace.
  const lines = commandsUnder(PAGE, 'A network namespace').map((line) =>
    line.startsWith('ip netns add') ? line : line.replace(/(?<=(?:netns|-n|exec) )web\b/, web.name),
  );
  const podman = lines.filter((line) => line.startsWith('podman '));
  const typed = await typist.type(...lines.filter((line) => !podman.includes(line)));
  t.match(typed, /3 received/, 'the ping of the page is answered');
  t.equal((await ping(web, OTHER.v6)).received, 3, 'over IPv6 too');
  t.ok(await reaches(b, '10.55.55.2'), 'and from the other side');

  await t.test(
    'of a container of Podman',
    { skip: skipUnless({ programs: ['podman', 'crun', 'busybox', 'ldd'] }) },
    async (t) => {
      const [line] = podman;
      const root = await rootFileSystem(bed);
      const [, , ...words] = typist
        .here(line)
        .replace(/docker\S+ ip/, `--rootfs ${root} /bin/ip`)
        .split(' ');
      // Limits and control groups depend on the machine that the test runs on.
      const limits = ['--cgroups=disabled', '--ulimit=nofile=1024:1024', '--ulimit=nproc=1024:1024'];
      const command = ['podman', '--cgroup-manager=cgroupfs', 'run', ...limits, ...words];
      const inside = ['unshare', '--mount', 'sh', '-c', PRIVATE, 'private', web.name, ...command];
      t.match(await web.exec(inside), /foo0.*\n.*\n.*inet 10\.55\.55\.2\/24/, 'it has the link');
    },
  );

  const plumb = (): Promise<void> =>
    web.ipBatch(
      'addr replace 10.55.55.2/24 dev foo0',
      'addr replace fd55::2/64 dev foo0 nodad',
      'link set foo0 up',
    );
  const shown = async (): Promise<object> => (await daemon.vnics())[0];
  t.match(await shown(), { state: 'up', mac: await web.macOf('foo0'), mtuBytes: 1450 });
  t.match(await daemon.ok('status'), /demo0 .* ONLINE/);
  t.match(await daemon.ok(`probe -i foo0 demo0 ${await b.macOf('foo0')}`), /answered|received|ms/);
  await web.ip('link set foo0 name eth0');
  await web.ip('link set eth0 down');
  t.match(
    await shown(),
    { name: 'foo0', state: 'up' },
    'a container may name it, and set it down, as it likes',
  );
  await web.ip('link set eth0 name foo0');
  await plumb();
  const refused = await daemon.dladm('rename-link', 'foo0', 'bar0');
  t.match(refused.stderr, /not in the network namespace of varpd: move it back first/);

  // The MTU.
  await other.ok('set-overlayprop -p mtu=1400 demo0');
  await daemon.ok('set-overlayprop -p mtu=1400 demo0');
  const [, sentence = ''] = /`(port foo0: its interface has an MTU[^`]*)`/.exec(textOf(PAGE)) ?? [];
  await healthBecomes(daemon, new RegExp(`^${sentence}$`));
  t.match(await shown(), { mtuBytes: 1450 }, 'its own MTU is shown');
  t.notMatch(daemon.log(), /port demo0: its interface has an MTU/, 'links here follow at once');
  t.equal((await ping(web, OTHER.v4, { packetBytes: 1450 })).received, 0);
  t.equal(
    (await ping(web, OTHER.v4, { packetBytes: 1450, dontFragment: false })).received,
    3,
    'it was told the size',
  );
  await web.ip('link set foo0 mtu 1400');
  await healthBecomes(daemon, /^ONLINE|dropped as tx_too_big/);
  await waitUntil(async () => (await daemon.vnics())[0].mtuBytes === 1400, { what: 'its MTU to be seen' });
  await daemon.ok('reset-overlayprop -p mtu demo0');
  t.match(await shown(), { mtuBytes: 1400 }, 'a larger MTU of the overlay leaves it as it is');

  // Back, and away with the container.
  await web.ip(`link set foo0 netns ${a.name}`);
  t.ok(await a.hasDevice('foo0'), 'it can be moved back');
  await a.ip(`link set foo0 netns ${web.name}`);
  await plumb();
  t.ok(await reaches(web, OTHER.v4), 'and out again');
  await daemon.ok('create-vnic -l demo0 keep0');
  await a.ip('addr add 10.55.55.9/24 dev keep0');
  const steady = await SteadyPing.start(b, '10.55.55.9');
  const { mac } = (await daemon.vnics()).find(({ name }) => name === 'foo0') ?? {};
  await exec(['ip', 'netns', 'delete', web.name]);
  await healthBecomes(daemon, /^port foo0: the device was removed/);
  const env = { VARPD_SOCKET: daemon.socket };
  const { stdout } = await a.run([process.execPath, DLADM_MAIN, 'doctor', 'demo0'], { env });
  t.match(
    stdout,
    /foo0: the device was removed -> dladm up-overlay demo0 opens it again/,
    'doctor has the cure',
  );
  await daemon.ok('up-overlay demo0');
  t.equal(await a.macOf('foo0'), mac, 'it is made again, with its MAC');
  t.same((await steady.stop()).lost, 0, 'the other links go on');
  await daemon.ok('delete-vnic keep0');
});

await t.test('a container that runs', { skip }, async (t) => {
  const { bed, a, b, daemon } = await pair(t);
  const file = path.join(bed.directory(), 'web.pid');
  const typist = new Typist(a, daemon, { '/run/web.pid': file, infinity: '600' });
  await daemon.ok('create-vnic -l demo0 foo0');
  t.teardown(() => {
    process.kill(Number(readFileSync(file, 'utf8')));
  });
  await typist.type(...commandsUnder(PAGE, 'A container that runs already'));
  t.ok(await reaches(b, '10.55.55.2'));
  t.equal((await ping(b, 'fd55::2')).received, 3);
  t.notOk(await a.hasDevice('foo0'));
  await daemon.ok('delete-vnic foo0');
  const left = await a.run(['sh', '-c', `nsenter --net --target $(cat ${file}) ip link show eth0`]);
  t.not(left.code, 0, 'delete-vnic finds it under any name');
});
