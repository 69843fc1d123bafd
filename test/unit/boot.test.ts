// Whether a file of the state directory is of this boot.
import t from 'tap';

import { bootId, isSameBoot } from '../../src/daemon/state/boot.js';

const HIDDEN = '/nonexistent/boot_id';

t.test('the boot of this host', (t) => {
  t.match(bootId(), /^[0-9a-f-]{36}$/);
  t.ok(isSameBoot(bootId(), bootId()));
  t.match(bootId(HIDDEN), /^since \d+$/);
  t.ok(isSameBoot(bootId(HIDDEN), bootId(HIDDEN)), 'where its identifier is hidden');
  t.end();
});

t.test('other boots', (t) => {
  t.notOk(isSameBoot(bootId(), bootId(HIDDEN)), 'not known to be the same');
  t.notOk(isSameBoot('a', 'b'));
  t.ok(isSameBoot('since 100000', 'since 102000'), 'the clock was set');
  t.notOk(isSameBoot('since 100000', 'since 102001'));
  t.notOk(isSameBoot('since 102001', 'since 100000'));
  t.end();
});
