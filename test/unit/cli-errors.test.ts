/**
 * Errors of dladm for programs: --json on standard error, the reason and the exit status of every command, what was
 * probably meant, and the help.
 */
import t from 'tap';
import { allCommands } from '../../src/cli/dladm.js';
import { CommandError } from '../../src/cli/command.js';
import { Complaints } from '../../src/cli/complaints.js';
import { encodeMessage } from '../../src/control/framing.js';
import { ERROR_CODES, STATUS_WORDS } from '../../src/model/errors.js';
import { EXIT, EXIT_STATUSES } from '../../src/model/exit-statuses.js';
import { exitOf, type Reason, REASONS } from '../../src/cli/reasons.js';
import { didYouMean } from '../../src/model/suggest.js';
import { METHOD_NAMES } from '../../src/control/methods.js';
import { textOf } from '../helpers/documents.js';
import {
  type Answer,
  fakeDaemon,
  lines,
  listen,
  refuse,
  run,
  runMain,
  words,
} from '../helpers/fake-control.js';

interface Line {
  readonly v: number;
  readonly error?: {
    readonly reason: string;
    readonly status: number;
    readonly message: string;
    readonly details: readonly string[];
    readonly hint: string | null;
  };
  readonly warning?: { readonly message: string };
}

const linesOf = (err: string): Line[] =>
  err
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);

/** A valid command line for each command that asks varpd. */
const ASKING = [
  'create-overlay -e vxlan -s direct -v 23 o0',
  'delete-overlay o0',
  'modify-overlay -f o0',
  'show-overlay',
  'set-overlayprop -p mtu=1400 o0',
  'reset-overlayprop -p mtu o0',
  'show-overlayprop',
  'show-peers',
  'up-overlay',
  'export',
  'rename-link foo0 bar0',
  'create-vnic -l o0 foo0',
  'delete-vnic foo0',
  'show-vnic',
  'set-linkprop -p protection=restricted foo0',
  'reset-linkprop foo0',
  'show-linkprop',
  'capture o0',
  'explain --dst 2:0:0:0:0:1 o0',
  'probe o0 2:0:0:0:0:1',
  'top -b -n 1',
  'status',
  'watch -c 1',
  'reload',
  'reload-plugin mine',
  'restart',
];
/** Commands that do their work without varpd, each with a command line that fails, its reason and what it prints. */
const ALONE: readonly (readonly [line: string, reason: Reason])[] = [
  ['check-mapping /nonexistent/hosts.json', 'NOT_FOUND'],
  ['import-mapping /nonexistent/hosts.json nats://127.0.0.1:1/x', 'NOT_FOUND'],
  ['export-mapping -p mistake=1 nats://127.0.0.1:1/x', 'USAGE'],
  ['apply -f /nonexistent/overlays.yaml', 'NOT_FOUND'],
  ['doctor a b', 'USAGE'],
  ['help nothing', 'USAGE'],
  ['completion csh', 'USAGE'],
];

await t.test('every command: its exit status and reason, as text and as JSON', async (t) => {
  const commands = (await allCommands()).map(({ synopsis }) => words(synopsis)[0]).sort();
  const tried = [...ASKING, ...ALONE.map(([line]) => line)].map((line) => words(line)[0]);
  t.same(tried.sort(), commands, 'all commands are in the lists above');
  for (const line of ASKING) {
    const none = await run('/nowhere/varpd.sock', ...words(line), '--json');
    t.match(none, { status: EXIT.NO_DAEMON, out: '' }, line);
    const message = 'cannot reach varpd at /nowhere/varpd.sock: no such socket';
    t.same(
      linesOf(none.err),
      [
        {
          v: 1,
          error: { reason: 'NO_DAEMON', status: 3, message, details: [], hint: 'is varpd running?' },
        },
      ],
      line,
    );
    for (const reason of ERROR_CODES) {
      const answer = refuse(reason, STATUS_WORDS[reason], 'why', ['a detail'], 'did you mean o1?');
      const answers: Record<string, Answer> = Object.fromEntries(METHOD_NAMES.map((name) => [name, answer]));
      const { socket } = await fakeDaemon(answers);
      const text = await run(socket, ...words(line));
      const [, detail, why, message = '', hint] =
        /^dladm: (a detail)\ndladm: (why)\ndladm: (.*: .*): (did you mean o1\?)\n$/.exec(text.err) ?? [];
      t.same({ ...text, err: '' }, { status: exitOf(reason), out: '', err: '' }, `${line} ${reason}`);
      const json = await run(socket, ...words(line), '--json');
      const error = { reason, status: exitOf(reason), message, details: [detail, why], hint };
      t.same(
        { ...json, err: linesOf(json.err) },
        { status: exitOf(reason), out: '', err: [{ v: 1, error }] },
      );
    }
  }
  for (const [line, reason] of ALONE) {
    const { status, err } = await run('/nowhere/varpd.sock', ...words(line), '--json');
    const [{ v, error }] = linesOf(err);
    t.match({ status, v, error }, { status: exitOf(reason), v: 1, error: { reason, status } }, line);
  }
});

/** Command line -> message and hint of the error. */
const WRONG: readonly (readonly [line: string, message: string, hint: string | RegExp])[] = [
  ['--json', "unrecognized option '--json'", /^usage: dladm \[--socket path\] subcommand args\.\.\.$/],
  ['show-overly --json', "unknown subcommand 'show-overly'", 'did you mean show-overlay?'],
  ['show-link --json', "unknown subcommand 'show-link'", /^usage: dladm /],
  ['delete-overlay --json', 'missing overlay name', 'usage: dladm delete-overlay [-t] overlay'],
  ['delete-overlay --json --temporray o0', "unrecognized option '--temporray'", 'did you mean --temporary?'],
  ['status --json -x', "unrecognized option '-x'", /^usage: dladm status /],
  ['show-overlay --json -o link', '--json and --output may not be used together', /^usage/],
  ['top --json', '--json goes with -b', /^usage: dladm top /],
  ['top -b --json -o link', '--json and --output may not be used together', /^usage/],
  ['show-linkprop --json -o value', '--json and --output may not be used together', /^usage/],
  ['explain --dst 2:0:0:0:0:1 --json -o step o0', '--json and --output may not be used together', /^usage/],
  ['export-mapping --json nats://x/y', '--json needs a file', /^usage/],
  ['status --json --socket=', 'option requires an argument --socket', /^usage/],
];

await t.test('wrong usage, as JSON', async (t) => {
  for (const [line, message, hint] of WRONG) {
    const { status, out, err } = await run(undefined, ...words(line));
    t.match({ status, out }, { status: EXIT.USAGE, out: '' }, line);
    t.match(
      linesOf(err),
      [{ v: 1, error: { reason: 'USAGE', status: 2, message, details: [], hint } }],
      line,
    );
  }
  const ended = await run(undefined, 'delete-overlay', '--', '--json', 'o0');
  t.match(ended.err, /^dladm: expected one overlay name, got: --json o0\nusage: /, 'an operand is no option');
});

await t.test('several failures are a line each, and what was found is on standard output', async (t) => {
  const { socket } = await fakeDaemon({
    'overlay.list': () => ({
      overlays: [{ name: 'o0', properties: [], health: { status: 'ONLINE', details: null }, counters: {} }],
      missing: [
        { name: 'o7', message: 'object not found', reason: 'NOT_FOUND', hint: 'did you mean o0?' },
        { name: 'off0', message: 'off0 is OFFLINE: x', reason: 'AGAIN' },
        { name: 'new0', message: 'new0 is x', reason: 'OF_A_LATER_VARPD' },
      ],
    }),
  });
  const { status, out, err } = await run(socket, 'show-overlay', 'o0', 'o7', 'off0', 'new0', '--json');
  t.equal(status, EXIT.FAILED, 'their statuses differ');
  t.match(JSON.parse(out), [{ name: 'o0' }]);
  t.match(linesOf(err), [
    {
      v: 1,
      error: {
        reason: 'NOT_FOUND',
        status: 4,
        message: 'failed to find o7: object not found',
        hint: 'did you mean o0?',
      },
    },
    { v: 1, error: { reason: 'AGAIN', status: 7, message: 'off0 is OFFLINE: x', hint: null } },
    { v: 1, error: { reason: 'NOT_FOUND', status: 4, message: 'new0 is x' } },
  ]);
  const text = await run(socket, 'show-overlay', 'o7', 'o0');
  t.match(text.err, /^dladm: failed to find o7: object not found: did you mean o0\?\n/);
});

await t.test('a later varpd has its own reasons; an older one has no hint', async (t) => {
  const answerWith = (data: unknown): Promise<string> =>
    listen((one) =>
      one.once('data', () =>
        one.end(encodeMessage({ jsonrpc: '2.0', id: 1, error: { message: 'x', data } })),
      ),
    );
  const later = await run(
    await answerWith({ reason: 'NEW', status: 9, words: 'new words', details: [], hint: 'wait' }),
    ...words('delete-overlay o0 --json'),
  );
  t.equal(later.status, 9);
  t.match(linesOf(later.err), [{ error: { reason: 'NEW', status: 9, hint: 'wait' } }]);
  const older = await run(
    await answerWith({ reason: 'BUSY', status: 7, words: 'link busy', details: [] }),
    ...words('delete-overlay o0 --json'),
  );
  t.match(linesOf(older.err), [{ error: { reason: 'BUSY', status: 7, hint: null } }]);
});

await t.test('warnings, defects, and texts that would end a line', async (t) => {
  let err = '';
  const complaints = new Complaints((text) => void (err += text), true);
  complaints.warn('a\nb\u009b');
  t.equal(complaints.error(new CommandError('c\nd', ['e\u2028'], 'BUSY', 'f')), EXIT.REFUSED);
  t.equal(complaints.defect(Object.create(null)), EXIT.FAILED, 'whatever was thrown');
  t.match(linesOf(err), [
    { v: 1, warning: { message: 'a\nb\u009b' } },
    { v: 1, error: { reason: 'BUSY', status: 7, message: 'c\nd', details: ['e\u2028'], hint: 'f' } },
    { v: 1, error: { reason: 'INTERNAL', status: 1, hint: null } },
  ]);
  t.notMatch(err, /[\u009b\u2028]/, 'none of it controls a terminal');
  t.equal(new Complaints(() => undefined, false).defect(new Error('x')), undefined, 'Node shows it');
});

await t.test('every reason has an exit status, and both are documented', (t) => {
  const page = textOf('docs/overlays.md');
  for (const [reason, { exit, means }] of Object.entries(REASONS)) {
    t.ok(page.includes(`| \`${reason}\` | ${EXIT_STATUSES[exit].status} | ${means} |`), reason);
    t.equal(exitOf(reason as Reason), EXIT[exit]);
  }
  const used = new Set(Object.values(REASONS).map(({ exit }) => exit));
  t.same(
    [...used].sort(),
    Object.keys(EXIT_STATUSES)
      .filter((name) => name !== 'DONE')
      .sort(),
  );
  t.end();
});

await t.test('what was probably meant', (t) => {
  const known = ['overlay0', 'demo0', 'vxlan', 'geneve', 'files', 'create-vnic', '--temporary', 'a0'];
  const near: readonly (readonly [typed: string, meant: string])[] = [
    ['overlya0', 'overlay0'],
    ['Overlay0', 'overlay0'],
    ['overlay1', 'overlay0'],
    ['vlxan', 'vxlan'],
    ['genev', 'geneve'],
    ['fiels', 'files'],
    ['craete-vnci', 'create-vnic'],
    ['--temprary', '--temporary'],
    ['a1', 'a0'],
  ];
  for (const [typed, meant] of near) t.equal(didYouMean(typed, known), `did you mean ${meant}?`, typed);
  for (const far of ['', 'x', 'bridge', 'overlay', 'create-bridge', 'overlay0'.repeat(9)])
    t.equal(didYouMean(far, far === 'overlay' ? ['demo0'] : known), undefined, far);
  t.equal(didYouMean('x', []), undefined);
  t.end();
});

await t.test('help', async (t) => {
  const all = await run(undefined, 'help');
  t.same(all, await run(undefined, '--help'));
  t.same(all, await run(undefined, '-h'));
  for (const { synopsis } of await allCommands()) {
    const [name] = words(synopsis);
    t.match(all.out, `    ${synopsis}\n`, name);
    const one = await run(undefined, 'help', name);
    t.match(one, { status: 0, err: '', out: `usage: dladm ${synopsis}\n` }, name);
    t.match(one.out, / {2}--json/, name);
    for (const option of ['--help', '-h'])
      t.same(await run(undefined, name, option), one, `${name} ${option}`);
  }
  t.same(await run(undefined, 'help', 'crate-overlay'), {
    status: EXIT.USAGE,
    out: '',
    err: lines(
      "dladm: unknown subcommand 'crate-overlay': did you mean create-overlay?",
      'usage: dladm help [command]',
    ),
  });
  t.match(await runMain(undefined, 'help', 'status'), {
    code: 0,
    stderr: '',
    stdout: /^usage: dladm status /,
  });
  t.match(await runMain(undefined, 'statsu'), {
    code: EXIT.USAGE,
    stderr:
      "dladm: unknown subcommand 'statsu': did you mean status?\nusage: dladm [--socket path] subcommand args...\n",
  });
});
