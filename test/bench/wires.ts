// npm run bench -- --wires: TCP by varpd, by the kernel's vxlan and without a tunnel, on four kinds of wire (subjects/wire.ts).
//
// Which of the two tunnels is faster is decided by what the wire takes whole; so there are as many answers as wires.
import { Bed } from '../helpers/netns.js';
import { reaches } from '../helpers/traffic.js';
import { tcp } from './figures/tcp.js';
import { FOUR_STREAMS, WARM_UP_SECONDS } from './measure.js';
import { markdownRows } from './report/markdown.js';
import { pairedRatio, type Sample, spreadOf } from './report/samples.js';
import { cell, table } from './report/tables.js';
import { writeResults } from './results.js';
import { takeRounds } from './rounds.js';
import type { Settings } from './settings.js';
import { type Disturbed, type Share, undisturbed } from './share.js';
import { kernel, veth } from './subjects/kernel.js';
import type { Subject } from './subjects/tunnel.js';
import { varpd } from './subjects/vxlan.js';
import { type Wire, wires } from './subjects/wire.js';

/** In the order of the table. */
const SUBJECTS: readonly Subject[] = [veth, kernel, varpd];
/** Building and taking down a pair of hosts, the warm-up, and iperf3's own time; generous. */
const OTHER_SECONDS = 6;

interface Figures extends Disturbed {
  /** a -> b; of all streams. */
  readonly tcpGbps: number;
  readonly tcp4Gbps: number;
}

const SHAPES = [
  { key: 'tcpGbps', title: '1 stream' },
  { key: 'tcp4Gbps', title: '4 streams' },
] as const;

/** The `subject` of a sample: `varpd/trains`. */
const nameOf = (subject: Subject, wire: Wire): string => `${subject.name}/${wire.name}`;

async function measureOnce(subject: Subject, wire: Wire, settings: Settings, share: Share): Promise<Figures> {
  const bed = new Bed();
  try {
    const tunnel = await subject.build(bed, { ...settings, wire });
    if (!(await reaches(tunnel.a, tunnel.target, 10_000))) throw new Error('no answer through the tunnel');
    const foreign = share.watch();
    await tcp(tunnel, { seconds: WARM_UP_SECONDS });
    const one = await tcp(tunnel, { seconds: settings.seconds });
    const four = await tcp(tunnel, { seconds: settings.seconds, streams: FOUR_STREAMS });
    return { tcpGbps: one.gbps, tcp4Gbps: four.gbps, foreignShare: foreign() };
  } finally {
    await bed.cleanup();
  }
}

const describe = (figures: Figures): string =>
  SHAPES.map(({ key, title }) => `TCP, ${title}: ${figures[key].toFixed(2)} Gbit/s`).join('; ');

/** A row for each wire, the head first: for each shape the medians, and the ratio within a round. */
function rowsOf(samples: readonly Sample<Figures>[]): string[][] {
  const head = SHAPES.flatMap(({ title }) => [
    ...SUBJECTS.map(({ name }) => `${title}: ${name}`),
    `${varpd.name} : ${kernel.name}`,
  ]);
  const rows = wires.map((wire) => {
    const cells = SHAPES.flatMap(({ key }) => {
      const medians = SUBJECTS.map((subject) => spreadOf(samples, nameOf(subject, wire), key)?.median);
      const ratio = pairedRatio(samples, nameOf(varpd, wire), nameOf(kernel, wire), key);
      return [...medians.map((gbps) => gbps?.toFixed(1) ?? '-'), cell(ratio, 2)];
    });
    return [wire.title, ...cells];
  });
  return [['the wire takes whole', ...head], ...rows];
}

/** False when something could not be measured. */
export async function measureWires(settings: Settings, share: Share): Promise<boolean> {
  const { rounds, seconds, mtuBytes, properties } = settings;
  const turns = wires.flatMap((wire) =>
    SUBJECTS.map((subject) => ({
      name: nameOf(subject, wire),
      take: () => undisturbed(() => measureOnce(subject, wire, settings, share)),
    })),
  );
  const minutes = Math.ceil((rounds * turns.length * (2 * seconds + OTHER_SECONDS)) / 60);
  console.log(
    `${rounds} rounds of ${wires.length} wires, some ${minutes} minutes; underlay MTU ${mtuBytes}; TCP ${seconds} s\n${share.how}`,
  );
  const { samples, failures } = await takeRounds(rounds, turns, describe);
  if (samples.length === 0) return false;
  const rows = rowsOf(samples);
  const about = 'TCP, Gbit/s: medians; the ratio within a round, median (smallest..largest)';
  console.log(`\n${about}\n${table(rows)}`);
  await writeResults('wires', {
    json: { rounds, seconds, mtuBytes, properties, wires, failures, samples },
    md: `${about}\n\n${markdownRows(rows)}`,
  });
  return failures.length === 0;
}
