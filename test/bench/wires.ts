// npm run bench -- --wires: TCP by each subject on each kind of wire (subjects/wire.ts).
//
// Which of two tunnels is faster is decided by what the wire takes whole; so there are as many answers as wires.
import { probeFeatures } from '../../src/dgram-extra/index.js';
import { Bed } from '../helpers/netns.js';
import { reaches } from '../helpers/traffic.js';
import { tcp } from './figures/tcp.js';
import { matrixText, nameOf, type Underlay, underlaysOf } from './matrix.js';
import { FOUR_STREAMS, WARM_UP_SECONDS } from './measure.js';
import { markdownRows } from './report/markdown.js';
import { table } from './report/tables.js';
import { SHAPES, wireChart, type WireFigures, wireTables } from './report/wires.js';
import { writeResults } from './results.js';
import { takeRounds } from './rounds.js';
import type { Settings } from './settings.js';
import { type Share, undisturbed } from './share.js';
import type { Subject, Terms } from './subjects/tunnel.js';
import type { Wire } from './subjects/wire.js';

/** Building and taking down a pair of hosts, the warm-up, and iperf3's own time; generous. */
const OTHER_SECONDS = 6;

async function measureOnce(
  subject: Subject,
  terms: Terms,
  seconds: number,
  share: Share,
): Promise<WireFigures> {
  const bed = new Bed();
  try {
    const tunnel = await subject.build(bed, terms);
    if (!(await reaches(tunnel.a, tunnel.target, 10_000))) throw new Error('no answer through the tunnel');
    const foreign = share.watch();
    await tcp(tunnel, { seconds: WARM_UP_SECONDS });
    const one = await tcp(tunnel, { seconds });
    const four = await tcp(tunnel, { seconds, streams: FOUR_STREAMS });
    return { tcpGbps: one.gbps, tcp4Gbps: four.gbps, foreignShare: foreign() };
  } finally {
    await bed.cleanup();
  }
}

const describe = (figures: WireFigures): string =>
  SHAPES.map(({ key, title }) => `${title}: ${figures[key].toFixed(2)}`).join('; ');

/** How the wires differ from what their titles may let one expect. */
function notesOn(wires: readonly Wire[]): string[] {
  const isDelayed = wires.some(({ delayUs }) => delayUs !== undefined);
  const isLossy = wires.some(({ losesOneIn }) => losesOneIn !== undefined);
  return [
    ...(isDelayed && !probeFeatures().tapTunnelSegmentation
      ? ['delay: the wire takes no tunnel frames whole, since a TAP of this kernel does not (Linux 6.17)']
      : []),
    ...(isLossy ? ['loss: a GSO frame is one frame, and is lost whole with all its segments'] : []),
  ];
}

/** False when something could not be measured. */
export async function measureWires(settings: Settings, share: Share): Promise<boolean> {
  const { rounds, seconds, properties, matrix } = settings;
  const { subjects, wires, families, mtus } = matrix;
  const turn = (subject: Subject, wire: Wire, underlay: Underlay) => ({
    name: nameOf(subject.name, wire, underlay),
    take: () => undisturbed(() => measureOnce(subject, { properties, wire, ...underlay }, seconds, share)),
  });
  const turns = underlaysOf(matrix).flatMap((underlay) =>
    wires.flatMap((wire) => subjects.map((subject) => turn(subject, wire, underlay))),
  );
  const minutes = Math.ceil((rounds * turns.length * (2 * seconds + OTHER_SECONDS)) / 60);
  const length = `${rounds} rounds of ${turns.length} turns, some ${minutes} minutes; TCP ${seconds} s`;
  const notes = notesOn(wires);
  console.log([length, share.how, matrixText(matrix), ...notes].join('\n'));
  const { samples, failures } = await takeRounds(rounds, turns, describe);
  if (samples.length === 0) return false;
  const medians = `medians (smallest..largest) of ${rounds} rounds`;
  const about = `${medians}; ratios within a round`;
  const tables = wireTables(samples, matrix);
  for (const { title, rows } of tables) console.log(`\n${title}: ${about}\n${table(rows)}`);
  await writeResults('wires', {
    json: {
      rounds,
      seconds,
      properties,
      subjects: subjects.map(({ name }) => name),
      wires,
      families,
      mtus,
      failures,
      samples,
    },
    svg: wireChart(samples, matrix, medians),
    md: [...tables.map(({ title, rows }) => `${title}: ${about}\n\n${markdownRows(rows)}`), ...notes].join(
      '\n\n',
    ),
  });
  return failures.length === 0;
}
