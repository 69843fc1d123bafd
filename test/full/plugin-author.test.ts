// The author's kit as an author has it: the packed package, in a directory that has nothing else. The types under two kinds of
// module resolution, and the tutorial of docs/plugins.md, command by command.
import { spawn, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';

import { textOf } from '../helpers/documents.js';
import { fromRoot } from '../helpers/need.js';
import { packageRegistry } from '../helpers/package-registry.js';
import { tutorialIn } from '../helpers/tutorial.js';

const directory = mkdtempSync(path.join(tmpdir(), 'varpd-author-'));
const registry = await packageRegistry();
t.teardown(() => {
  registry.close();
  rmSync(directory, { recursive: true, force: true });
});

const at = (...parts: string[]): string => path.join(directory, ...parts);

/** npm asks nothing but the registry of this test, and keeps nothing. */
const env: NodeJS.ProcessEnv = {
  PATH: `${at('bin')}:${process.env['PATH']}`,
  HOME: directory,
  npm_config_registry: registry.url,
  npm_config_cache: at('cache'),
  npm_config_userconfig: at('npmrc'),
  npm_config_audit: 'false',
  npm_config_fund: 'false',
  npm_config_update_notifier: 'false',
};

interface Ended {
  readonly status: number | null;
  readonly output: string;
}

/** Not spawnSync: the registry answers in this process. */
function run(command: string, args: readonly string[], cwd = directory): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    child.once('close', (status) => {
      resolve({ status, output });
    });
  });
}

/** The package, installed out of its tarball. */
const VARPD = at('installed/node_modules/varpd');

t.before(async () => {
  const { status, stderr } = spawnSync('npm', ['pack', '--ignore-scripts', '--pack-destination', directory], {
    cwd: fromRoot('.'),
    env: { ...env, npm_config_registry: registry.url },
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  const tarball = readdirSync(directory).find((name) => name.endsWith('.tgz'))!;
  mkdirSync(at('installed'));
  const installed = await run('npm', ['install', '--prefix', at('installed'), at(tarball)], at('installed'));
  if (installed.status !== 0) throw new Error(`${installed.output} ${registry.missing.join()}`);
  mkdirSync(at('bin'));
  symlinkSync(path.join(VARPD, 'dist/src/daemon/main.js'), at('bin', 'varpd'));
});

t.test('the types work from a foreign directory', async (t) => {
  const place = at('types');
  mkdirSync(path.join(place, 'node_modules/@types'), { recursive: true });
  symlinkSync(VARPD, path.join(place, 'node_modules/varpd'));
  symlinkSync(fromRoot('node_modules/@types/node'), path.join(place, 'node_modules/@types/node'));
  writeFileSync(path.join(place, 'package.json'), '{"type": "module"}');
  writeFileSync(
    path.join(place, 'good.ts'),
    `import { definePlugin, parseIp, type Host, type IpAddress } from 'varpd/plugin';
     import { checks, conformance, harness, type Report } from 'varpd/plugin-test';
     const plugin = definePlugin({ apiVersion: 2, name: 'mine', mode: 'dynamic',
       properties: [
         { name: 'mine/url', type: 'string', required: true },
         { name: 'mine/size', type: 'uint', required: false, default: '3' },
         { name: 'mine/kind', type: 'choice', required: false, choices: ['a', 'b'] },
       ],
       create: (host: Host) => ({
         start: async ({ url, size, kind }) => {
           const text: string = url; const number: number = size; const word: 'a' | 'b' | undefined = kind;
           host.log.info(text + number + word);
         },
         stop: async () => {},
         resolve: () => ({ kind: 'target', to: { ip: '192.0.2.7', port: 4789 } }),
       }) });
     const ip: IpAddress | undefined = parseIp('192.0.2.1');
     const report: Promise<Report> = conformance(plugin, { known: [7] });
     export { ip, report, plugin, harness, checks };`,
  );
  writeFileSync(
    path.join(place, 'bad.ts'),
    `import { definePlugin } from 'varpd/plugin';
     export default definePlugin({ apiVersion: 1, name: 'mine', mode: 'dynamic',
       properties: [{ name: 'mine/url', type: 'string', required: false }],
       create: () => ({
         start: async ({ url, absent }) => { const text: string = url; console.log(text, absent); },
         stop: async () => {},
       }) });`,
  );
  const tsc = fromRoot('node_modules/typescript/bin/tsc');
  for (const resolution of ['nodenext', 'bundler']) {
    const module = resolution === 'bundler' ? 'esnext' : 'nodenext';
    const args = [tsc, '--strict', '--noEmit', '--target', 'es2023', '--module', module];
    const options = [...args, '--moduleResolution', resolution, '--types', 'node', '--skipLibCheck'];
    const good = await run(process.execPath, [...options, 'good.ts'], place);
    t.equal(good.status, 0, `${resolution}: ${good.output}`);
    const bad = await run(process.execPath, [...options, 'bad.ts'], place);
    t.match(bad.output, /Type '1' is not assignable to type '2'/, `${resolution}: apiVersion`);
    t.match(bad.output, /Property 'absent' does not exist/, `${resolution}: a property that there is not`);
    t.match(
      bad.output,
      /'string \| undefined' is not assignable to type 'string'/,
      `${resolution}: optional`,
    );
  }
});

t.test('the tutorial of docs/plugins.md', async (t) => {
  const place = at('tutorial');
  mkdirSync(place);
  const free = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => free.once('listening', resolve));
  const port = String((free.address() as AddressInfo).port);
  free.close();
  const { script, output } = tutorialIn(textOf('docs/plugins.md').replaceAll('8080', port));
  t.ok(script.split('create-plugin').length > 2 && output.length > 4, 'it has two plugins, and shows output');
  const ended = await run('bash', ['-c', script], place);
  t.equal(ended.status, 0, ended.output);
  t.equal([...ended.output.matchAll(/^# fail 0$/gm)].length, 3, 'npm test three times');
  let from = 0;
  for (const line of output) {
    const found = ended.output.indexOf(line, from);
    t.ok(found >= 0, line);
    from = Math.max(found, from);
  }
  t.same(registry.missing, [], 'all packages are those of this repository');
});

t.test('a new package is pinned', async (t) => {
  const { devDependencies, varpd } = JSON.parse(
    readFileSync(at('tutorial/varpd-plugin-hosts/package.json'), 'utf8'),
  ) as { devDependencies: Record<string, string>; varpd: unknown };
  const own = JSON.parse(textOf('package.json')) as { devDependencies: Record<string, string> };
  t.equal(devDependencies['typescript'], own.devDependencies['typescript']);
  t.match(devDependencies['varpd'], /^(?:file:\/.*|\d+\.\d+\.\d+)$/);
  t.same(varpd, { plugin: './dist/index.js' });
});
