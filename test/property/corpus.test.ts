// What fuzzing has found, once more: every input that is kept with the project (npm run fuzz makes more of them).
import t from 'tap';

import { readCorpus } from '../fuzz/corpus.js';
import { prepare } from '../fuzz/engine.js';

prepare();
const { targets } = await import('../fuzz/targets/index.js');

for (const target of targets) {
  t.test(target.name, (t) => {
    const inputs = [...target.seeds(), ...readCorpus(target.name)];
    t.ok(readCorpus(target.name).length > 0, 'there is a corpus');
    for (const input of inputs) {
      try {
        target.run(input);
      } catch (error) {
        t.fail(`${Buffer.from(input).toString('hex')}: ${(error as Error).stack ?? ''}`);
      }
    }
    t.pass(`${inputs.length} inputs`);
    t.end();
  });
}
