// The table of restarts in docs/attaching.md: every place at once on one host, whose varpd is a service of systemd.
import { statSync } from 'node:fs';

import t, { type Test } from 'tap';

import { directOverlay } from '../helpers/daemon.js';
import { textOf } from '../helpers/documents.js';
import {
  bootArguments,
  Machine,
  MACHINE_PROGRAMS,
  makeMacvtapNode,
  prepareBoot,
} from '../helpers/machine.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { SYSTEMD, Systemd } from '../helpers/systemd.js';
import { reaches } from '../helpers/traffic.js';
import { SteadyPing } from '../helpers/zlan.js';

const PAGE = 'docs/attaching.md';

const skip =
  skipUnlessNetns(['unshare', 'nsenter', 'systemctl', 'useradd']) ||
  skipUnless({ files: [SYSTEMD] }) ||
  ((statSync(fromRoot('dist/src/daemon/main.js')).mode & 0o004) === 0 &&
    'needs a clone that every user can read');

/** Row of the table -> the cell of this column. */
function cells(column: string): Map<string, string> {
  const rows = [...textOf(PAGE).matchAll(/^\| (.*) \|$/gm)].map(([, row]) => row.split(' | '));
  const head = rows.find((row) => row.includes(column)) ?? [];
  const at = head.indexOf(column);
  return new Map(rows.slice(rows.indexOf(head) + 1).map((row) => [row[0], row[at]]));
}

interface Place {
  /** As the table has it. */
  readonly row: string;
  readonly address: string;
}

async function intoContainer(
  bed: Bed,
  host: Namespace,
  dladm: (line: string) => Promise<string>,
): Promise<Place> {
  const guest = await bed.host();
  await dladm('create-vnic -l overlay0 foo0');
  await host.ip(`link set foo0 netns ${guest.name}`);
  await guest.ipBatch('addr add 10.55.55.20/24 dev foo0', 'link set foo0 up');
  return { row: 'VNIC in a container', address: '10.55.55.20' };
}

async function behindBridge(bed: Bed, host: Namespace): Promise<Place> {
  const guest = await bed.host();
  await host.ipBatch(
    'link add br0 type bridge',
    'link set overlay0 master br0',
    'link set br0 up',
    `link add veth0 type veth peer name eth0 netns ${guest.name}`,
    'link set veth0 master br0 up',
  );
  await guest.ipBatch('addr add 10.55.55.30/24 dev eth0', 'link set eth0 mtu 1450 up');
  return { row: "bridge behind the overlay's own interface", address: '10.55.55.30' };
}

async function onMachine(
  bed: Bed,
  host: Namespace,
  dladm: (line: string) => Promise<string>,
): Promise<Place & { machine: Machine }> {
  const boot = await prepareBoot(bed);
  await dladm('create-vnic -l overlay0 foo1');
  await host.ip('link add link foo1 name macvtap0 type macvtap mode passthru');
  await host.ip('link set macvtap0 allmulticast on up');
  const nodes = bed.directory();
  await makeMacvtapNode(host, 'macvtap0', nodes);
  const device = `virtio-net-pci,netdev=net0,mac=${await host.macOf('macvtap0')},host_mtu=1450`;
  const line = `qemu-system-x86_64 ${bootArguments(boot)} -netdev tap,id=net0,fd=3 -device ${device} 3<>$(echo ${nodes}/tap*)`;
  const machine = await Machine.boot(host, line);
  await machine.exec('ip addr add 10.55.55.40/24 dev eth0 && ip link set eth0 up');
  return { row: 'macvtap over a VNIC, and the machine on it', address: '10.55.55.40', machine };
}

await t.test('restarts under ping', { skip }, async (t: Test) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  const manager = await Systemd.bootWhereItRuns(a, fromRoot('.'));
  if (typeof manager === 'string') {
    await t.test('it runs', { skip: manager }, () => undefined);
    return;
  }
  t.teardown(() => manager.end());
  await manager.install();
  const dladm = (line: string): Promise<string> => manager.exec(`dladm ${line}`);
  await dladm(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  const places: Place[] = [await intoContainer(bed, a, dladm), await behindBridge(bed, a)];
  const noMachine = skipUnless({ programs: MACHINE_PROGRAMS });
  if (noMachine === false) {
    const { machine, ...place } = await onMachine(bed, a, dladm);
    places.push(place);
    t.teardown(() => machine.stop());
  } else t.comment(`without a machine: ${noMachine}`);
  for (const { row, address } of places) t.ok(await reaches(b, address), row);

  const pid = async (): Promise<string> =>
    (await manager.exec('systemctl show --value -p MainPID varpd')).trim();
  let overlay = 'overlay0';
  for (const way of ['dladm restart', 'systemctl restart varpd']) {
    const table = cells(`\`${way}\``);
    const before = await pid();
    const pings = await Promise.all(places.map(({ address }) => SteadyPing.start(b, address)));
    const marks = (): number[] => pings.map(({ reached }) => reached);
    // The next process finds what has another name since a moment ago.
    const renamed = overlay === 'overlay0' ? 'tenant0' : 'overlay0';
    await dladm(`rename-link ${overlay} ${renamed}`);
    overlay = renamed;
    await manager.exec(way);
    t.equal((await pid()) !== before, way.startsWith('systemctl'), `${way} is what it is`);
    const after = marks();
    const isOver = (): boolean => marks().every((mark, at) => mark > after[at] + 20);
    await waitUntil(isOver, { what: `pings after ${way}` });
    for (const [at, { row }] of places.entries()) {
      const { sent, lost } = await pings[at].stop();
      t.equal(table.get(row), 'yes', `the table says so of ${way}`);
      t.equal(lost, 0, `${way}: ${row}: none of ${sent} lost`);
    }
    t.match(await dladm(`show-overlay -f -p -o status ${overlay}`), /^ONLINE/);
  }
  if (!t.passing()) t.comment(manager.output);
});
