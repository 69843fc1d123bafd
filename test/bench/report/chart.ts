// Medians as bar charts (SVG): panels of bars, with a line from the smallest to the largest round.
import { columns } from './columns.js';
import { names, type Sample, spreadOf } from './samples.js';
import type { Spread } from './statistics.js';
import { cell } from './tables.js';

const BAR_HEIGHT = 14;
const ROW_HEIGHT = 18;
const LINE_HEIGHT = 16;
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

export interface Panel {
  /** One or two lines. */
  readonly title: readonly string[];
  readonly digits: number;
  readonly bars: readonly Bar[];
}

export interface Bar {
  readonly label: string;
  /** Undefined: not measured. */
  readonly value: Spread | undefined;
  readonly isOurs: boolean;
}

function panelText({ title, digits, bars }: Panel): string {
  const largest = Math.max(...bars.map(({ value }) => value?.max ?? 0)) || 1;
  const x = (value: number): number => Math.round(LABEL_WIDTH + (value / largest) * BAR_WIDTH);
  const rows = bars.map(({ label: name, value, isOurs }, i) => {
    const y = PANEL_HEAD + i * ROW_HEIGHT;
    const middle = y + BAR_HEIGHT / 2;
    const label = `<text x="0" y="${middle + 4}">${name}</text>`;
    if (value === undefined) return label;
    const colour = isOurs ? OURS_COLOUR : OTHER_COLOUR;
    const width = Math.max(1, x(value.median) - LABEL_WIDTH);
    return [
      label,
      `<rect x="${LABEL_WIDTH}" y="${y}" width="${width}" height="${BAR_HEIGHT}" fill="${colour}"/>`,
      `<path d="M${x(value.min)} ${middle}H${x(value.max)}" stroke="#222"/>`,
      `<text x="${x(value.max) + 6}" y="${middle + 4}" fill="#444">${cell(value, digits)}</text>`,
    ].join('');
  });
  const heads = title.map((line, i) => {
    const y = PANEL_HEAD - 10 - (title.length - 1 - i) * LINE_HEIGHT;
    return `<text x="0" y="${y}"${i === 0 ? ' font-weight="bold"' : ''}>${line}</text>`;
  });
  return [...heads, ...rows].join('\n');
}

export function chart(panels: readonly Panel[], caption: string): string {
  const panelHeight = PANEL_HEAD + Math.max(...panels.map(({ bars }) => bars.length)) * ROW_HEIGHT;
  const placed = panels.map((panel, i) => {
    const left = MARGIN + (i % PANEL_COLUMNS) * PANEL_WIDTH;
    const top = CAPTION_HEIGHT + Math.floor(i / PANEL_COLUMNS) * panelHeight;
    return `<g transform="translate(${left} ${top})">\n${panelText(panel)}\n</g>`;
  });
  const width = MARGIN + PANEL_COLUMNS * PANEL_WIDTH;
  const height = CAPTION_HEIGHT + Math.ceil(panels.length / PANEL_COLUMNS) * panelHeight + MARGIN;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${MARGIN}" y="22" font-size="14">${caption}</text>`,
    ...placed,
    '</svg>\n',
  ].join('\n');
}

/** A panel for each chief figure, a bar for each subject. */
export function barChart(samples: readonly Sample[], ours: string, caption: string): string {
  const panels = columns
    .filter(({ chief }) => chief)
    .map(({ key, title, digits, better }) => ({
      title: [`${title} (${better ?? ''} is better)`],
      digits,
      bars: names(samples).map((label) => ({
        label,
        value: spreadOf(samples, label, key),
        isOurs: label === ours,
      })),
    }));
  return chart(panels, caption);
}
