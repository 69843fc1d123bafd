/** The checks of conformance.ts, one for each duty of a plugin. A failed check throws an Error. */
import type { Instance } from '../plugin/contract.js';
import type { PropertySpec } from '../plugin/properties.js';
import { formatMac } from '../wire/mac.js';
import { CHANGE_CHECK } from './change-check.js';
import {
  type CheckSpec,
  exercise,
  expectOnline,
  expectTarget,
  fail,
  observed,
  RECOVERY_MS,
  STRANGERS,
  withHarness,
} from './check-parts.js';
import { macOf } from './frames.js';
import { type Harness, harness } from './harness.js';
import { importProblems } from './import-probe.js';
import type { AnyPlugin, ConformanceOptions } from './options.js';

/** A call that holds the thread of a plugin longer delays all of its overlays. */
const MAX_HELD_MS = 20;
/** The collector of garbage may hold up a call as well, so the shortest of so many tries counts. */
const TRIES = 3;
const isPoint = ({ mode }: AnyPlugin): string | undefined =>
  mode === 'point' ? 'a plugin of mode point gets no lookups' : undefined;

function needsKnown(plugin: AnyPlugin, { known = [] }: ConformanceOptions): string | undefined {
  return isPoint(plugin) ?? (known.length === 0 ? 'give MACs that the plugin knows: known' : undefined);
}

const needsBackend = (plugin: AnyPlugin, options: ConformanceOptions): string | undefined =>
  needsKnown(plugin, options) ??
  (options.backend === undefined ? 'give the store in the hands of the test: backend' : undefined);

function findings(kind: string): CheckSpec['run'] {
  return async (plugin, options) => {
    const found = await withHarness(plugin, options, async (overlay) => {
      await exercise(overlay, options);
      await overlay.stopOnly();
      return overlay.findings.filter((one) => one.kind === kind).map(({ sentence }) => sentence);
    });
    if (found.length > 0) fail(found.join('; '));
  };
}

async function contract(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const absent: string[] = [];
  const specs = plugin.properties as readonly PropertySpec[];
  const seen = observed(plugin, (instance) => {
    if (specs.some(({ changeable }) => changeable === true) && instance.change === undefined)
      absent.push('change, although a property is changeable');
  });
  await withHarness(seen, options, (overlay) => overlay.start());
  if (absent.length > 0) fail(`an instance has no ${absent.join(', ')}`);
}

async function create(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  let left: readonly string[] = [];
  const own: { overlay?: Harness } = {};
  const seen = observed(plugin, () => {
    left = own.overlay?.left() ?? [];
  });
  await withHarness(seen, options, async (overlay) => {
    own.overlay = overlay;
    await overlay.start().catch(() => undefined);
  });
  if (left.length > 0) fail(`create has opened ${left.join('; ')}: that belongs in start`);
}

async function startStop(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const made: Instance[] = [];
  let makeAgain: (() => Instance) | undefined;
  const seen = observed(plugin, (instance, again) => {
    made.push(instance);
    makeAgain = again;
  });
  await withHarness(seen, options, async (overlay) => {
    const again = async (when: string, instance: Instance | undefined): Promise<void> => {
      try {
        await overlay.run(() => instance?.stop());
      } catch (error) {
        fail(`stop ${when} throws: ${String(error)}`);
      }
    };
    for (const round of ['first', 'second']) {
      try {
        await overlay.start();
      } catch (error) {
        fail(`the ${round} start fails: ${String(error)}`);
      }
      await overlay.stopOnly();
      const late = overlay.log.find((line) => line.includes('did not stop'));
      if (late !== undefined) fail(late);
      await again('for the second time', made.at(-1));
    }
    await again('without a start, as after one that has failed,', await overlay.run(() => makeAgain?.()));
  });
}

async function overlap(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const macs = [...(options.known ?? []), ...STRANGERS];
  await withHarness(plugin, options, async (overlay) => {
    await overlay.start();
    const alone: string[] = [];
    for (const mac of macs) alone.push(JSON.stringify(await overlay.resolve(mac)));
    const together = await Promise.all(macs.map((mac) => overlay.resolve(mac)));
    for (const [index, mac] of macs.entries())
      if (JSON.stringify(together[index]) !== alone[index])
        fail(
          `${formatMac(macOf(mac))} is ${alone[index]} when asked alone, ` +
            `and ${JSON.stringify(together[index])} when ${macs.length} lookups overlap`,
        );
  });
}

async function invalidate(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const { known = [] } = options;
  await withHarness(plugin, options, async (overlay) => {
    await overlay.start();
    for (const mac of known) {
      const sent = overlay.send(mac);
      overlay.invalidate(mac);
      await sent;
      const again = await overlay.send(mac);
      if (again.tunnelled.length + again.delivered.length === 0 && Object.keys(again.drops).length > 0)
        fail(
          `after invalidate during its lookup, ${formatMac(macOf(mac))} is not reached: ${Object.keys(again.drops).join(', ')}`,
        );
    }
    expectOnline(overlay, 'after invalidate during a lookup');
  });
}

async function instances(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const [mac] = options.known ?? [];
  await withHarness(plugin, options, async (one) => {
    await withHarness(plugin, { ...options, vnetid: 101 }, async (other) => {
      await one.start();
      await other.start();
      const before = await expectTarget(one, mac, 'with two overlays');
      await other.stopOnly();
      const after = await expectTarget(one, mac, 'after the other overlay has stopped,');
      if (before !== after)
        fail(`the answer has changed from ${before} to ${after} when the other overlay stopped`);
    });
  });
}

async function blocking(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  let shortest: ReadonlyMap<string, number> | undefined;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const held = await withHarness(plugin, options, async (overlay) => {
      await exercise(overlay, options);
      await overlay.stopOnly();
      return overlay.heldMs;
    });
    const before = shortest;
    shortest = new Map([...held].map(([name, ms]) => [name, Math.min(ms, before?.get(name) ?? ms)]));
    if ([...shortest.values()].every((ms) => ms <= MAX_HELD_MS)) return;
  }
  const long = [...(shortest ?? [])].filter(([, ms]) => ms > MAX_HELD_MS);
  fail(long.map(([name, ms]) => `${name} holds the thread for ${Math.round(ms)} ms`).join('; '));
}

async function secrets(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const { secrets: own = {}, confidential = [], backend } = options;
  await withHarness(plugin, options, async (overlay) => {
    await exercise(overlay, options);
    await backend?.fail();
    try {
      await exercise(overlay, options);
    } finally {
      await backend?.mend();
    }
    const { details, notes } = overlay.health();
    const shown = [...overlay.shown, details ?? '', notes ?? ''];
    for (const text of [...Object.values(own), ...confidential]) {
      const line = shown.find((each) => each.includes(text));
      if (line !== undefined)
        fail(`a message has a secret in it: '${line.replaceAll(text, '(the secret)')}'`);
    }
  });
}

async function backendCheck(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const { known = [], backend } = options;
  const [mac] = known;
  await withHarness(plugin, options, async (overlay) => {
    await overlay.start();
    await expectTarget(overlay, mac, 'before');
    await overlay.send(mac);
    try {
      await backend?.fail();
      for (const each of [...known, ...STRANGERS]) await overlay.resolve(each);
      await overlay.advance(10_000);
      const sent = await overlay.send(mac);
      const ageless = overlay
        .table()
        .some((row) => row.mac === formatMac(macOf(mac)) && row.state === 'valid');
      if (ageless && sent.tunnelled.length === 0) fail('a known target is lost while the backend is dead');
    } finally {
      await backend?.mend();
    }
    await overlay.advance(RECOVERY_MS);
    await expectTarget(overlay, mac, `${RECOVERY_MS / 1000} s after the backend works again,`);
    expectOnline(overlay, `${RECOVERY_MS / 1000} s after the backend works again,`);
  });
}

async function deadline(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const { known = [], backend } = options;
  await withHarness(plugin, options, async (overlay) => {
    await overlay.start();
    try {
      await backend?.hang?.();
      await Promise.all([...known, ...STRANGERS].map((mac) => overlay.resolve(mac)));
      await overlay.advance(1000);
      const open = overlay.openCalls.filter((name) => name === 'resolve').length;
      if (open > 0) fail(`${open} calls of resolve go on 1 s after their deadline: they ignore their signal`);
    } finally {
      await backend?.mend();
    }
    await overlay.advance(RECOVERY_MS);
    await expectTarget(overlay, known[0], 'after a backend that has not answered,');
  });
}

async function restore(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  await withHarness(plugin, options, async (overlay) => {
    await overlay.start();
    for (const mac of options.known ?? []) await expectTarget(overlay, mac, 'after start');
    await overlay.reload();
    await overlay.advance(RECOVERY_MS);
    expectOnline(overlay, `${RECOVERY_MS / 1000} s after start, with nothing wrong,`);
  });
}

async function leaks(plugin: AnyPlugin, options: ConformanceOptions): Promise<void> {
  const overlay = harness(plugin, options);
  try {
    await exercise(overlay, options);
    await options.backend?.hang?.();
    for (const mac of options.known ?? []) overlay.open(mac);
    await overlay.stopOnly();
  } finally {
    await options.backend?.mend();
  }
  const left = await overlay.end();
  if (left.length > 0) fail(`after stop there is ${left.join('; ')}`);
}

/** Name -> check, in the order in which a report has them. */
export const CHECKS = {
  import: {
    about: 'importing the plugin does no work',
    skip: (_plugin, { entry }) => (entry === undefined ? 'give the entry file: entry' : undefined),
    run: async (_plugin, { entry = '' }) => {
      const problems = await importProblems(entry);
      if (problems.length > 0) fail(problems.join('; '));
    },
  },
  contract: { about: 'the plugin has the members that the contract asks for, and starts', run: contract },
  create: { about: 'create does no input or output', run: create },
  'start-stop': { about: 'start and stop work twice, and stop works without a start', run: startStop },
  answers: {
    about: 'every known MAC has a valid destination',
    skip: needsKnown,
    run: (plugin, options) =>
      withHarness(plugin, options, async (overlay) => {
        await overlay.start();
        for (const mac of options.known ?? []) await expectTarget(overlay, mac, 'after start');
      }),
  },
  plain: { about: 'all values that cross are plain data', run: findings('plain') },
  overlap: {
    about: 'lookups that overlap have the answers that they have alone',
    skip: isPoint,
    run: overlap,
  },
  invalidate: { about: 'a lookup during invalidate does no harm', skip: needsKnown, run: invalidate },
  instances: { about: 'two overlays do not disturb each other', skip: needsKnown, run: instances },
  deadline: {
    about: 'a lookup ends when its signal is aborted',
    skip: (plugin, options) =>
      needsBackend(plugin, options) ??
      (options.backend?.hang === undefined ? 'give a backend that can hang: backend.hang' : undefined),
    run: deadline,
  },
  backend: {
    about: 'a dead backend costs nothing known, and is noticed when it is back',
    skip: needsBackend,
    run: backendCheck,
  },
  restore: { about: 'the overlay is online when nothing is wrong', run: restore },
  change: CHANGE_CHECK,
  blocking: { about: `no call holds the thread for more than ${MAX_HELD_MS} ms`, run: blocking },
  timers: { about: 'no timer throws', run: findings('timer') },
  exit: { about: 'the plugin does not end its process', run: findings('exit') },
  secrets: { about: 'no message has a secret in it', run: secrets },
  leaks: { about: 'stop leaves nothing behind', run: leaks },
} satisfies Readonly<Record<string, CheckSpec>>;

export type CheckName = keyof typeof CHECKS;
