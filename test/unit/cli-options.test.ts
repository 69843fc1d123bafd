// The command line of dladm as POSIX has it: options and their values, operands, names of links.
import t from 'tap';

import { type Option, UsageError } from '../../src/cli/command.js';
import { getopt } from '../../src/cli/getopt.js';
import { checkName } from '../../src/model/names.js';
import { words } from '../helpers/fake-control.js';

const OPTIONS: readonly Option[] = [
  { name: 'temporary', short: 't', about: '' },
  { name: 'vnetid', short: 'v', value: 'id', about: '' },
  { name: 'prop', short: 'p', value: 'p', repeatable: true, about: '' },
  { name: 'parsable', alias: 'parseable', about: '' },
];

await t.test('options come first, as POSIX has them', (t) => {
  const parsed = (line: string): unknown[] => {
    const args = getopt(OPTIONS, words(line));
    return [args.has('temporary'), args.value('vnetid'), args.values('prop'), args.operands, args.stray];
  };
  t.same(parsed(''), [false, undefined, [], [], undefined]);
  t.same(parsed('-v 23 a0'), [false, '23', [], ['a0'], undefined]);
  t.same(parsed('-v23 a0'), [false, '23', [], ['a0'], undefined]);
  t.same(parsed('-tv 23 a0 b0'), [true, '23', [], ['a0', 'b0'], undefined]);
  t.same(parsed('-tv23'), [true, '23', [], [], undefined]);
  t.same(parsed('-vt'), [false, 't', [], [], undefined]);
  t.same(parsed('-v -t'), [false, '-t', [], [], undefined], 'what follows is the argument, whatever it is');
  t.same(parsed('-p a=1 -pb=2 --prop=c=3 --prop d=4'), [
    false,
    undefined,
    ['a=1', 'b=2', 'c=3', 'd=4'],
    [],
    undefined,
  ]);
  t.same(parsed('--vnetid= -t'), [true, '', [], [], undefined]);
  t.same(parsed('-t -- -v 23'), [true, undefined, [], ['-v', '23'], undefined]);
  t.same(parsed('-t a0 -v 23'), [true, undefined, [], ['a0', '-v', '23'], '-v']);
  t.same(parsed('- -t'), [false, undefined, [], ['-', '-t'], '-t'], 'a single - is an operand');
  t.ok(getopt(OPTIONS, ['--parseable']).has('parsable'));

  const wrong = (line: string, message: string): void => {
    t.throws(() => getopt(OPTIONS, words(line)), new UsageError(message), line);
  };
  wrong('-v', 'option requires an argument -v');
  wrong('-tv', 'option requires an argument -v');
  wrong('--vnetid', 'option requires an argument --vnetid');
  wrong('-x', "unrecognized option '-x'");
  wrong('-tx', "unrecognized option '-x'");
  wrong('-\u{1f600}', "unrecognized option '-\u{1f600}'");
  wrong('--vnet 1', "unrecognized option '--vnet'");
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
