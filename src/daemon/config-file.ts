/**
 * The configuration file: YAML. Command line flags come before it, and the defaults of config.ts after it.
 *
 * The file is read strictly: an unknown key is an error, and so is a value of the wrong kind. Every error is
 * reported, each as `file:line:column: key: found KIND, expected ...`. An error does not quote the file,
 * since a user that makes varpd read it may not be allowed to read it. dladm adds the quotation for a user
 * that may read the file.
 */
import { readFileSync } from 'node:fs';
import { type Document, type ErrorCode, isMap, isNode, isScalar, isSeq, visit } from 'yaml';
import type * as z from 'zod';
import { OverlayError } from '../model/errors.js';
import { foundExpected } from '../model/properties.js';
import { openYaml } from '../model/yaml.js';
import { type Config, configSchema, type Flags, keysAt, socketPath } from './config.js';

/** The documented file is a thousandth of this; a larger file is no configuration. */
const MAX_FILE_BYTES = 1024 * 1024;

/** Read when no --config is given, if it exists. */
const DEFAULT_CONFIG_FILE = '/etc/varpd/varpd.yaml';

/**
 * The place of each key in the file, as `file:line:column: `. It is kept apart from the configuration, so
 * that two configurations with the same values are the same.
 */
const places = new WeakMap<Config, ReadonlyMap<string, string>>();
/** The file of each configuration that comes from one. */
const files = new WeakMap<Config, string>();

/** Null when there is no file, and every key has its default. */
export function fileOf(config: Config): string | null {
  return files.get(config) ?? null;
}

/** Beginning of an error about a key that only shows in use; empty when the key is not in the file. */
export function placeOf(config: Config, key: keyof Config): string {
  return places.get(config)?.get(key) ?? '';
}

/**
 * Flags come before the file, and the file before the defaults. Throws an OverlayError with a line for each
 * error.
 */
export function loadConfig(flags: Flags): Config {
  const fromFile = readConfigFile(flags.config);
  const { socket } = flags;
  const checked = socketPath.safeParse(socket ?? fromFile.socket);
  if (!checked.success)
    throw invalid([`--socket: ${foundExpected(socket ?? '', checked.error.issues[0].message)}`]);
  const pluginPath = [...fromFile.pluginPath, ...flags.pluginPath];
  const config = { ...fromFile, pluginPath, socket: checked.data };
  places.set(config, places.get(fromFile) ?? new Map());
  const file = files.get(fromFile);
  if (file !== undefined) files.set(config, file);
  return config;
}

function readConfigFile(file: string | undefined): Config {
  const name = file ?? DEFAULT_CONFIG_FILE;
  try {
    const config = parseConfig(readFileSync(name, 'utf8'), name);
    files.set(config, name);
    return config;
  } catch (error) {
    if (error instanceof OverlayError) throw error;
    if (file === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT')
      return parseConfig('', name);
    throw new OverlayError('INVALID', `${name}: cannot be read: ${(error as Error).message}`, [], error);
  }
}

/** `file` is only named in errors. */
export function parseConfig(text: string, file: string): Config {
  if (Buffer.byteLength(text) > MAX_FILE_BYTES)
    throw invalid([`${file}: larger than ${MAX_FILE_BYTES} bytes`]);
  const { document, problem, at } = openYaml(text, file);
  if (problem !== undefined)
    throw invalid([
      `${at(problem.pos[0])}: not valid YAML: ${SYNTAX[problem.code] ?? 'something unexpected'}`,
    ]);
  const parsed = configSchema.safeParse(valueOf(document, at) ?? {});
  if (parsed.success) {
    places.set(parsed.data, placesOf(document, at));
    return parsed.data;
  }
  throw invalid(parsed.error.issues.flatMap((issue) => describe(issue, document, at)));
}

function placesOf(document: Document, at: (offset: number) => string): Map<string, string> {
  const { contents } = document;
  const pairs = isMap(contents) ? contents.items : [];
  return new Map(pairs.map(({ key, value }) => [String(key), `${at(offsetOf(value))}: `]));
}

/** Aliases are resolved only here: one may lead nowhere, or to very many values. */
function valueOf(document: Document, at: (offset: number) => string): unknown {
  try {
    return document.toJS();
  } catch (error) {
    let offset = 0;
    visit(document, {
      Alias: (_, alias) => {
        if (alias.resolve(document) !== undefined) return undefined;
        offset = offsetOf(alias);
        return visit.BREAK;
      },
    });
    throw new OverlayError(
      'INVALID',
      `${at(offset)}: an alias without an anchor, or that expands too far`,
      [],
      error,
    );
  }
}

function describe(issue: z.core.$ZodIssue, document: Document, at: (offset: number) => string): string[] {
  if (issue.code === 'unrecognized_keys') {
    const within = issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
    return issue.keys.map(
      (key) =>
        `${at(keyOffset(document, issue.path, key))}: ${within}unknown key, expected one of ${keysAt(issue.path).join(', ')}`,
    );
  }
  const node = nodeAt(document, issue.path);
  const found = isScalar(node)
    ? kindOf(node.value)
    : isMap(node)
      ? 'a map'
      : isSeq(node)
        ? 'a list'
        : 'nothing';
  const name = issue.path.join('.') || 'the file';
  return [`${at(offsetOf(node))}: ${name}: found ${found}, expected ${issue.message}`];
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'boolean') return 'true or false';
  return typeof value === 'number' ? 'a number' : 'another text';
}

/** Errors of common mistakes; the parser's own messages quote the file. */
const SYNTAX: Readonly<Partial<Record<ErrorCode, string>>> = {
  BAD_DQ_ESCAPE: 'an escape that does not exist',
  BAD_INDENT: 'a line is indented by too little or too much',
  BAD_SCALAR_START: 'a character that a value does not begin with',
  BAD_ALIAS: 'an alias without a name',
  BLOCK_IN_FLOW: 'a map or list of lines within brackets',
  DUPLICATE_KEY: 'a key that occurs twice',
  MISSING_CHAR: 'a bracket, quote, colon or comma is missing',
  MULTILINE_IMPLICIT_KEY: 'a key of several lines, or a colon is missing',
  MULTIPLE_DOCS: 'a second document',
  TAB_AS_INDENT: 'a tab in the indentation: use spaces',
  TAG_RESOLVE_FAILED: 'a tag that is not known',
};

function nodeAt(document: Document, keys: readonly PropertyKey[]): unknown {
  return keys.length === 0 ? document.contents : document.getIn(keys, true);
}

function keyOffset(document: Document, keys: readonly PropertyKey[], key: string): number {
  const map = nodeAt(document, keys);
  const pair = isMap(map)
    ? map.items.find((item) => isScalar(item.key) && String(item.key.value) === key)
    : undefined;
  return offsetOf(pair?.key);
}

function offsetOf(node: unknown): number {
  return isNode(node) ? (node.range?.[0] ?? 0) : 0;
}

function invalid(lines: readonly string[]): OverlayError {
  return new OverlayError('INVALID', lines.length === 1 ? lines[0] : 'the configuration is invalid', lines);
}
