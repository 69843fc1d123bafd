// The helpers of tests themselves, where a mistake of theirs would look like one of varpd.
import { chmodSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

import { fromRoot } from '../helpers/need.js';
import { findArping } from '../helpers/process.js';

t.test('the arping of iputils is told from another, wherever they stand', (t) => {
  const directory = t.testdir({
    sbin: { arping: '#!/bin/sh\necho "ARPing 2.23, by Thomas Habets"\n' },
    bin: { arping: '#!/bin/sh\necho "arping from iputils 20221126"\n' },
    broken: { arping: '#!/bin/sh\nexit 1\n' },
    empty: {},
  });
  const places = (...names: string[]): string => names.map((name) => path.join(directory, name)).join(':');
  for (const name of ['sbin', 'bin', 'broken']) chmodSync(path.join(directory, name, 'arping'), 0o755);
  const found = path.join(directory, 'bin/arping');
  t.equal(findArping(places('bin', 'sbin')), found);
  t.equal(findArping(places('empty', 'sbin', 'broken', 'bin')), found);
  t.equal(findArping(places('sbin', 'broken')), undefined, 'none');
  t.end();
});

/** A longer one tests more than one thing. */
const MAX_LINES = 500;

t.test('no test file is too long', (t) => {
  const files = readdirSync(fromRoot('test'), { recursive: true, encoding: 'utf8' });
  const lines = files
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => [file, readFileSync(fromRoot(`test/${file}`), 'utf8').split('\n').length - 1] as const);
  t.ok(lines.length > 100, `${lines.length} test files`);
  t.same(
    lines.filter(([, count]) => count > MAX_LINES),
    [],
    `none has more than ${MAX_LINES} lines`,
  );
  t.end();
});
