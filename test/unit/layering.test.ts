// Who may import whom, as the architecture says, read from the sources.

import path from 'node:path';
import t from 'tap';
import ts from 'typescript';

import { sourceTexts } from '../helpers/sources.js';

interface Rule {
  /** Our rooms, beside its own. */
  readonly ours: readonly string[];
  /** Our rooms that only types may come from. A type-only import of anything else is an import like any other. */
  readonly types?: readonly string[];
  readonly node: boolean;
  readonly packages?: readonly string[];
}

/** The rooms of core that the forwarding path is built of, and the one that drives it. */
const CORE_ROOMS = ['tables', 'queues', 'counts', 'peers', 'proxy', 'protection', 'capture', 'probe'];
const DRY_RUN = 'src/core/dry-run';
const CORE = ['src/core', ...CORE_ROOMS.map((room) => `src/core/${room}`), DRY_RUN];

const MAIN_THREAD = 'src/datapath/userland/main';
const DATAPATH_THREAD = 'src/datapath/userland/thread';

/** What each wing of the daemon may import beside the daemon's root: no other wing. */
const WING: Rule = {
  ours: [
    'src/daemon',
    'src/model',
    ...CORE,
    'src/encap',
    'src/wire',
    'src/control',
    'src/plugin',
    'src/dgram-extra',
  ],
  types: ['src/datapath'],
  node: true,
};
const wing = (others: readonly string[], packages: readonly string[] = []): Rule => ({
  ...WING,
  ours: [...WING.ours, ...others],
  packages,
});

/** What each room of core may import beside encap, wire and model: types of the forwarding path, and these rooms. */
const coreRoom = (...others: readonly string[]): Rule => ({
  ours: ['src/encap', 'src/wire', 'src/model', ...others.map((other) => `src/core/${other}`)],
  types: ['src/core', ...CORE_ROOMS.map((room) => `src/core/${room}`)],
  node: false,
});

/** The longest prefix of a file's path has its rule. */
const RULES: Readonly<Record<string, Rule>> = {
  'src/wire': { ours: [], node: false },
  'src/wire/ip.ts': { ours: [], node: false, packages: ['ipaddr.js'] },
  'src/encap': { ours: ['src/wire'], node: false },
  'src/model': { ours: ['src/encap', 'src/wire'], types: ['src/plugin'], node: false },
  'src/model/yaml.ts': { ours: [], node: false, packages: ['yaml'] },
  'src/core': {
    ours: ['src/encap', 'src/wire', 'src/model', ...CORE.filter((room) => room !== DRY_RUN)],
    types: ['src/plugin'],
    node: false,
  },
  'src/core/tables': coreRoom(),
  'src/core/counts': coreRoom('tables'),
  'src/core/queues': coreRoom('tables', 'counts'),
  'src/core/peers': coreRoom('tables', 'counts'),
  'src/core/proxy': coreRoom(),
  'src/core/protection': coreRoom('tables', 'counts', 'queues'),
  'src/core/probe': {
    ...coreRoom('tables', 'counts', 'queues'),
    ours: CORE.filter((room) => room !== DRY_RUN).concat('src/wire'),
  },
  'src/core/capture': {
    ...coreRoom(),
    ours: ['src/core', 'src/core/counts', 'src/wire', 'src/encap', 'src/model'],
  },
  [DRY_RUN]: { ours: [...CORE, 'src/encap', 'src/wire', 'src/model'], node: false },
  // Errors by name, which the datapath and a network in memory know as well.
  'src/dgram-extra': { ours: ['src/wire'], node: true },
  'src/io': { ours: ['src/encap', 'src/wire'], node: true },
  'src/io/linux.ts': { ours: ['src/encap', 'src/wire', 'src/dgram-extra'], node: false },
  'src/io/memory': { ours: ['src/encap', 'src/wire'], node: false },

  // What the daemon sees of the datapath: types alone.
  'src/datapath': {
    ours: [],
    types: [
      'src/wire',
      'src/encap',
      'src/model',
      ...CORE,
      'src/plugin',
      'src/dgram-extra',
      'src/datapath/userland',
    ],
    node: false,
  },
  // What main thread and datapath threads say to each other.
  'src/datapath/userland': {
    ours: ['src/wire'],
    types: [...CORE, 'src/datapath', 'src/encap', 'src/model'],
    node: false,
  },
  [MAIN_THREAD]: {
    ours: ['src/datapath/userland', ...CORE, 'src/model', 'src/wire', 'src/dgram-extra'],
    types: ['src/datapath', 'src/encap', 'src/plugin'],
    node: true,
  },
  [DATAPATH_THREAD]: {
    ours: [
      'src/datapath/userland',
      ...CORE,
      'src/encap',
      'src/model',
      'src/wire',
      'src/io',
      'src/dgram-extra',
    ],
    node: true,
  },

  // The program of a plugin process, and the messages that it shares with the daemon.
  'src/plugin-process': { ours: ['src/plugin', 'src/wire'], node: true },
  // It gives up what it may have from varpd.
  'src/plugin-process/spawner-process.ts': { ours: ['src/dgram-extra'], node: true },
  // It asks the kernel to confine the processes.
  'src/plugin-process/confinement.ts': { ours: ['src/dgram-extra'], node: true },

  // The architecture says types; the functions that read and print addresses are passed on as well.
  'src/plugin': { ours: ['src/wire'], node: true },
  // The author's kit: a plugin in the daemon's plugin wing, over a network in memory.
  'src/plugin-test': {
    ours: [
      'src/plugin',
      ...CORE,
      'src/io',
      'src/daemon',
      'src/daemon/plugins',
      DATAPATH_THREAD,
      'src/encap',
      'src/model',
      'src/wire',
    ],
    types: ['src/datapath', 'src/datapath/userland', 'src/control', 'src/plugin-process'],
    node: true,
  },
  // The commands of a plugin's author. A process that imports a plugin has the hooks of a plugin process.
  'src/author': {
    ours: [
      'src/plugin',
      'src/plugin-test',
      'src/daemon',
      'src/daemon/plugins',
      'src/daemon/process',
      'src/model',
      'src/wire',
    ],
    types: ['src/datapath', 'src/plugin-process'],
    node: true,
  },
  'src/control': { ours: ['src/wire'], node: true },
  // The thread of the live page is a client of the control socket, as dladm is.
  'src/web': { ours: ['src/control'], node: true },
  'src/web/page': {
    ours: ['src/web'],
    types: ['src/control'],
    node: false,
    packages: ['preact', 'preact/hooks'],
  },

  // The one place that joins all.
  'src/daemon': {
    ours: [
      'src/wire',
      'src/model',
      ...CORE,
      'src/control',
      'src/plugin',
      'src/dgram-extra',
      'src/author',
      MAIN_THREAD,
    ],
    types: ['src/datapath'],
    node: true,
    packages: ['pino', 'yaml', 'zod'],
  },
  'src/daemon/process': wing(['src/daemon/state', MAIN_THREAD]),
  'src/daemon/handover': {
    ...wing(['src/daemon/process', 'src/daemon/state', MAIN_THREAD]),
    types: ['src/datapath', 'src/datapath/userland'],
  },
  'src/daemon/state': wing([], ['yaml', 'zod']),
  'src/daemon/control': wing([], ['json-rpc-2.0', 'zod']),
  'src/daemon/overlays': wing(['src/daemon/plugins', 'src/daemon/underlay', 'src/daemon/state']),
  'src/daemon/plugins': wing(['src/plugin-process'], ['zod']),
  // The plugins of varpd are a part of its program.
  'src/daemon/plugins/plugin-catalog.ts': wing([
    'src/plugin-process',
    ...['direct', 'files', 'http', 'nats'].map((name) => `plugins/${name}`),
  ]),
  'src/daemon/underlay': wing([]),
  'src/daemon/observe': wing([], ['prom-client']),
  'src/daemon/watch': wing([]),
  'src/daemon/web': { ...wing([]), types: [...(WING.types ?? []), 'src/web'] },

  // check-mapping loads the plugin that knows the format, and asks it.
  'src/cli': { ours: ['src/control', 'src/model', 'src/wire'], types: ['src/plugin'], node: true },
  // A client of the control socket, as dladm is, which asks the kernel too.
  'src/cni': {
    ours: ['src/control', 'src/model', 'src/wire', 'src/dgram-extra'],
    node: true,
    packages: ['zod'],
  },
  // It moves an interface with the rights of the user, and not of varpd.
  'src/cli/netns.ts': {
    ours: ['src/cli', 'src/control', 'src/model', 'src/dgram-extra'],
    node: true,
  },
  'src/cli/declare': {
    ours: ['src/cli', 'src/control', 'src/model', 'src/wire'],
    node: false,
    packages: ['yaml'],
  },
  // doctor asks the kernel, so that it works without varpd; and reads what varpd keeps by varpd's own code.
  'src/cli/doctor': {
    ours: ['src/cli', 'src/control', 'src/model', 'src/encap', 'src/wire', 'src/dgram-extra'],
    types: ['src/plugin'],
    node: true,
  },
  'src/cli/doctor/varpd-files.ts': {
    ours: ['src/cli', 'src/model', 'src/daemon', 'src/daemon/process', 'src/daemon/state', 'src/plugin'],
    node: true,
  },
  plugins: { ours: ['src/plugin'], node: true },
  // Loaded when the plugin is used.
  'plugins/nats': {
    ours: ['src/plugin'],
    node: true,
    packages: ['@nats-io/jetstream', '@nats-io/kv', '@nats-io/transport-node'],
  },
};

/** At the daemon's root: they put everything together, so nothing else there or in a wing imports them. */
const ASSEMBLY = ['main', 'run', 'varpd', 'daemon', 'rehearsal-process'].map(
  (name) => `src/daemon/${name}.ts`,
);
const MAX_FILES = 20;

interface Import {
  readonly from: string;
  readonly isTypeOnly: boolean;
}

function importsOf(file: string, text: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, isTypeOnly: boolean) => {
    if (specifier !== undefined && ts.isStringLiteral(specifier))
      found.push({ from: specifier.text, isTypeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const clause = node.importClause;
      const names = clause?.namedBindings;
      const areTypes =
        names !== undefined && ts.isNamedImports(names) && names.elements.every((each) => each.isTypeOnly);
      add(node.moduleSpecifier, clause?.phaseModifier === ts.SyntaxKind.TypeKeyword || areTypes);
    } else if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0], false);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      add(node.argument.literal, true);
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest));
  return found;
}

/** Rooms with rooms in them. */
const HOUSES = ['src/core', 'src/daemon', 'src/datapath', 'src/datapath/userland', 'src/web'];

/** `src/core`, `src/daemon/state`, `plugins/direct`: what a rule is about. */
function folderOf(file: string): string {
  const folders = file.split('/').slice(0, -1);
  let depth = 2;
  while (HOUSES.includes(folders.slice(0, depth).join('/')) && folders.length > depth) depth++;
  return folders.slice(0, depth).join('/');
}

function ruleOf(file: string): Rule | undefined {
  const prefixes = Object.keys(RULES).filter((prefix) => file.startsWith(prefix));
  return RULES[prefixes.sort((a, b) => b.length - a.length)[0]];
}

/** The file that a relative import is of. */
function resolved(file: string, from: string): string {
  return path.posix.join(path.posix.dirname(file), from).replace(/\.js$/, '.ts');
}

/** Undefined = it may. */
function whyNot(file: string, { from, isTypeOnly }: Import): string | undefined {
  const rule = ruleOf(file);
  if (rule === undefined) return 'in no folder that the architecture knows';
  if (from.startsWith('node:')) return rule.node ? undefined : `no ${from} here`;
  if (!from.startsWith('.') && from !== 'varpd/plugin') {
    return rule.packages?.includes(from) ? undefined : `no package ${from} here`;
  }
  const imported = from === 'varpd/plugin' ? 'src/plugin/index.ts' : resolved(file, from);
  const isRoot = folderOf(file) === 'src/daemon';
  if (ASSEMBLY.includes(imported) && !isRoot) return `nothing imports ${imported}`;
  const target = folderOf(imported);
  if (isRoot && target.startsWith('src/daemon/')) return undefined;
  if (target === folderOf(file) || rule.ours.includes(target)) return undefined;
  if (rule.types?.includes(target)) return isTypeOnly ? undefined : `types only from ${target}`;
  return `nothing from ${target}`;
}

const texts = sourceTexts();
const files = [...texts.keys()];

await t.test('the rule refuses what it should', (t) => {
  const refused = (file: string, text: string) =>
    importsOf(file, text)
      .map((each) => whyNot(file, each))
      .filter((why) => why !== undefined);
  const bad: [file: string, text: string, why: string][] = [
    ['src/wire/udp.ts', "import { x } from 'node:os';", 'no node:os here'],
    ['src/wire/udp.ts', "import ip from 'ipaddr.js';", 'no package ipaddr.js here'],
    ['src/wire/udp.ts', "import type { X } from '../core/flow.js';", 'nothing from src/core'],
    ['src/core/flow.ts', "export * from '../io/contract.js';", 'nothing from src/io'],
    ['src/core/flow.ts', "import { x, type Y } from '../plugin/contract.js';", 'types only from src/plugin'],
    ['src/core/flow.ts', "const x = await import('../daemon/log.js');", 'nothing from src/daemon'],
    ['src/model/errors.ts', "import type { X } from '../core/lookup.js';", 'nothing from src/core'],
    ['src/core/tables/x.ts', "import { y } from '../transmit.js';", 'types only from src/core'],
    ['src/core/transmit.ts', "import { y } from './dry-run/dry-run.js';", 'nothing from src/core/dry-run'],
    [
      'src/datapath/userland/thread/engine.ts',
      "import { x } from '../main/taps.js';",
      'nothing from src/datapath/userland/main',
    ],
    ['src/datapath/contract.ts', "import { x } from '../core/lookup.js';", 'types only from src/core'],
    [
      'src/daemon/control/rpc.ts',
      "import { x } from '../overlays/registry.js';",
      'nothing from src/daemon/overlays',
    ],
    [
      'src/daemon/state/x.ts',
      "import type { X } from '../daemon.js';",
      'nothing imports src/daemon/daemon.ts',
    ],
    ['src/daemon/state/x.ts', "import 'pino';", 'no package pino here'],
    ['src/io/memory.ts', "import { native } from '../dgram-extra/index.js';", 'nothing from src/dgram-extra'],
    ['src/io/memory-batch.ts', "import 'node:fs';", 'no node:fs here'],
    ['src/io/fault.ts', "let x: import('../core/drops.js').DropReason;", 'nothing from src/core'],
    ['src/cli/main.ts', "import type { Config } from '../daemon/config.js';", 'nothing from src/daemon'],
    ['src/cli/show.ts', "import { x } from '../dgram-extra/index.js';", 'nothing from src/dgram-extra'],
    ['src/cli/doctor/x.ts', "import { x } from '../../daemon/log.js';", 'nothing from src/daemon'],
    ['src/cli/commands/x.ts', "import { y } from '../../core/errors.js';", 'nothing from src/core'],
    ['plugins/direct/index.ts', "import { y } from '../../src/wire/ip.js';", 'nothing from src/wire'],
    ['plugins/direct/index.ts', "import { y } from '../files/index.js';", 'nothing from plugins/files'],
    ['src/other/x.ts', "import 'y';", 'in no folder that the architecture knows'],
  ];
  for (const [file, text, why] of bad) t.strictSame(refused(file, text), [why], `${file}: ${text}`);
  const good: [file: string, text: string][] = [
    ['src/wire/ip.ts', "import ip from 'ipaddr.js';"],
    [
      'src/core/flow.ts',
      "import type { X } from '../plugin/contract.js'; import { y } from '../wire/ip.js';",
    ],
    ['src/core/flow.ts', "import { type X, type Y } from '../plugin/contract.js'; // import 'node:fs';"],
    [
      'src/datapath/userland/thread/engine.ts',
      "import { transmit } from '../../../core/transmit.js'; import './x.js';",
    ],
    ['src/daemon/overlays/x.ts', "import { y } from '../underlay/y.js'; import { z } from '../log.js';"],
    ['src/daemon/run.ts', "import { x } from './control/server.js'; import { y } from './daemon.js';"],
    [
      'src/cli/doctor/x.ts',
      "import { x } from '../../dgram-extra/index.js'; import { y } from '../show.js';",
    ],
    ['plugins/direct/index.ts', "import { x } from 'varpd/plugin'; import 'node:fs'; import './help.js';"],
  ];
  for (const [file, text] of good) t.strictSame(refused(file, text), [], `${file}: ${text}`);
  t.end();
});

await t.test('nobody imports whom they may not', (t) => {
  const sources = [...texts].filter(([file]) => file.endsWith('.ts'));
  t.ok(sources.length > 50, `${sources.length} files read`);
  const broken = sources.flatMap(([file, text]) =>
    importsOf(file, text).flatMap((each) => {
      const why = whyNot(file, each);
      return why === undefined ? [] : [`${file} imports ${each.from}: ${why}`];
    }),
  );
  t.strictSame(broken, []);
  t.end();
});

await t.test(`no room of the daemon or of core has more than ${MAX_FILES} files`, (t) => {
  const count = new Map<string, number>();
  for (const file of files.filter((each) => /^src\/(?:daemon|core)\//.test(each)))
    count.set(path.posix.dirname(file), (count.get(path.posix.dirname(file)) ?? 0) + 1);
  t.ok(count.size > 5, [...count.keys()].join(' '));
  for (const [room, number] of count) t.ok(number <= MAX_FILES, `${room}: ${number}`);
  t.end();
});

/** Files that import each other, in a ring of any length, types included: each can be understood only with all the others. */
function ringsOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const reach = (from: string): Set<string> => {
    const seen = new Set<string>();
    const rest = [...(graph.get(from) ?? [])];
    for (let file = rest.pop(); file !== undefined; file = rest.pop())
      if (!seen.has(file)) {
        seen.add(file);
        rest.push(...(graph.get(file) ?? []));
      }
    return seen;
  };
  const reached = new Map([...graph.keys()].map((file) => [file, reach(file)]));
  const rings = new Map<string, string[]>();
  for (const [file, others] of reached) {
    if (!others.has(file)) continue;
    const ring = [...others].filter((other) => reached.get(other)?.has(file) === true).sort();
    rings.set(ring.join(' '), ring);
  }
  return [...rings.values()];
}

await t.test('no files import each other in a ring', (t) => {
  t.strictSame(
    ringsOf(
      new Map([
        ['a', ['b']],
        ['b', ['c']],
        ['c', ['b', 'd']],
        ['d', []],
      ]),
    ),
    [['b', 'c']],
    'one is found',
  );
  const sources = [...texts].filter(([file]) => file.endsWith('.ts'));
  const graph = new Map(
    sources.map(([file, text]) => [
      file,
      importsOf(file, text)
        .filter(({ from }) => from.startsWith('.'))
        .map(({ from }) => resolved(file, from))
        .filter((each) => texts.has(each)),
    ]),
  );
  t.strictSame(ringsOf(graph), []);
  t.end();
});

await t.test('one file of the daemon knows the environment', (t) => {
  const others = [...texts]
    .filter(([file, text]) => /^src\/(?:daemon|datapath)\//.test(file) && text.includes('process.env'))
    .map(([file]) => file);
  t.strictSame(others, ['src/daemon/environment.ts']);
  t.end();
});

await t.test('what comes out of the tunnel cannot go into it (split horizon)', (t) => {
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const { from, isTypeOnly } of importsOf(file, texts.get(file) ?? ''))
      if (!isTypeOnly && from.startsWith('.')) visit(resolved(file, from));
  };
  visit('src/core/receive.ts');
  t.ok(seen.has('src/core/deliver.ts'), [...seen].join(' '));
  t.notOk(seen.has('src/core/tunnel.ts'));
  t.notOk(seen.has('src/core/transmit.ts'));
  t.end();
});
