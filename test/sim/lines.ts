// Figures over a size as a chart (SVG): one panel a figure, beside those of test/bench/report.

export interface Line {
  readonly title: string;
  /** Size and value; a value that was not measured is NaN. */
  readonly points: readonly (readonly [size: number, value: number])[];
}

const [WIDTH, HEIGHT, MARGIN, HEAD] = [300, 130, 44, 30];
const COLOUR = '#c2563d';

function panel({ title, points }: Line): string {
  const known = points.filter(([, value]) => Number.isFinite(value));
  const maxSize = Math.max(...points.map(([size]) => size), 1);
  const largest = Math.max(...known.map(([, value]) => value), 0) || 1;
  const x = (size: number): number => Math.round((size / maxSize) * WIDTH);
  const y = (value: number): number => Math.round(HEAD + HEIGHT - (value / largest) * HEIGHT);
  const path = known
    .map(([size, value], index) => `${index === 0 ? 'M' : 'L'}${x(size)} ${y(value)}`)
    .join('');
  const marks = known.map(
    ([size, value]) =>
      `<circle cx="${x(size)}" cy="${y(value)}" r="3" fill="${COLOUR}"/>` +
      `<text x="${x(size)}" y="${y(value) - 6}" text-anchor="middle">${Number(value.toPrecision(3))}</text>`,
  );
  const sizes = points.map(
    ([size]) =>
      `<text x="${x(size)}" y="${HEAD + HEIGHT + 14}" text-anchor="middle" fill="#444">${size}</text>`,
  );
  return [
    `<text x="0" y="12" font-weight="bold">${title}</text>`,
    `<path d="M0 ${HEAD}V${HEAD + HEIGHT}H${WIDTH}" stroke="#222" fill="none"/>`,
    `<path d="${path}" stroke="${COLOUR}" fill="none"/>`,
    ...marks,
    ...sizes,
  ].join('\n');
}

/** The value axis of each panel begins at zero. */
export function lineChart(caption: string, lines: readonly Line[]): string {
  const [panelWidth, panelHeight] = [WIDTH + 2 * MARGIN, HEAD + HEIGHT + MARGIN];
  const panels = lines.map((line, index) => {
    const [left, top] = [MARGIN + (index % 2) * panelWidth, 40 + Math.floor(index / 2) * panelHeight];
    return `<g transform="translate(${left} ${top})">\n${panel(line)}\n</g>`;
  });
  const [width, height] = [2 * panelWidth, 40 + Math.ceil(lines.length / 2) * panelHeight];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="11">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${MARGIN}" y="22" font-size="14">${caption}</text>`,
    ...panels,
    '</svg>\n',
  ].join('\n');
}
