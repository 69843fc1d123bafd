// An ordinary user beside varpd: what he learns of files that varpd may read and he may not, and what he can put in its way.
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { Daemon, DLADM_MAIN, VARPD_MAIN } from '../helpers/daemon.js';
import { giveToDaemon, startable } from '../helpers/daemon-user.js';
import { get } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { waitUntil } from '../helpers/process.js';
import { newHosts } from '../helpers/site.js';
import { isTried, part, usual } from '../helpers/whole.js';

const SECRET = 'hunter2';
const GROUP = { name: 'games', gid: 60 };
const NOBODY = 65534;
const AS_MEMBER = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--groups', String(GROUP.gid)];
const skip = skipUnlessNetns(['setpriv']);

/** What would make a terminal do something, and what would look like a line of a log. */
const ESCAPES = '\\u001b[2J\\n2026-01-01T00:00:00.000Z error made up';

const GOOD = '{"02:00:00:00:00:01": {"ip": "10.88.88.70", "port": 4789}}\n';

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

t.test(
  'a member of the group learns nothing of a file that varpd may read, root does',
  { skip },
  async (t) => {
    const { bed, a } = await newHosts(t);
    const daemon = new Daemon(bed, a).explain(t);
    const metrics = path.join(daemon.directory, 'metrics.sock');
    daemon.writeConfig({ group: GROUP.name, metrics });
    await daemon.start();
    chmodSync(daemon.directory, 0o755);
    const env = { VARPD_SOCKET: daemon.socket };
    const asMember = async (line: string): Promise<string> => {
      const { stdout, stderr } = await a.run(
        [...AS_MEMBER, process.execPath, DLADM_MAIN, ...line.split(' ')],
        {
          env,
        },
      );
      return stdout + stderr;
    };
    const asRoot = async (line: string): Promise<string> => {
      const { stdout, stderr } = await daemon.dladm(...line.split(' '));
      return stdout + stderr;
    };
    const file = path.join(daemon.directory, 'key');
    const create = (name: string): string =>
      `create-overlay -e vxlan -s files -v 23 -p vxlan/listen_ip=${a.underlay.v4} -p files/config=${file} ${name}`;
    const place = new RegExp(`${file}:1:\\d+: `);
    const all = [
      `${SECRET}\n`,
      `{"${SECRET}": {}}\n`,
      `{"02:00:00:00:00:01": {"ip": "${SECRET}${ESCAPES}", "port": 1}}\n`,
      `{"02:00:00:00:00:01": {"ip": "10.0.0.1", "port": ${SECRET}}}\n`,
    ];
    const texts = usual(all, (text) => text === all[0] || text.includes(ESCAPES));
    const write = (text: string): void => {
      writeFileSync(file, text, { mode: 0o600 });
      giveToDaemon(file);
    };
    for (const text of texts) {
      write(text);
      const seen = await asMember(create('overlay0'));
      t.match(seen, place, 'a start that fails says where');
      t.notMatch(seen, SECRET, `and not what: ${text}`);
      const shown = await asRoot(create('overlay0'));
      t.match(shown, new RegExp(`${file}:1:\\d+: at '.*${SECRET}.*': found `), 'to root dladm says what');
      t.notMatch(shown.replaceAll('\n', ''), /\p{C}/u, 'which no terminal obeys');
    }

    write(GOOD);
    await daemon.ok(create('overlay0'));
    for (const text of texts) {
      write(text);
      t.match(await asMember('reload'), place, 'so a reload');
      for (const line of [
        'reload',
        'show-overlay -f',
        'show-overlay -p -o details -f',
        'show-overlay --json',
        'show-overlay',
        'up-overlay',
      ])
        t.notMatch(await asMember(line), SECRET, line);
      t.match(await asMember('show-overlay -f'), place);
      t.match(
        await asRoot('show-overlay -f'),
        new RegExp(`:1:\\d+: at '.*${SECRET}.*': found `),
        'root sees it',
      );
      t.notMatch(await asRoot('show-overlay --json'), SECRET, 'what programs read is what varpd says');
    }
    t.notMatch((await get(metrics)).body, SECRET, 'metrics');
    await daemon.restart();
    t.match(await asMember('show-overlay -f'), place, 'after a restart with the bad file');
    t.notMatch(await asMember('show-overlay --json'), SECRET);

    daemon.writeConfig({ group: GROUP.name, metrics, log: { level: SECRET } });
    chmodSync(daemon.configFile, 0o600);
    giveToDaemon(daemon.configFile);
    for (const line of ['reload', 'restart']) {
      const seen = await asMember(line);
      t.match(seen, /varpd\.yaml:\d+:\d+: log\.level: found another text, expected one of/, line);
      t.notMatch(seen, SECRET);
      t.match(await asRoot(line), new RegExp(`at '.*${SECRET}.*': log\\.level: found`), `${line}, to root`);
    }
    t.notMatch(daemon.log(), SECRET, 'the log');
    t.notMatch(daemon.log().replaceAll('\n', ''), /\p{C}/u);
    for (const name of ['snapshot', 'overlay0.json'])
      if (existsSync(path.join(daemon.stateDir, name)))
        t.notMatch(readFileSync(path.join(daemon.stateDir, name), 'utf8'), SECRET, name);
  },
);

/** Starts, with somebody who plants links where the socket and the log come: none of them is followed. */
t.test('links that are planted', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const base = bed.directory();
  giveToDaemon(base);
  const victim = path.join(base, 'victim');
  writeFileSync(victim, 'as it was', { mode: 0o600 });
  const before = statSync(victim);
  for (const [index, mode] of [0o777, 0o1777, 0o755].entries()) {
    const open = path.join(base, `open-${mode.toString(8)}`);
    mkdirSync(open);
    chmodSync(open, mode);
    if (mode === 0o755) chownSync(open, NOBODY, NOBODY);
    const [socket, log] = ['varpd.sock', 'varpd.log'].map((name) => path.join(open, name));
    const config = path.join(base, 'varpd.yaml');
    for (let count = 0; count < part(5); count++) {
      // With the socket it is one that comes in the middle, with the log one that is there.
      const isLog = count % 2 === 1;
      if (!isTried(isLog === (index === 1))) continue;
      const keys = { stateDir: path.join(base, 'state'), group: GROUP.name };
      const places = isLog ? { socket: path.join(base, 's'), log: { file: log } } : { socket };
      writeFileSync(config, JSON.stringify({ ...keys, ...places }));
      const loop = `i=0; while [ $((i += 1)) -lt 50000 ]; do ln -s ${victim} ${socket} && rm -f ${socket}; ln -sf ${victim} ${log}; done 2>/dev/null`;
      const nobody = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
      const planter = a.spawn([...nobody, 'sh', '-c', loop]);
      const command = [process.execPath, VARPD_MAIN, '--config', config, '--foreground'];
      const { code, stderr } = await a.run(startable(bed, command));
      await planter.stop('SIGKILL');
      t.equal(code, 6, `${mode.toString(8)}: refused`);
      t.match(stderr, new RegExp(`${open}.*mode ${mode.toString(8)}.*'ch(?:mod|own) `, 's'));
      for (const file of [socket, log])
        if (lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink()) unlinkSync(file);
    }
  }
  const after = statSync(victim);
  t.same([after.uid, after.gid, after.mode, after.size], [before.uid, before.gid, before.mode, before.size]);
  t.equal(readFileSync(victim, 'utf8'), 'as it was');
});

t.test('a restart that would not come back is refused before anything is let go', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const daemon = new Daemon(bed, a).explain(t);
  const at = (name: string): string => path.join(daemon.directory, name);
  for (const name of ['sockets', 'logs', 'plugins']) mkdirSync(at(name));
  giveToDaemon(at('sockets'), at('logs'));
  const file = at('logs/log');
  daemon.writeConfig({
    socket: at('sockets/varpd.sock'),
    log: { file },
    pluginPath: [at('plugins')],
  });
  daemon.useSocket(at('sockets/varpd.sock'));
  await daemon.start();
  const { pid } = daemon;
  const { startedAt } = await daemon.call('daemon.status', {});
  for (const name of ['sockets', 'logs', 'plugins', 'state']) {
    const mode = statSync(at(name)).mode & 0o777;
    chmodSync(at(name), 0o777);
    const refused = await daemon.dladm('restart');
    t.equal(refused.code, 7, name);
    t.match(
      refused.stderr,
      new RegExp(`${at(name)}.*(?:mode 777|mode 777\\))`),
      'with the directory and its mode',
    );
    t.equal((await daemon.call('daemon.status', {})).startedAt, startedAt, 'the same varpd goes on');
    chmodSync(at(name), mode);
  }
  await daemon.ok('restart');
  t.equal(daemon.pid, pid);
  await waitUntil(
    async () => (await daemon.call('daemon.status', {}).catch(() => undefined))?.startedAt !== startedAt,
    { what: 'the next varpd' },
  );
});

t.test('a mapping in a directory of others', { skip }, async (t) => {
  const { bed, a } = await newHosts(t);
  const daemon = (await Daemon.start(bed, a)).explain(t);
  const base = bed.directory();
  chmodSync(base, 0o755);
  const create = (file: string): string[] =>
    `create-overlay -e vxlan -s files -v 23 -p vxlan/listen_ip=${a.underlay.v4} -p files/config=${file} overlay0`.split(
      ' ',
    );
  const cases: [what: string, mode: number, owner: number, fileOwner: number, isGood: boolean][] = [
    ["root's", 0o755, 0, 0, true],
    ["root's, written to by all", 0o777, 0, 0, false],
    ['sticky', 0o1777, 0, 0, true],
    ["sticky, somebody else's file", 0o1777, 0, NOBODY, false],
    ["a user's own", 0o755, NOBODY, NOBODY, true],
    ["a user's, with a file of root's", 0o755, NOBODY, 0, false],
  ];
  for (const [index, [what, mode, owner, fileOwner, isGood]] of cases.entries()) {
    const directory = path.join(base, String(index));
    const file = path.join(directory, 'hosts.json');
    mkdirSync(directory);
    writeFileSync(file, GOOD);
    chownSync(file, fileOwner, fileOwner);
    chownSync(directory, owner, owner);
    chmodSync(directory, mode);
    const { code, stderr } = await daemon.dladm(...create(file));
    t.equal(code, isGood ? 0 : 6, `${what}: ${stderr}`);
    if (isGood) await daemon.ok('delete-overlay overlay0');
    else t.match(stderr, /hosts\.json is refused: .* belongs to user .*mode \d+.*(?:: |run )'ch(?:own|mod) /);
  }
});
