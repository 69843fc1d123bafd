// The author's kit and properties that change while a plugin runs: the harness, and the check that finds planted faults.
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';

import { type Answer, definePlugin, formatMac, type Instance, type Lookup } from '../../src/plugin/index.js';
import {
  type AnyPlugin,
  type CheckName,
  checks,
  conformance,
  type ConformanceOptions,
  harness,
} from '../../src/plugin-test/index.js';
import { holdThread, KNOWN, startKitStore } from '../helpers/kit-store.js';

const { url, backend, isHanging } = await startKitStore(t);

interface Parts {
  readonly good: Required<Pick<Instance, 'start' | 'change'>>;
  /** Sets the store that is asked. */
  readonly take: (url: string) => void;
}

/** The store knows the MAC at another host under /v2. */
function changing(bad: (parts: Parts) => Partial<Instance> = () => ({})): AnyPlugin {
  return definePlugin({
    apiVersion: 2,
    name: 'mover',
    mode: 'dynamic',
    properties: [
      { name: 'mover/url', type: 'string', required: true, kind: 'url', changeable: true },
      { name: 'mover/path', type: 'string', required: false, default: '/', changeable: true },
      { name: 'mover/rack', type: 'string', required: false },
    ],
    create: () => {
      let base = '';
      const take = (next: string): void => {
        base = next;
      };
      const good = {
        start: async (properties: { url: string; path: string }) => {
          take(properties.url + properties.path);
        },
        stop: () => Promise.resolve(),
        resolve: async ({ destinationMac }: Lookup, signal: AbortSignal): Promise<Answer> => {
          if (base === '') throw new Error('no store is named');
          const reply = await fetch(base + formatMac(destinationMac), { signal });
          if (reply.status === 404) return { kind: 'drop', reason: 'unknown' };
          if (!reply.ok) throw new Error(`the store has answered ${reply.status}`);
          const body = (await reply.json()) as { ip: string; port: number };
          return { kind: 'target', to: body };
        },
        change: async (properties: { url: string; path: string }, signal: AbortSignal) => {
          await fetch(properties.url, { signal });
          take(properties.url + properties.path);
        },
      };
      return { ...good, ...bad({ good, take }) };
    },
  });
}

const fixed: ConformanceOptions = { properties: { url }, known: [KNOWN], backend };
const moving: ConformanceOptions = { ...fixed, changes: { path: '/v2/' } };

t.test('a good plugin with properties that change passes all checks', async (t) => {
  const report = await conformance(changing(), moving);
  t.same(
    report.results.filter(({ status }) => status !== 'pass').map(({ name, status }) => `${status} ${name}`),
    ['skip import'],
    report.text,
  );
  const skipped = checks(changing(), fixed).find(({ name }) => name === 'change');
  t.equal(skipped?.skip, 'give new values of properties that are changeable: changes');
});

const CHANGE_FAULTS: readonly [
  fault: string,
  check: CheckName,
  says: RegExp,
  bad: Parameters<typeof changing>[0] & {},
][] = [
  [
    'a change that is refused',
    'change',
    /a change fails: not changed: not while I run/,
    () => ({
      change: async () => {
        throw new Error('not while I run');
      },
    }),
  ],
  [
    'a change that loses the store',
    'change',
    /a change,? the answer for 02:00:00:00:00:07 is lookup_failed: plugin mover: no store is named/,
    ({ take }) => ({
      change: async () => {
        take('');
      },
    }),
  ],
  [
    'a change that loses the store for as long as it takes',
    'change',
    /when asked during a change, the answer for 02:00:00:00:00:07 is lookup_failed: plugin mover: no store is named/,
    ({ take }) => ({
      change: async (properties) => {
        take('');
        await sleep(10);
        take(`${String(properties['url'])}${String(properties['path'])}`);
      },
    }),
  ],
  [
    'a change that works once',
    'change',
    /after a change back, the answer for 02:00:00:00:00:07 is .*192\.0\.2\.8.*, and was .*192\.0\.2\.7/,
    ({ take }) => ({
      change: async (properties) => {
        if (properties['path'] === '/v2/') take(`${String(properties['url'])}/v2/`);
      },
    }),
  ],
  [
    'a change that ignores its signal',
    'change',
    /change goes on 1 s after its deadline: it ignores its signal/,
    ({ good }) => ({
      change: (properties) => good.change(properties, new AbortController().signal),
    }),
  ],
  [
    'a change that comes too late, and has taken half',
    'change',
    /after a change while the backend did not answer the answer for 02:00:00:00:00:07 is lookup_failed/,
    ({ take }) => ({
      change: async (properties, signal) => {
        const next = `${String(properties['url'])}${String(properties['path'])}`;
        if (isHanging()) take('');
        await fetch(String(properties['url']), { signal });
        take(next);
      },
    }),
  ],
  [
    'a change that leaves the timer of before',
    'leaks',
    /a timer, set at .*plugin-kit-change/,
    ({ good }) => {
      let timer: NodeJS.Timeout | undefined;
      const watch = (): void => {
        timer = setInterval(() => undefined, 60_000);
      };
      return {
        start: async (properties, signal) => {
          watch();
          await good.start(properties, signal);
        },
        change: async () => {
          watch();
        },
        stop: async () => {
          clearInterval(timer);
        },
      };
    },
  ],
  [
    'a change that holds the thread',
    'blocking',
    /change holds the thread for \d+ ms/,
    () => ({
      change: async () => {
        holdThread(60);
      },
    }),
  ],
];

t.test('each planted fault of a change is found', async (t) => {
  for (const [fault, name, says, bad] of CHANGE_FAULTS) {
    const check = checks(changing(bad), moving).find((each) => each.name === name);
    t.equal(check?.skip, undefined, `${fault}: ${name} runs`);
    await t.rejects(check?.run() ?? Promise.resolve(), { message: says }, `${fault}: ${name}`);
  }
});

t.test('a change in the harness', async (t) => {
  const seen: unknown[] = [];
  const overlay = harness(
    changing(({ take }) => ({
      change: async (properties) => {
        seen.push(properties);
        if (properties['path'] === '/bad/') throw new Error('no such path');
        take(`${String(properties['url'])}${String(properties['path'])}`);
      },
    })),
    { properties: { url, rack: 'r1' } },
  );
  await overlay.start();
  const host = async (): Promise<unknown> =>
    (await overlay.resolve(KNOWN)).kind === 'target' && overlay.resolve(KNOWN);
  t.match(await host(), { to: [{ ip: '192.0.2.7' }] });
  await overlay.change({ 'mover/path': '/v2/' });
  t.match(await host(), { to: [{ ip: '192.0.2.8' }] });
  await t.rejects(overlay.change({ path: '/bad/' }), { message: 'not changed: no such path' });
  await t.rejects(overlay.change({ rack: 'r2' }), {
    message: 'mover/rack cannot change while the overlay runs: the spec is not changeable',
  });
  t.match(await overlay.change({ url: 'ftp://x' }).catch((error: unknown) => error), {
    details: [/mover\/url/],
  });
  t.match(await overlay.change({ url: undefined }).catch((error: unknown) => error), {
    details: ['unset required property: mover/url'],
  });
  t.match(await overlay.change({ colour: 'red' }).catch((error: unknown) => error), {
    details: [/no such property/],
  });
  t.match(await host(), { to: [{ ip: '192.0.2.8' }] }, 'what is refused changes nothing');
  await overlay.stopOnly();
  await overlay.start();
  t.match(await host(), { to: [{ ip: '192.0.2.8' }] }, 'a new start has the values of the last change');
  await overlay.change({ path: undefined });
  t.match(await host(), { to: [{ ip: '192.0.2.7' }] });
  t.same(seen, [
    { url, path: '/v2/', rack: 'r1' },
    { url, path: '/bad/', rack: 'r1' },
    { url, path: '/', rack: 'r1' },
  ]);
  await overlay.stop();
  await t.rejects(overlay.change({ path: '/' }), { message: /call start\(\) first/ });
});
