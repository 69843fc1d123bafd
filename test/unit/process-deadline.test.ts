// Deadlines of plugin processes that wait for a processor.
import t from 'tap';

import { atDeadline, excusedMs } from '../../src/daemon/plugins/deadline.js';

t.test('the time that is excused', async (t) => {
  t.equal(excusedMs(0, 100), 0);
  t.equal(excusedMs(70, 100), 70);
  t.equal(excusedMs(1e9, 100), 500, 'five times the deadline at most');
});

t.test('a deadline moves by the time that the process has waited', async (t) => {
  const lateMs = (deadlineMs: number, waitedMs: () => number): Promise<number> =>
    new Promise((resolve) => {
      const startedMs = performance.now();
      atDeadline(deadlineMs, waitedMs, () => {
        resolve(performance.now() - startedMs);
      });
    });
  t.ok((await lateMs(20, () => 0)) >= 19);
  t.ok((await lateMs(20, () => 50)) >= 69, 'once');
  let waitedMs = 0;
  t.ok((await lateMs(20, () => (waitedMs += 15))) >= 19 + 100, 'again and again, and not for ever');
});

t.test('a deadline that was met', async (t) => {
  let isLate = false;
  const stop = atDeadline(
    1,
    () => 0,
    () => (isLate = true),
  );
  stop();
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.notOk(isLate);
});
