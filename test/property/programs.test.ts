// The parts of the native layer on nonsense, in memory that is watched: the programs of npm run fuzz, as far as there is time for in a
// test, and what they have found before.
import { existsSync } from 'node:fs';

import t from 'tap';

import { fileOf } from '../fuzz/corpus.js';
import { compileProgram, PROGRAMS, type Program } from '../fuzz/programs.js';
import { run } from '../helpers/process.js';
import { part } from '../helpers/whole.js';

/** VARPD_TEST_SEED=n tries other inputs. */
const SEED = process.env['VARPD_TEST_SEED'] ?? '1';

/** A few seconds each, where all of them are tried. */
const INPUTS: Readonly<Record<Program, number>> = {
  offload: 300_000,
  receive: 30_000,
  errors: 60_000,
  send: 10_000,
  tap: 10_000,
  device: 60_000,
};

for (const name of PROGRAMS) {
  t.test(name, async (t) => {
    const { program, result } = await compileProgram(name, t.testdir(), false);
    if (result.code !== 0) {
      // Of a program that is wrong, every compiler says so; one without AddressSanitizer says that alone.
      t.match(result.stderr, /asan|sanitize/i, result.stderr);
      t.pass(name, { skip: 'this compiler has no AddressSanitizer' });
      return;
    }
    const corpus = fileOf(name);
    const found = existsSync(corpus) ? [corpus] : [];
    const command = [program, SEED, `${part(INPUTS[name])}`, ...found];
    const { code, stdout, stderr } = await run(command, {
      env: { ASAN_OPTIONS: 'detect_leaks=0' },
      timeoutMs: 120_000,
    });
    t.equal(code, 0, `${stdout}${stderr}`);
  });
}
