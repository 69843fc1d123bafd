// The tables of the documentation, made of the tables in src: `npm run docs` writes them, unit/docs.test.ts compares them.
//
// In a document a table stands between `<!-- table: NAME -->` and `<!-- /table -->`; everything else there is written by hand.
// config/varpd.yaml is made as a whole.
import { format } from 'prettier';
import { stringify } from 'yaml';
import type { Command, Option } from '../../src/cli/command.js';
import { allCommands } from '../../src/cli/dladm.js';
import { type Check, CHECKS } from '../../src/cli/doctor/finding.js';
import { wrap } from '../../src/cli/text.js';
import { BINDINGS } from '../../src/cli/top/state.js';
import { type TopColumn, VIEWS } from '../../src/cli/top/views.js';
import type { Kind } from '../../src/control/kinds.js';
import { type Method, METHODS } from '../../src/control/methods.js';
import { TRAFFIC } from '../../src/core/counts/counters.js';
import { CONFIG_KEYS, type ConfigKey } from '../../src/daemon/config.js';
import { LOG_FIELDS } from '../../src/daemon/log.js';
import { STEPS } from '../../src/daemon/observe/explained-drops.js';
import { METRICS } from '../../src/daemon/observe/metrics.js';
import { encapsulation, ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { type Drop, DROP_GROUPS } from '../../src/model/drops.js';
import { EXIT_STATUSES } from '../../src/model/exit-statuses.js';
import { LINK_PROPERTIES, PROTECTION_TYPES } from '../../src/model/link-properties.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { possible } from '../../src/model/properties.js';
import { REASONS } from '../../src/cli/reasons.js';
import { textOf } from '../helpers/documents.js';
import { alerts } from '../helpers/alerts.js';
import { controlSchema } from './control-schema.js';
import { dashboard } from './dashboard.js';

/** Words of a sentence -> the page that they lead to: once in each table, and not from a page to itself. */
const LINKS: readonly (readonly [words: string, to: string])[] = [
  ['link properties', 'protection.md'],
  ['link protection', 'protection.md'],
  ['offloads', 'offloads.md#offloads'],
  ['did not fit', 'mtu.md'],
  ['the size of a path', 'mtu.md'],
  ['the files plugin', '../plugins/files/README.md#validation'],
  ['Restarts varpd', 'restart.md'],
  ['state of its underlay', 'links.md'],
  ['Largest packet', 'mtu.md'],
  ['lose their carrier', 'links.md'],
  ['one a core', 'offloads.md#several-queues'],
];

type Row = readonly string[];

function tableOf(head: Row, rows: readonly Row[], page: string): string {
  const line = (cells: Row): string => `| ${cells.join(' | ')} |`;
  const body = rows.map((cells) => line(cells.map((cell) => cell.replaceAll('|', '\\|')))).join('\n');
  const linked = LINKS.filter(([, to]) => !page.endsWith(to.replace(/#.*/, ''))).reduce(
    (text, [words, to]) => text.replace(words, `[${words}](${to})`),
    body,
  );
  return [line(head), `|${'---|'.repeat(head.length)}`, linked].join('\n');
}

const code = (text: string): string => `\`${text}\``;

const DROP_TITLES: Readonly<Record<keyof typeof DROP_GROUPS, string>> = {
  tx: 'to the underlay',
  protection: 'from a VNIC with [link protection](protection.md)',
  proxy: 'broadcast and multicast that the plugin answers for',
  socket:
    'from the underlay, before the overlay is known: counted for the socket, and shown with each overlay on it',
  rx: 'from the underlay',
  port: 'into a port',
};

function dropTables(page: string): string {
  const tables = Object.entries(DROP_GROUPS).map(([group, drops]) => {
    const rows = Object.entries<Drop>(drops).map(([name, { kind, about }]) => [
      code(name),
      kind === 'by_design' ? 'by design' : '',
      about,
    ]);
    return tableOf([DROP_TITLES[group as keyof typeof DROP_GROUPS], '', 'why'], rows, page);
  });
  return tables.join('\n\n');
}

function kindText(kind: Kind): string {
  switch (kind.is) {
    case 'text':
    case 'flag':
      return kind.is;
    case 'whole':
      return kind.max === undefined ? 'whole number' : `${kind.min}-${kind.max}`;
    case 'list':
      return `${kindText(kind.of)}[]`;
    case 'pair':
      return `[${kindText(kind.first)}, ${kindText(kind.second)}]`;
  }
}

function paramsText(params: Method['params']): string {
  const each = Object.entries(params).map(
    ([name, param]) => `${name}${param.isOptional ? '?' : ''}: ${kindText(param)}`,
  );
  return each.length === 0 ? '' : code(each.join(', '));
}

function optionText({ name, short, value, about }: Option): string {
  const spelled = short === undefined ? `--${name}` : `-${short}`;
  return `${code(value === undefined ? spelled : `${spelled} ${value}`)}: ${about}`;
}

function commandTable(commands: readonly Command[], page: string): string {
  const rows = commands.map(({ synopsis, about, options }) => [
    code(`dladm ${synopsis}`),
    about,
    options.map(optionText).join('<br>'),
  ]);
  return tableOf(['command', 'does', 'options'], rows, page);
}

/** As the file has it. */
export const defaultText = (key: ConfigKey): string => stringify(key.default, { lineWidth: 0 }).trimEnd();

const TABLES: Readonly<Record<string, (page: string) => string | Promise<string>>> = {
  counters: (page) =>
    tableOf(
      ['counter', 'counts'],
      Object.entries(TRAFFIC).map(([name, about]) => [code(name), about]),
      page,
    ),
  drops: dropTables,
  metrics: (page) =>
    tableOf(
      ['metric', 'labels', 'says'],
      METRICS.map(({ name, labels, help }) => [code(name), labels.map(code).join(', '), help]),
      page,
    ),
  alerts: (page) =>
    tableOf(
      ['alert', 'severity', 'after', 'says'],
      alerts().map(({ alert, labels, for: after, annotations }) => [
        code(alert),
        labels.severity,
        after ?? '',
        annotations.summary
          .replaceAll(/\{\{ \$labels\.(\w+) \}\}/g, '*$1*')
          .replaceAll(/\{\{[^}]*\$value[^}]*\}\}/g, '*n*'),
      ]),
      page,
    ),
  configuration: (page) =>
    tableOf(
      ['key', 'default', 'may be', 'applied', 'meaning'],
      CONFIG_KEYS.map((key) => [
        code(key.section === undefined ? key.name : `${key.section}.${key.name}`),
        code(defaultText(key)),
        key.expected,
        key.applied,
        key.about,
      ]),
      page,
    ),
  protections: (page) =>
    tableOf(
      ['`protection`', 'lets pass'],
      Object.entries(PROTECTION_TYPES).map(([name, about]) => [code(name), about]),
      page,
    ),
  'link properties': (page) =>
    tableOf(
      ['property', 'values', 'meaning'],
      LINK_PROPERTIES.map(({ name, possible, maxValues, expected, about }) => [
        code(name),
        possible === null ? `at most ${maxValues}, each ${expected}` : possible.map(code).join(', '),
        about,
      ]),
      page,
    ),
  methods: (page) =>
    tableOf(
      ['method', 'parameters', 'for', 'does'],
      Object.entries<Method>(METHODS).map(([name, { params, access, about }]) => [
        code(name),
        paramsText(params),
        access === 'look' ? 'all' : 'root, `group`',
        about,
      ]),
      page,
    ),
  'exit statuses': (page) =>
    tableOf(
      ['status', 'means', 'reasons'],
      Object.entries(EXIT_STATUSES).map(([name, { status, means }]) => [
        String(status),
        means,
        Object.entries(REASONS)
          .filter(([, { exit }]) => exit === name)
          .map(([reason]) => code(reason))
          .join(', '),
      ]),
      page,
    ),
  reasons: (page) =>
    tableOf(
      ['reason', 'status', 'means'],
      Object.entries(REASONS).map(([reason, { exit, means }]) => [
        code(reason),
        String(EXIT_STATUSES[exit].status),
        means,
      ]),
      page,
    ),
  checks: (page) =>
    tableOf(
      ['code', 'checks', 'needs'],
      Object.entries<Check>(CHECKS).map(([name, { about, needs }]) => [code(name), about, needs ?? '']),
      page,
    ),
  'explained steps': (page) =>
    tableOf(
      ['step', 'is about'],
      Object.entries(STEPS).map(([name, about]) => [code(name), about]),
      page,
    ),
  'log fields': (page) =>
    tableOf(
      ['field', 'says'],
      Object.entries(LOG_FIELDS).map(([name, about]) => [code(name), about]),
      page,
    ),
  'keys of top': (page) =>
    tableOf(
      ['key', 'does'],
      BINDINGS.map(({ shown, about }) => [code(shown), about]),
      page,
    ),
  'columns of top': (page) =>
    tableOf(
      ['view', 'columns, with the key that sorts by each', 'with `-o` only'],
      VIEWS.map(({ name, columns }) => {
        const isShown = ({ rank }: TopColumn): boolean => rank !== undefined;
        const spelled = ({ name, key }: TopColumn): string =>
          code(name) + (key === undefined ? '' : ` ${key}`);
        return [
          name,
          columns.filter(isShown).map(spelled).join(', '),
          columns
            .filter((column) => !isShown(column))
            .map(spelled)
            .join(', '),
        ];
      }),
      page,
    ),
  properties: propertyTable,
  'commands for overlays': async (page) =>
    commandTable(
      (await allCommands()).filter((one) => !isOfVnic(one)),
      page,
    ),
  'commands for VNICs': async (page) => commandTable((await allCommands()).filter(isOfVnic), page),
};

/** A row for each property that `-p` takes; those of the tunnel stand for every encapsulation. */
function propertyTable(page: string): string {
  const lists = ENCAPSULATION_NAMES.map((name) => overlaySpecs(encapsulation(name), [], []));
  const rows = lists[0].flatMap((spec, index): Row[] => {
    if (spec.permission === 'r-') return [];
    const defaults = [...new Set(lists.map((list) => list[index].default ?? ''))];
    const byDefault = defaults.map((text) => (text === '' ? '' : code(text))).join(', ');
    const required = spec.required && spec.default === undefined;
    return [
      [
        code(spec.name.replace(`${ENCAPSULATION_NAMES[0]}/`, '<encap>/')),
        required ? 'required' : byDefault,
        possible(spec)?.replaceAll(',', ', ') ?? '',
        spec.about ?? '',
      ],
    ];
  });
  return tableOf(['property', 'default', 'possible', 'meaning'], rows, page);
}

function isOfVnic({ synopsis }: Command): boolean {
  return /^(?:\S+-(?:vnic|linkprop)|rename-link)\b/.test(synopsis);
}

/** Which document has which tables. */
const PLACES: Readonly<Record<string, readonly string[]>> = {
  'docs/drops.md': ['counters', 'drops'],
  'docs/metrics.md': ['metrics', 'alerts'],
  'docs/doctor.md': ['checks'],
  'docs/explain.md': ['explained steps'],
  'docs/top.md': ['keys of top', 'columns of top'],
  'docs/logs.md': ['log fields'],
  'docs/daemon.md': ['configuration'],
  'docs/control.md': ['methods'],
  'docs/protection.md': ['protections', 'link properties'],
  'docs/overlays.md': [
    'commands for overlays',
    'exit statuses',
    'reasons',
    'commands for VNICs',
    'properties',
  ],
};

async function documentWith(page: string, tables: readonly string[]): Promise<string> {
  let text = textOf(page);
  for (const name of tables) {
    const begin = `<!-- table: ${name} -->\n`;
    const from = text.indexOf(begin) + begin.length;
    const to = text.indexOf('<!-- /table -->', from);
    if (from < begin.length || to === -1) throw new Error(`${page} has no place for the table ${name}`);
    text = `${text.slice(0, from)}${await TABLES[name](page)}\n${text.slice(to)}`;
  }
  return text;
}

const MAX_COLUMNS = 120;

function comment(text: string, indent: string): string {
  const begin = `${indent}# `;
  return wrap(text, MAX_COLUMNS - begin.length)
    .map((line) => `${begin}${line}`)
    .join('\n');
}

const CONFIG_HEAD = `# Configuration of varpd. Every key is listed with its default; a file may leave out any of them, or all.
#
# Read from --config FILE, else from /etc/varpd/varpd.yaml if that exists. Flags go over this file: --socket replaces
# \`socket\`, each -i DIR is added to \`pluginPath\`. Unknown keys and wrong values are errors, reported with line and column.
# SIGHUP reads the file again; it logs each change that has to wait for the next start.
`;

function configFile(): string {
  let section: string | undefined;
  const parts = CONFIG_KEYS.map((key) => {
    const indent = key.section === undefined ? '' : '  ';
    const opening = key.section === section || key.section === undefined ? '' : `\n${key.section}:\n`;
    const gap = key.section === undefined ? '\n' : opening;
    section = key.section;
    const expected = `${key.expected.charAt(0).toUpperCase()}${key.expected.slice(1)}`;
    return [
      `${gap}${comment(key.about, indent)}`,
      comment(`${expected}. Applied ${key.applied}.`, indent),
      `${indent}${key.name}: ${defaultText(key)}\n`,
    ].join('\n');
  });
  return CONFIG_HEAD + parts.join('');
}

/** As `npm run format` leaves it. */
function asJson(value: unknown): Promise<string> {
  return format(JSON.stringify(value), { parser: 'json', printWidth: 110 });
}

/** Path from the root of the project -> the text that the file should have. */
export async function generatedFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>([
    ['config/varpd.yaml', configFile()],
    ['config/control.schema.json', await asJson(controlSchema())],
    ['config/grafana/varpd.json', await asJson(dashboard())],
  ]);
  for (const [page, tables] of Object.entries(PLACES)) files.set(page, await documentWith(page, tables));
  return files;
}
