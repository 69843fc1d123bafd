/**
 * A process that is a restart of varpd, and cannot start: what was tried before has changed since, or cannot be tried. It
 * has the links of the process that it was. So it does not end: it says why, and tries again with what it was given, while
 * the stand-in moves frames.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Handover } from '../../datapath/contract.js';
import { errorText } from '../../model/errors.js';
import { complain, oneLine } from '../complaint.js';
import { leaveVariable, takeVariable } from '../environment.js';
import { keepInheritedOpen, leaveToMyself } from '../handover/descriptors.js';
import { passStandInOn } from '../handover/stand-in.js';
import { LogFile } from '../log-file.js';
import { stayDetached } from './detach.js';
import { beginAgain } from './privileges.js';

/** Of the process before; empty for standard error. */
const logFile = takeVariable('restarted');

export const isRestart = logFile !== undefined;

/** Between two attempts. */
const AGAIN_MS = 2000;

/** What a start that failed had received already is for the next attempt. */
export const passOn = ({ descriptors }: Handover): void => {
  leaveToMyself(descriptors);
};

/** `lines`: why it cannot start. Returns only when there can be no next attempt. A signal ends it. */
export async function restartAgain(lines: readonly string[]): Promise<void> {
  try {
    const text = lines.map(
      (line) => `${new Date().toISOString()} error not restarted yet: ${oneLine(line)}\n`,
    );
    if (logFile !== undefined && logFile !== '') new LogFile(logFile, () => '').write(text.join(''));
  } catch {
    // It may be the log that is wrong.
  }
  await delay(AGAIN_MS);
  try {
    keepInheritedOpen();
    passStandInOn();
    stayDetached();
    leaveVariable('restarted', logFile);
    beginAgain(process.argv.slice(1));
  } catch (error) {
    complain(`cannot start the next attempt: ${errorText(error)}`);
  }
}
