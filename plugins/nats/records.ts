/** The records that a mapping has in a bucket, and the mapping that records make. */
import {
  EntryError,
  formatEndpoint,
  formatMac,
  type MacAddress,
  type MappingEntry,
  parseEntry,
  parseMac,
} from '../../src/plugin/index.js';
import { ipKey, macKey, vtepKey } from './keys.js';

/** The members of an entry that have a meaning, in the order in which they are written. */
const MEMBERS = ['ip', 'port', 'arp', 'ndp', 'dhcp-proxy'];

type Members = Readonly<Record<string, unknown>>;

export interface Wanted {
  /** The value of every key. */
  readonly records: ReadonlyMap<string, string>;
  /** The VTEP of every entry, by its key. */
  readonly vteps: ReadonlyMap<string, string>;
}

/** `mapping` is a valid mapping file. */
export function recordsOf(mapping: string): Wanted {
  const records = new Map<string, string>();
  const vteps = new Map<string, string>();
  for (const [name, members] of Object.entries(JSON.parse(mapping) as Record<string, Members>)) {
    const mac = parseMac(name);
    const text = valueOf(members);
    const entry = mac === undefined ? undefined : parsed(text);
    if (mac === undefined || entry === undefined)
      throw new Error('the mapping is not valid: dladm check-mapping');
    const key = macKey(mac);
    records.set(key, text);
    vteps.set(key, formatEndpoint(entry.to));
    for (const ip of [...entry.arp, ...entry.ndp])
      records.set(ipKey(ip), JSON.stringify({ mac: formatMac(mac) }));
    records.set(vtepKey(entry.to), JSON.stringify(entry.to));
  }
  return { records, vteps };
}

/** The members in one order, reserved ones last, as they are. */
function valueOf(members: Members): string {
  const names = [
    ...MEMBERS,
    ...Object.keys(members)
      .filter((name) => !MEMBERS.includes(name))
      .sort(),
  ];
  return JSON.stringify(
    Object.fromEntries(names.flatMap((name) => (name in members ? [[name, members[name]]] : []))),
  );
}

function parsed(value: string | Uint8Array): MappingEntry | undefined {
  try {
    return parseEntry(typeof value === 'string' ? Buffer.from(value) : value);
  } catch (error) {
    if (error instanceof EntryError) return undefined;
    throw error;
  }
}

/** The VTEP of a record, or words that say that it has none. */
export function vtepOf(value: Uint8Array): string {
  const to = parsed(value)?.to;
  return to === undefined ? 'an invalid record' : formatEndpoint(to);
}

/** Whether a record of the store means the same as the wanted one, however it is written. */
export function isSame(key: string, value: Uint8Array, wanted: string): boolean {
  const text = Buffer.from(value).toString();
  if (text === wanted) return true;
  if (!key.startsWith('mac.')) return false;
  const [a, b] = [parsed(value), parsed(wanted)];
  if (a === undefined || b === undefined) return false;
  return canonical(a, text) === canonical(b, wanted);
}

function canonical(entry: MappingEntry, text: string): string {
  const members = JSON.parse(text) as Members;
  const reserved = Object.fromEntries(Object.entries(members).filter(([name]) => !MEMBERS.includes(name)));
  return `${JSON.stringify(entry)} ${valueOf(reserved)}`;
}

/** One entry of a mapping file, from a record; a sentence when the record is invalid. */
export function entryText(
  mac: MacAddress,
  value: Uint8Array,
): { text: string; entry: MappingEntry } | string {
  try {
    const entry = parseEntry(value);
    const members = JSON.parse(Buffer.from(value).toString()) as Members;
    return { entry, text: `    ${JSON.stringify(formatMac(mac))}: ${valueOf(members)}` };
  } catch (error) {
    if (!(error instanceof EntryError)) throw error;
    return error.message;
  }
}
