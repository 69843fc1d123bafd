/**
 * Runs varpd in the background. The command starts a copy of itself in a session of its own, and the copy
 * reports over a channel that it is ready, or why it is not. Node cannot fork, so the copy starts from the
 * beginning; a variable of its environment tells it that it is the copy.
 */
import { spawn } from 'node:child_process';
import { type ErrorCode, OverlayError } from '../../model/errors.js';
import { howEnded } from '../../model/sentences.js';
import { complain } from '../complaint.js';
import { environmentWith, leaveVariable, takeVariable } from '../environment.js';

/** Mark of a copy that has restarted itself: no command waits for it. */
const UNATTENDED = 'unattended';
/** The variable is taken out of the environment, so that a child of the daemon does not count as a copy. */
const mark = takeVariable('detached');

/** This process is the copy. */
export const isDetached = mark === UNATTENDED || (mark !== undefined && process.send !== undefined);

/**
 * Report of the copy. `lines`: the reasons why it did not start; none = ready. `code`: that of the first
 * reason. `warnings`: remarks for the operator, although it is ready.
 */
interface StartReport {
  readonly lines: readonly string[];
  readonly code: ErrorCode;
  readonly warnings: readonly string[];
}

/**
 * Called in the copy: reports to the command that waits, once, and closes the channel. No lines = ready. Does
 * nothing in another process.
 */
export function reportStart(
  lines: readonly string[],
  { code = 'INTERNAL', warnings = [] }: Partial<Omit<StartReport, 'lines'>> = {},
): void {
  if (!isDetached || !process.connected) return;
  process.send?.({ lines, code, warnings } satisfies StartReport);
  process.disconnect();
}

/** Called before this process restarts itself: if it is a copy, the next process is one too. */
export function stayDetached(): void {
  if (isDetached) leaveVariable('detached', UNATTENDED);
}

/** Resolves when the daemon is ready. Rejects with an OverlayError that has the daemon's words. */
export function startDetached(): Promise<void> {
  const [node, ...args] = [process.execPath, ...process.execArgv, ...process.argv.slice(1)] as [
    string,
    ...string[],
  ];
  const child = spawn(node, args, {
    detached: true,
    env: environmentWith('detached', '1'),
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  // A signal ends the wait, and the daemon with it.
  const giveUp = (): void => {
    child.kill('SIGTERM');
    process.exit(1);
  };
  process.once('SIGINT', giveUp);
  process.once('SIGTERM', giveUp);
  return new Promise((resolve, reject) => {
    const refuse = (lines: readonly string[], code: ErrorCode = 'INTERNAL'): void => {
      reject(new OverlayError(code, lines.join('; '), lines));
    };
    child.on('message', ({ lines, code, warnings }: StartReport) => {
      for (const warning of warnings) complain(warning);
      if (lines.length > 0) {
        refuse(lines, code);
        return;
      }
      child.unref();
      if (child.connected) child.disconnect();
      resolve();
    });
    child.on('error', (error) => {
      refuse([`cannot start the daemon: ${error.message}`]);
    });
    child.on('exit', (code, signal) => {
      refuse([`the daemon ended before it was ready (${howEnded(code, signal)})`]);
    });
  });
}
