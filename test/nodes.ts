// npm run test:nodes: the quick tests, and as root the demo, on every version of Node that varpd supports. The binaries are those of
// nodejs.org, as the npm packages node-linux-ARCH have them.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { spawn, spawnSync } from 'node:child_process';

import { fromRoot } from './helpers/need.js';

const MAJORS = [20, 22, 24, 26];
const isRoot = process.geteuid?.() === 0;

/** The directory of the binary. Throws an Error. */
function install(major: number, directory: string): string {
  const name = `node-linux-${process.arch}`;
  const args = ['install', '--silent', '--no-save', '--prefix', directory, `${name}@${major}`];
  const { status } = spawnSync('npm', args, { stdio: 'inherit' });
  if (status !== 0) throw new Error(`npm cannot install ${name}@${major}`);
  return path.join(directory, 'node_modules', name, 'bin');
}

/** Its exit status, and its last lines. */
function run(
  bin: string,
  args: readonly string[],
): Promise<{ readonly isOk: boolean; readonly text: string }> {
  const env = { ...process.env, PATH: `${bin}:${process.env['PATH'] ?? ''}` };
  const child = spawn(path.join(bin, 'node'), args, {
    cwd: fromRoot('.'),
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (some: Buffer) => {
      text += some.toString();
    });
  return new Promise((resolve) => {
    child.on('close', (code) => {
      resolve({ isOk: code === 0, text });
    });
  });
}

let isAllOk = true;
if (!isRoot) console.log('the demo is skipped: it needs root');
for (const major of MAJORS) {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-node-'));
  try {
    const bin = install(major, directory);
    const { text: version } = await run(bin, ['--version']);
    const programs: [what: string, args: readonly string[]][] = [
      ['quick tests', [fromRoot('dist/test/run.js'), '--quick']],
    ];
    if (isRoot) programs.push(['demo', [fromRoot('dist/test/demo/main.js')]]);
    for (const [what, args] of programs) {
      const { isOk, text } = await run(bin, args);
      isAllOk &&= isOk;
      const last = text.trimEnd().split('\n').at(-1);
      console.log(`${isOk ? 'ok' : 'not ok'}  Node ${version.trim()}  ${what}  ${last}`);
      if (!isOk) console.log(text);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
process.exitCode = isAllOk ? 0 : 1;
