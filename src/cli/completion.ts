/**
 * Completes a command line of dladm: the candidates for its last word, out of the definitions of the commands.
 *
 * The candidates for a place follow from its name in the synopsis: `overlay`, `file`, `prop=value[,...]`. Names of overlays,
 * VNICs and plugins come from varpd. Without a varpd there are none, and nothing is said about it.
 */
import { networkInterfaces } from 'node:os';
import type { Call } from '../control/client.js';
import type { PluginInfo } from '../control/messages.js';
import { DROPS } from '../model/drops.js';
import { LINK_PROPERTIES } from '../model/link-properties.js';
import { specsByEncapsulation } from '../model/overlay-specs.js';
import { parseValue, possible } from '../model/properties.js';
import type { Command, Commands, Option } from './command.js';
import { commonOptions } from './options.js';
import { ETHER_TYPES } from './values.js';
import { readPages } from '../control/pages.js';

export interface Candidate {
  /** The whole word. After a word that ends in `=` or `,` the next character follows without a blank. */
  readonly word: string;
  readonly about: string;
}

/** `files`: the shell completes the name of a file, after the last `=` if there is one. */
export type Completion = readonly Candidate[] | 'files';

export interface Sources {
  readonly call: Call;
  readonly commands: Commands;
  readonly globals: readonly Option[];
  /** The shell shows a text beside each candidate. */
  readonly isDescribed: boolean;
}

export const SHELLS: readonly string[] = ['bash', 'zsh', 'fish'];

const NONE: readonly Candidate[] = [];
const plain = (words: Iterable<string>): Candidate[] => [...words].map((word) => ({ word, about: '' }));

/** `words` follow `dladm`; the last one, which may be empty, is completed. */
export async function complete(words: readonly string[], sources: Sources): Promise<Completion> {
  const candidates = await candidatesFor(words, sources);
  const last = words.at(-1) ?? '';
  return candidates === 'files' ? candidates : candidates.filter(({ word }) => word.startsWith(last));
}

async function candidatesFor(words: readonly string[], sources: Sources): Promise<Completion> {
  const { commands, globals } = sources;
  const [before, last] = [words.slice(0, -1), words.at(-1) ?? ''];
  const begin = read(before, globals, true);
  const name = begin.operands.at(0);
  if (name === undefined) {
    if (begin.open !== undefined) return valuesOf(begin.open, '', last, undefined, sources);
    return last.startsWith('-') ? optionsOf(globals, begin) : commandsOf(sources);
  }
  const load = commands.get(name);
  if (load === undefined) return NONE;
  const { command } = await load();
  const options = [...command.options, ...commonOptions(command)];
  const line = read(before.slice(begin.end), options, false);
  const place = { command, line };
  if (line.open !== undefined) return valuesOf(line.open, '', last, place, sources);
  if (!line.isEnded && last.startsWith('-')) {
    const attached = attachedTo(last, options);
    if (attached === undefined) return optionsOf(options, line);
    const { option, prefix } = attached;
    return valuesOf(option, prefix, last.slice(prefix.length), place, sources);
  }
  const operand = operandsOf(command).find(
    ({ isRepeated }, index) => isRepeated || index === line.operands.length,
  );
  if (operand === undefined) return NONE;
  return placeValues(operand.placeholder, '', last, place, sources, line.operands);
}

// -- The typed line

interface Line {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
  /** The option of which the last word is the value. */
  readonly open: Option | undefined;
  /** Behind `--` there are operands alone. */
  readonly isEnded: boolean;
  /** Index of the word behind the first operand. */
  readonly end: number;
}

interface Place {
  readonly command: Command;
  readonly line: Line;
}

/** As getopt.ts reads it, without its errors: a line that is being typed is not complete. */
function read(words: readonly string[], options: readonly Option[], isOneOperand: boolean): Line {
  const values = new Map<string, string[]>();
  const operands: string[] = [];
  const take = ({ name }: Option, value: string): void => {
    values.set(name, [...(values.get(name) ?? []), value]);
  };
  let open: Option | undefined;
  let isEnded = false;
  let at = 0;
  while (at < words.length && !(isOneOperand && operands.length > 0)) {
    const word = words[at++];
    if (open !== undefined) {
      take(open, word);
      open = undefined;
    } else if (isEnded || !/^-./.test(word)) operands.push(word);
    else if (word === '--') isEnded = true;
    else {
      const attached = attachedTo(word, options);
      const given = attached?.option ?? named(word, options);
      if (given === undefined) continue;
      if (attached !== undefined) take(given, word.slice(attached.prefix.length));
      else if (given.value === undefined || given.optional) take(given, '');
      else open = given;
    }
  }
  return { values, operands, open, isEnded, end: at };
}

/** The option of a word without a value in it. In `-tv` the last letter may have one. */
function named(word: string, options: readonly Option[]): Option | undefined {
  const long = word.startsWith('--') ? word.slice(2) : undefined;
  return options.find(({ name, alias, short }) =>
    long === undefined ? short === word.at(-1) : name === long || alias === long,
  );
}

/** The option that a word gives a value: `--encap=vxlan`, `-evxlan`, `-tevxlan`. */
function attachedTo(
  word: string,
  options: readonly Option[],
): { readonly option: Option; readonly prefix: string } | undefined {
  const [long] = /^--[^=]+=/.exec(word) ?? [];
  if (long !== undefined) {
    const option = named(long.slice(0, -1), options);
    return option?.value === undefined ? undefined : { option, prefix: long };
  }
  if (word.startsWith('--')) return undefined;
  for (let at = 1; at < word.length - 1; at++) {
    const option = options.find(({ short }) => short === word[at]);
    if (option === undefined) return undefined;
    if (option.value !== undefined) return { option, prefix: word.slice(0, at + 1) };
  }
  return undefined;
}

// -- Names of commands and options, operands

async function commandsOf({ commands, isDescribed }: Sources): Promise<readonly Candidate[]> {
  if (!isDescribed) return plain(commands.keys());
  return Promise.all(
    [...commands].map(async ([word, load]) => {
      const { about } = (await load()).command;
      return { word, about: about.split(/[.:] /)[0].replace(/\.$/, '') };
    }),
  );
}

function optionsOf(options: readonly Option[], { values }: Line): readonly Candidate[] {
  return options
    .filter(({ name, repeatable }) => repeatable === true || !values.has(name))
    .flatMap(({ name, short, value, optional, about }) => {
      const long = { word: `--${name}${value !== undefined && optional ? '=' : ''}`, about };
      return short === undefined ? [long] : [{ word: `-${short}`, about }, long];
    });
}

interface Operand {
  readonly placeholder: string;
  readonly isRepeated: boolean;
}

/** `[overlay...]` and `overlay|vnic`: the words of a synopsis that are neither options nor their values. */
export function operandsOf({ synopsis, options }: Command): readonly Operand[] {
  let text = synopsis.replace(/^\S+/, '').replaceAll(/(?<=[^\s[])\[[=,][^\]]*\]/g, '');
  for (let before = ''; before !== text;) {
    before = text;
    text = text.replaceAll(/\[[^[\]]*-[^[\]]*\]/g, '');
  }
  const words = text.split(' ').filter((word) => word !== '');
  const operands: Operand[] = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    if (word === '|') continue;
    if (word.startsWith('-')) {
      if (named(word, options)?.value !== undefined) at++;
    } else
      operands.push({
        placeholder: word.replace(/^\[|\]$/g, '').replace('...', ''),
        isRepeated: word.includes('...'),
      });
  }
  return operands;
}

// -- Values

function valuesOf(
  { value = '' }: Option,
  prefix: string,
  typed: string,
  place: Place | undefined,
  sources: Sources,
): Promise<Completion> {
  return placeValues(value, prefix, typed, place, sources, []);
}

/** `given`: the operands that are there already. */
async function placeValues(
  placeholder: string,
  prefix: string,
  typed: string,
  place: Place | undefined,
  sources: Sources,
  given: readonly string[],
): Promise<Completion> {
  const kind = place === undefined ? undefined : propertiesIn(place.command);
  if (placeholder.startsWith('prop')) {
    if (kind === undefined || place === undefined) return NONE;
    const properties = kind === 'overlay' ? await overlayProperties(place, sources) : linkProperties();
    return propertyList(prefix, typed, properties, placeholder.startsWith('prop='));
  }
  const found: Candidate[] = [];
  for (const part of placeholder.split('|')) {
    if (part === 'file' || part === 'path') return 'files';
    const words = await wordsOf(part, sources);
    found.push(...words.map(({ word, about }) => ({ word: `${prefix}${word}`, about })));
  }
  return found.filter(({ word }) => !given.includes(word));
}

async function wordsOf(part: string, { call, commands }: Sources): Promise<readonly Candidate[]> {
  switch (part) {
    case 'overlay':
      return plain((await overlays(call)).map(({ name }) => name));
    case 'vnic':
      return plain((await vnics(call)).map(({ name }) => name));
    case 'link':
    case 'port':
      return plain([...(await overlays(call)), ...(await vnics(call))].map(({ name }) => name));
    case 'search':
    case 'plugin':
      return plain((await plugins(call)).map(({ name }) => name));
    case 'encap':
      return plain(specsByEncapsulation().keys());
    case 'command':
      return plain(commands.keys());
    case 'reason':
      return plain(Object.keys(DROPS));
    case 'view':
      return plain((await import('./top/views.js')).VIEWS.map(({ name }) => name));
    case 'ethertype':
      return plain(Object.keys(ETHER_TYPES));
    case 'shell':
      return plain(SHELLS);
    default:
      return NONE;
  }
}

/** Resolves to none when there is no answer. */
const orNone = <T>(answer: Promise<readonly T[]>): Promise<readonly T[]> => answer.catch(() => []);
const overlays = (call: Call) =>
  orNone(readPages(call, 'overlay.list', {}).then((pages) => pages.flatMap((page) => page.overlays)));
const vnics = (call: Call) =>
  orNone(readPages(call, 'vnic.list', {}).then((pages) => pages.flatMap((page) => page.vnics)));
const plugins = (call: Call): Promise<readonly PluginInfo[]> =>
  orNone(call('plugin.list', {}).then((answer) => answer.plugins));

// -- Properties

interface Property {
  readonly name: string;
  readonly about: string;
  readonly values: readonly string[];
  readonly isFile: boolean;
  /** It has several values, with commas between them. */
  readonly isList: boolean;
  /** Whether a value is one that the property takes; left out: it takes all words. */
  readonly takes?: (value: string) => boolean;
}

/** Which properties the option -p of a command takes. */
function propertiesIn({ synopsis }: Command): 'overlay' | 'link' | undefined {
  const [name] = synopsis.split(' ');
  if (/-overlay(?:prop)?$/.test(name)) return 'overlay';
  return /-(?:vnic|linkprop)$/.test(name) ? 'link' : undefined;
}

function linkProperties(): readonly Property[] {
  return LINK_PROPERTIES.map(({ name, about, possible, maxValues }) => ({
    name,
    about,
    values: possible ?? [],
    isFile: false,
    isList: maxValues > 1,
  }));
}

/** Those of the encapsulation and of the plugin that have been typed, otherwise of all. */
async function overlayProperties(
  { command, line: { values } }: Place,
  { call }: Sources,
): Promise<readonly Property[]> {
  const isNew = command.synopsis.startsWith('create-');
  const encap = values.get('encap')?.at(0);
  const search = values.get('search')?.at(0);
  const own = [...specsByEncapsulation()]
    .filter(([name]) => encap === undefined || name === encap)
    .flatMap(([, specs]) => specs);
  const known = new Map<string, Property>();
  for (const spec of own) {
    if (isNew ? spec.isOwn === true : spec.permission !== 'rw') continue;
    const isAddress = spec.name.endsWith('/listen_ip');
    known.set(spec.name, {
      name: spec.name,
      about: spec.about ?? '',
      values: isAddress ? ownAddresses() : wordsIn(possible(spec)),
      isFile: false,
      isList: spec.readList !== undefined,
      takes: (value) => 'value' in parseValue(spec, value),
    });
  }
  for (const { name: plugin, properties } of await plugins(call)) {
    if (search !== undefined && search !== plugin) continue;
    for (const { property: name, about, possible: text, kind } of properties)
      known.set(name, {
        name,
        about: about ?? '',
        values: wordsIn(text),
        isFile: kind === 'path',
        isList: false,
      });
  }
  return [...known.values()];
}

/** The words of a list. A range has none. */
const wordsIn = (text: string | null): readonly string[] =>
  text === null || /^\d+-\d+$/.test(text) ? [] : text.split(',');

function ownAddresses(): readonly string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
    .map(({ address }) => address);
}

/** Completes the last piece of a list of properties: a name, or a value of the property before it. */
function propertyList(
  prefix: string,
  typed: string,
  properties: readonly Property[],
  hasValues: boolean,
): Completion {
  const pieces = typed.split(',');
  const last = pieces.pop() ?? '';
  const before = `${prefix}${pieces.map((piece) => `${piece},`).join('')}`;
  const named = (piece: string): Property | undefined =>
    properties.find(({ name }) => piece.startsWith(`${name}=`));
  const given = pieces.map((piece) => piece.replace(/=.*/, ''));
  const names = properties
    .filter(({ name }) => !given.includes(name))
    .map(({ name, about }) => ({ word: `${before}${name}${hasValues ? '=' : ''}`, about }));
  if (!hasValues) return names;
  const equals = last.indexOf('=');
  if (equals > 0) {
    const property = named(last);
    if (property?.isFile === true) return 'files';
    return plain(property?.values ?? []).map(({ word }) => ({
      word: `${before}${last.slice(0, equals + 1)}${word}`,
      about: '',
    }));
  }
  // One more value of the property before it, or the next property.
  const current = pieces.findLastIndex((piece) => piece.includes('='));
  const property = current < 0 ? undefined : named(pieces[current]);
  if (property?.isList !== true) return names;
  const taken = pieces.slice(current).map((piece) => piece.replace(/^.*=/, ''));
  const more = property.values.filter(
    (value) => !taken.includes(value) && property.takes?.([...taken, value].join()) !== false,
  );
  return [...plain(more).map(({ word }) => ({ word: `${before}${word}`, about: '' })), ...names];
}
