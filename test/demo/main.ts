// npm run demo: two hosts, and the tunnel of the first overlay preview between them, typed as it was printed there.
// Then the same tunnel with the kernel's own vxlan device at one end. Exit code 0 only if every check held.
import { Daemon } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';
import { transferTcp } from '../helpers/traffic.js';
import { Terminal } from './terminal.js';

const PINGS = 3;
const TRANSFER_BYTES = 10 << 20;

const checks: { readonly text: string; readonly ok: boolean }[] = [];
function check(text: string, ok: boolean): void {
  checks.push({ text, ok });
  if (!ok) console.log(`*** not so: ${text}`);
}

const heading = (text: string): void => {
  console.log(`\n== ${text}\n`);
};

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

/** ifconfig of the article, in the words of this system. */
async function plumb(terminal: Terminal, device: string, address: string): Promise<void> {
  terminal.show(`# here for "ifconfig ${device} plumb up ${address}":`);
  const { code } = await terminal.type(`ip addr add ${address} dev ${device} && ip link set ${device} up`);
  check(`${terminal.hostName}: ${device} is up with ${address}`, code === 0);
}

async function pingFrom(terminal: Terminal, target: string, peer: string): Promise<void> {
  const { stdout } = await terminal.type(`ping -c ${PINGS} -i 0.2 -W 2 ${target}`);
  check(`${terminal.hostName} pings ${peer}, ${PINGS} of ${PINGS}`, stdout.includes(` ${PINGS} received`));
}

async function transfer(from: Terminal, to: Terminal, peer: string): Promise<void> {
  const text = `${TRANSFER_BYTES >> 20} MiB by TCP from ${from.hostName} to ${peer} arrive byte for byte`;
  const ok = await transferTcp(from.host, to.host, { bytes: TRANSFER_BYTES, timeoutMs: 20_000 }).then(
    ({ exact }) => exact,
    (error: unknown) => {
      console.log((error as Error).message);
      return false;
    },
  );
  check(text, ok);
}

async function demo(bed: Bed): Promise<void> {
  const [a, b] = await bed.twoHosts();
  const daemons = [new Daemon(bed, a), new Daemon(bed, b)] as const;
  const host1 = new Terminal(bed, a, 'host1', daemons[0].socket);
  const host2 = new Terminal(bed, b, 'host2', daemons[1].socket);

  heading('Two hosts: network namespaces, joined by a cable (veth)');
  await host1.type('ip -brief addr show under0');
  await host2.type('ip -brief addr show under0');
  for (const [daemon, terminal] of [
    [daemons[0], host1],
    [daemons[1], host2],
  ] as const) {
    terminal.show('varpd --config varpd.yaml --socket varpd.sock --foreground &');
    await daemon.start();
  }

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
  check(
    'host2: VNIC and overlay are deleted',
    (await host2.type('dladm delete-vnic foo0 && dladm delete-overlay demo0')).code === 0,
  );
  const tunnel = `id 23 local ${b.underlay.v4} remote ${a.underlay.v4} dstport 4789 dev under0`;
  check(
    'host2: the kernel has a vxlan device',
    (await host2.type(`ip link add vx0 type vxlan ${tunnel}`)).code === 0,
  );
  await plumb(host2, 'vx0', `${b.overlay.v4}/24`);
  host1.show('# another device answers now: forget its old address');
  await host1.type('ip neigh flush dev foo0');
  await pingFrom(host1, b.overlay.v4, "host2's kernel");
  await pingFrom(host2, a.overlay.v4, 'host1 from its kernel');
  await transfer(host1, host2, "host2's kernel");
  await transfer(host2, host1, 'host1 from the kernel of host2');

  heading('The end');
  check(
    'host1: VNIC and overlay are deleted',
    (await host1.type('dladm delete-vnic foo0 && dladm delete-overlay demo0')).code === 0,
  );
  for (const [daemon, terminal] of [
    [daemons[0], host1],
    [daemons[1], host2],
  ] as const) {
    terminal.show(`kill ${daemon.pid}   # varpd`);
    const exit = await daemon.stop();
    check(`${terminal.hostName}: varpd ends cleanly`, exit?.code === 0);
    const left = await terminal.host.ip('-brief link show type tun');
    check(`${terminal.hostName}: no device of ours is left`, left === '');
  }
  if (checks.some(({ ok }) => !ok))
    for (const daemon of daemons) console.log(`\n-- log of varpd\n${daemon.log()}`);
}

const missing = skipUnlessNetns();
if (missing !== false) {
  console.error(`the demo ${missing}`);
  process.exit(1);
}

const bed = new Bed();
try {
  await demo(bed);
} catch (error) {
  console.log((error as Error).message);
  check('the demo went through to its end', false);
} finally {
  await bed.cleanup();
}

heading('Summary');
for (const { text, ok } of checks) console.log(`${ok ? 'ok    ' : 'FAILED'}  ${text}`);
const good = checks.filter(({ ok }) => ok).length;
console.log(`\ndemo: ${good} of ${checks.length} checks hold`);
process.exitCode = good === checks.length ? 0 : 1;
