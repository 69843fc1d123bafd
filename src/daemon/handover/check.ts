/**
 * `varpd --check`: tries all that a start needs, and changes nothing. A rehearsal does the work
 * (rehearsal.ts), with the rights that the daemon would have.
 *
 * A start as root prepares places for its user. A check does not: it finds out what the start would prepare,
 * and takes that for good.
 */
import { existsSync } from 'node:fs';
import { CAP_NET_ADMIN, dropPrivileges, limitSystemCalls } from '../../dgram-extra/index.js';
import { errorText } from '../../model/errors.js';
import { EXIT } from '../../model/exit-statuses.js';
import { counted } from '../../model/sentences.js';
import { oneLine } from '../complaint.js';
import { fileOf, loadConfig, placeOf } from '../config-file.js';
import type { Config, Flags } from '../config.js';
import { account } from '../process/accounts.js';
import type { Preparation } from '../process/root.js';
import { checkStateFiles } from '../state/state-check.js';
import { StateDirectory } from '../state/state-directory.js';
import { type CheckOrder, type Rehearsal, rehearse } from './rehearsal.js';

const NOTHING_PREPARED: Preparation = { stateDir: false, sockets: [], log: false };

/** Prints what it finds, a line each, and returns the exit status. Never rejects. */
export async function check(flags: Flags): Promise<number> {
  const { reasons, warnings } = await findings(flags);
  const lines = [...reasons, ...warnings.map((text) => `warning: ${text}`)];
  if (reasons.length === 0) lines.push(`varpd would start${nameOf(flags)}`);
  process.stdout.write(lines.map((text) => `${oneLine(text)}\n`).join(''));
  if (reasons.length === 0) return EXIT.DONE;
  process.stderr.write(`varpd: ${counted(reasons.length, 'error')}\n`);
  return EXIT.NO;
}

function nameOf(flags: Flags): string {
  try {
    return ` with ${fileOf(loadConfig(flags)) ?? 'the defaults: there is no configuration file'}`;
  } catch {
    // After this process has become the user of varpd.
    return flags.config === undefined ? '' : ` with ${flags.config}`;
  }
}

async function findings(flags: Flags): Promise<Rehearsal> {
  const found: Rehearsal = { reasons: [], warnings: [] };
  const order = await becomeUser(flags, found);
  const rehearsed = await rehearse({ flags, check: order });
  const reasons = [...new Set([...found.reasons, ...rehearsed.reasons])];
  return { reasons, warnings: [...found.warnings, ...rehearsed.warnings] };
}

/** As root becomes the user that a start would become. The rehearsal reports errors of the user. */
async function becomeUser(flags: Flags, found: Rehearsal): Promise<CheckOrder> {
  const notTried: CheckOrder = { isUser: false, prepared: NOTHING_PREPARED };
  let config: Config;
  try {
    config = loadConfig(flags);
  } catch {
    return notTried;
  }
  const own = process.geteuid?.() ?? 0;
  if (own !== 0) {
    const other = otherUser(config, own);
    if (other === undefined) return { ...notTried, isUser: true };
    found.warnings.push(
      `${placeOf(config, 'user')}user: this is user ${own}, so nothing was opened that is for '${other}': check as root`,
    );
    return notTried;
  }
  const { namedSuccessor, preparation } = await import('../process/root.js');
  try {
    const successor = namedSuccessor(config);
    const prepared = successor.uid === 0 ? NOTHING_PREPARED : preparation(config, successor.uid);
    if (prepared.stateDir) await checkHandedOver(config.stateDir, found);
    dropPrivileges([CAP_NET_ADMIN], successor);
    limitSystemCalls();
    return { isUser: true, prepared };
  } catch (error) {
    found.reasons.push(errorText(error));
    return notTried;
  }
}

/** The user that the configuration names, unless this process has it. */
function otherUser(config: Config, own: number): string | undefined {
  const { user } = config;
  const place = placeOf(config, 'user');
  if (user === null || place === '') return undefined;
  try {
    return account(user, place).uid === own ? undefined : user;
  } catch {
    return user;
  }
}

/** The files of a varpd that ran as root are root's until the next start. */
async function checkHandedOver(stateDir: string, found: Rehearsal): Promise<void> {
  if (!existsSync(stateDir)) return;
  const directory = await StateDirectory.open(stateDir);
  try {
    const { reasons, warnings } = await checkStateFiles(directory);
    found.reasons.push(...reasons);
    found.warnings.push(...warnings);
  } finally {
    await directory.close();
  }
}
