// Text as mdoc(7), the language of manual pages. Every sentence begins a line, as mandoc wants it.
import { wrap } from '../../src/cli/text.js';

const MAX_COLUMNS = 78;

/** Characters that mdoc would read as its own. */
const escaped = (text: string): string => text.replaceAll('\\', '\\e').replaceAll('-', '\\-');

/** A backslash or a hyphen in prose: a hyphen between letters may end a line. */
const prose = (text: string): string =>
  text.replaceAll('\\', '\\e').replace(/(?<![\p{L}\p{N}])-|-(?![\p{L}\p{N}])/gu, '\\-');

export const bold = (text: string): string => `\\fB${escaped(text)}\\fR`;
export const italic = (text: string): string => `\\fI${escaped(text)}\\fR`;

/** No line of text may look like a request. */
const guarded = (line: string): string => (/^[.']/.test(line) ? `\\&${line}` : line);

/** Lines of filled text: `code` is bold. */
export function filled(text: string): string {
  const sentences = text
    .replaceAll(/\s+/g, ' ')
    .trim()
    .split(/(?<=[\p{L}\p{N})\]`"'][.!?]) /u);
  const lines = sentences.flatMap((sentence) => {
    const marked = sentence
      .split('`')
      .map((part, index) => (index % 2 === 1 ? bold(part).replaceAll(' ', '\u0000') : prose(part)))
      .join('');
    return wrap(marked, MAX_COLUMNS).map((line) => line.replaceAll('\u0000', ' '));
  });
  return lines.map((line) => `${guarded(line)}\n`).join('');
}

/** Lines as they are typed. */
export function literal(lines: readonly string[]): string {
  const text = lines.map((line) => `${guarded(escaped(line))}\n`).join('');
  return `.Bd -literal -offset indent\n${text}.Ed\n`;
}

/** A list of terms, each with its text. A term is in mdoc already. */
export function tagged(rows: readonly (readonly [term: string, text: string])[], width = 'Ds'): string {
  const items = rows.map(([term, text]) => `.It ${argument(term)}\n${text}`);
  return `.Bl -tag -width ${width}\n${items.join('')}.El\n`;
}

/** One argument of a request, which is a line of its own. */
function argument(term: string): string {
  return term.replaceAll('"', '\\(dq');
}

/** A usage line: words that are typed are bold, those that stand for something are italic. */
export function synopsis(program: string, text: string): string {
  const [command, ...rest] = text.split(' ');
  const words = rest.map((word) =>
    word.replace(/--?[a-z][a-z-]*|[a-z][a-z-]*(?:,\.\.\.)?|[^a-z-]+/gi, (part) =>
      part.startsWith('-') && part.length > 1
        ? bold(part)
        : /^[a-z]/i.test(part)
          ? italic(part)
          : escaped(part),
    ),
  );
  const lines = wrap([bold(program), bold(command), ...words].join(' '), MAX_COLUMNS);
  return lines.map((line) => `${guarded(line)}\n`).join('');
}
