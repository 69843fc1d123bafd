// The author's kit finds planted faults: each bad plugin fails the check that names its fault, and a good plugin passes all.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';

import {
  type Answer,
  definePlugin,
  formatMac,
  type Host,
  type Instance,
  type Lookup,
} from '../../src/plugin/index.js';
import {
  type AnyPlugin,
  type CheckName,
  checks,
  conformance,
  type ConformanceOptions,
} from '../../src/plugin-test/index.js';
import { holdThread, KNOWN, startKitStore } from '../helpers/kit-store.js';

const TOKEN = 'a-token-that-nothing-shows';

const { url, backend } = await startKitStore(t);

// -- A good plugin, and what can be changed in it

interface Parts {
  readonly host: Host;
  readonly good: Required<Pick<Instance, 'start' | 'stop' | 'resolve'>>;
}

function plugin(bad: (parts: Parts) => Partial<Instance> = () => ({})): AnyPlugin {
  return definePlugin({
    apiVersion: 2,
    name: 'shop',
    mode: 'dynamic',
    properties: [{ name: 'shop/url', type: 'string', required: true, kind: 'url' }],
    create: (host) => {
      let base = '';
      const good = {
        start: async (properties: { url: string }) => {
          base = properties.url;
          await host.secret('token');
          host.setPeers(['192.0.2.7']);
        },
        stop: () => Promise.resolve(),
        resolve: async ({ destinationMac }: Lookup, signal: AbortSignal): Promise<Answer> => {
          if (destinationMac === 0xffff_ffff_ffff) return { kind: 'drop', reason: 'no broadcast' };
          const reply = await fetch(`${base}/${formatMac(destinationMac)}`, { signal });
          const body = (await reply.json()) as { ip: string; port: number };
          if (reply.status === 404) return { kind: 'drop', reason: 'unknown' };
          if (!reply.ok) throw new Error(`the store has answered ${reply.status}`);
          return { kind: 'target', to: { ip: body.ip, port: body.port } };
        },
      };
      return { ...good, ...bad({ host, good }) };
    },
  });
}

const options: ConformanceOptions = {
  properties: { url },
  secrets: { token: TOKEN },
  known: [KNOWN],
  backend,
};

t.test('a good plugin passes all checks', async (t) => {
  const report = await conformance(plugin(), options);
  t.same(
    report.results.filter(({ status }) => status !== 'pass').map(({ name, status }) => `${status} ${name}`),
    ['skip import', 'skip change'],
    report.text,
  );
  t.ok(report.isGood);
});

t.test('a plugin of mode point passes the checks that concern it', async (t) => {
  const direct = definePlugin({
    apiVersion: 2,
    name: 'straight',
    mode: 'point',
    properties: [],
    create: () => ({
      start: () => Promise.resolve(),
      stop: () => Promise.resolve(),
      defaultDestination: () => ({ ip: '192.0.2.9', port: 4789 }),
    }),
  });
  const { isGood, results, text } = await conformance(direct);
  t.ok(isGood, text);
  t.ok(results.filter(({ status }) => status === 'pass').length >= 8, text);
});

let memo: Answer | undefined;
let openServers: net.Server[] = [];
t.teardown(() => {
  for (const server of openServers) server.close();
});

const FAULTS: readonly [
  fault: string,
  check: CheckName,
  says: RegExp,
  bad: (parts: Parts) => Partial<Instance>,
][] = [
  [
    'a timer that stop forgets',
    'leaks',
    /a timer, set at .*plugin-kit-checks/,
    () => ({
      start: async () => {
        setInterval(() => undefined, 60_000);
      },
    }),
  ],
  [
    'a server that stop forgets',
    'leaks',
    /a server, made at .*plugin-kit-checks/,
    () => ({
      start: async () => {
        const server = net.createServer();
        openServers.push(server);
        await new Promise<void>((resolve) => {
          server.listen(0, '127.0.0.1', resolve);
        });
      },
    }),
  ],
  [
    'a lookup that ignores its signal',
    'deadline',
    /calls of resolve go on 1 s after their deadline/,
    ({ good }) => ({
      resolve: (lookup) => good.resolve(lookup, new AbortController().signal),
    }),
  ],
  [
    'a lookup that holds the thread',
    'blocking',
    /resolve holds the thread for \d+ ms/,
    ({ good }) => ({
      resolve: (lookup, signal) => {
        holdThread(60);
        return good.resolve(lookup, signal);
      },
    }),
  ],
  [
    'a degraded state that never ends',
    'restore',
    /with nothing wrong, the overlay is DEGRADED: slow start/,
    ({ host, good }) => ({
      start: async (properties, signal) => {
        host.degrade('slow start');
        await good.start(properties, signal);
      },
    }),
  ],
  [
    'a secret in a message',
    'secrets',
    /'.*login \(the secret\) refused.*'/,
    ({ host, good }) => ({
      resolve: async (lookup, signal) => {
        try {
          return await good.resolve(lookup, signal);
        } catch (error) {
          throw new Error(`login ${await host.secret('token')} refused`, { cause: error });
        }
      },
    }),
  ],
  [
    'a destination without a port',
    'answers',
    /the answer for 02:00:00:00:00:07 is lookup_failed: plugin shop: gave .* where an \{ ip, port \} was expected/,
    () => ({ resolve: () => ({ kind: 'target', to: { ip: '192.0.2.7' } as never }) }),
  ],
  [
    'a destination of the other address family',
    'answers',
    /gave the destination/,
    () => ({ resolve: () => ({ kind: 'target', to: { ip: 'fd00::7', port: 4789 } }) }),
  ],
  [
    'an answer with a cycle',
    'plain',
    /resolve gave a value that cannot cross a process: meta\.answer: a cycle/,
    () => ({
      resolve: () => {
        const answer = { kind: 'target', to: { ip: '192.0.2.7', port: 4789 }, meta: {} };
        answer.meta = { answer };
        return answer as never;
      },
    }),
  ],
  [
    'a push with an object of a class',
    'plain',
    /host\.setTargets was given a value that cannot cross a process: \[0\]\.to: an object of class URL/,
    ({ host }) => ({
      start: async () => {
        host.setTargets([{ mac: KNOWN, to: new URL('http://192.0.2.7') as never }]);
      },
    }),
  ],
  [
    'a second stop that throws',
    'start-stop',
    /stop for the second time throws: Error: not running/,
    ({ good }) => {
      let isRunning = false;
      return {
        start: async (properties, signal) => {
          isRunning = true;
          await good.start(properties, signal);
        },
        stop: async () => {
          if (!isRunning) throw new Error('not running');
          isRunning = false;
        },
      };
    },
  ],
  [
    'a stop that does not end',
    'start-stop',
    /did not stop/,
    () => ({ stop: () => new Promise<void>(() => undefined) }),
  ],
  [
    'lookups that share a variable',
    'overlap',
    /when asked alone, and .* when 21 lookups overlap/,
    ({ good }) => ({
      resolve: async (lookup, signal) => {
        memo = await good.resolve(lookup, signal);
        await sleep(10);
        return memo;
      },
    }),
  ],
  [
    'a dead backend that is never asked again',
    'backend',
    /s after the backend works again, the answer for 02:00:00:00:00:07 is lookup_failed/,
    ({ good }) => {
      let failure: Error | undefined;
      return {
        resolve: async (lookup, signal) => {
          if (failure !== undefined) throw failure;
          try {
            return await good.resolve(lookup, signal);
          } catch (error) {
            failure = error as Error;
            throw error;
          }
        },
      };
    },
  ],
  [
    'a timer that throws',
    'timers',
    /a timer of the plugin has thrown: no more/,
    () => ({
      start: async () => {
        setTimeout(() => {
          throw new Error('no more');
        }, 100);
      },
    }),
  ],
  [
    'process.exit',
    'exit',
    /the plugin has called process\.exit/,
    () => ({
      start: async () => {
        process.exit(3);
      },
    }),
  ],
];

t.test('each planted fault is found by the check that names it', async (t) => {
  t.ok(FAULTS.length >= 10);
  for (const [fault, name, says, bad] of FAULTS) {
    const check = checks(plugin(bad), options).find((each) => each.name === name);
    t.equal(check?.skip, undefined, `${fault}: ${name} runs`);
    await t.rejects(check?.run() ?? Promise.resolve(), { message: says }, `${fault}: ${name}`);
  }
  for (const server of openServers) server.close();
  openServers = [];
});

t.test('work in create', async (t) => {
  const bad = plugin(() => {
    setInterval(() => undefined, 60_000);
    return {};
  });
  const check = checks(bad, options).find(({ name }) => name === 'create');
  await t.rejects(check!.run(), { message: /create has opened a timer, set at .*: that belongs in start/ });
});

t.test('two overlays that share what they must not', async (t) => {
  let isStopped = false;
  const bad = plugin(({ good }) => ({
    stop: async () => {
      isStopped = true;
    },
    resolve: (lookup, signal) =>
      isStopped ? { kind: 'drop', reason: 'stopped' } : good.resolve(lookup, signal),
  }));
  const check = checks(bad, options).find(({ name }) => name === 'instances');
  await t.rejects(check!.run(), {
    message: /after the other overlay has stopped, the answer .* is lookup_drop/,
  });
});

t.test('work at import', async (t) => {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-kit-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true });
  });
  const cases: readonly [source: string, says: RegExp | undefined][] = [
    ['export default {};', undefined],
    ["import 'node:http'; import 'node:fs/promises'; export default {};", undefined],
    ['setInterval(() => {}, 1000);', /the import sets a timer at .*3\.mjs:1:1/],
    [
      "import net from 'node:net'; net.createServer().listen(0, '127.0.0.1');",
      /the import opens a server, made at .*mjs:1:/,
    ],
    ['throw new Error("no table");', /the import cannot be imported: no table/],
    ['process.exit(0);', /the import calls process\.exit/],
    ['Array.prototype.toSorted = null;', /the import changes Array\.toSorted/],
    ['process.on("uncaughtException", () => {});', /the import changes listeners of uncaughtException/],
    ['await new Promise(() => {});', /the import ends its process with status 13/],
  ];
  for (const [index, [source, says]] of cases.entries()) {
    const file = path.join(directory, `${index + 1}.mjs`);
    writeFileSync(file, source);
    const check = checks(plugin(), { ...options, entry: pathToFileURL(file) }).find(
      ({ name }) => name === 'import',
    );
    if (says === undefined) await t.resolves(check!.run(), source);
    else await t.rejects(check!.run(), { message: says }, source);
  }
});
