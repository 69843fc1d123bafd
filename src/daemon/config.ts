/**
 * The configuration of varpd: its keys. Each is declared once, with its sentence; config/varpd.yaml and the
 * table of docs/daemon.md are made of them (`npm run docs`). config-file.ts reads the file.
 */
import * as z from 'zod';
import { DEFAULT_SOCKET } from '../control/messages.js';
import { oneOf, wholeNumber } from '../model/sentences.js';
import { isLoopback, parseEndpoint } from '../wire/ip.js';

/** sun_path of a Unix socket address less its NUL (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107;
// The message of each schema names the values that a reader of the error may type instead.
const absolutePath = (expected: string) => z.string(expected).regex(/^\/[^\0]*$/, expected);
export const socketPath = absolutePath('an absolute path').refine(
  (text) => Buffer.byteLength(text) <= MAX_SOCKET_PATH_BYTES,
  `a path of at most ${MAX_SOCKET_PATH_BYTES} bytes`,
);
const whole = (min: number, max: number, fallback: number): z.ZodDefault<z.ZodNumber> => {
  const expected = wholeNumber(min, max);
  return z.int(expected).min(min, expected).max(max, expected).default(fallback);
};
const word = <const Words extends readonly [string, ...string[]]>(words: Words) =>
  z.enum(words, oneOf(words));

/** The user that root becomes. */
export const DEFAULT_USER = 'varpd';
/** The user of plugin processes, where root starts varpd. */
export const PLUGIN_USER = 'varpd-plugin';

const nameOf = (what: 'user' | 'group', fallback: string | null) => {
  const expected = `the name of a ${what}, or null`;
  return z.string(expected).min(1, expected).nullable().default(fallback);
};

/** An IP address and a port, or a Unix socket. */
const addressAt = (port: number) => {
  const expected = `127.0.0.1:${port}, '[::1]:${port}', an absolute path, or null`;
  return z
    .string(expected)
    .refine((text) => parseEndpoint(text) !== undefined || socketPath.safeParse(text).success, expected)
    .nullable()
    .default(null);
};

const TOKEN_EXPECTED = 'the name of a secret, or null';

const hostName = z
  .string('a host name')
  .regex(/^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/i, 'a host name')
  .max(253, 'a host name'); // RFC 1035 2.3.4

/** When a change of a key takes effect. */
export type Applied = 'at the next start' | 'by SIGHUP' | 'by SIGHUP, for overlays that start after it';

interface KeyFacts {
  /** Sentence for the documentation. */
  readonly about: string;
  readonly applied: Applied;
}

const facts = new Map<z.ZodType, KeyFacts>();

/** Declares a key with its sentence. The schema has its values and its default. */
function key<S extends z.ZodType>(schema: S, applied: Applied, about: string): S {
  facts.set(schema, { about, applied });
  return schema;
}

const logSchema = z.strictObject(
  {
    level: key(
      word(['debug', 'info', 'warn', 'error']).default('info'),
      'by SIGHUP',
      'Events of this level and of worse ones are logged.',
    ),
    format: key(
      word(['text', 'json']).default('text'),
      'at the next start',
      'text: one line for a reader. json: one object a line.',
    ),
    file: key(
      absolutePath('an absolute path, or null').nullable().default(null),
      'at the next start',
      'null: standard error with --foreground, otherwise varpd.log in `stateDir`. SIGHUP opens the file again, for logrotate.',
    ),
  },
  'a map',
);

const limitsSchema = z.strictObject(
  {
    // A frame may wait a second. That is longer than any answer out of memory or a near database takes.
    lookupDeadlineMs: key(
      whole(10, 60_000, 1000),
      'by SIGHUP',
      'Milliseconds that a plugin has to answer a lookup; then the frames that wait are dropped.',
    ),
    // Time to read a large file or to connect; create-overlay waits for it, and so do later changes of the
    // overlay.
    startDeadlineMs: key(
      whole(10, 60_000, 5000),
      'by SIGHUP',
      'Milliseconds that a plugin has to start, and to read its files again; then create-overlay or reload fails.',
    ),
    // One lookup a second for a MAC that no host has, instead of one for each frame (illumos asks each time).
    negativeTtlMs: key(
      whole(1, 3_600_000, 1000),
      'by SIGHUP, for overlays that start after it',
      'Milliseconds that "this MAC is nowhere" is believed before the plugin is asked again.',
    ),
    // A million MACs is more than a host's virtual networks hold; an entry costs some hundred bytes.
    maxTargets: key(
      whole(1, 16_777_216, 1_048_576),
      'by SIGHUP, for overlays that start after it',
      'Entries in the target table of one overlay; the least recently used one makes room.',
    ),
    // A process of Node has 50 MiB at least. A table of a million MACs in a plugin takes some 300.
    pluginMemoryMib: key(
      whole(64, 1_048_576, 512),
      'by SIGHUP',
      'Memory of a plugin process with its children, in MiB. A process that takes more is ended and started again.',
    ),
    // Longer than a good plugin computes without a pause, and short enough for an operator that watches.
    pluginBlockedMs: key(
      whole(100, 600_000, 5000),
      'by SIGHUP',
      'Milliseconds without a sign of life from a plugin process that is asked something; then it is ended and started again.',
    ),
    // Each connection is a dladm; it takes two descriptors, and 64 KiB at the worst.
    clients: key(
      whole(1, 1024, 64),
      'by SIGHUP',
      'Control connections at the same time; one more is told to try again later.',
    ),
  },
  'a map',
);

const SECTIONS = { log: logSchema, limits: limitsSchema };

export const configSchema = z
  .strictObject(
    {
      socket: key(
        socketPath.default(DEFAULT_SOCKET),
        'at the next start',
        'Unix socket for dladm (which looks at --socket, then $VARPD_SOCKET, then this default), of at most 107 bytes. ' +
          'Its mode is 0660, its owners are `user` and `group`; its directory is made with mode 0750 when it is missing.',
      ),
      stateDir: key(
        absolutePath('an absolute path').default('/var/lib/varpd'),
        'at the next start',
        'Directory for what survives a restart: one file for each overlay, and the lock that keeps a second varpd out. ' +
          'It is made with mode 0700 when it is missing, and refused when it belongs to another user, is a symbolic link, or is writable by group or others.',
      ),
      pluginPath: key(
        z.array(absolutePath('an absolute path'), 'a list of absolute paths').default([]),
        'at the next start',
        'Directories with more lookup plugins, each in a sub-directory with an index.js, and packages that are a plugin. Those that come with varpd are always ' +
          'there; of two others with the same name, the one in a directory of that name wins, otherwise the first. A directory that is missing is an error.',
      ),
      secrets: key(
        absolutePath('an absolute path, or null').nullable().default(null),
        'at the next start',
        'Directory with secrets for plugins, one file for each (a token, a password, a key); null: none. A property of a plugin names the file, ' +
          'and varpd reads it when the plugin asks. Credentials of systemd (LoadCredential=) are found as well. Neither the directory nor a file in it may be ' +
          'writable by another user than root and that of varpd.',
      ),
      user: key(
        nameOf('user', DEFAULT_USER),
        'at the next start',
        'Started as root, varpd becomes this user before it does anything, and keeps CAP_NET_ADMIN alone. `npm run build` as root makes ' +
          'the user varpd. root: varpd stays root, with CAP_NET_ADMIN alone. null: as varpd, and started by another user it stays that user. ' +
          '`stateDir`, the directory of `socket` and `log.file` are made for this user when they are missing, and handed over when they are ' +
          "root's and of an older varpd. The user must be able to read the program, this file, its plugins and their files, and to open /dev/net/tun.",
      ),
      group: key(
        nameOf('group', null),
        'at the next start',
        'Members of this group may change things, as root may; null: root alone. A varpd that was not started as root must be ' +
          'a member itself.',
      ),
      metrics: key(
        addressAt(9560),
        'at the next start',
        'Where metrics are served for Prometheus: an address and port (an IPv6 address in quotes), or a Unix socket of mode 0660; null: nowhere. ' +
          'Every client that reaches an address may read them: leave it to this host, or to a network of its own.',
      ),
      metricsHosts: key(
        z.array(hostName, 'a list of host names').default([]),
        'at the next start',
        'Names of this host that Prometheus asks for, as in http://NAME:9560/metrics, or that the live page is opened by. An address and localhost need not be here; any ' +
          'other name is refused, since a page of another site can have its name lead to this host.',
      ),
      web: key(
        addressAt(9570),
        'at the next start',
        'Where the live page is served: an address and port (an IPv6 address in quotes), or a Unix socket of mode 0660; null: nowhere. ' +
          'It changes nothing, and shows targets and counters to every client that reaches it. An address other than loopback needs `webToken`.',
      ),
      webToken: key(
        z.string(TOKEN_EXPECTED).min(1, TOKEN_EXPECTED).nullable().default(null),
        'at the next start',
        'The name of a secret (a file in `secrets`, or a credential of systemd) with the token of the live page: http://ADDRESS/?token=TOKEN opens it. ' +
          'null: no token.',
      ),
      persistTaps: key(
        z.boolean('true or false').default(false),
        'at the next start',
        'true: TAPs outlive varpd, however it ends, with their MACs, addresses and routes, and the next start takes them over; ' +
          'they have no carrier meanwhile. Those made with -t end with varpd all the same. false: they end with it, except over `dladm restart`.',
      ),
      log: logSchema.prefault({}),
      limits: limitsSchema.prefault({}),
    },
    'a map of keys',
  )
  .refine(
    ({ web, webToken }) => {
      const endpoint = web === null ? undefined : parseEndpoint(web);
      return endpoint === undefined || webToken !== null || isLoopback(endpoint.ip);
    },
    { path: ['web'], message: 'an address of loopback, as 127.0.0.1, or `webToken` as well' },
  );

type Writable = z.infer<typeof configSchema>;
export type Limits = Readonly<Writable['limits']>;
export type LogConfig = Readonly<Writable['log']>;
export type Config = Readonly<Omit<Writable, 'log' | 'limits'>> & {
  readonly log: LogConfig;
  readonly limits: Limits;
};

/** Settings of the command line; paths are absolute. */
export interface Flags {
  readonly config?: string;
  readonly pluginPath: readonly string[];
  readonly socket?: string;
}

export interface ConfigKey extends KeyFacts {
  /** For example `log` of `log.level`. */
  readonly section: string | undefined;
  readonly name: string;
  /** The expected values, in the words of an error. */
  readonly expected: string;
  readonly default: unknown;
}

function keysOf(schema: z.ZodObject, section?: string): ConfigKey[] {
  const defaults = schema.parse({});
  return Object.entries<z.ZodType>(schema.shape).flatMap(([name, one]) => {
    const known = facts.get(one);
    if (known === undefined) return keysOf(SECTIONS[name as keyof typeof SECTIONS], name);
    // No key may be a symbol, so the error names the values that the key may have.
    const expected = one.safeParse(Symbol(name)).error!.issues[0].message;
    return [{ section, name, expected, default: defaults[name], ...known }];
  });
}

/** All keys, in the order of the documentation. */
export const CONFIG_KEYS: readonly ConfigKey[] = keysOf(configSchema);

/** The keys of the file itself, or of a section of it. */
export function keysAt(at: readonly PropertyKey[]): readonly string[] {
  const { shape } = at.length === 0 ? configSchema : SECTIONS[at[0] as keyof typeof SECTIONS];
  return Object.keys(shape);
}

/** The keys in which two configurations differ, as `log.level`, and whether SIGHUP can apply each. */
export function configChanges(before: Config, after: Config): { key: string; reloadable: boolean }[] {
  const valueIn = (config: object, { section, name }: ConfigKey): string => {
    const within = section === undefined ? config : (config as Record<string, object>)[section];
    return JSON.stringify((within as Record<string, unknown>)[name]);
  };
  return CONFIG_KEYS.filter((one) => valueIn(before, one) !== valueIn(after, one)).map(
    ({ section, name, applied }) => ({
      key: section === undefined ? name : `${section}.${name}`,
      reloadable: applied !== 'at the next start',
    }),
  );
}
