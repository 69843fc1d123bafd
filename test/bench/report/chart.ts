// The medians as a bar chart (SVG): one panel a figure, one bar a subject, a line from the smallest to the largest round.
import { type Column, columns } from './columns.js';
import { names, type Sample, spreadOf } from './samples.js';
import { cell } from './tables.js';

const BAR_HEIGHT = 14;
const ROW_HEIGHT = 18;
const PANEL_HEAD = 40;
const PANEL_COLUMNS = 2;
const MARGIN = 16;
const CAPTION_HEIGHT = 30;
const LABEL_WIDTH = 80;
const BAR_WIDTH = 280;
const VALUE_WIDTH = 150;
const PANEL_WIDTH = LABEL_WIDTH + BAR_WIDTH + VALUE_WIDTH + MARGIN;
const OURS_COLOUR = '#c2563d';
const OTHER_COLOUR = '#8da0b3';

function panel(samples: readonly Sample[], ours: string, { key, title, digits, better }: Column): string {
  const subjects = names(samples);
  const values = subjects.map((subject) => spreadOf(samples, subject, key));
  const largest = Math.max(...values.map((value) => value?.max ?? 0)) || 1;
  const x = (value: number): number => Math.round(LABEL_WIDTH + (value / largest) * BAR_WIDTH);
  const bars = subjects.map((subject, i) => {
    const value = values[i];
    const y = PANEL_HEAD + i * ROW_HEIGHT;
    const middle = y + BAR_HEIGHT / 2;
    const label = `<text x="0" y="${middle + 4}">${subject}</text>`;
    if (value === undefined) return label;
    const colour = subject === ours ? OURS_COLOUR : OTHER_COLOUR;
    const width = Math.max(1, x(value.median) - LABEL_WIDTH);
    return [
      label,
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${width}" height="${BAR_HEIGHT}" fill="${colour}"/>`,
      `<path d="M${x(value.min)} ${middle}H${x(value.max)}" stroke="#222"/>`,
      `<text x="${x(value.max) + 6}" y="${middle + 4}" fill="#444">${cell(value, digits)}</text>`,
    ].join('');
  });
  const head = `<text x="0" y="${PANEL_HEAD - 10}" font-weight="bold">${title} (${better ?? ''} is better)</text>`;
  return [head, ...bars].join('\n');
}

export function barChart(samples: readonly Sample[], ours: string, caption: string): string {
  const chief = columns.filter(({ chief }) => chief);
  const panelHeight = PANEL_HEAD + names(samples).length * ROW_HEIGHT;
  const panels = chief.map((column, i) => {
    const left = MARGIN + (i % PANEL_COLUMNS) * PANEL_WIDTH;
    const top = CAPTION_HEIGHT + Math.floor(i / PANEL_COLUMNS) * panelHeight;
    return `<g transform="translate(${left} ${top})">\n${panel(samples, ours, column)}\n</g>`;
  });
  const width = MARGIN + PANEL_COLUMNS * PANEL_WIDTH;
  const height = CAPTION_HEIGHT + Math.ceil(chief.length / PANEL_COLUMNS) * panelHeight + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${MARGIN}" y="22" font-size="14">${caption}</text>`,
    ...panels,
    '</svg>\n',
  ].join('\n');
}
