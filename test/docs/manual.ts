// The tables of the manual pages in man/, made of the tables in src. In a page a table stands between `.\" table: NAME` and
// `.\" /table`; everything else there is written by hand.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import ts from 'typescript';

import direct from '../../plugins/direct/index.js';
import files from '../../plugins/files/index.js';
import http from '../../plugins/http/index.js';
import nats from '../../plugins/nats/index.js';
import type { Command, Option } from '../../src/cli/command.js';
import { allCommands, GLOBAL_OPTIONS } from '../../src/cli/dladm.js';
import { CONFIG_KEYS } from '../../src/daemon/config.js';
import { encapsulation, ENCAPSULATION_NAMES } from '../../src/encap/index.js';
import { EXIT_STATUSES } from '../../src/model/exit-statuses.js';
import { LINK_PROPERTIES, PROTECTION_TYPES } from '../../src/model/link-properties.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { possible } from '../../src/model/properties.js';
import type { LookupPlugin } from '../../src/plugin/index.js';
import { textOf } from '../helpers/documents.js';
import { fromRoot } from '../helpers/need.js';
import { bold, filled, italic, literal, synopsis, tagged } from './mdoc.js';
import { defaultText } from './tables.js';

/** A phrase as a sentence. A word with a colon behind it is a value. */
function sentence(text: string): string {
  const begin = /^[a-z]+:/.test(text) ? text : `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
  return text.endsWith('.') ? begin : `${begin}.`;
}

const optionText = (text: string): string => filled(sentence(text));

function optionTerm({ name, short, value, optional }: Option): string {
  const argument = value === undefined ? '' : optional ? `[=${italic(value)}]` : ` ${italic(value)}`;
  return `${short === undefined ? '' : `${bold(`-${short}`)}, `}${bold(`--${name}`)}${argument}`;
}

const optionList = (options: readonly Option[]): string =>
  tagged(options.map((option) => [optionTerm(option), optionText(option.about)]));

function commandPart(command: Command): string {
  const name = command.synopsis.split(' ')[0];
  const options = command.options.length === 0 ? '' : optionList(command.options);
  const examples = command.examples.map((example) => `dladm ${example}`).flatMap((text) => text.split('\n'));
  const shown = synopsis('dladm', command.synopsis).trimEnd();
  return `.Ss ${name}\n${shown}\n.Pp\n${filled(command.about)}${options}${literal(examples)}`;
}

interface Spec {
  readonly name: string;
  readonly about: string | undefined;
  readonly isRequired: boolean;
  readonly default: string | undefined;
  readonly possible: string | null;
}

const propertyList = (specs: readonly Spec[]): string =>
  tagged(
    specs.map((spec) => {
      const facts = [
        spec.isRequired ? 'Required.' : '',
        spec.possible === null ? '' : `Possible: ${spec.possible.replaceAll(',', ', ')}.`,
        spec.default === undefined ? '' : `Default: \`${spec.default}\`.`,
      ];
      const about = spec.about === undefined ? '' : sentence(spec.about);
      const text = [about, ...facts].filter((part) => part !== '').join(' ');
      return [bold(spec.name), text === '' ? '' : filled(text)];
    }),
  );

/** Those of the tunnel stand for every encapsulation. */
function overlayProperties(): string {
  const lists = ENCAPSULATION_NAMES.map((name) => overlaySpecs(encapsulation(name), [], []));
  const specs = lists[0].flatMap((spec, index): Spec[] => {
    if (spec.permission === 'r-') return [];
    const defaults = [...new Set(lists.flatMap((list) => list[index].default ?? []))];
    return [
      {
        name: spec.name.replace(`${ENCAPSULATION_NAMES[0]}/`, 'encap/'),
        about: spec.about,
        isRequired: spec.required && spec.default === undefined,
        default: defaults.length === 0 ? undefined : defaults.join('`, `'),
        possible: possible(spec),
      },
    ];
  });
  return propertyList(specs);
}

function pluginProperties(plugins: readonly LookupPlugin[]): string {
  return propertyList(
    plugins.flatMap(({ properties }) =>
      properties.map((spec) => ({
        name: spec.name,
        about: spec.about,
        isRequired: spec.required,
        default: spec.default,
        possible: possible({ ...spec, permission: 'rw' }) ?? spec.kind ?? null,
      })),
    ),
  );
}

function linkProperties(): string {
  return propertyList(
    LINK_PROPERTIES.map((spec) => ({
      name: spec.name,
      about: spec.about,
      isRequired: false,
      default: spec.default.length === 0 ? undefined : spec.default.join(','),
      possible: spec.possible?.join(',') ?? `at most ${spec.maxValues}, each ${spec.expected}`,
    })),
  );
}

/** What varpd itself prints: its usage lines, its options, and what its signals do. */
function varpdHelp(): { readonly usage: string[]; readonly options: [string, string][] } {
  const { stdout, stderr } = spawnSync(process.execPath, [fromRoot('dist/src/daemon/main.js'), '--help'], {
    encoding: 'utf8',
  });
  const [head, rows] = stdout.split('\n\n');
  const usage = head.split('\n').map((line) => line.replace(/^(?:usage:)? +/, ''));
  const options = rows.split('\n').map((line): [string, string] => {
    const [, term, text] = /^ {2}(\S.*?) {2,}(.*)$/.exec(line) ?? [];
    return [term, text];
  });
  if (options.some(([term]) => typeof term !== 'string'))
    throw new Error(`varpd --help has another form: ${stdout}${stderr}`);
  return { usage, options };
}

const varpdTerm = (term: string): string =>
  term.replace(/-*[a-z][a-z-]*|[A-Z]+/gi, (part) => (/^[A-Z]+$/.test(part) ? italic(part) : bold(part)));

function varpdSynopsis(): string {
  return varpdHelp()
    .usage.map((line) => {
      const [program, ...rest] = line.split(' ');
      const words = rest.map((word) => (word === '|' ? word : varpdTerm(word)));
      return `${[bold(program), ...words].join(' ')}\n`;
    })
    .join('.br\n');
}

// ---------------------------------------------------------------- the members of overlay_files(5)

interface Members {
  readonly additionalProperties: {
    readonly required: readonly string[];
    readonly properties: Readonly<Record<string, { readonly description: string }>>;
  };
}

function mappingMembers(): string {
  const schema = JSON.parse(textOf('config/hosts.schema.json')) as Members;
  const { required, properties } = schema.additionalProperties;
  return tagged(
    Object.entries(properties).map(([name, { description }]) => [
      bold(name),
      filled(`${description}${required.includes(name) ? ' Required.' : ''}`),
    ]),
  );
}

// ---------------------------------------------------------------- the contract of plugins

const CONTRACT = 'src/plugin/contract.ts';
const CONTRACT_MEMBERS = ['Instance', 'Host', 'LookupPlugin', 'PluginContext'] as const;

/** The text of a doc comment. */
function commentOf(node: ts.Node, source: ts.SourceFile): string {
  const range = ts.getLeadingCommentRanges(source.text, node.pos)?.at(-1);
  const text = range === undefined ? '' : source.text.slice(range.pos, range.end);
  const lines = text.replace(/^\/\*\*|\*\/$/g, '').split('\n');
  return lines
    .map((line) => line.replace(/^\s*\* ?/, ''))
    .join(' ')
    .trim();
}

function contractPart(name: string, source: ts.SourceFile): string {
  const found = source.statements.filter(ts.isInterfaceDeclaration).find((one) => one.name.text === name);
  if (found === undefined) throw new Error(`${CONTRACT} has no interface ${name}`);
  const members = found.members.map((member): [string, string] => {
    const signature = member.getText(source).replace(/;$/, '').replaceAll(/\s+/g, ' ');
    const about = commentOf(member, source);
    return [bold(signature.replace(/^readonly /, '')), about === '' ? '' : filled(about)];
  });
  return `.Ss ${name}\n${filled(commentOf(found, source))}${tagged(members)}`;
}

function contract(): string {
  const source = ts.createSourceFile(CONTRACT, textOf(CONTRACT), ts.ScriptTarget.ES2023);
  return CONTRACT_MEMBERS.map((name) => contractPart(name, source)).join('');
}

const TABLES: Readonly<Record<string, () => string | Promise<string>>> = {
  'options of dladm': () => optionList(GLOBAL_OPTIONS),
  commands: async () => (await allCommands()).map(commandPart).join(''),
  'properties of overlays': overlayProperties,
  'properties of plugins': () => pluginProperties([direct, files, http, nats] as readonly LookupPlugin[]),
  'properties of files': () => pluginProperties([files] as readonly LookupPlugin[]),
  'properties of links': linkProperties,
  protections: () =>
    tagged(Object.entries(PROTECTION_TYPES).map(([name, about]) => [bold(name), filled(`${about}.`)])),
  'exit statuses': () =>
    tagged(Object.values(EXIT_STATUSES).map(({ status, means }) => [String(status), filled(means)])),
  'synopsis of varpd': varpdSynopsis,
  'options of varpd': () =>
    tagged(varpdHelp().options.map(([term, text]) => [varpdTerm(term), optionText(text)])),
  configuration: () =>
    tagged(
      CONFIG_KEYS.map((key) => {
        const name = key.section === undefined ? key.name : `${key.section}.${key.name}`;
        const expected = `${key.expected.charAt(0).toUpperCase()}${key.expected.slice(1)}`;
        const facts = `${expected}. Default: \`${defaultText(key)}\`. Applied ${key.applied}.`;
        return [bold(name), `${filled(key.about)}${filled(facts)}`];
      }),
    ),
  example: () => literal(textOf('config/hosts.json').trimEnd().replaceAll('\t', '        ').split('\n')),
  members: mappingMembers,
  contract,
};

const PAGES: Readonly<Record<string, readonly string[]>> = {
  'man/dladm.8': [
    'options of dladm',
    'commands',
    'properties of overlays',
    'properties of plugins',
    'properties of links',
    'protections',
    'exit statuses',
  ],
  'man/varpd.8': ['synopsis of varpd', 'options of varpd', 'exit statuses'],
  'man/varpd.yaml.5': ['configuration'],
  'man/overlay_files.5': ['example', 'members', 'properties of files'],
  'man/varpd-plugin.7': ['contract'],
};

export const MANUAL_PAGES = Object.keys(PAGES);

/** Path from the root of the project -> the text that the page should have. */
export async function manualPages(): Promise<Map<string, string>> {
  const pages = new Map<string, string>();
  for (const [page, tables] of Object.entries(PAGES)) {
    let text = textOf(page);
    for (const name of tables) {
      const begin = `.\\" table: ${name}\n`;
      const from = text.indexOf(begin) + begin.length;
      const to = text.indexOf('.\\" /table', from);
      if (from < begin.length || to === -1)
        throw new Error(`${path.basename(page)} has no place for the table ${name}`);
      text = `${text.slice(0, from)}${await TABLES[name]()}${text.slice(to)}`;
    }
    pages.set(page, text);
  }
  return pages;
}
