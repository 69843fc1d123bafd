// Overlays with several queues keep each flow in order, both ways at once, however varpd was started.
import t, { type Test } from 'tap';

import { Daemon, directOverlay, type DaemonOptions } from '../helpers/daemon.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { BPF_PROGRAMS, bpfProgramsOf } from '../helpers/procfs.js';
import { every, usual } from '../helpers/whole.js';

const FLOW_ORDER = fromRoot('dist/test/helpers/flow-order');
const FLOWS = 150;
/** Of each flow. */
const FRAMES = 1000 / every(10);
/** All flows together, each way. */
const FRAMES_A_SECOND = 40_000;
const PORT = 'overlay0';

/** As root that lacks these capabilities. */
const without = (names: string): string =>
  `set -- setpriv --bounding-set=${names.replace(/^|,/g, '$&-')} "$@"`;

interface Sites {
  readonly bed: Bed;
  readonly hosts: readonly [Namespace, Namespace];
  readonly daemons: readonly [Daemon, Daemon];
}

async function sites(t: Test, options?: DaemonOptions): Promise<Sites> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemons = [await Daemon.start(bed, a, options), await Daemon.start(bed, b, options)] as const;
  for (const daemon of daemons) daemon.explain(t);
  return { bed, hosts: [a, b], daemons };
}

async function createBoth({ hosts: [a, b], daemons }: Sites, more: string): Promise<void> {
  for (const [daemon, from, to] of [
    [daemons[0], a, b],
    [daemons[1], b, a],
  ] as const) {
    await daemon.ok(directOverlay({ from: from.underlay.v4, to: to.underlay.v4 }, more));
    await from.quietIpv6(PORT);
  }
}

const macOf = async (host: Namespace): Promise<string> =>
  (JSON.parse(await host.ip(`-j link show dev ${PORT}`)) as { address: string }[])[0].address;

interface Arrived {
  readonly sent: number;
  readonly received: number;
  readonly disordered: number;
}

async function oneWay(from: Namespace, to: Namespace): Promise<Arrived> {
  const sink = to.spawn([FLOW_ORDER, 'receive', PORT, '60']);
  await sink.waitForOutput(/ready/);
  const words = [await macOf(to), await macOf(from), FLOWS, FRAMES, FRAMES_A_SECOND].map(String);
  const { sent } = JSON.parse(await from.exec([FLOW_ORDER, 'send', PORT, ...words])) as { sent: number };
  await sink.exited;
  return { sent, ...(JSON.parse(sink.stdout) as { received: number; disordered: number }) };
}

/** The answers of a flow are what the kernel, left alone, moves it by. */
async function bothWays(t: Test, { hosts: [a, b] }: Sites, what: string): Promise<void> {
  const ways = await Promise.all([oneWay(a, b), oneWay(b, a)]);
  for (const { sent, received, disordered } of ways) {
    t.ok(sent > 0.9 * FLOWS * FRAMES, `${what}: ${sent} sent`);
    // A busy machine loses some: enough is what shows disorder where there is one.
    t.ok(received > sent / 10, `${what}: ${received} arrive`);
    t.equal(disordered, 0, `${what}: each flow in order`);
  }
}

const skip = skipUnlessNetns(['setpriv']);

await t.test('150 flows, with and without tags, both ways', { skip }, async (t) => {
  const here = await sites(t);
  for (const queues of [2, 4]) {
    for (const sourcePorts of usual([1, 64], (count) => (count === 1) === (queues === 2))) {
      const what = `${queues} queues, ${sourcePorts} source ports`;
      await createBoth(here, `-p queues=${queues},vxlan/source_ports=${sourcePorts}`);
      await bothWays(t, here, what);
      for (const daemon of here.daemons) await daemon.ok(`delete-overlay ${PORT}`);
    }
  }
});

await t.test('the program outlives the right to load it', { skip }, async (t) => {
  const here = await sites(t);
  await createBoth(here, '-p queues=2');
  const [daemon] = here.daemons;
  const restart = async (how: () => unknown): Promise<void> => {
    const { startedAt } = await daemon.call('daemon.status', {});
    await how();
    const isNext = async (): Promise<boolean> => {
      const status = await daemon.call('daemon.status', {}).catch(() => undefined);
      return status !== undefined && status.startedAt !== startedAt;
    };
    await waitUntil(isNext, { what: 'the next varpd' });
  };
  t.equal(bpfProgramsOf(daemon.pid), BPF_PROGRAMS, 'at start');
  const inContainer = await Daemon.start(here.bed, here.hosts[0], { before: without('bpf') });
  t.equal(bpfProgramsOf(inContainer.pid), BPF_PROGRAMS, 'with CAP_SYS_ADMIN, as before Linux 5.8');
  await inContainer.stop();
  await restart(() => daemon.ok('restart'));
  t.equal(bpfProgramsOf(daemon.pid), BPF_PROGRAMS, 'after dladm restart');
  await restart(() => {
    daemon.signal('SIGUSR2');
  });
  t.equal(bpfProgramsOf(daemon.pid), BPF_PROGRAMS, 'after SIGUSR2');
  await bothWays(t, here, 'after restarts');
  t.notMatch(daemon.log(), /one thread carries/);
});

await t.test('without the right one thread sends, and order is kept', { skip }, async (t) => {
  const here = await sites(t, { before: without('bpf,sys_admin') });
  await createBoth(here, '-p queues=4');
  t.equal(bpfProgramsOf(here.daemons[0].pid), 0);
  t.match(here.daemons[0].log(), /warn .*overlay0: one thread carries all that its links send/);
  await bothWays(t, here, 'without a program');
});
