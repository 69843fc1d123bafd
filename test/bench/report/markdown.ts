// The table for the README: medians of the chief figures, and our ratios to every other subject.
import { columns } from './columns.js';
import { names, pairedRatio, type Sample, spreadOf } from './samples.js';

const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

export function markdownTable(samples: readonly Sample[], ours: string): string {
  const subjects = names(samples);
  const peers = subjects.includes(ours) ? subjects.filter((name) => name !== ours) : [];
  const chief = columns.filter(({ chief }) => chief);
  const lines = chief.map(({ key, title, digits }) => {
    const medians = subjects.map((name) => spreadOf(samples, name, key)?.median.toFixed(digits) ?? '');
    const ratios = peers.map((peer) => pairedRatio(samples, ours, peer, key)?.median.toFixed(2) ?? '');
    return row([title, ...medians, ...ratios]);
  });
  const heads = ['', ...subjects, ...peers.map((peer) => `${ours} : ${peer}`)];
  return [row(heads), `|${'---|'.repeat(heads.length)}`, ...lines].join('\n');
}
