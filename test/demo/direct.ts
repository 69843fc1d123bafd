// The first half: the tunnel of overlay preview 01 between two hosts, typed as it was printed there; then the same tunnel
// with the kernel's own vxlan device at one end.
import type { Bed } from '../helpers/netns.js';
import {
  openSides,
  pingFrom,
  plumb,
  type Sides,
  startDaemons,
  stopDaemons,
  succeeds,
  transfer,
} from './actions.js';
import { check, heading } from './checks.js';
import type { Terminal } from './terminal.js';

export async function direct(bed: Bed, sides: Sides): Promise<void> {
  const [a, b] = await bed.twoHosts();
  openSides(bed, sides, { host1: a, host2: b });
  const [host1, host2] = sides.map(({ terminal }) => terminal);

  heading('Two hosts: network namespaces, joined by a cable (veth)');
  await host1.type('ip -brief addr show under0');
  await host2.type('ip -brief addr show under0');
  await startDaemons(sides);

  heading('The tunnel of the article, on the first host');
  await buildTunnel(host1, a.underlay.v4, b.underlay.v4);
  await plumb(host1, 'foo0', `${a.overlay.v4}/24`);

  heading('The same on the second host, addresses swapped');
  await buildTunnel(host2, b.underlay.v4, a.underlay.v4);
  await plumb(host2, 'foo0', `${b.overlay.v4}/24`);

  heading('Traffic');
  await pingFrom(host1, b.overlay.v4, 'host2');
  await pingFrom(host2, a.overlay.v4, 'host1');
  await transfer(host1, host2, 'host2');
  await transfer(host2, host1, 'host1');

  heading("The same tunnel, with the kernel's own vxlan on the second host");
  const remove = 'dladm delete-vnic foo0 && dladm delete-overlay demo0';
  await succeeds(host2, 'VNIC and overlay are deleted', remove);
  const tunnel = `id 23 local ${b.underlay.v4} remote ${a.underlay.v4} dstport 4789 dev under0`;
  await succeeds(host2, 'the kernel has a vxlan device', `ip link add vx0 type vxlan ${tunnel}`);
  await plumb(host2, 'vx0', `${b.overlay.v4}/24`);
  host1.show('# another device answers now: forget its old address');
  await host1.type('ip neigh flush dev foo0');
  await pingFrom(host1, b.overlay.v4, "host2's kernel");
  await pingFrom(host2, a.overlay.v4, 'host1 from its kernel');
  await transfer(host1, host2, "host2's kernel");
  await transfer(host2, host1, 'host1 from the kernel of host2');

  heading('The end of the tunnel');
  await succeeds(host1, 'VNIC and overlay are deleted', remove);
  await stopDaemons(sides);
}

/** The overlay and the VNIC of the article; the second host has the addresses the other way round. */
async function buildTunnel(terminal: Terminal, local: string, remote: string): Promise<void> {
  const { hostName } = terminal;
  const overlay = await terminal.type(
    `dladm create-overlay -e vxlan -s direct \\
    -p vxlan/listen_ip=${local} -p direct/dest_ip=${remote} \\
    -p direct/dest_port=4789 -v 23 demo0`,
  );
  check(`${hostName}: the overlay is created`, overlay.code === 0);
  const table = await terminal.type('dladm show-overlay');
  check(
    `${hostName}: show-overlay prints the table of the article`,
    hasArticleRows(table.stdout, local, remote),
  );
  const vnic = await terminal.type('dladm create-vnic -l demo0 foo0');
  check(`${hostName}: the VNIC is created`, vnic.code === 0);
}

/** PERM, REQ and VALUE of the article's rows; undefined where the value is the machine's own. */
function hasArticleRows(table: string, local: string, remote: string): boolean {
  const rows = table.split('\n').map((line) => line.trim().split(/\s+/));
  const header = ['LINK', 'PROPERTY', 'PERM', 'REQ', 'VALUE', 'DEFAULT', 'POSSIBLE'];
  const expected: [property: string, perm: string, req: string, value?: string][] = [
    ['mtu', 'rw', '-'],
    ['vnetid', 'rw', '-', '23'],
    ['encap', 'r-', '-', 'vxlan'],
    ['varpd/id', 'r-', '-'],
    ['vxlan/listen_ip', 'rw', 'y', local],
    ['vxlan/listen_port', 'rw', 'y', '4789'],
    ['direct/dest_ip', 'rw', 'y', remote],
    ['direct/dest_port', 'rw', 'y', '4789'],
  ];
  return (
    rows[0].join() === header.join() &&
    expected.every(([property, perm, req, value]) =>
      rows.some(
        (row) =>
          row[0] === 'demo0' &&
          row[1] === property &&
          row[2] === perm &&
          row[3] === req &&
          (value === undefined || row[4] === value),
      ),
    )
  );
}
