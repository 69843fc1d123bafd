// The rounds as tables (text) and as a bar chart (SVG).
import type { Figures } from './measure.js';
import { type Spread, spread } from './statistics.js';

export interface Sample {
  readonly round: number;
  readonly subject: string;
  readonly figures: Figures;
}

interface Column {
  readonly key: keyof Figures;
  readonly title: string;
  readonly digits: number;
  /** Which way is good. */
  readonly better: 'more' | 'less';
  readonly inChart: boolean;
}

export const columns: readonly Column[] = [
  { key: 'tcpForwardGbps', title: 'TCP Gbit/s', digits: 2, better: 'more', inChart: true },
  { key: 'tcpBackwardGbps', title: 'TCP back Gbit/s', digits: 2, better: 'more', inChart: true },
  { key: 'udpKpps', title: 'UDP kpps', digits: 0, better: 'more', inChart: true },
  { key: 'udpFloodKpps', title: 'UDP flood kpps', digits: 0, better: 'more', inChart: false },
  { key: 'pingP50Us', title: 'ping p50 us', digits: 0, better: 'less', inChart: true },
  { key: 'pingP99Us', title: 'ping p99 us', digits: 0, better: 'less', inChart: true },
  { key: 'cpuSecondsPerGib', title: 'CPU s/GiB', digits: 2, better: 'less', inChart: true },
  { key: 'rssIdleMib', title: 'RSS idle MiB', digits: 0, better: 'less', inChart: false },
  { key: 'rssLoadMib', title: 'RSS load MiB', digits: 0, better: 'less', inChart: false },
  { key: 'backgroundShare', title: 'other load', digits: 2, better: 'less', inChart: false },
];

const names = (samples: readonly Sample[]): string[] => [...new Set(samples.map(({ subject }) => subject))];

function spreadOf(samples: readonly Sample[], subject: string, key: keyof Figures): Spread | undefined {
  const own = samples.filter((sample) => sample.subject === subject).map(({ figures }) => figures[key]);
  return spread(own.filter((value) => value !== null));
}

/** Ratio of one subject to another, taken within each round, so that the machine's drift cancels out. */
export function pairedRatio(
  samples: readonly Sample[],
  subject: string,
  peer: string,
  key: keyof Figures,
): Spread | undefined {
  const of = (name: string, round: number): number | null | undefined =>
    samples.find((sample) => sample.subject === name && sample.round === round)?.figures[key];
  const ratios = [...new Set(samples.map(({ round }) => round))].flatMap((round) => {
    const [own, other] = [of(subject, round), of(peer, round)];
    return own == null || other == null || other === 0 ? [] : [own / other];
  });
  return spread(ratios);
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ');
  return rows.map(line).join('\n');
}

const cell = (value: Spread | undefined, digits: number): string =>
  value === undefined
    ? '-'
    : `${value.median.toFixed(digits)} (${value.min.toFixed(digits)}..${value.max.toFixed(digits)})`;

/** Median (smallest..largest) of every figure; one row a figure, since that is what one compares along. */
export function mediansTable(samples: readonly Sample[]): string {
  const subjects = names(samples);
  const rows = columns.map(({ key, title, digits }) => [
    title,
    ...subjects.map((subject) => cell(spreadOf(samples, subject, key), digits)),
  ]);
  return table([['', ...subjects], ...rows]);
}

export function ratiosTable(samples: readonly Sample[], subject: string): string {
  const peers = names(samples).filter((name) => name !== subject);
  const compared = columns.filter(({ key }) => key !== 'backgroundShare');
  const rows = compared.map(({ key, title, better }) => [
    `${title} (${better} is better)`,
    ...peers.map((peer) => cell(pairedRatio(samples, subject, peer, key), 2)),
  ]);
  return table([[`${subject} :`, ...peers], ...rows]);
}

const BAR_HEIGHT = 18;
const ROW_HEIGHT = 24;
const PANEL_GAP = 34;
const LABEL_WIDTH = 90;
const BAR_WIDTH = 420;
const VALUE_WIDTH = 170;
const COLOURS = ['#8da0b3', '#5f7f9e', '#c2a878', '#c2563d'];

/** One panel a figure, one bar a subject, a line from the smallest to the largest round. */
export function barChart(samples: readonly Sample[], caption: string): string {
  const subjects = names(samples);
  const shapes: string[] = [];
  let y = 30;
  for (const { key, title, digits, better } of columns.filter(({ inChart }) => inChart)) {
    const values = subjects.map((subject) => spreadOf(samples, subject, key));
    const largest = Math.max(...values.map((value) => value?.max ?? 0)) || 1;
    const x = (value: number): number => Math.round(LABEL_WIDTH + (value / largest) * BAR_WIDTH);
    y += PANEL_GAP;
    shapes.push(`<text x="10" y="${y - 8}" font-weight="bold">${title} (${better} is better)</text>`);
    subjects.forEach((subject, i) => {
      const value = values[i];
      const middle = y + BAR_HEIGHT / 2;
      shapes.push(`<text x="10" y="${middle + 4}">${subject}</text>`);
      if (value !== undefined) {
        const colour = COLOURS[i % COLOURS.length];
        const width = Math.max(1, x(value.median) - LABEL_WIDTH);
        shapes.push(
          `<rect x="${LABEL_WIDTH}" y="${y}" width="${width}" height="${BAR_HEIGHT}" fill="${colour}"/>`,
          `<path d="M${x(value.min)} ${middle}H${x(value.max)}" stroke="#222"/>`,
          `<text x="${x(value.max) + 8}" y="${middle + 4}">${cell(value, digits)}</text>`,
        );
      }
      y += ROW_HEIGHT;
    });
  }
  const size = `width="${LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH}" height="${y + 10}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="10" y="22" font-size="14">${caption}</text>`,
    ...shapes,
    '</svg>\n',
  ].join('\n');
}
