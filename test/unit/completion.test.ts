// The candidates that dladm gives to a shell, with a daemon that answers from a script.
import t from 'tap';
import { complete, operandsOf, SHELLS } from '../../src/cli/completion.js';
import { allCommands } from '../../src/cli/dladm.js';
import { ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { LINK_PROPERTIES, LINK_PROPERTY_NAMES } from '../../src/model/link-properties.js';
import { OFFLOAD_WORDS } from '../../src/model/offloads.js';
import { textOf } from '../helpers/documents.js';
import { fakeDaemon, listen, run } from '../helpers/fake-control.js';

const property = (name: string, more: object = {}) => ({
  property: name,
  required: false,
  default: null,
  possible: null,
  kind: null,
  about: null,
  ...more,
});
const { socket } = await fakeDaemon({
  'overlay.list': () => ({ overlays: [{ name: 'demo0' }, { name: 'demo1' }], missing: [] }),
  'vnic.list': () => ({ vnics: [{ name: 'foo0' }, { name: 'bar0' }], missing: [] }),
  'plugin.list': () => ({
    plugins: [
      { name: 'direct', mode: 'point', properties: [property('direct/dest_ip', { kind: 'host' })] },
      {
        name: 'files',
        mode: 'dynamic',
        properties: [
          property('files/config', { kind: 'path' }),
          property('files/flood', { possible: 'on,off', about: 'floods' }),
        ],
      },
    ],
  }),
});

interface Answer {
  readonly kind: string;
  readonly words: readonly string[];
  readonly lines: readonly string[];
}

async function ask(daemon: string | undefined, ...words: readonly string[]): Promise<Answer> {
  const { status, out, err } = await run(daemon, 'completion', '--', 'zsh', ...words);
  t.same([status, err], [0, ''], words.join(' '));
  const [kind, ...lines] = out.replace(/\n$/, '').split('\n');
  return { kind, lines, words: lines.map((line) => line.split('\t')[0]) };
}

/** Command line, of which the last word is completed => candidates; `files`: the shell completes a file. */
const CASES: readonly (readonly [line: string, expected: readonly string[] | 'files'])[] = [
  ['delete-v', ['delete-vnic']],
  ['--so', ['--socket']],
  ['--socket ', 'files'],
  ['--socket=/x delete-overlay ', ['demo0', 'demo1']],
  ['delete-overlay ', ['demo0', 'demo1']],
  ['delete-overlay -t d', ['demo0', 'demo1']],
  ['delete-overlay demo0 ', []],
  ['delete-overlay -', ['-t', '--temporary', '--json', '--socket', '-h', '--help']],
  ['delete-overlay -t --', ['--json', '--socket', '--help']],
  ['delete-overlay -- ', ['demo0', 'demo1']],
  ['delete-overlay -- -', []],
  ['show-overlay demo0 d', ['demo1']],
  ['show-vnic -l ', ['demo0', 'demo1']],
  ['show-vnic foo0 ', ['bar0']],
  ['capture ', ['demo0', 'demo1', 'foo0', 'bar0']],
  ['capture --type a', ['arp']],
  ['capture --type=a', ['--type=arp']],
  ['capture --drops=tx_queue', ['--drops=tx_queue_full']],
  ['capture -w ', 'files'],
  ['check-mapping ', 'files'],
  ['reload-plugin f', ['files']],
  ['create-overlay -e ', [...ENCAPSULATION_NAMES]],
  ['create-overlay -eg', ['-egeneve']],
  ['create-overlay -teg', ['-tegeneve']],
  ['create-overlay --encap=v', ['--encap=vxlan']],
  ['create-overlay -t -s f', ['files']],
  ['create-overlay -e vxlan -p vxlan/listen_p', ['vxlan/listen_port=']],
  ['create-overlay -e vxlan -p geneve/', []],
  ['create-overlay -s files -p direct/', []],
  ['create-overlay -p direct/', ['direct/dest_ip=']],
  ['create-overlay -p offload=', OFFLOAD_WORDS.map((word) => `offload=${word}`)],
  ['create-overlay -p offload=checksum,ts', ['offload=checksum,tso']],
  ['create-overlay -p offload=checksum,nes', []],
  ['create-overlay -p offload=checksum,o', []],
  ['set-overlayprop -p offload=checksum,tso,ch', []],
  ['create-overlay -p offload=off,que', ['offload=off,queues=']],
  ['set-overlayprop -p offload=off,que', []],
  ['set-overlayprop -p mt', ['mtu=']],
  ['reset-overlayprop -p mt', ['mtu']],
  ['set-overlayprop -p mtu=1400 ', ['demo0', 'demo1']],
  ['create-overlay -p files/flood=', ['files/flood=on', 'files/flood=off']],
  ['create-overlay -p files/flood=on,files/', ['files/flood=on,files/config=']],
  ['create-overlay -p files/config=', 'files'],
  ['create-overlay -v ', []],
  ['create-overlay -v 23 ', ['demo0', 'demo1']],
  ['set-linkprop -p protection=mac-nospoof,ip', ['protection=mac-nospoof,ip-nospoof']],
  ['set-linkprop -p protection=mac-nospoof,mac', []],
  ['set-linkprop -p protection=mac-nospoof,allowed-i', ['protection=mac-nospoof,allowed-ips=']],
  ['set-linkprop -pprotection=re', ['-pprotection=restricted']],
  ['set-linkprop -p allow-all-dhcp-cids=true,f', []],
  ['reset-linkprop -p ', [...LINK_PROPERTY_NAMES]],
  ['reset-linkprop -p protection,allowed-i', ['protection,allowed-ips']],
  ['top --view o', ['overlays']],
  ['completion ', [...SHELLS]],
  ['no-such ', []],
];

t.test('candidates', async (t) => {
  for (const [line, expected] of CASES) {
    const { kind, words } = await ask(socket, ...line.split(' '));
    if (expected === 'files') t.equal(kind, 'files', line);
    else t.same([kind, ...words], ['words', ...expected], line);
  }
});

t.test('a shell that shows texts gets them', async (t) => {
  const { lines } = await ask(socket, 'create-overlay', '-p', 'files/f');
  t.same(lines, ['files/flood=\tfloods']);
  const commands = await ask(socket, 'delete-');
  t.same(commands.lines, ['delete-overlay\tDeletes an overlay', 'delete-vnic\tDeletes a VNIC']);
  t.equal((await run(socket, 'completion', '--', 'bash', 'delete-v')).out, 'words\ndelete-vnic\t\n');
});

t.test('every command, every option and every word of a link property is a candidate', async (t) => {
  const commands = await allCommands();
  const names = commands.map(({ synopsis }) => synopsis.split(' ')[0]);
  t.same((await ask(socket, '')).words, names);
  for (const { synopsis, options } of commands) {
    const [name] = synopsis.split(' ');
    const { words } = await ask(socket, name, '-');
    for (const { name: long, short } of options) {
      t.ok(words.includes(`--${long}`) || words.includes(`--${long}=`), `${name} --${long}`);
      if (short !== undefined) t.ok(words.includes(`-${short}`), `${name} -${short}`);
    }
  }
  for (const { name, possible } of LINK_PROPERTIES)
    if (possible !== null)
      t.same(
        (await ask(socket, 'set-linkprop', '-p', `${name}=`)).words,
        possible.map((value) => `${name}=${value}`),
      );
});

t.test('the operands of a synopsis', async (t) => {
  for (const command of await allCommands())
    for (const { placeholder } of operandsOf(command))
      t.match(placeholder, /^[a-z]+(?:[-|][a-z]+)*$/, command.synopsis);
  const all = new Map((await allCommands()).map((one) => [one.synopsis.split(' ')[0], operandsOf(one)]));
  const word = (placeholder: string, isRepeated = false) => ({ placeholder, isRepeated });
  t.same(all.get('explain'), [word('overlay')]);
  t.same(all.get('modify-overlay'), [word('overlay')]);
  t.same(all.get('show-overlay'), [word('overlay', true), word('count')]);
  t.same(all.get('probe'), [word('overlay'), word('mac|ip')]);
});

t.test('without a daemon there are no names, and no error', async (t) => {
  t.same((await ask('/nonexistent/varpd.sock', 'delete-overlay', '')).words, []);
  t.same(
    (await ask('/nonexistent/varpd.sock', 'create-overlay', '-p', 'offload=')).words,
    OFFLOAD_WORDS.map((word) => `offload=${word}`),
  );
  const silent = await listen(() => undefined);
  t.same((await ask(silent, 'delete-overlay', '')).words, [], 'nor from one that does not answer');
});

t.test('a name from outside cannot break the lines', async (t) => {
  const hostile = await fakeDaemon({
    'overlay.list': () => ({ overlays: [{ name: 'a\nwords\tb\x1b' }], missing: [] }),
  });
  t.same((await ask(hostile.socket, 'delete-overlay', '')).lines, ['a\\x0awords\\x09b\\x1b\t']);
});

t.test('the scripts', async (t) => {
  for (const shell of SHELLS)
    t.equal((await run(undefined, 'completion', shell)).out, textOf(`config/completion/dladm.${shell}`));
  t.match(await run(undefined, 'completion', 'tcsh'), {
    status: 2,
    err: /^dladm: unknown shell 'tcsh', expected one of bash, zsh, fish\nusage: /,
  });
  t.match(await run(undefined, 'completion'), { status: 2, err: /missing shell/ });
});

t.test('complete() of no word is that of an empty one', async (t) => {
  const sources = {
    call: () => Promise.reject(new Error('no')),
    commands: new Map(),
    globals: [],
    isDescribed: false,
  };
  t.same(await complete([], sources), []);
});
