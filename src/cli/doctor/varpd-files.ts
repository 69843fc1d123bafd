/**
 * What varpd keeps on the disk, read by its own code, so that doctor and varpd agree: the configuration, the
 * account of its user, its state files. Nothing is written here, and varpd need not run.
 *
 * This is the one file of the command line that imports the daemon.
 */
import path from 'node:path';
import type { Config } from '../../daemon/config.js';
import { loadConfig } from '../../daemon/config-file.js';
import { account } from '../../daemon/process/accounts.js';
import { parseState, type StoredOverlay } from '../../daemon/state/state-schema.js';
import { OverlayError } from '../../model/errors.js';
import { trustedPlace, UntrustedPlace } from '../../plugin/trusted-place.js';
import { namesIn, type ProcessFacts, statOf, textOf } from './system.js';

export type { StoredOverlay } from '../../daemon/state/state-schema.js';

const DEFAULT_CONFIG_FILE = '/etc/varpd/varpd.yaml';

export interface Configuration {
  readonly file: string;
  readonly isThere: boolean;
  /** This user may not read it. */
  readonly isClosed: boolean;
  /** Undefined when the file is not valid. */
  readonly config: Config | undefined;
  /** A line for each error. */
  readonly errors: readonly string[];
}

/** `given`: the file that the operator named. Otherwise it is the one that the running varpd was started with. */
export function readConfiguration(given: string | undefined, varpd: ProcessFacts | undefined): Configuration {
  const ofVarpd = varpd && optionOf('--config', varpd.args);
  // A relative path of varpd is relative to a directory that dladm does not know.
  const file = given ?? (ofVarpd !== undefined && path.isAbsolute(ofVarpd) ? ofVarpd : undefined);
  const name = file ?? DEFAULT_CONFIG_FILE;
  const about = { file: name, isThere: statOf(name) !== undefined, isClosed: false };
  try {
    const config = loadConfig({ pluginPath: [], ...(file === undefined ? {} : { config: file }) });
    return { ...about, config, errors: [] };
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error;
    const isClosed = (error.cause as NodeJS.ErrnoException | undefined)?.code === 'EACCES';
    const errors = error.details.length > 0 ? error.details : [error.message];
    return { ...about, isClosed, config: undefined, errors };
  }
}

/** The value of `--name VALUE` or `--name=VALUE`. */
function optionOf(name: string, args: readonly string[]): string | undefined {
  const at = args.findIndex((arg) => arg === name || arg.startsWith(`${name}=`));
  if (at === -1) return undefined;
  return args[at] === name ? args.at(at + 1) : args[at].slice(name.length + 1);
}

export type UserFacts =
  { readonly uid: number; readonly gids: readonly number[] } | { readonly problem: string };

/** The user that varpd becomes; `problem` when there is none of that name. */
export function accountOf({ user }: Config): UserFacts | undefined {
  if (user === null) return undefined;
  try {
    const { uid, gid } = account(user);
    return { uid, gids: [gid] };
  } catch (error) {
    return { problem: (error as Error).message };
  }
}

export interface StateDirectoryFacts {
  readonly directory: string;
  /** Undefined: it is not there. */
  readonly found: { readonly isDirectory: boolean; readonly uid: number; readonly mode: number } | undefined;
  /** Why other users may replace the directory. */
  readonly untrusted: string | undefined;
  /** Undefined: dladm may not look into it. */
  readonly names: readonly string[] | undefined;
  /** State files that can be read. */
  readonly overlays: readonly StoredOverlay[];
  /** Half-written files, each with its age. */
  readonly temporary: readonly { readonly name: string; readonly ageMs: number }[];
}

/** `uid`: of varpd. */
export async function readStateDirectory(
  directory: string,
  uid: number | undefined,
): Promise<StateDirectoryFacts> {
  const stat = statOf(directory);
  const names = stat?.isDirectory() === true ? namesIn(directory) : undefined;
  return {
    directory,
    found: stat && { isDirectory: stat.isDirectory(), uid: stat.uid, mode: stat.mode & 0o7777 },
    untrusted: await whyUntrusted(path.dirname(directory), uid),
    names,
    overlays: (names ?? []).flatMap((name) => readState(path.join(directory, name)) ?? []),
    temporary: (names ?? []).filter(isTemporary).flatMap((name) => {
      const file = statOf(path.join(directory, name));
      return file === undefined ? [] : [{ name, ageMs: Date.now() - file.mtimeMs }];
    }),
  };
}

/** As `daemon/state/state-file.ts` names a file while it is written. */
const isTemporary = (name: string): boolean => name.startsWith('.') && name.endsWith('.tmp');

function readState(file: string): StoredOverlay | undefined {
  if (!file.endsWith('.json')) return undefined;
  const text = textOf(file);
  try {
    return text === undefined ? undefined : parseState(text);
  } catch {
    // varpd sets such a file aside and says so.
    return undefined;
  }
}

async function whyUntrusted(directory: string, uid: number | undefined): Promise<string | undefined> {
  try {
    await trustedPlace(directory, {
      sticky: true,
      itself: true,
      ...(uid === undefined ? {} : { users: [uid] }),
    });
    return undefined;
  } catch (error) {
    // A directory that is not there, or not open to this user, is another line's affair.
    return error instanceof UntrustedPlace ? error.message : undefined;
  }
}
