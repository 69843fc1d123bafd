// Plain English in comments and documents: patterns that cost a second reading are counted, and may only become fewer.
import { readdirSync, readFileSync } from 'node:fs';
import t from 'tap';

import { DOCUMENTS, textOf } from '../helpers/documents.js';
import { fromRoot } from '../helpers/need.js';

/**
 * Pattern -> how many there may be. The numbers may only fall: there were 179, 365 and 486 of the first three, 89 and 10
 * of the others.
 */
const PATTERNS: readonly [what: string, pattern: RegExp, most: number][] = [
  ['"Of X ...": a sentence that begins with a genitive', /(?:^|[.:;!?] |\*\* ?|\/\/ |\* )Of (?!course)/gm, 5],
  ['"What ...": a clause in place of a noun', /(?:^|[.:;!?] |\*\* ?|\/\/ |\* )What (?!is\?)/gm, 1],
  [
    '"who ...", "whoever", "somebody": a component is not a person',
    /\b(?:who|whom|whose|whoever|somebody|nobody|anybody)\b/gim,
    20,
  ],
  ['"anew": again', /\banew\b/gi, 0],
  ['"no good": invalid', /\bno good\b/gi, 0],
];

/** Comments of a source. */
function commentsOf(source: string): string {
  return [...source.matchAll(/\/\*.*?\*\/|(?<=^|\s)\/\/ [^\n]*/gms)].map(([comment]) => comment).join('\n');
}

const sources = ['src', 'plugins'].flatMap((folder) =>
  readdirSync(fromRoot(folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(?:tsx?|c|h|mjs)$/.test(name) && !name.includes('node_modules'))
    .map((name) => `${folder}/${name}`),
);
const text = [
  ...sources.map((file) => commentsOf(readFileSync(fromRoot(file), 'utf8'))),
  ...DOCUMENTS.map(textOf),
].join('\n');

t.test('comments are found', (t) => {
  t.equal(
    commentsOf("const url = 'http://x'; // one\nwho(); /* two\n three */"),
    '// one\n/* two\n three */',
    'and nothing else',
  );
  t.ok(sources.length > 200, `${sources.length} files`);
  t.end();
});

for (const [what, pattern, most] of PATTERNS)
  t.test(what, (t) => {
    const count = [...text.matchAll(pattern)].length;
    t.ok(count <= most, `${count}, and at most ${most}`);
    t.end();
  });
