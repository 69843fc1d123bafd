/**
 * Control sequences of terminals: all that top writes, and no other file has one. They are those of ECMA-48 and the
 * private modes that xterm, its imitators, screen, tmux and the Linux console have in common.
 */
import { printable } from '../text.js';
import type { Line, Style } from './layout.js';

const CSI = '\x1b[';

/** Another screen, which leaves the one of the shell alone; no cursor; a line that is too long is cut off. */
const ALTERNATE = { on: `${CSI}?1049h`, off: `${CSI}?1049l` };
const CURSOR = { on: `${CSI}?25h`, off: `${CSI}?25l` };
const WRAPPING = { on: `${CSI}?7h`, off: `${CSI}?7l` };
const PLAIN = `${CSI}m`;
const CLEAR = `${CSI}H${CSI}J`;
const CLEAR_LINE = `${CSI}2K`;

/** Modes that other programs may have changed while top was stopped. */
export const PREPARE = `${CURSOR.off}${WRAPPING.off}`;
export const ENTER = `${ALTERNATE.on}${PREPARE}`;

/** Cleared first: a console may have no other screen, and tmux (3.3) leaves lines of it behind after a change of size. */
export const LEAVE = `${PLAIN}${CLEAR}${WRAPPING.on}${CURSOR.on}${ALTERNATE.off}`;

/** Sets graphics (SGR): 1 bold, 7 reverse, 31 red. */
const STYLES: Readonly<Record<Style, { readonly colour: string; readonly plain: string }>> = {
  plain: { colour: '', plain: '' },
  strong: { colour: '1', plain: '1' },
  header: { colour: '7', plain: '7' },
  selected: { colour: '1;7', plain: '1;7' },
  trouble: { colour: '31', plain: '1' },
  'selected-trouble': { colour: '7;31', plain: '1;7' },
};

/**
 * Turns the screen with the lines `before` into one with the lines `now`. `before` is undefined while the content of the
 * screen is not known. Text is made harmless here, wherever it came from.
 */
export function paint(
  now: readonly Line[],
  before: readonly Line[] | undefined,
  isColoured: boolean,
): string {
  const texts = now.map((line) => lineText(line, isColoured));
  const old = before?.map((line) => lineText(line, isColoured));
  const changed = texts.map((text, index) =>
    old?.[index] === text ? '' : `${at(index + 1)}${CLEAR_LINE}${text}`,
  );
  const gone = (old ?? [])
    .slice(texts.length)
    .map((_, index) => `${at(texts.length + index + 1)}${CLEAR_LINE}`);
  return [old === undefined ? `${PLAIN}${CLEAR}` : '', ...changed, ...gone].join('');
}

function lineText(line: Line, isColoured: boolean): string {
  return line
    .map(({ text, style }) => {
      const codes = STYLES[style][isColoured ? 'colour' : 'plain'];
      return codes === '' ? printable(text) : `${CSI}${codes}m${printable(text)}${PLAIN}`;
    })
    .join('');
}

/** To the beginning of a line, counted from 1. */
function at(row: number): string {
  return `${CSI}${row};1H`;
}
