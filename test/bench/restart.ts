// How long frames wait when varpd starts anew, and whether any is lost: npm run bench:restart [ROUNDS], as root. By dladm
// and by systemd, on an idle tunnel and while iperf3 takes all that there is. The bound is the one that TCP
// hardly notices: its second retransmission comes after 600 ms.
import { setTimeout as sleep } from 'node:timers/promises';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { type Pause, pause } from '../helpers/pause.js';
import { fromRoot } from '../helpers/need.js';
import { Systemd } from '../helpers/systemd.js';
import { takeShare } from './share.js';

const ROUNDS = Number(process.argv[2] ?? 10);
const BOUND_MS = 500;

interface Subject {
  readonly what: string;
  readonly more?: string;
  readonly isManaged?: boolean;
}

const SUBJECTS: readonly Subject[] = [
  { what: 'dladm restart' },
  { what: 'dladm restart, 2 queues', more: '-p queues=2' },
  { what: 'systemctl restart', isManaged: true },
];

/** Bulk TCP from one host to the other until it is told to stop, to the bytes of each tenth of a second. */
async function load(from: Namespace, to: Namespace): Promise<() => Promise<number[]>> {
  const server = to.spawn(['iperf3', '-s', '-1', '--forceflush', '-B', to.overlay.v4]);
  await server.waitForOutput(/listening/);
  const client = from.spawn(['iperf3', '-c', to.overlay.v4, '-t', '600', '-i', '0.1', '-J']);
  await sleep(500);
  return async () => {
    await client.stop('SIGINT');
    const { intervals } = JSON.parse(client.stdout) as { intervals: { sum: { bytes: number } }[] };
    return intervals.map(({ sum }) => sum.bytes);
  };
}

function report(what: string, pauses: readonly Pause[]): void {
  const ms = pauses.map((one) => one.ms).sort((x, y) => x - y);
  const median = ms[ms.length >> 1];
  const lost = pauses.reduce((sum, one) => sum + one.lost, 0);
  const verdict = median < BOUND_MS ? 'below' : 'ABOVE';
  console.log(
    `${what}: ${ms.join(' ')} ms, ${lost} lost; median ${median} ms (${verdict} ${BOUND_MS}), worst ${ms.at(-1)} ms`,
  );
}

async function measure({ what, more, isManaged = false }: Subject): Promise<void> {
  const bed = new Bed();
  let systemd: Systemd | undefined;
  try {
    const [a, b] = await bed.twoHosts();
    await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
    await b.plumb('vx0');
    const overlay = directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, more);
    if (isManaged) {
      systemd = await Systemd.boot(a, fromRoot('.'));
      await systemd.install();
      await systemd.exec(`dladm ${overlay}`);
    }
    const daemon = isManaged ? undefined : await Daemon.start(bed, a);
    await daemon?.ok(overlay);
    await a.plumb('overlay0');
    const restart = async (): Promise<void> => {
      await daemon?.ok('restart');
      // systemd refuses a sixth start within 10 s, unless it is told to forget the others.
      await systemd?.exec('systemctl reset-failed varpd');
      await systemd?.exec('systemctl restart varpd');
    };
    for (const isLoaded of [false, true]) {
      const end = isLoaded ? await load(a, b) : undefined;
      const pauses: Pause[] = [];
      for (let round = 0; round < ROUNDS; round++) pauses.push(await pause(a, b.overlay.v4, restart));
      report(`${what}${isLoaded ? ', iperf3' : ''}`, pauses);
      const bytes = (await end?.()) ?? [];
      if (!isLoaded) continue;
      const silent = bytes.map((some) => (some === 0 ? '.' : '#')).join('');
      const longest = Math.max(0, ...silent.split('#').map((dots) => dots.length));
      console.log(
        `  TCP: longest silence ${longest / 10} s; tenths without a byte: ${silent.split('.').length - 1} of ${silent.length}`,
      );
    }
  } finally {
    await systemd?.end();
    await bed.cleanup();
  }
}

const share = takeShare();
const othersUsed = share.watch();
for (const subject of SUBJECTS) await measure(subject);
const used = othersUsed();
console.log(`${share.how}${used === null ? '' : `; others used ${Math.round(100 * used)} % of the machine`}`);
