// The code that V8 has made of each program of varpd: it takes the code, and so does not compile the program at each start.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Script } from 'node:vm';

import t from 'tap';

import { fromRoot } from '../helpers/need.js';

const PROGRAMS = fromRoot('dist/programs');
const all = readdirSync(PROGRAMS).filter((name) => name.endsWith('.code'));
const ending = `-${process.versions.v8}.code`;
const codes = all.filter((name) => name.endsWith(ending));
if (all.length > 0 && codes.length === 0) {
  t.plan(0, `the programs were built by another Node: ${all[0]}`);
} else {
  const isThere = (program: string): boolean => codes.some((name) => name.startsWith(`${program}-`));
  t.ok(
    ['src-daemon-main', 'src-datapath-userland-thread-worker'].every(isThere),
    `the programs with code: ${codes.join(' ')}`,
  );
}
for (const name of codes) {
  const file = path.join(PROGRAMS, name.replace(ending, '.js'));
  const cachedData = readFileSync(path.join(PROGRAMS, name));
  const script = new Script(readFileSync(file, 'latin1'), { filename: file, cachedData });
  t.equal(script.cachedDataRejected, false, name);
  const other = new Script(`${readFileSync(file, 'latin1')} `, { filename: file, cachedData });
  t.equal(other.cachedDataRejected, true, `${name} is of no other source`);
}
