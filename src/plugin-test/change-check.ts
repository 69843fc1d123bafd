/** The check of conformance.ts for properties that change while the plugin runs. */
import { setImmediate as immediately } from 'node:timers/promises';

import { systemErrorText } from '../daemon/system-error.js';
import type { PropertySpec } from '../plugin/properties.js';
import { formatMac } from '../wire/mac.js';
import { type CheckSpec, expectOnline, expectTarget, fail, RECOVERY_MS, withHarness } from './check-parts.js';
import { macOf } from './frames.js';
import { type AnyPlugin, changedValues, type ConformanceOptions } from './options.js';

function needsChanges({ properties }: AnyPlugin, { changes }: ConformanceOptions): string | undefined {
  const names = (properties as readonly PropertySpec[]).filter(({ changeable }) => changeable === true);
  if (names.length === 0) return 'no property is changeable';
  return changes === undefined ? 'give new values of properties that are changeable: changes' : undefined;
}

/** Changes properties, during lookups and while the backend does not answer, and changes them back. */
async function change(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const { known = [], changes = {}, properties = {}, backend } = options;
  const givenBefore = changedValues(plugin, properties, {});
  const before = Object.fromEntries(
    Object.keys(changedValues(plugin, {}, changes)).map((name) => [name, givenBefore[name]]),
  );
  await withHarness(plugin, options, async (overlay) => {
    const answers = (when: string): Promise<readonly string[]> =>
      Promise.all(known.map((mac) => expectTarget(overlay, mac, when)));
    const take = async (values: typeof before, what: string): Promise<void> => {
      const calls = overlay.calls.get('change');
      const state = { isDone: false };
      const changed = overlay.change(values).finally(() => {
        state.isDone = true;
      });
      changed.catch(() => undefined);
      while (!state.isDone && overlay.calls.get('change') === calls) await immediately();
      const asked = answers(`when asked during ${what},`);
      asked.catch(() => undefined);
      try {
        await changed;
      } catch (error) {
        fail(`${what} fails: ${systemErrorText(error)}`);
      }
      await asked;
    };
    await overlay.start();
    const first = await answers('before a change');
    await take(changes, 'a change');
    await answers('after a change');
    await take(before, 'a change back');
    const last = await answers('after a change back');
    for (const [index, mac] of known.entries())
      if (last[index] !== first[index])
        fail(
          `after a change back, the answer for ${formatMac(macOf(mac))} is ${last[index]}, and was ${first[index]} before`,
        );
    expectOnline(overlay, 'after a change and back');
    if (backend?.hang === undefined) return;
    try {
      await backend.hang();
      await overlay.change(changes).catch(() => undefined);
      await overlay.advance(1000);
      if (overlay.openCalls.includes('change'))
        fail('change goes on 1 s after its deadline: it ignores its signal');
    } finally {
      await backend.mend();
    }
    await overlay.advance(RECOVERY_MS);
    await answers('after a change while the backend did not answer');
    expectOnline(overlay, 'after a change while the backend did not answer');
  });
}

export const CHANGE_CHECK: CheckSpec = {
  about: 'properties can change while the plugin runs',
  skip: needsChanges,
  run: change,
};
