// The rounds of `--wires` as tables and as a chart: for each underlay and shape of traffic, a row for each wire.
import { type Matrix, nameOf, titleOf, type Underlay, underlaysOf } from '../matrix.js';
import type { Disturbed } from '../share.js';
import { OURS, RAW } from '../subjects/index.js';
import { chart, type Panel } from './chart.js';
import { pairedRatio, type Sample, spreadOf } from './samples.js';
import { cell } from './tables.js';

export interface WireFigures extends Disturbed {
  /** a -> b; of all streams. */
  readonly tcpGbps: number;
  readonly tcp4Gbps: number;
}

export const SHAPES = [
  { key: 'tcpGbps', title: 'TCP, 1 stream, Gbit/s' },
  { key: 'tcp4Gbps', title: 'TCP, 4 streams, Gbit/s' },
] as const;
type Shape = (typeof SHAPES)[number];

type Samples = readonly Sample<WireFigures>[];

const GBPS_DIGITS = 1;
const RATIO_DIGITS = 2;

export interface WireTable {
  readonly title: string;
  /** The head first. */
  readonly rows: readonly (readonly string[])[];
}

/** Medians (smallest..largest) of each subject, and the ratio of varpd to each other tunnel within a round. */
function tableOf(samples: Samples, { subjects, wires }: Matrix, underlay: Underlay, shape: Shape): WireTable {
  const names = subjects.map(({ name }) => name);
  const peers = names.includes(OURS) ? names.filter((name) => name !== OURS && name !== RAW) : [];
  const rows = wires.map((wire) => {
    const of = (name: string): string => nameOf(name, wire, underlay);
    return [
      wire.title,
      ...names.map((name) => cell(spreadOf(samples, of(name), shape.key), GBPS_DIGITS)),
      ...peers.map((peer) => cell(pairedRatio(samples, of(OURS), of(peer), shape.key), RATIO_DIGITS)),
    ];
  });
  const head = ['the wire takes whole', ...names, ...peers.map((peer) => `${OURS} : ${peer}`)];
  return { title: `${shape.title}; ${titleOf(underlay)}`, rows: [head, ...rows] };
}

export const wireTables = (samples: Samples, matrix: Matrix): WireTable[] =>
  underlaysOf(matrix).flatMap((underlay) => SHAPES.map((shape) => tableOf(samples, matrix, underlay, shape)));

/** A row of panels for each underlay and wire, a panel for each shape. */
export function wireChart(samples: Samples, matrix: Matrix, caption: string): string {
  const panels = underlaysOf(matrix).flatMap((underlay) =>
    matrix.wires.flatMap((wire) =>
      SHAPES.map(({ key, title }): Panel => {
        const bars = matrix.subjects.map(({ name }) => ({
          label: name,
          value: spreadOf(samples, nameOf(name, wire, underlay), key),
          isOurs: name === OURS,
        }));
        return { title: [`${title}, ${titleOf(underlay)}`, wire.title], digits: GBPS_DIGITS, bars };
      }),
    ),
  );
  return chart(panels, caption);
}
