// Who may import whom, as the architecture says, read from the sources; and what every file must have.

import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import ts from 'typescript';

const root = fileURLToPath(new URL('../../../', import.meta.url));

interface Rule {
  /** Our folders, beside its own. */
  readonly ours: readonly string[];
  /** Our folders that only types may come from. A type-only import of anything else is an import like any other. */
  readonly types?: readonly string[];
  readonly node: boolean;
  readonly packages?: readonly string[];
}

/** The longest prefix of a file's path has its rule. */
const RULES: Readonly<Record<string, Rule>> = {
  'src/wire': { ours: [], node: false },
  'src/wire/ip.ts': { ours: [], node: false, packages: ['ipaddr.js'] },
  'src/core': { ours: ['src/wire'], types: ['src/plugin'], node: false },
  'src/dgram-extra': { ours: [], node: true },
  'src/io': { ours: ['src/wire'], node: true },
  'src/io/linux.ts': { ours: ['src/wire', 'src/dgram-extra'], node: false },
  'src/io/memory': { ours: ['src/wire'], node: false },
  // The architecture says types; the functions that read and print addresses are passed on as well.
  'src/plugin': { ours: ['src/wire'], node: true },
  'src/control': { ours: ['src/wire'], node: true },
  'src/daemon': {
    // Of the plugin contract, types; and what it has for plugins that read files, which varpd does as well.
    ours: ['src/wire', 'src/core', 'src/io', 'src/dgram-extra', 'src/control', 'src/plugin'],
    node: true,
    packages: ['json-rpc-2.0', 'pino', 'prom-client', 'yaml', 'zod'],
  },
  // check-mapping loads the plugin that knows the format, and asks it.
  'src/cli': { ours: ['src/control', 'src/wire'], types: ['src/plugin'], node: true },
  plugins: { ours: ['src/plugin'], node: true },
};

/** Files above 400 lines, and why. */
const LONG: Readonly<Record<string, string>> = {};
const MAX_LINES = 400;
/** Lines of code: comments and blank lines are free. What can be decided in TypeScript has no place in C, but for what must
 * go on when no TypeScript runs any more (ending.c, removal.c: 350 lines), and what only a system call can read (udp-errors.c:
 * 140) or forbid (system-calls.c: 80). */
const MAX_NATIVE_LINES = 2700;

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

/** `src/core`, `plugins/direct`: what a rule is about. */
function folderOf(file: string): string {
  return file.split('/').slice(0, 2).join('/');
}

function ruleOf(file: string): Rule | undefined {
  const prefixes = Object.keys(RULES).filter((prefix) => file.startsWith(prefix));
  return RULES[prefixes.sort((a, b) => b.length - a.length)[0]];
}

/** Undefined = it may. */
function whyNot(file: string, { from, isTypeOnly }: Import): string | undefined {
  const rule = ruleOf(file);
  if (rule === undefined) return 'in no folder that the architecture knows';
  if (from.startsWith('node:')) return rule.node ? undefined : `no ${from} here`;
  if (!from.startsWith('.') && from !== 'varpd/plugin') {
    return rule.packages?.includes(from) ? undefined : `no package ${from} here`;
  }
  const target =
    from === 'varpd/plugin' ? 'src/plugin' : folderOf(path.posix.join(path.posix.dirname(file), from));
  if (target === folderOf(file) || rule.ours.includes(target)) return undefined;
  if (rule.types?.includes(target)) return isTypeOnly ? undefined : `types only from ${target}`;
  return `nothing from ${target}`;
}

const files = ['src', 'plugins']
  .flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' }).map(
      (file) => `${folder}/${file}`,
    ),
  )
  .filter((file) => /\.(?:ts|c|h|mjs)$/.test(file) && !file.includes('node_modules'))
  .sort();
const texts = new Map(files.map((file) => [file, readFileSync(path.join(root, file), 'utf8')]));

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
    ['src/io/memory.ts', "import { native } from '../dgram-extra/index.js';", 'nothing from src/dgram-extra'],
    ['src/io/memory-batch.ts', "import 'node:fs';", 'no node:fs here'],
    ['src/io/trace.ts', "let x: import('../core/drops.js').DropReason;", 'nothing from src/core'],
    ['src/cli/main.ts', "import type { Config } from '../daemon/config.js';", 'nothing from src/daemon'],
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
    ['src/daemon/datapath/engine.ts', "import { transmit } from '../../core/encap.js'; import './x.js';"],
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

await t.test('every file says at its head what it is, and ends before it is too long', (t) => {
  const headless = [...texts]
    .filter(([, text]) => !/^(?:#!.*\n)?\s*(?:\/\*|\/\/)/.test(text))
    .map(([file]) => file);
  t.strictSame(headless, []);
  const lines = (text: string) => text.split('\n').length - 1;
  const long = [...texts].filter(([, text]) => lines(text) > MAX_LINES).map(([file]) => file);
  t.strictSame(long, Object.keys(LONG), `only these are longer than ${MAX_LINES} lines`);
  const native = [...texts]
    .filter(([file]) => /\.[ch]$/.test(file))
    .map(([, text]) => text.replaceAll(/\/\*.*?\*\//gs, '').replaceAll(/^\s*\n/gm, ''))
    .reduce((sum, text) => sum + lines(text), 0);
  t.ok(native < MAX_NATIVE_LINES, `${native} lines of C`);
  t.end();
});
