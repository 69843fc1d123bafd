/** Makes text from outside safe for a terminal: every character is shown, and none controls it. */

/** Control, format and separator characters as `\xNN`. */
export function printable(text: string): string {
  return text.replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\x${character.codePointAt(0)!.toString(16).padStart(2, '0')}`,
  );
}

/** Lines of at most so many columns, except for a longer word. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > columns) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}

/** Cells side by side, each padded to its width; no blanks at the line's end. */
export function line(cells: readonly string[], widths: readonly number[]): string {
  return cells
    .map((cell, index) => cell.padEnd(widths[index]))
    .join('')
    .trimEnd();
}

/** Characters that take two columns of a terminal (Unicode Standard Annex 11), by their scripts. */
const WIDE = /[\p{sc=Han}\p{sc=Hangul}\p{sc=Hiragana}\p{sc=Katakana}\p{Emoji_Presentation}\uff01-\uff60]/u;
const COMBINING = /\p{M}/u;

function columnsOf(character: string): number {
  if (character < '\x7f') return 1;
  return COMBINING.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

/** Columns of a terminal that the text takes. */
export function widthOf(text: string): number {
  return Array.from(text).reduce((total, character) => total + columnsOf(character), 0);
}

/** The text in exactly so many columns: cut, or with blanks behind it. */
export function fit(text: string, columns: number): string {
  let shown = '';
  let width = 0;
  for (const character of text) {
    const end = width + columnsOf(character);
    if (end > columns) break;
    shown += character;
    width = end;
  }
  return shown + ' '.repeat(columns - width);
}
