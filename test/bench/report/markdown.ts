// The table for the README: medians of the chief figures, and our ratios to every other subject.
import { columns } from './columns.js';
import { names, pairedRatio, type Sample, spreadOf } from './samples.js';

/** The first row is the head. */
export function markdownRows(rows: readonly (readonly string[])[]): string {
  const [head, ...rest] = rows.map((cells) => `| ${cells.join(' | ')} |`);
  return [head, `|${'---|'.repeat(rows[0].length)}`, ...rest].join('\n');
}

export function markdownTable(samples: readonly Sample[], ours: string): string {
  const subjects = names(samples);
  const peers = subjects.includes(ours) ? subjects.filter((name) => name !== ours) : [];
  const chief = columns.filter(({ chief }) => chief);
  const rows = chief.map(({ key, title, digits }) => {
    const medians = subjects.map((name) => spreadOf(samples, name, key)?.median.toFixed(digits) ?? '');
    const ratios = peers.map((peer) => pairedRatio(samples, ours, peer, key)?.median.toFixed(2) ?? '');
    return [title, ...medians, ...ratios];
  });
  return markdownRows([['', ...subjects, ...peers.map((peer) => `${ours} : ${peer}`)], ...rows]);
}
