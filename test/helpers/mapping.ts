// Mappings of the files plugin for tests: parsed in memory, and instances that read them.
import { closeSync, openSync, writeSync } from 'node:fs';

import type { Answer, Host } from '../../src/plugin/index.js';
import { FilesInstance, type FilesProperties } from '../../plugins/files/instance.js';
import { type Parsed, parseMapping } from '../../plugins/files/parser.js';
import { atOnce } from '../../plugins/files/slices.js';

export function parse(text: string | Uint8Array): Parsed {
  return atOnce(parseMapping(Buffer.from(text as string)));
}

/** `2:54 $['..']['port']: found "4789", expected a whole number from 1 to 65535` */
export function errorLines(text: string | Uint8Array): string[] {
  return parse(text).errors.map(
    ({ line, column, path, found, expected }) =>
      `${line}:${column} ${path}: found ${found}, expected ${expected}`,
  );
}

/** The properties `files/...` of an overlay. */
export function propertiesOf(values: Readonly<Record<string, string>>): FilesProperties {
  const given = Object.entries(values).map(([name, value]) => [name.replace('files/', ''), value]);
  return { config: '', flood: 'off', protect: 'off', ...Object.fromEntries(given) } as FilesProperties;
}

/** Started; whoever asks for it stops it. */
export async function startFiles(
  host: Host,
  file: string,
  more: Readonly<Record<string, string>> = {},
): Promise<FilesInstance> {
  const instance = new FilesInstance(host);
  try {
    await instance.start(propertiesOf({ 'files/config': file, ...more }), new AbortController().signal);
  } catch (error) {
    await instance.stop();
    throw error;
  }
  return instance;
}

/** The answer to a frame with that destination. */
export function ask(instance: FilesInstance, destinationMac: number, etherType = 0x0800): Answer {
  return instance.resolve({ destinationMac, sourceMac: 0xdeadbeef0001, etherType, vlan: 0 });
}

/** A file that says something is wrong says where, and that is in the file. */
export function isSound(bytes: Uint8Array): boolean {
  const { mapping, errors, errorCount, warnings } = parse(bytes);
  if ((mapping === undefined) !== errorCount > 0 || errors.length !== Math.min(errorCount, 100)) return false;
  const lines = Buffer.from(bytes).toString('utf8').split('\n');
  return [...errors, ...warnings].every(({ line, column, path, found, expected }) => {
    const length = Array.from(lines[line - 1] ?? '').length;
    const isInside = line >= 1 && line <= lines.length && column >= 1 && column <= length + 1;
    return isInside && path.startsWith('$') && found !== '' && expected !== '';
  });
}

/** When JavaScript refuses it as JSON, so must we. */
export function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
    return true;
  } catch {
    return false;
  }
}

// ---------------------------------------------------------------- large ones

const VTEPS = 1000;

const digits = (value: number, count: number): string => value.toString(16).padStart(count, '0');
/** Of a number of 24 bits. */
export const bytesOf = (index: number): number[] => [index >> 16, (index >> 8) & 0xff, index & 0xff];
const macText = (index: number): string =>
  `02:00:00:${bytesOf(index)
    .map((byte) => digits(byte, 2))
    .join(':')}`;

/** Where the VTEPs of a large mapping are. A host without a route there has a degraded overlay. */
export const LARGE_MAPPING_VTEPS = '192.0.0.0/16';

/** One entry a line, with all members: 129 bytes each. `more` comes before them, `port` is that of their VTEPs. */
export function writeLargeMapping(
  file: string,
  entries: number,
  more: readonly (readonly [mac: string, entry: object])[] = [],
  port = 4789,
): void {
  const descriptor = openSync(file, 'w');
  let before = '{';
  const write = (mac: string, entry: object): void => {
    writeSync(descriptor, `${before}\n"${mac}": ${JSON.stringify(entry)}`);
    before = ',';
  };
  for (const [mac, entry] of more) write(mac, entry);
  for (let index = 0; index < entries; index++) {
    const vtep = index % VTEPS;
    write(macText(index), {
      arp: `10.${bytesOf(index).join('.')}`,
      'dhcp-proxy': macText(0),
      ip: `192.0.${vtep >> 8}.${vtep & 0xff}`,
      ndp: `fd00::${digits(index >> 16, 1)}:${digits(index & 0xffff, 1)}`,
      port,
    });
  }
  writeSync(descriptor, '\n}\n');
  closeSync(descriptor);
}
