/**
 * The process that tries everything that a varpd needs (rehearsal.ts). It reports its findings, a JSON object
 * a line. It changes nothing, except that it makes a log file, as a start would.
 */
import { existsSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { asOverlayError } from '../model/errors.js';
import { notASocket } from '../model/sentences.js';
import { parseEndpoint } from '../wire/ip.js';
import { loadConfig, placeOf } from './config-file.js';
import type { Config, Flags } from './config.js';
import { endProcess } from './exit.js';
import type { Finding } from './handover/rehearsal.js';
import { LogFile } from './log-file.js';
import { authorOf } from './plugins/plugin-context.js';
import { forbidPluginExit } from './plugins/plugin-exit.js';
import { entryFiles, importPlugin, leftOut } from './plugins/plugin-loader.js';
import { account, groupId } from './process/accounts.js';
import { userRemark } from './process/user.js';
import { checkSocketDirectory } from './socket-file.js';
import { StateDirectory } from './state/state-directory.js';
import { systemErrorText } from './system-error.js';

const { flags, running } = JSON.parse(process.argv[2]) as { flags: Flags; running?: Config };

/** Written at once, so that the finding is not lost when this process dies. */
function say(finding: Finding): void {
  writeSync(1, `${JSON.stringify(finding)}\n`);
}

async function attempt<T>(
  step: string,
  work: () => T | Promise<T>,
  kind: 'reason' | 'warning' = 'reason',
): Promise<T | undefined> {
  say({ kind: 'step', text: step });
  try {
    return await work();
  } catch (error) {
    const { details } = asOverlayError(error);
    for (const text of details.length > 0 ? details : [systemErrorText(error)]) say({ kind, text });
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
  // A start may still be made by root.
  if (running === undefined) return;
  const own = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (!own.includes(gid))
    throw new Error(
      `${place}group: varpd is no member of it and cannot give it the control socket: only a stop and a start can change it`,
    );
}

async function checkStateDir({ stateDir }: Config): Promise<void> {
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

function checkLog({ log: { file } }: Config): void {
  new LogFile(file, () => '');
}

/** Checks whether a socket can be made there, by making one beside it. */
async function checkSocketPlace(key: string, file: string): Promise<void> {
  await checkSocketDirectory(file).catch((error: unknown) => {
    throw new Error(`${key}: ${systemErrorText(error)}`, { cause: error });
  });
  const directory = path.dirname(file);
  // A start makes the directory itself.
  let place = directory;
  while (!existsSync(place) && path.dirname(place) !== place) place = path.dirname(place);
  const found = statSync(file, { throwIfNoEntry: false });
  if (found !== undefined && !found.isSocket()) throw new Error(`${key}: ${notASocket(file)}`);
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

async function checkMetrics({ metrics }: Config): Promise<void> {
  if (metrics === null || metrics === running?.metrics) return;
  const endpoint = parseEndpoint(metrics);
  if (endpoint === undefined) {
    await checkSocketPlace('metrics', metrics);
    return;
  }
  try {
    await listen({ host: endpoint.ip, port: endpoint.port });
  } catch (error) {
    throw new Error(`metrics: cannot listen on ${metrics}: ${systemErrorText(error)}`, { cause: error });
  }
}

/** A plugin that cannot be imported is left out by the next varpd; its overlays go on without it. */
async function checkPlugins({ pluginPath }: Config): Promise<void> {
  // Errors and calls of a plugin are handled as in varpd.
  forbidPluginExit();
  for (const event of ['uncaughtException', 'unhandledRejection'])
    process.on(event, (error: unknown) => authorOf(error)?.complain(error));
  for (const directory of pluginPath) {
    const files = await attempt(`it reads ${directory}`, () => entryFiles(directory));
    // A first start does not fail for a plugin.
    for (const file of running === undefined ? [] : (files ?? [])) {
      say({ kind: 'step', text: `it imports ${file}` });
      try {
        await importPlugin(file, {
          error: (_kind, text) => {
            say({ kind: 'warning', text });
          },
        });
      } catch (error) {
        say({ kind: 'warning', text: leftOut(file, systemErrorText(error)) });
      }
    }
  }
}

const config = await attempt('it reads the configuration', () => loadConfig(flags));
if (config !== undefined) {
  await attempt('it looks up the user', () => {
    checkUser(config);
  });
  await attempt('it looks up the group', () => {
    checkGroup(config);
  });
  await attempt('it looks at the state directory', () => checkStateDir(config));
  await attempt('it opens the log', () => {
    checkLog(config);
  });
  await attempt('it tries the control socket', () => checkSocketPlace('socket', config.socket));
  // Only a first start needs it: no link is given up for want of metrics.
  const metricsKind = running === undefined ? 'reason' : 'warning';
  await attempt('it tries the address of metrics', () => checkMetrics(config), metricsKind);
  await checkPlugins(config);
}
say({ kind: 'done' });
endProcess(0);
