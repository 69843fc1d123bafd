/**
 * The connection to NATS. The packages of NATS are loaded when the first connection is made, since a host that does not use
 * this plugin need not have them.
 *
 * A connection is not mended when it breaks: what follows the bucket makes a new one, and so looks at everything again.
 */
import { readFile } from 'node:fs/promises';
import { checkServerIdentity as tlsIdentity, type PeerCertificate } from 'node:tls';
import type { Authenticator, ConnectionOptions, NatsConnection } from '@nats-io/transport-node';
import type { JetStreamClient, JetStreamManager } from '@nats-io/jetstream';
import type { KV } from '@nats-io/kv';
import { parseIp } from '../../src/plugin/index.js';

const INSTALL = 'npm install @nats-io/transport-node @nats-io/jetstream @nats-io/kv';

/** Time for one server to answer. varpd gives a start five seconds. */
const CONNECT_MS = 2000;
/** Time for one request. varpd gives a lookup one second. */
export const REQUEST_MS = 800;
/** Time for a question about a bucket. While a cluster elects a leader, a question gets no answer at all, and has to be put again. */
const BUCKET_REQUEST_MS = 5000;
/** More for a request that makes the server look at every message: with a million keys and some load it takes seconds. */
const MESSAGE_MS = 0.05;
/** A server that is silent for two of these is gone. */
const PING_MS = 10_000;

const MAX_SERVERS = 64;
const DEFAULT_PORT = 4222;

/** A server or a bucket is not as it must be. The message quotes no reply of a server. */
export class NatsError extends Error {
  override readonly name = 'NatsError';

  constructor(
    message: string,
    /** The name of an errno, for the status words of dladm. */
    readonly code: 'EAGAIN' | 'EACCES' | 'EINVAL' | 'ENOENT' | 'ECONNRESET' = 'EAGAIN',
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
  }
}

export interface Packages {
  readonly transport: typeof import('@nats-io/transport-node');
  readonly jetstream: typeof import('@nats-io/jetstream');
  readonly kv: typeof import('@nats-io/kv');
}

let packages: Promise<Packages> | undefined;

/** Rejects with a NatsError that says how to install them. A later call tries again. */
export function loadPackages(): Promise<Packages> {
  packages ??= importPackages();
  packages.catch(() => {
    packages = undefined;
  });
  return packages;
}

async function importPackages(): Promise<Packages> {
  try {
    const [transport, jetstream, kv] = await Promise.all([
      import('@nats-io/transport-node'),
      import('@nats-io/jetstream'),
      import('@nats-io/kv'),
    ]);
    return { transport, jetstream, kv };
  } catch (error) {
    const isAbsent = (error as NodeJS.ErrnoException).code === 'ERR_MODULE_NOT_FOUND';
    const why = isAbsent ? 'are not installed' : 'cannot be loaded';
    throw new NatsError(
      `the packages of NATS ${why}; in the directory of varpd: ${INSTALL}`,
      'ENOENT',
      error,
    );
  }
}

/** The servers of one NATS, and how to prove to them that this host may read. Paths are of files, all else is text. */
export interface Access {
  readonly servers: readonly string[];
  /** Insist on TLS. Without it TLS is used where the server offers it. */
  readonly mustEncrypt: boolean;
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** The seed of an nkey, `SU...`. */
  readonly nkey?: string | undefined;
  /** The contents of a .creds file. */
  readonly creds?: string | undefined;
}

const SERVER =
  /^(?:(?<scheme>nats|tls):\/\/)?(?<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(?<port>\d{1,5}))?$/;
const SERVERS_EXPECTED =
  'expected servers as HOST, HOST:PORT, nats://HOST:PORT or tls://HOST:PORT, with commas between them, and no user or password in them';

interface ServerParts {
  readonly scheme?: 'nats' | 'tls';
  readonly host: string;
  readonly port?: string;
}

/** A server list as an operator types it: `nats://10.0.0.1:4222,tls://store.example`. Returns a sentence for a bad one. */
export function parseServers(text: string): { servers: string[]; mustEncrypt: boolean } | string {
  const servers: string[] = [];
  let mustEncrypt = false;
  for (const item of text.split(',')) {
    const match = SERVER.exec(item.trim());
    if (match === null) return SERVERS_EXPECTED;
    const { scheme, host, port = String(DEFAULT_PORT) } = match.groups as unknown as ServerParts;
    const isHost = !host.startsWith('[') || parseIp(host.slice(1, -1)) !== undefined;
    if (!isHost || Number(port) < 1 || Number(port) > 65535) return SERVERS_EXPECTED;
    mustEncrypt ||= scheme === 'tls';
    servers.push(`${host}:${port}`);
  }
  if (servers.length > MAX_SERVERS) return `expected at most ${MAX_SERVERS} servers`;
  return { servers, mustEncrypt };
}

/** One connection, and what it is asked by. */
export interface Client {
  readonly connection: NatsConnection;
  readonly js: JetStreamClient;
  readonly manager: JetStreamManager;
  readonly packages: Packages;
}

/**
 * Rejects with a NatsError. Replies come to subjects below `_INBOX.<bucket>`, so that the permissions of a user can name them:
 * a user of one bucket sees nothing of another.
 */
export async function connect(
  access: Access,
  bucket: string,
  name: string,
  requestMs = REQUEST_MS,
): Promise<Client> {
  const loaded = await loadPackages();
  const { transport, jetstream } = loaded;
  const options = await optionsOf(access, loaded);
  let connection;
  try {
    connection = await transport.connect({
      ...options,
      name,
      inboxPrefix: inboxOf(bucket),
      reconnect: false,
      timeout: CONNECT_MS,
      pingInterval: PING_MS,
    });
  } catch (error) {
    throw connectError(error, access, loaded);
  }
  const js = jetstream.jetstream(connection, { timeout: requestMs });
  const manager = await jetstream.jetstreamManager(connection, {
    checkAPI: false,
    timeout: BUCKET_REQUEST_MS,
  });
  return { connection, js, manager, packages: loaded };
}

/** The same connection, with time for requests that make the server look at so many messages. */
export async function withTimeFor(client: Client, messages: number): Promise<Client> {
  const timeout = BUCKET_REQUEST_MS + messages * MESSAGE_MS;
  const { jetstreamManager } = client.packages.jetstream;
  return { ...client, manager: await jetstreamManager(client.connection, { checkAPI: false, timeout }) };
}

export function inboxOf(bucket: string): string {
  return `_INBOX.${bucket}`;
}

/** Opens a bucket for reading and writing of single keys. */
export async function openBucket(
  { js, packages: { kv } }: Client,
  bucket: string,
  isDirect: boolean,
): Promise<KV> {
  return new kv.Kvm(js).open(bucket, { allow_direct: isDirect });
}

async function optionsOf(access: Access, { transport }: Packages): Promise<ConnectionOptions> {
  const { ca, cert, key, user, password, nkey, creds } = access;
  const files = await Promise.all([ca, cert, key].map((file) => readPem(file)));
  const names = ['ca', 'cert', 'key'] as const;
  const tls = Object.fromEntries(
    names.flatMap((each, index) => (files[index] === undefined ? [] : [[each, files[index]]])),
  );
  const isEncrypted = access.mustEncrypt || Object.keys(tls).length > 0;
  return {
    servers: [...access.servers],
    ...(isEncrypted && { tls: { ...tls, ...identityOf(access) } }),
    ...(user !== undefined && { user, pass: password ?? '' }),
    ...(nkey !== undefined && {
      authenticator: fromSecret('nkey', () => transport.nkeyAuthenticator(bytes(nkey))),
    }),
    ...(creds !== undefined && {
      authenticator: fromSecret('creds', () => transport.credsAuthenticator(bytes(creds))),
    }),
  };
}

/**
 * The package asks for the name localhost where a server is named by its address. A certificate for the address of one of the
 * servers is right then.
 */
function identityOf({ servers }: Access): object {
  const addresses = servers
    .map((server) => server.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1'))
    .filter((host) => parseIp(host) !== undefined);
  const checkServerIdentity = (host: string, certificate: PeerCertificate): Error | undefined => {
    const wrong = tlsIdentity(host, certificate);
    const isAddress = addresses.some((each) => tlsIdentity(each, certificate) === undefined);
    return host === 'localhost' && isAddress ? undefined : wrong;
  };
  return { checkServerIdentity };
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text.trim());

/** The package looks at a secret only when it connects, and its error says little: the property must be named. */
function fromSecret(name: string, make: () => Authenticator): Authenticator {
  try {
    const authenticator = make();
    authenticator('a nonce');
    return authenticator;
  } catch (error) {
    throw new NatsError(
      `the secret of nats/${name} is not of the form that NATS has for it`,
      'EINVAL',
      error,
    );
  }
}

async function readPem(file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined;
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new NatsError(
      `${file} cannot be read: ${(error as NodeJS.ErrnoException).code ?? 'unknown error'}`,
      'EACCES',
      error,
    );
  }
}

const serverList = ({ servers }: Access): string => servers.join(', ');

/** Codes of node:tls about certificates. */
const CERTIFICATE = /CERT|SIGNED|ISSUER|ALTNAME|CRL|VERIFY|SSL|TLS/;

/** The words of the package about a first line that is none of NATS. */
const NO_NATS = /^unexpected response from server|^parse error/;

function connectError(error: unknown, access: Access, { transport: { errors } }: Packages): NatsError {
  const { code, message } = error as { code?: unknown; message?: unknown };
  const codes = [code, (error as { cause?: { code?: unknown } }).cause?.code].map(String);
  const text = String(message);
  const at = `NATS at ${serverList(access)}`;
  if (error instanceof errors.AuthorizationError || error instanceof errors.UserAuthenticationExpiredError)
    return new NatsError(
      `${at} refuses this user: check nats/user with nats/password, nats/nkey or nats/creds`,
      'EACCES',
      error,
    );
  const wrong = codes.find((each) => CERTIFICATE.test(each));
  if (wrong !== undefined)
    return new NatsError(
      `TLS with ${at} fails (${wrong}): check nats/ca, nats/cert, nats/key and the server's name`,
      'EACCES',
      error,
    );
  if (/does not support 'tls'/.test(text))
    return new NatsError(
      `${at} does not offer TLS, which tls:// or nats/ca, nats/cert, nats/key ask for`,
      'EACCES',
      error,
    );
  if (error instanceof SyntaxError || NO_NATS.test(text))
    return new NatsError(`${at} does not speak the protocol of NATS`, 'EAGAIN', error);
  return new NatsError(`${at} does not answer`, 'EAGAIN', error);
}

/** A sentence about a failed request. It quotes no reply. */
export function requestError(error: unknown, what: string, { transport, jetstream }: Packages): NatsError {
  if (error instanceof NatsError) return error;
  const { errors } = transport;
  const causes = [error, (error as { cause?: unknown }).cause];
  if (causes.some((each) => each instanceof errors.PermissionViolationError))
    return new NatsError(
      `the user of this host may not ${what}: plugins/nats/README.md has the permissions`,
      'EACCES',
      error,
    );
  if (error instanceof jetstream.JetStreamApiError) {
    if (error.code === jetstream.JetStreamApiCodes.StreamNotFound)
      return new NatsError(
        'the bucket does not exist: dladm import-mapping -p create=on makes it',
        'ENOENT',
        error,
      );
    return new NatsError(`JetStream does not ${what} (error ${error.code})`, 'EAGAIN', error);
  }
  if (causes.some((each) => each instanceof errors.NoRespondersError))
    return new NatsError(
      `JetStream does not answer: it is not enabled, or has no leader now`,
      'EAGAIN',
      error,
    );
  // The package reads the answer, and finds no JSON, or members of other types.
  if (causes.some((each) => each instanceof SyntaxError || each instanceof TypeError))
    return new NatsError('NATS has given an answer that JetStream does not have', 'EAGAIN', error);
  return new NatsError('NATS has not answered in time', 'EAGAIN', error);
}
