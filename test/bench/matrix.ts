// What `--wires` measures: every subject on every wire, over each family of the underlay, with each of its MTUs.
import type { Family } from '../helpers/tunnels.js';
import type { Subject } from './subjects/tunnel.js';
import type { Wire } from './subjects/wire.js';

export interface Matrix {
  readonly subjects: readonly Subject[];
  readonly wires: readonly Wire[];
  readonly families: readonly Family[];
  readonly mtus: readonly number[];
}

export interface Underlay {
  readonly family: Family;
  readonly mtuBytes: number;
}

export const underlaysOf = ({ families, mtus }: Matrix): Underlay[] =>
  families.flatMap((family) => mtus.map((mtuBytes) => ({ family, mtuBytes })));

/** The `subject` of a sample: `varpd/trains/v4/1500`. */
export const nameOf = (subject: string, wire: Wire, { family, mtuBytes }: Underlay): string =>
  `${subject}/${wire.name}/${family}/${mtuBytes}`;

export const titleOf = ({ family, mtuBytes }: Underlay): string => `underlay of IP${family}, MTU ${mtuBytes}`;

/** As lines: the choices of each dimension, and their meaning. */
export function matrixText({ subjects, wires, families, mtus }: Matrix): string {
  const width = Math.max(...[...subjects, ...wires].map(({ name }) => name.length));
  const listed = (rows: readonly { name: string; title: string }[]): string[] =>
    rows.map(({ name, title }) => `  ${name.padEnd(width)}  ${title}`);
  return [
    'subjects',
    ...listed(subjects),
    'wires: what each takes whole',
    ...listed(wires),
    `underlay: IP${families.join(' and IP')}, MTU ${mtus.join(' and ')}`,
  ].join('\n');
}
