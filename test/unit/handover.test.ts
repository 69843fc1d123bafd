// A handover without processes: the states of a varpd, and the format of what one leaves for the next.
import t from 'tap';
import { Lifecycle, NEXT, type Serving, type State } from '../../src/daemon/handover/lifecycle.js';
import { ordersOf, readOrders, READY } from '../../src/daemon/handover/orders.js';
import { isRecent, SNAPSHOT_VERSION } from '../../src/daemon/state/snapshot-format.js';
import { MAX_AGE_MS } from '../../src/model/handover.js';

const STATES = Object.keys(NEXT) as State[];

t.test('each state can be reached, and ends in one that nothing follows', (t) => {
  const reach = (from: State, seen = new Set<State>()): Set<State> => {
    for (const next of NEXT[from] as readonly State[]) if (!seen.has(next)) reach(next, seen.add(next));
    return seen;
  };
  t.same(
    STATES.filter((state) => state !== 'starting' && !reach('starting').has(state)),
    [],
  );
  for (const state of STATES) {
    const last = [state, ...reach(state)].filter((one) => NEXT[one].length === 0);
    t.ok(last.length > 0, `${state}: ${last.join(' or ')}`);
  }
  t.notOk(reach('releasing').has('running'), 'there is no way back once anything is let go');
  t.end();
});

/** A varpd that runs; its next process would not for these reasons. */
function serving(reasons: readonly string[] = []): { lifecycle: Lifecycle; steps: string[] } {
  const lifecycle = new Lifecycle();
  const steps: string[] = [];
  const step = (name: string) => (): never => {
    steps.push(`${lifecycle.state}: ${name}`);
    throw new Error('enough');
  };
  const say = (_kind: string, text: string): void => {
    steps.push(`${lifecycle.state}: ${text}`);
  };
  const run: Serving = {
    daemon: { freeze: step('freeze'), retain: step('retain'), stop: step('stop') },
    log: { debug: say, info: say, warn: say, error: say },
    logFile: null,
    args: [],
    rehearse: () => {
      steps.push(`${lifecycle.state}: rehearse`);
      return Promise.resolve({ reasons: [...reasons], warnings: ['a warning'] });
    },
    next: () => ({ socket: '/s', logFile: null }),
  };
  lifecycle.run(run);
  return { lifecycle, steps };
}

t.test('a restart that is refused, or fails before anything is let go, leaves varpd as it was', async (t) => {
  const early = new Lifecycle();
  await t.rejects(early.restart(), { code: 'BUSY' }, 'it is being started');
  t.equal(early.state, 'starting');

  const refused = serving(['no group', 'no log']);
  const first = refused.lifecycle.restart();
  await t.rejects(refused.lifecycle.restart(), { code: 'BUSY' }, 'one at a time');
  await t.rejects(first, { code: 'INVALID', details: ['no group', 'no log'] });
  t.same(refused.steps, ['trying: rehearse']);
  t.equal(refused.lifecycle.state, 'running');

  const { lifecycle, steps } = serving();
  t.same(await lifecycle.restart(), { socket: '/s', logFile: null, warnings: ['a warning'] });
  t.equal(lifecycle.state, 'trying', 'the answer comes first');
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.same(steps, [
    'trying: rehearse',
    'preparing: varpd restarts',
    'preparing: freeze',
    'running: the restart failed: enough',
  ]);
});

t.test('a signal ends it, but not on its way to the next process', async (t) => {
  const { lifecycle } = serving();
  const restart = lifecycle.restart();
  t.ok(lifecycle.end(0), 'nothing has been let go yet');
  await restart;
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.equal(lifecycle.state, 'ending', 'it does not restart');
  t.notOk(lifecycle.end(1), 'it ends already');
  const other = serving().lifecycle;
  for (const state of ['trying', 'preparing', 'releasing'] as const) t.ok(other.enter(state));
  t.notOk(other.end(0));
  t.notOk(other.enter('running'));
  t.equal(other.state, 'releasing');
});

t.test('what one varpd writes for the next has one version', (t) => {
  const handover = { descriptors: [{ name: 'tap/foo0', fd: 17 }], lists: [[{ kind: 'any' }]] };
  const orders = ordersOf(handover);
  t.match(orders, { version: SNAPSHOT_VERSION, ...handover });
  t.same(readOrders(orders), orders);
  t.match(READY, { reads: [SNAPSHOT_VERSION] }, 'a stand-in says which version it reads');
  t.throws(() => readOrders({ ...orders, version: SNAPSHOT_VERSION + 1 }), {
    message: `it has version ${SNAPSHOT_VERSION + 1}, and this varpd reads version ${SNAPSHOT_VERSION}`,
  });
  for (const value of [undefined, null, 7, 'x', {}, { version: '0.2.0', savedAtMs: 1 }])
    t.throws(() => readOrders(value), { message: /^it has no known version, and this varpd reads version/ });
  t.throws(() => readOrders({ version: SNAPSHOT_VERSION }), { message: 'it does not say when it was saved' });
  t.end();
});

t.test('orders of a varpd from before they had that version', (t) => {
  const older = { descriptors: [], lists: [[], []], version: '0.1.0', savedAtMs: 5 };
  t.same(readOrders(older), older, 'in the file of a service manager');
  t.match(readOrders(older.lists), { descriptors: [], lists: older.lists }, 'over the channel');
  t.match(READY, { version: '0.1.0' }, 'which it compares with its own');
  t.end();
});

t.test('a snapshot may be used at once for a minute', (t) => {
  const at = (savedAtMs: number) => isRecent({ savedAtMs }, 1_000_000);
  t.same(
    [at(1_000_000), at(1_000_000 - MAX_AGE_MS), at(1_000_000 - MAX_AGE_MS - 1), at(1_000_001)],
    [true, true, false, false],
  );
  t.end();
});
