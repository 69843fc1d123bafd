// Plugins in processes of their own, under a varpd that root has started: user, rights and descriptors; ends and restarts.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { PLUGIN_USER } from '../../src/daemon/config.js';
import { account } from '../../src/daemon/process/accounts.js';
import { landlockVersion } from '../../src/dgram-extra/index.js';
import { Daemon } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { linkOf } from '../helpers/procfs.js';
import { reaches } from '../helpers/traffic.js';

/** Does what the file `word` says; `answer` is where every MAC lives. */
const source = (answer: string, more = ''): string => `
import { existsSync, readFileSync } from 'node:fs';
import { parseMac } from 'varpd/plugin';
const word = () => {
  const file = new URL('word', import.meta.url);
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
};
if (word() === 'unloadable') throw new Error('out of order');
${more}
export default {
  apiVersion: 2, name: 'mine', mode: 'dynamic', properties: [],
  create: (host) => ({
    start: async () => {
      if (word() === 'unstartable') throw new Error('no server');
      host.log.info('works as ' + process.getuid() + ' in ' + process.cwd());
    },
    stop: async () => {},
    resolve: () => {
      if (word() === 'exit') process.exit(7);
      if (word() === 'loop') for (;;);
      if (word() === 'grow') {
        const all = [];
        setInterval(() => all.push(Buffer.alloc(16 * 1024 * 1024, 1)), 20);
      }
      if (word() === 'flood') for (let n = 0; n < 2e6; n++) host.log.info('flood ' + n);
      if (word() === 'babble') for (let n = 0; n < 20000; n++) console.log('line ' + n);
      return { kind: 'target', to: { ip: '${answer}', port: 4789 }, ttlMs: 200 };
    },
  }),
};
`;

const processesOf = (name: string): number[] =>
  readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(name);
      } catch {
        return false;
      }
    })
    .map(Number);

await t.test('a plugin in its process', { skip: skipUnlessNetns() }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  const plugins = bed.directory();
  const own = path.join(plugins, 'mine');
  mkdirSync(own);
  const write = (text: string): void => {
    writeFileSync(path.join(own, 'index.js'), text);
  };
  const say = (word: string): void => {
    if (word === '') rmSync(path.join(own, 'word'), { force: true });
    else writeFileSync(path.join(own, 'word'), word);
  };
  write(source(b.underlay.v4));
  const limits = { pluginMemoryMib: 150, pluginBlockedMs: 500, lookupDeadlineMs: 300 };
  const daemon = (await Daemon.start(bed, a, { pluginPath: [plugins], config: { limits } })).explain(t);
  const create = async (): Promise<void> => {
    await daemon.ok(`create-overlay -e vxlan -s mine -v 42 -p vxlan/listen_ip=${a.underlay.v4} overlay0`);
    await a.plumb('overlay0');
    await a.ip(`neigh replace ${b.overlay.v4} lladdr ${await b.macOf('vx0')} dev overlay0 nud permanent`);
    await b.ip(`neigh replace ${a.overlay.v4} lladdr ${await a.macOf('overlay0')} dev vx0 nud permanent`);
  };
  await create();
  t.ok(await reaches(a, b.overlay.v4), 'it is asked, and answers');
  /** The processes of this varpd's plugin: others on this host may have one of the same name. */
  const before = new Set<number>();
  const pid = (): number =>
    processesOf('varpd-plugin mine').filter(
      (one) => !before.has(one) && linkOf(`/proc/${one}/cwd`).startsWith(`${daemon.stateDir}-plugins`),
    )[0];
  const status = async () => (await daemon.overlays('overlay0'))[0].health;
  const isHealth = async (wanted: 'ONLINE' | 'DEGRADED', details = /./): Promise<boolean> => {
    const health = await status();
    return health.status === wanted && (wanted === 'ONLINE' || details.test(health.details ?? ''));
  };
  const untilHealth = (wanted: 'ONLINE' | 'DEGRADED', details = /./): Promise<void> =>
    waitUntil(() => isHealth(wanted, details), { what: `${wanted} ${details}` });
  /** The target is asked about again and again, until this holds. */
  const askUntil = (holds: () => boolean | Promise<boolean>, what: string): Promise<void> =>
    waitUntil(
      async () => {
        await a.run(['ping', '-c', '1', '-W', '0.1', b.overlay.v4]);
        return holds();
      },
      { what },
    );

  await t.test('has a user of its own and nothing of varpd', async (t) => {
    const text = readFileSync(`/proc/${pid()}/status`, 'utf8');
    const { uid, gid } = account(PLUGIN_USER);
    t.match(text, new RegExp(`^Uid:\\s+${uid}\\t${uid}\\t${uid}\\t${uid}$`, 'm'));
    t.match(text, new RegExp(`^Gid:\\s+${gid}\\t${gid}\\t${gid}\\t${gid}$`, 'm'));
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb'])
      t.match(text, new RegExp(`^${set}:\\s+0000000000000000$`, 'm'), set);
    t.match(text, /^NoNewPrivs:\s+1$/m);
    t.match(text, /^Seccomp:\s+2$/m);
    t.match(readFileSync(`/proc/${pid()}/stat`, 'utf8').split(') ')[1].split(' ')[16], '10', 'nice');
    // Descriptors 1 and 2 are the spawner's ears.
    const fds = readdirSync(`/proc/${pid()}/fd`).filter((fd) => Number(fd) > 2);
    const links = fds.map((fd) => linkOf(`/proc/${pid()}/fd/${fd}`));
    const strange = links.filter((link) => !/^(?:\/dev\/null|pipe:|socket:|anon_inode:)/.test(link));
    t.same(strange, [], 'no TAP, and no file');
    t.equal(links.filter((link) => link.startsWith('socket:')).length, 1, 'one channel');
    t.same(
      readFileSync(`/proc/${pid()}/environ`, 'utf8').match(/VARPD|NOTIFY|LISTEN|SUDO/g),
      null,
      'a clean environment',
    );
    t.equal(linkOf(`/proc/${pid()}/cwd`), daemon.pluginState('mine'), 'its state directory');
    t.match(await daemon.ok('status'), `plugins as user ${PLUGIN_USER}`);
    const { pluginConfinement } = await daemon.call('daemon.status', {});
    const version = landlockVersion();
    t.match(pluginConfinement, version > 0 ? { landlock: version, lack: null } : { landlock: 0 });
  });

  await t.test('costs its overlay nothing that is known, however it ends', async (t) => {
    const ways: [word: string, says: RegExp][] = [
      ['exit', /plugin mine: its process has ended \(exit status 7\)/],
      ['loop', /plugin mine: its process was blocked for [\d.]+ s/],
      ['grow', /plugin mine: its process took more than 150 MiB of memory/],
    ];
    for (const [word, says] of ways) {
      await untilHealth('ONLINE');
      t.ok(await reaches(a, b.overlay.v4));
      say(word);
      await askUntil(() => isHealth('DEGRADED', says), `${word}: ${says}`);
      t.pass(word);
      say('');
      await untilHealth('ONLINE');
      t.ok(await reaches(a, b.overlay.v4), `${word}: it is asked again`);
    }
    const killed = pid();
    process.kill(killed, 'SIGKILL');
    await untilHealth('DEGRADED', /its process has ended \(SIGKILL\)/);
    await untilHealth('ONLINE');
    t.not(pid(), killed);
    say('babble');
    await askUntil(() => /index\.js: printed: line \d+/.test(daemon.log()), 'what it prints');
    t.ok(await reaches(a, b.overlay.v4));
    say('');
    t.ok(daemon.log().split('\n').length < 500, 'few lines of many');
  });

  await t.test('new code is used when it works, and not before', async (t) => {
    const first = pid();
    const elsewhere = '10.255.0.9';
    write(source(elsewhere));
    say('unloadable');
    t.match(await daemon.dladm('reload-plugin', 'mine'), {
      code: 7,
      stderr: /mine\/index\.js:8:\d+: .*not loaded: out of order\n/,
    });
    say('unstartable');
    t.match(await daemon.dladm('reload-plugin', 'mine'), {
      code: 7,
      stderr: /overlay0: .*no server\n.*plugin 'mine' goes on with the code that it has/s,
    });
    say('');
    write(source(elsewhere).replace("name: 'mine'", "name: 'yours'"));
    t.match(await daemon.dladm('reload-plugin', 'mine'), {
      code: 7,
      stderr: /its name is 'yours' now, and was 'mine'/,
    });
    t.equal(pid(), first, 'the process is the same');
    t.ok(await reaches(a, b.overlay.v4));
    t.match(await status(), { status: 'ONLINE' });
    write(source(elsewhere));
    await daemon.ok('reload-plugin mine');
    const isThere = async (): Promise<boolean> =>
      (await daemon.ok('show-overlay -t overlay0')).includes(elsewhere);
    await askUntil(isThere, 'an answer of the new code');
    await waitUntil(() => !existsSync(`/proc/${first}`), { what: 'the first process to end' });
    write(source(b.underlay.v4));
    await daemon.ok('reload-plugin mine');
    await askUntil(async () => !(await isThere()), 'the answer of the newest code');
    t.ok(await reaches(a, b.overlay.v4));
    t.match(await status(), { status: 'ONLINE' });
    t.match(await daemon.dladm('reload-plugin', 'files'), { code: 7, stderr: /'files' is a part of varpd/ });
    t.match(await daemon.dladm('reload-plugin', 'none'), { code: 4, stderr: /there is no plugin 'none'/ });
  });

  await t.test('a restart starts it again', async (t) => {
    const first = pid();
    await daemon.ok('restart');
    await waitUntil(() => !existsSync(`/proc/${first}`), { what: 'the first process to end' });
    await untilHealth('ONLINE');
    t.ok(await reaches(a, b.overlay.v4));
    t.match(await daemon.ok('status'), `plugins as user ${PLUGIN_USER}`, 'by the same spawner');
  });

  await t.test('is ended when it goes on after its last overlay', async (t) => {
    const first = pid();
    say('flood');
    await askUntil(() => /flood \d+/.test(daemon.log()), 'it to go on');
    await daemon.ok('delete-overlay overlay0');
    await waitUntil(() => /goes on with calls of instances that have been stopped/.test(daemon.log()), {
      what: 'the sentence about its end',
    });
    await waitUntil(() => !existsSync(`/proc/${first}`), { what: 'its process to end' });
    say('');
    await create();
    await untilHealth('ONLINE');
    t.ok(await reaches(a, b.overlay.v4), 'a new overlay has a new process');
  });

  await t.test('ends with varpd', async (t) => {
    const last = pid();
    t.same(await daemon.stop(), { code: 0, signal: null });
    await waitUntil(() => !existsSync(`/proc/${last}`), { what: 'its process to end' });
    await daemon.start();
    await untilHealth('ONLINE');
    const next = pid();
    await daemon.kill();
    await waitUntil(() => !existsSync(`/proc/${next}`), { what: 'its process to end' });
    t.pass('also when varpd is killed');
  });
});
