/**
 * dladm import-mapping and export-mapping: copies a mapping between a file and a bucket.
 *
 * An import writes what differs and nothing else, each key on the condition that nothing has changed it since it was read. So
 * an import that is repeated writes nothing, and two imports at once do not undo each other's work unseen.
 */
import { readFile } from 'node:fs/promises';
import type { KV } from '@nats-io/kv';
import {
  type EntryDifference,
  type ExportReport,
  formatMac,
  type ImportReport,
  type IpAddress,
  type MacAddress,
  type MappingStore,
  type StoreTarget,
} from '../../src/plugin/index.js';
import {
  type Access,
  type Client,
  connect,
  NatsError,
  openBucket,
  parseServers,
  requestError,
} from './client.js';
import { IP_PREFIX, MAC_PREFIX, macOfKey, VTEP_PREFIX } from './keys.js';
import { entryText, isSame, recordsOf, vtepOf, type Wanted } from './records.js';
import { Watch } from './watch.js';

const REQUEST_MS = 10_000;
/** Records on their way at the same time. */
const WRITES = 256;
const MAX_DIFFERENCES = 1000;
const MAX_NAMED = 100;
/** Copies of a bucket that NATS permits. */
const MAX_REPLICAS = 5;

const PROPERTIES = ['user', 'password', 'nkey', 'creds', 'ca', 'cert', 'key', 'create', 'replicas'];
const EXPECTED_URL = 'expected nats://HOST[:PORT][,HOST[:PORT]...]/BUCKET, or tls:// in place of nats://';

interface Target {
  readonly access: Access;
  readonly bucket: string;
  /** Number of copies of a bucket to make; undefined: it must be there. */
  readonly replicas: number | undefined;
}

interface Found {
  /** Undefined when the key is deleted. */
  readonly value: Uint8Array | undefined;
  readonly revision: number;
}

export const natsStore: MappingStore = {
  async importMapping(mapping, target, dryRun): Promise<ImportReport> {
    const wanted = recordsOf(mapping);
    const { access, bucket, replicas } = await parseTarget(target);
    return withClient(access, bucket, async (client) => {
      const isThere = await ensureBucket(client, bucket, replicas, dryRun);
      const found = isThere ? await readAll(client, bucket) : new Map<string, Found>();
      const difference = compare(wanted, found);
      const conflicts: string[] = [];
      const writes = writesOf(wanted, found);
      if (!dryRun) await writeAll(client, await openBucket(client, bucket, true), writes, conflicts);
      return {
        place: `bucket ${bucket}`,
        ...difference,
        writes: writes.length - conflicts.length,
        conflicts: conflicts.slice(0, MAX_NAMED),
        conflictCount: conflicts.length,
      };
    });
  },

  async exportMapping(target): Promise<ExportReport> {
    const { access, bucket } = await parseTarget(target);
    return withClient(access, bucket, async (client) => asMapping(bucket, await readAll(client, bucket)));
  },
};

// -- The target

async function parseTarget({ url, properties }: StoreTarget): Promise<Target> {
  const refuse = (message: string): never => {
    throw new NatsError(message, 'EINVAL');
  };
  const {
    scheme = '',
    hosts = '',
    bucket = '',
  } = /^(?<scheme>nats|tls):\/\/(?<hosts>[^/@]+)\/(?<bucket>[A-Za-z0-9_-]{1,200})$/.exec(url)?.groups ?? {};
  const servers = parseServers(
    hosts
      .split(',')
      .map((host) => `${scheme}://${host}`)
      .join(','),
  );
  if (bucket === '' || typeof servers === 'string') return refuse(`${url}: ${EXPECTED_URL}`);
  const unknown = Object.keys(properties).find((name) => !PROPERTIES.includes(name));
  if (unknown !== undefined)
    return refuse(`unknown property ${unknown}: expected one of ${PROPERTIES.join(', ')}`);
  const {
    user,
    password,
    nkey,
    creds,
    ca,
    cert,
    key,
    create = 'off',
    replicas,
  } = properties as Partial<Record<string, string>>;
  if (!['on', 'off'].includes(create)) return refuse('create: expected on or off');
  const copies = Number(replicas ?? 1);
  if (!Number.isInteger(copies) || copies < 1 || copies > MAX_REPLICAS)
    return refuse(`replicas: expected a number from 1 to ${MAX_REPLICAS}`);
  if (replicas !== undefined && create === 'off') return refuse('replicas needs create=on');
  return {
    access: {
      ...servers,
      ...{ user, ca, cert, key },
      password: await contents('password', password),
      nkey: await contents('nkey', nkey),
      creds: await contents('creds', creds),
    },
    bucket,
    replicas: create === 'on' ? copies : undefined,
  };
}

/** Secrets are in files, since every user of a host sees the words of a command. */
async function contents(name: string, file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return (await readFile(file, 'utf8')).trimEnd();
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw new NatsError(
      `${name}: the file ${file} cannot be read: ${code}`,
      code === 'ENOENT' ? 'ENOENT' : 'EACCES',
      error,
    );
  }
}

async function withClient<T>(
  access: Access,
  bucket: string,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const client = await connect(access, bucket, 'dladm', REQUEST_MS);
  try {
    return await work(client);
  } finally {
    await client.connection.close().catch(() => undefined);
  }
}

/** Returns whether the bucket is there; false only in a dry run that would make it. */
async function ensureBucket(
  client: Client,
  bucket: string,
  replicas: number | undefined,
  dryRun: boolean,
): Promise<boolean> {
  try {
    await client.manager.streams.info(`KV_${bucket}`);
    return true;
  } catch (error) {
    const refusal = requestError(error, `look at the bucket ${bucket}`, client.packages);
    if (refusal.code !== 'ENOENT' || replicas === undefined) throw refusal;
  }
  if (dryRun) return false;
  try {
    await new client.packages.kv.Kvm(client.js).create(bucket, { replicas, history: 1 });
    return true;
  } catch (error) {
    throw requestError(error, `make the bucket ${bucket}`, client.packages);
  }
}

async function readAll(client: Client, bucket: string): Promise<Map<string, Found>> {
  const found = new Map<string, Found>();
  let tellCaughtUp!: () => void;
  const caughtUp = new Promise<void>((resolve) => {
    tellCaughtUp = resolve;
  });
  const watch = new Watch(client, bucket, '>', {
    record: (key, value, revision) => {
      found.set(key, { value: value && Uint8Array.from(value), revision });
    },
    caughtUp: tellCaughtUp,
  });
  const lost = client.connection.closed().then(() => {
    throw new NatsError('the connection to NATS was lost');
  });
  lost.catch(() => undefined);
  try {
    await watch.begin(undefined, 'dladm');
    await Promise.race([caughtUp, watch.ended, lost]);
  } finally {
    watch.close();
  }
  return found;
}

// -- Import

function compare({ records, vteps }: Wanted, found: ReadonlyMap<string, Found>) {
  const differences: EntryDifference[] = [];
  const count = { added: 0, changed: 0, removed: 0, unchanged: 0 };
  for (const [key, after] of vteps) {
    const value = found.get(key)?.value;
    if (value !== undefined && isSame(key, value, records.get(key)!)) {
      count.unchanged++;
      continue;
    }
    if (value === undefined) count.added++;
    else count.changed++;
    differences.push({ mac: macIn(key), before: value && vtepOf(value), after });
  }
  for (const [key, { value }] of found) {
    if (!key.startsWith(MAC_PREFIX) || value === undefined || vteps.has(key)) continue;
    count.removed++;
    differences.push({ mac: macIn(key), before: vtepOf(value), after: undefined });
  }
  differences.sort((a, b) => (a.mac < b.mac ? -1 : 1));
  return { ...count, differences: differences.slice(0, MAX_DIFFERENCES) };
}

/** The MAC of a key, or the key itself when it names none. */
function macIn(key: string): string {
  const mac = macOfKey(key);
  return mac === undefined ? key : formatMac(mac);
}

interface Write {
  readonly key: string;
  /** Undefined deletes the key. */
  readonly value: string | undefined;
  /** 0: the key must never have had a record. */
  readonly revision: number;
}

/** VTEPs come before the entries that name them, and entries before the addresses that lead to them; they go in reverse. */
const ORDER = [VTEP_PREFIX, MAC_PREFIX, IP_PREFIX];
const rank = ({ key, value }: Write): number => {
  const place = ORDER.findIndex((prefix) => key.startsWith(prefix));
  return value === undefined ? 2 * ORDER.length - place : place;
};

function writesOf({ records }: Wanted, found: ReadonlyMap<string, Found>): Write[] {
  const writes: Write[] = [];
  for (const [key, value] of records) {
    const known = found.get(key);
    if (known?.value === undefined || !isSame(key, known.value, value))
      writes.push({ key, value, revision: known?.revision ?? 0 });
  }
  for (const [key, { value, revision }] of found) {
    const isOurs = ORDER.some((prefix) => key.startsWith(prefix));
    if (isOurs && value !== undefined && !records.has(key)) writes.push({ key, value: undefined, revision });
  }
  return writes.sort((a, b) => rank(a) - rank(b));
}

async function writeAll(
  client: Client,
  kv: KV,
  writes: readonly Write[],
  conflicts: string[],
): Promise<void> {
  for (let at = 0; at < writes.length; at += WRITES)
    await Promise.all(
      writes.slice(at, at + WRITES).map(async (each) => {
        if (!(await write(client, kv, each))) conflicts.push(each.key);
      }),
    );
}

/** Returns false when another writer was faster. */
async function write({ packages }: Client, kv: KV, { key, value, revision }: Write): Promise<boolean> {
  const { JetStreamApiError, JetStreamApiCodes } = packages.jetstream;
  try {
    if (value === undefined) await kv.delete(key, { previousSeq: revision });
    else await kv.put(key, value, { previousSeq: revision });
    return true;
  } catch (error) {
    const conflicts: number[] = [
      JetStreamApiCodes.StreamWrongLastSequence,
      JetStreamApiCodes.StreamWrongLastSequenceUnknown,
    ];
    const isConflict = error instanceof JetStreamApiError && conflicts.includes(error.code);
    if (isConflict) return false;
    throw requestError(error, `write the key ${key}`, packages);
  }
}

// -- Export

function asMapping(bucket: string, found: ReadonlyMap<string, Found>): ExportReport {
  const problems: string[] = [];
  const lines: [MacAddress, string][] = [];
  const owners = new Map<IpAddress, MacAddress>();
  const servers: [MacAddress, MacAddress][] = [];
  for (const [key, { value }] of found) {
    if (!key.startsWith(MAC_PREFIX) || value === undefined) continue;
    const mac = macOfKey(key);
    const made = mac === undefined ? 'the key names no MAC address of one station' : entryText(mac, value);
    if (mac === undefined || typeof made === 'string') {
      problems.push(`${key}: ${made as string}`);
      continue;
    }
    lines.push([mac, made.text]);
    for (const ip of [...made.entry.arp, ...made.entry.ndp]) {
      const other = owners.get(ip);
      if (other !== undefined)
        problems.push(`${key}: the address ${ip} is also in the entry of ${formatMac(other)}`);
      owners.set(ip, mac);
    }
    if (made.entry.dhcpServer !== undefined) servers.push([mac, made.entry.dhcpServer]);
  }
  const macs = new Set(lines.map(([mac]) => mac));
  for (const [mac, server] of servers)
    if (!macs.has(server))
      problems.push(`${formatMac(mac)}: its dhcp-proxy ${formatMac(server)} has no entry`);
  lines.sort(([a], [b]) => a - b);
  const text = lines.length === 0 ? '{}\n' : `{\n${lines.map(([, line]) => line).join(',\n')}\n}\n`;
  return {
    place: `bucket ${bucket}`,
    entries: lines.length,
    mapping: problems.length === 0 ? text : undefined,
    problems: problems.slice(0, MAX_NAMED),
    problemCount: problems.length,
  };
}
