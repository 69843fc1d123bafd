// npm run test:nodes: the quick tests, and as root the demo, on every version of Node that varpd supports. The binaries are those of
// nodejs.org, as the npm packages node-linux-ARCH have them.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { fromRoot } from './helpers/need.js';
import { exec, run } from './helpers/process.js';

const MAJORS = [20, 22, 24, 26];
const isRoot = process.geteuid?.() === 0;

const within = { cwd: fromRoot('.'), timeoutMs: 900_000 };

/** The directory of the binary. Rejects with a CommandError. */
async function install(major: number, directory: string): Promise<string> {
  const name = `node-linux-${process.arch}`;
  const npm = ['npm', 'install', '--silent', '--no-save', '--prefix', directory, `${name}@${major}`];
  await exec(npm, within);
  return path.join(directory, 'node_modules', name, 'bin');
}

let isAllOk = true;
if (!isRoot) console.log('the demo is skipped: it needs root');
for (const major of MAJORS) {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-node-'));
  try {
    const bin = await install(major, directory);
    const node = path.join(bin, 'node');
    const env = { PATH: `${bin}:${process.env['PATH'] ?? ''}` };
    const version = await exec([node, '--version']);
    const programs: [what: string, args: readonly string[]][] = [
      ['quick tests', [fromRoot('dist/test/run.js'), '--quick']],
    ];
    if (isRoot) programs.push(['demo', [fromRoot('dist/test/demo/main.js')]]);
    for (const [what, args] of programs) {
      const { code, stdout, stderr } = await run([node, ...args], { ...within, env });
      const isOk = code === 0;
      isAllOk &&= isOk;
      const last = stdout.trimEnd().split('\n').at(-1);
      console.log(`${isOk ? 'ok' : 'not ok'}  Node ${version.trim()}  ${what}  ${last}`);
      if (!isOk) console.log(stdout + stderr);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
process.exitCode = isAllOk ? 0 : 1;
