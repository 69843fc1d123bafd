// The command line of dladm as POSIX has it: options and their values, operands, names of links.
import t from 'tap';

import { type Option, UsageError } from '../../src/cli/command.js';
import { getopt } from '../../src/cli/getopt.js';
import { checkName } from '../../src/model/names.js';
import { parseLinkProperties } from '../../src/cli/link-properties.js';
import { splitList } from '../../src/cli/values.js';
import { words } from '../helpers/fake-control.js';

const OPTIONS: readonly Option[] = [
  { name: 'temporary', short: 't', about: '' },
  { name: 'vnetid', short: 'v', value: 'id', about: '' },
  { name: 'prop', short: 'p', value: 'p', repeatable: true, about: '' },
  { name: 'parsable', alias: 'parseable', about: '' },
];

await t.test('options as POSIX has them, and also after operands', (t) => {
  const parsed = (line: string): unknown[] => {
    const args = getopt(OPTIONS, words(line));
    return [args.has('temporary'), args.value('vnetid'), args.values('prop'), args.operands];
  };
  t.same(parsed(''), [false, undefined, [], []]);
  t.same(parsed('-v 23 a0'), [false, '23', [], ['a0']]);
  t.same(parsed('-v23 a0'), [false, '23', [], ['a0']]);
  t.same(parsed('-tv 23 a0 b0'), [true, '23', [], ['a0', 'b0']]);
  t.same(parsed('-tv23'), [true, '23', [], []]);
  t.same(parsed('-vt'), [false, 't', [], []]);
  t.same(parsed('-v -t'), [false, '-t', [], []], 'what follows is the argument, whatever it is');
  t.same(parsed('-p a=1 -pb=2 --prop=c=3 --prop d=4'), [false, undefined, ['a=1', 'b=2', 'c=3', 'd=4'], []]);
  t.same(parsed('--vnetid= -t'), [true, '', [], []]);
  t.same(parsed('-t -- -v 23'), [true, undefined, [], ['-v', '23']]);
  t.same(parsed('-t a0 -v 23'), [true, '23', [], ['a0']]);
  t.same(parsed('a0 -v 23 b0 -t'), [true, '23', [], ['a0', 'b0']]);
  t.same(parsed('a0 -t -- -v b0'), [true, undefined, [], ['a0', '-v', 'b0']]);
  t.same(parsed('- -t'), [true, undefined, [], ['-']], 'a single - is an operand');
  t.same(getopt(OPTIONS, words('-t a0 -v 23'), 'leading').operands, ['a0', '-v', '23']);
  t.same(getopt(OPTIONS, words('-t -- a0 -v'), 'leading').operands, ['a0', '-v']);
  t.ok(getopt(OPTIONS, ['--parseable']).has('parsable'));

  const wrong = (line: string, message: string): void => {
    t.throws(() => getopt(OPTIONS, words(line)), new UsageError(message), line);
  };
  const meant = (line: string, message: string): void => {
    t.throws(() => getopt(OPTIONS, words(line)), { message }, line);
  };
  meant('a0 --tmporary', "unrecognized option '--tmporary': did you mean --temporary?");
  meant('--vnetdi=1', "unrecognized option '--vnetdi': did you mean --vnetid?");
  meant('--PROP', "unrecognized option '--PROP': did you mean --prop?");
  wrong('-v', 'option requires an argument -v');
  wrong('-tv', 'option requires an argument -v');
  wrong('--vnetid', 'option requires an argument --vnetid');
  wrong('-x', "unrecognized option '-x'");
  wrong('-tx', "unrecognized option '-x'");
  wrong('-\u{1f600}', "unrecognized option '-\u{1f600}'");
  meant('--vnet 1', "unrecognized option '--vnet': did you mean --vnetid?");
  wrong('--nothing=1', "unrecognized option '--nothing'");
  wrong('--temporary=yes', 'option takes no argument --temporary');
  wrong('-v 1 -v 2', 'the option -v cannot be specified more than once');
  wrong('-t --temporary', 'the option --temporary cannot be specified more than once');
  t.end();
});

await t.test('names of links', (t) => {
  const good = ['overlay0', 'demo0', 'a4294967294', 'a_b.c10', 'A0', 'x1y2', 'abcdefghijklmn0', 'a.0'];
  for (const name of good) t.equal(checkName(name), undefined, name);
  const bad = ['overlay', 'demo01', 'a00', '0', '0a1', '_a0', '.a0', 'a-0', 'é0', 'a4294967295', '0x1'];
  for (const name of [...bad, '', 'a 0', 'a0\n']) t.equal(checkName(name), 'invalid', JSON.stringify(name));
  t.equal(checkName('abcdefghijklmno0'), 'too long', 'Linux has room for 15 characters');
  t.end();
});

await t.test('lists of properties', (t) => {
  const good: readonly (readonly [string, readonly string[]])[] = [
    ['', ['']],
    ['a=1', ['a=1']],
    ['a=1,b=2', ['a=1', 'b=2']],
    ['a=1,', ['a=1', '']],
    [',', ['', '']],
    [String.raw`a=1\,2,b=3`, ['a=1,2', 'b=3']],
    [String.raw`a=1\,`, ['a=1,']],
    [String.raw`a=1\\,b=2`, ['a=1\\', 'b=2']],
    [String.raw`a=\\\,\\`, [String.raw`a=\,` + '\\']],
  ];
  for (const [list, pieces] of good) t.same(splitList(list), pieces, list);
  for (const bad of ['\\', 'a=\\', String.raw`a=\n`, String.raw`a=1,b=\ 2`, String.raw`a=\\\x`])
    t.throws(() => splitList(bad), { message: /^stray backslash in property list '/ }, bad);
  t.throws(() => splitList('x'.repeat(16_385)), { message: /^property list too long 'x{80}\.\.\.'$/ });
  t.same(parseLinkProperties([String.raw`a=1,2\,3,b=4`, 'c=5']), [
    ['a', ['1', '2,3']],
    ['b', ['4']],
    ['c', ['5']],
  ]);
  t.end();
});
