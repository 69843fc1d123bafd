// The bench on wires: the options of its command line, the turns that they stand for, and the report on them.
import t from 'tap';

import { matrixText, nameOf, underlaysOf } from '../bench/matrix.js';
import { markdownRows } from '../bench/report/markdown.js';
import type { Sample } from '../bench/report/samples.js';
import { wireChart, type WireFigures, wireTables } from '../bench/report/wires.js';
import { MODES, parseSettings } from '../bench/settings.js';
import { wires } from '../bench/subjects/wire.js';

const ALL_WIRES = ['both', 'trains', 'neither', 'tunnel', 'delay', 'loss'];

/** The matrix by names. */
function chosenBy(...args: string[]): Record<string, readonly unknown[]> {
  const { subjects, wires, families, mtus } = parseSettings(args).matrix;
  return { subjects: subjects.map(({ name }) => name), wires: wires.map(({ name }) => name), families, mtus };
}

const USUAL = { subjects: ['veth', 'kernel', 'varpd'], wires: ALL_WIRES, families: ['v4'], mtus: [1500] };

t.test('--wires alone has every wire, three subjects and one underlay', (t) => {
  t.equal(parseSettings(['--wires']).mode, 'wires');
  t.strictSame(chosenBy('--wires'), USUAL);
  t.strictSame(chosenBy('--wires', '--rounds', '2'), USUAL, 'with another option behind it');
  t.end();
});

t.test('each dimension can be chosen', (t) => {
  t.strictSame(chosenBy('--wires=delay,loss'), { ...USUAL, wires: ['delay', 'loss'] });
  t.strictSame(chosenBy('--wires=both,both'), { ...USUAL, wires: ['both'] }, 'each once');
  t.strictSame(chosenBy('--wires', '--subjects', 'varpd,plain'), { ...USUAL, subjects: ['varpd', 'plain'] });
  t.strictSame(chosenBy('--wires', '--family', 'v4,v6'), { ...USUAL, families: ['v4', 'v6'] });
  t.strictSame(chosenBy('--wires', '--mtu', '1500,9000'), { ...USUAL, mtus: [1500, 9000] });
  t.end();
});

t.test('the other modes are as they were', (t) => {
  t.equal(parseSettings([]).mode, 'all');
  const { mode, chosen, mtuBytes, family } = parseSettings(['--subjects', 'veth,varpd', '--mtu', '9000']);
  t.equal(mode, 'subjects');
  t.strictSame(
    chosen.map(({ name }) => name),
    ['veth', 'varpd'],
  );
  t.strictSame([mtuBytes, family], [9000, 'v4']);
  for (const name of MODES) {
    const value = ['against', 'files'].includes(name) ? ['HEAD'] : [];
    t.equal(parseSettings([`--${name}`, ...value]).mode, name);
  }
  t.end();
});

t.test('an invalid choice is refused in words', (t) => {
  for (const [args, message] of [
    ['--wires=copper', "--wires knows both, trains, neither, tunnel, delay, loss, not 'copper'"],
    ['--wires=', "--wires knows both, trains, neither, tunnel, delay, loss, not ''"],
    ['--wires --family ipv4', "--family knows v4, v6, not 'ipv4'"],
    ['--wires --mtu 1500,many', "--mtu wants a whole number above 0, not 'many'"],
    ['--wires --mtu 100', '--mtu wants 1280 to 65521 bytes, not 100'],
    ['--wires --family v6 --subjects plain', '--family v6: plain runs over IPv4 alone'],
    ['--wires --profile', /^one of --profile, .*--wires, .* at a time$/],
    ['--profile --subjects varpd', '--subjects goes with --wires or alone, not with --profile'],
    ['--family v6', '--family goes with --wires alone'],
    ['--mtu 1500,9000', '--mtu wants one value, but for --wires'],
    ['--wires both', /Unexpected argument 'both'/],
  ] as const)
    t.throws(() => parseSettings(args.split(' ')), { message }, args);
  t.throws(() => parseSettings(['--subjects', 'ip']), { message: /^--subjects knows veth, .*, not 'ip'$/ });
  t.end();
});

/** Two rounds of two subjects over both families; kernel was not measured in the second round of IPv6. */
const MATRIX = parseSettings([
  '--wires=both,loss',
  '--subjects',
  'veth,kernel,varpd',
  '--family',
  'v4,v6',
]).matrix;
const SAMPLES: Sample<WireFigures>[] = [1, 2].flatMap((round) =>
  underlaysOf(MATRIX).flatMap((underlay) =>
    MATRIX.wires.flatMap((wire) =>
      MATRIX.subjects
        .filter(({ name }) => !(round === 2 && underlay.family === 'v6' && name === 'kernel'))
        .map(({ name }) => {
          const gbps = { veth: 20, kernel: 10, varpd: 5 * round }[name] ?? 0;
          const figures = { tcpGbps: gbps, tcp4Gbps: 2 * gbps, foreignShare: 0 };
          return { round, subject: nameOf(name, wire, underlay), figures };
        }),
    ),
  ),
);

t.test('a table for each underlay and shape', (t) => {
  const tables = wireTables(SAMPLES, MATRIX);
  t.strictSame(
    tables.map(({ title }) => title),
    ['v4', 'v6'].flatMap((family) =>
      [1, 4].map((streams) => {
        const shape = `TCP, ${streams} stream${streams === 1 ? '' : 's'}, Gbit/s`;
        return `${shape}; underlay of IP${family}, MTU 1500`;
      }),
    ),
  );
  const [one, four, six] = tables;
  t.strictSame(one.rows, [
    ['the wire takes whole', 'veth', 'kernel', 'varpd', 'varpd : kernel'],
    ...[wires[0], wires[5]].map(({ title }) => [
      title,
      '20.0 (20.0..20.0)',
      '10.0 (10.0..10.0)',
      '7.5 (5.0..10.0)',
      '0.75 (0.50..1.00)',
    ]),
  ]);
  t.equal(four.rows[1][3], '15.0 (10.0..20.0)', 'of its own figure');
  t.equal(six.rows[1][4], '0.50 (0.50..0.50)', 'a ratio is of rounds in which both were measured');
  t.equal(markdownRows(one.rows).split('\n').length, 4);
  t.match(wireTables([], MATRIX)[0].rows[1], [wires[0].title, '-', '-', '-', '-'], 'nothing was measured');
  t.end();
});

t.test('a chart: a panel for each underlay, wire and shape', (t) => {
  const svg = wireChart(SAMPLES, MATRIX, 'two rounds');
  const count = (part: string): number => svg.split(part).length - 1;
  const panels = 2 * 2 * 2;
  t.match(svg, /^<svg [^]*<\/svg>\n$/);
  t.equal(count('<g '), panels);
  t.equal(count('<g '), count('</g>'));
  t.equal(count('<rect '), panels * MATRIX.subjects.length + 1, 'a bar for each subject, and the background');
  t.equal(count(`>${wires[5].title}<`), 4, 'each panel names its wire');
  t.notMatch(svg, /NaN|undefined|Infinity/);
  t.notMatch(wireChart([], MATRIX, ''), /NaN|undefined|Infinity/, 'nothing was measured');
  t.end();
});

t.test('the matrix is printed: each choice, and what each wire does', (t) => {
  const text = matrixText(MATRIX);
  for (const { name, title } of [...MATRIX.subjects, ...MATRIX.wires]) {
    const line = text.split('\n').find((each) => each.trim().startsWith(`${name} `));
    t.ok(line?.endsWith(`  ${title}`), name);
  }
  t.match(text, /underlay: IPv4 and IPv6, MTU 1500$/);
  t.end();
});
