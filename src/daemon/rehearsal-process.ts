/**
 * The process that tries everything that a varpd needs (rehearsal.ts). It reports its findings, a JSON object
 * a line. It changes nothing, except that it makes a log file, as a start would; a check makes none.
 */
import {
  accessSync,
  constants,
  existsSync,
  rmSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { nameThread } from '../dgram-extra/index.js';
import { asOverlayError, OverlayError } from '../model/errors.js';
import { notASocket } from '../model/sentences.js';
import { ownUserText, trustedPlace, userText } from '../plugin/trusted-place.js';
import { parseEndpoint } from '../wire/ip.js';
import { loadConfig, placeOf } from './config-file.js';
import type { Config } from './config.js';
import { endProcess } from './exit.js';
import type { Finding, Order } from './handover/rehearsal.js';
import { checkLogFile, LogFile } from './log-file.js';
import type { Log } from './log.js';
import { BUILT_IN_NAMES } from './plugins/plugin-catalog.js';
import { entryFiles, importPlugin, leftOut } from './plugins/plugin-loader.js';
import { Spawner, type SpawnerPlace } from './plugins/spawner.js';
import { account, groupId } from './process/accounts.js';
import { SPAWNER_SOCKET, startSpawner } from './process/spawner-start.js';
import { userRemark } from './process/user.js';
import { checkSocketDirectory, isServed } from './socket-file.js';
import { checkStateFiles } from './state/state-check.js';
import { StateDirectory } from './state/state-directory.js';
import type { StoredOverlay } from './state/state-schema.js';
import { errnoName, systemErrorText } from './system-error.js';

nameThread('varpd-trial');
const { flags, running, check, spawner } = JSON.parse(process.argv[2]) as Order;
/** The overlays that a check has found. */
const stored: StoredOverlay[] = [];
/** The lines that a plugin prints while it is loaded are no findings. */
const log: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** Written at once, so that the finding is not lost when this process dies. */
function say(finding: Finding): void {
  writeSync(1, `${JSON.stringify(finding)}\n`);
}

/** `place`: where the configuration names what is tried; a check says it with each reason. */
async function attempt<T>(
  step: string,
  work: () => T | Promise<T>,
  { kind = 'reason', place = '' }: { kind?: 'reason' | 'warning'; place?: string } = {},
): Promise<T | undefined> {
  say({ kind: 'step', text: step });
  try {
    return await work();
  } catch (error) {
    const { details } = asOverlayError(error);
    for (const text of details.length > 0 ? details : [systemErrorText(error)])
      say({ kind, text: check === undefined || text.startsWith(place) ? text : `${place}${text}` });
    return undefined;
  }
}

function checkUser(config: Config): void {
  const { user } = config;
  const place = placeOf(config, 'user');
  if (running === undefined) {
    if (user !== null && (place !== '' || process.geteuid?.() === 0)) account(user, place);
    return;
  }
  // The configuration of a varpd of an older version, which stayed root, has no user.
  if (running.user !== null && user !== running.user) {
    if (user !== null) account(user, place);
    throw new Error(
      `${place}user: it is another one than when varpd was started: only a stop and a start can change it`,
    );
  }
  const remark = userRemark(config);
  if (remark !== undefined) say({ kind: 'warning', text: remark });
}

function checkGroup(config: Config): void {
  const { group } = config;
  if (group === null) return;
  const place = placeOf(config, 'group');
  const gid = groupId(group, place);
  // After a failed start it may have been root's.
  if (running === undefined && check === undefined) return;
  const own = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (!own.includes(gid))
    throw new Error(
      `${place}group: varpd is no member of it and cannot give it the control socket: only a stop and a start can change it`,
    );
}

async function checkStateDir({ stateDir }: Config): Promise<void> {
  if (check !== undefined) {
    if (!check.prepared.stateDir) await checkStored(stateDir);
    return;
  }
  if (running === undefined) return;
  if (stateDir === running.stateDir) {
    // Other users may have got the rights to change it since.
    await (await StateDirectory.open(stateDir)).close();
    return;
  }
  throw new Error(
    `stateDir: it was ${running.stateDir} and is ${stateDir} now, where the overlays are not: stop varpd, move the directory, start varpd`,
  );
}

/** The state files, or whether the directory can be made. */
async function checkStored(stateDir: string): Promise<void> {
  if (!existsSync(stateDir)) {
    await trustedPlace(stateDir, { sticky: true });
    checkWritable('stateDir', existingPlace(path.dirname(stateDir)));
    return;
  }
  const directory = await StateDirectory.open(stateDir);
  try {
    const { reasons, warnings, overlays } = await checkStateFiles(directory);
    for (const text of reasons) say({ kind: 'reason', text });
    for (const text of warnings) say({ kind: 'warning', text });
    stored.push(...overlays);
  } finally {
    await directory.close();
  }
}

function checkWritable(key: string, directory: string): void {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    const text = `${key}: user ${ownUserText()} cannot write to ${directory}: ${systemErrorText(error)}`;
    throw new Error(text, { cause: error });
  }
}

/** The nearest directory that exists: a start makes those below it. */
function existingPlace(directory: string): string {
  let place = directory;
  while (!existsSync(place) && path.dirname(place) !== place) place = path.dirname(place);
  return place;
}

function checkLog({ log: { file } }: Config): void {
  if (check === undefined) new LogFile(file, () => '');
  else if (file !== null) checkLogFile(file, check.prepared.log);
}

/** Undefined when it is not there. */
function lookAt(key: string, file: string): Stats | undefined {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch (error) {
    throw cannotLookAt(key, file, error);
  }
}

function cannotLookAt(key: string, file: string, error: unknown): Error {
  const text = `${key}: user ${ownUserText()} cannot look at ${file}: ${systemErrorText(error)}`;
  return new Error(text, { cause: error });
}

/** Checks whether a socket can be made there, by making one beside it. */
async function checkSocketPlace(key: string, file: string): Promise<void> {
  await checkSocketDirectory(file).catch((error: unknown) => {
    throw OverlayError.is(error)
      ? new Error(`${key}: ${error.message}`, { cause: error })
      : cannotLookAt(key, file, error);
  });
  const directory = path.dirname(file);
  const place = existingPlace(directory);
  const found = lookAt(key, file);
  if (found !== undefined && !found.isSocket()) throw new Error(`${key}: ${notASocket(file)}`);
  if (check !== undefined) {
    const own = process.geteuid?.() ?? 0;
    if (check.prepared.sockets.includes(directory)) return;
    if (found !== undefined && own !== 0 && found.uid !== own)
      throw new Error(`${key}: ${file} belongs to user ${userText(found.uid)}, expected ${ownUserText()}`);
    checkWritable(key, place);
    return;
  }
  const trial = path.join(place, `.varpd-${process.pid}`);
  try {
    await listen(trial);
    if (existsSync(trial)) unlinkSync(trial);
  } catch (error) {
    throw new Error(`${key}: cannot make a socket in ${directory}: ${systemErrorText(error)}`, {
      cause: error,
    });
  }
}

function listen(at: string | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(typeof at === 'string' ? { path: at } : at, () =>
      server.close(() => {
        resolve();
      }),
    );
  });
}

async function checkAddress(key: 'metrics' | 'web', config: Config): Promise<void> {
  const { [key]: address, socket } = config;
  if (address === null || address === running?.[key]) return;
  const endpoint = parseEndpoint(address);
  if (endpoint === undefined) {
    await checkSocketPlace(key, address);
    return;
  }
  try {
    await listen({ host: endpoint.ip, port: endpoint.port });
  } catch (error) {
    // A varpd that runs has its own address.
    if (check !== undefined && errnoName(error) === 'EADDRINUSE' && (await isServed(socket))) return;
    throw new Error(`${key}: cannot listen on ${address}: ${systemErrorText(error)}`, { cause: error });
  }
}

/** A spawner for this process alone, with the same user. Its directory goes with this process. */
async function spawnerOfTrial(): Promise<SpawnerPlace> {
  const directory = await mkdtemp(path.join(tmpdir(), 'varpd-trial-'));
  process.on('exit', () => {
    rmSync(directory, { recursive: true, force: true });
  });
  const socket = path.join(directory, SPAWNER_SOCKET);
  return { socket, begin: () => startSpawner({ socket, stateRoot: path.join(directory, 'plugins') }) };
}

/**
 * A plugin that cannot be imported is left out by the next varpd; its overlays go on without it. That is an
 * error for a check.
 */
async function checkPlugins(config: Config): Promise<void> {
  const { pluginPath } = config;
  const place = placeOf(config, 'pluginPath');
  const kind = check === undefined ? 'warning' : 'reason';
  const names = new Set<string>();
  const at = check === undefined ? '' : place;
  const own = spawner === undefined ? await spawnerOfTrial() : { socket: spawner };
  const services = { log, limits: () => config.limits, spawner: new Spawner(own), isTrial: true };
  for (const directory of pluginPath) {
    const files = await attempt(`it reads ${directory}`, () => entryFiles(directory), { place });
    // A first start does not fail for a plugin.
    for (const file of running === undefined && check === undefined ? [] : (files ?? [])) {
      say({ kind: 'step', text: `it imports ${file}` });
      try {
        names.add((await importPlugin(file, services)).name);
      } catch (thrown) {
        say({ kind, text: `${at}${leftOut(file, systemErrorText(thrown))}` });
      }
    }
  }
  services.spawner.close();
  if (check === undefined) return;
  for (const name of BUILT_IN_NAMES) names.add(name);
  for (const { name, search } of stored)
    if (!names.has(search))
      say({
        kind: 'reason',
        text: `${path.join(config.stateDir, name)}.json: its plugin '${search}' is not there`,
      });
}

async function rehearse(): Promise<void> {
  const config = await attempt('it reads the configuration', () => loadConfig(flags));
  if (config !== undefined) {
    const at = (key: keyof Config): { place: string } => ({ place: placeOf(config, key) });
    await attempt('it looks up the user', () => {
      checkUser(config);
    });
    await attempt('it looks up the group', () => {
      checkGroup(config);
    });
    if (check?.isUser !== false) {
      await attempt('it looks at the state directory', () => checkStateDir(config), at('stateDir'));
      await attempt(
        'it opens the log',
        () => {
          checkLog(config);
        },
        at('log'),
      );
      await attempt(
        'it tries the control socket',
        () => checkSocketPlace('socket', config.socket),
        at('socket'),
      );
      // Only a first start needs them: no link is given up for want of metrics, or of the live page.
      const kind = running === undefined ? 'reason' : 'warning';
      for (const key of ['metrics', 'web'] as const)
        await attempt(`it tries the address of ${key}`, () => checkAddress(key, config), {
          kind,
          ...at(key),
        });
      await checkPlugins(config);
    }
  }
  say({ kind: 'done' });
  endProcess(0);
}

rehearse().catch((error: unknown) => {
  console.error(error);
  endProcess(1);
});
