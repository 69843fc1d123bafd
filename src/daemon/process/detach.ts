/**
 * Going into the background: a copy of this command in a session of its own, and word from it over a channel when it is
 * ready or why it is not. Node cannot fork, so the copy starts from the beginning and is told by its environment.
 */
import { spawn } from 'node:child_process';
import { OverlayError } from '../../model/errors.js';
import { howEnded } from '../../model/sentences.js';
import { complain } from '../complaint.js';
import { environmentWith, leaveVariable, takeVariable } from '../environment.js';

/** Nobody waits for this copy, which is one that began again. */
const UNATTENDED = 'unattended';
/** Whatever the daemon starts is not a copy of it. */
const mark = takeVariable('detached');

/** This process is the copy. */
export const isDetached = mark === UNATTENDED || (mark !== undefined && process.send !== undefined);

/** What the copy says: nothing wrong, or what; and what an operator should know although it is ready. */
interface StartReport {
  readonly lines: readonly string[];
  readonly warnings: readonly string[];
}

/** In the copy: tells the command that waits, once, and lets it go. No lines = ready. Elsewhere: does nothing. */
export function reportStart(lines: readonly string[], warnings: readonly string[] = []): void {
  if (!isDetached || !process.connected) return;
  process.send?.({ lines, warnings } satisfies StartReport);
  process.disconnect();
}

/** Before this process begins again: the next one is a copy too, if this is. */
export function stayDetached(): void {
  if (isDetached) leaveVariable('detached', UNATTENDED);
}

/** Resolves when the daemon is ready. Rejects with an OverlayError that has its words. */
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
  // Who gives up waiting does not want the daemon either.
  const giveUp = (): void => {
    child.kill('SIGTERM');
    process.exit(1);
  };
  process.once('SIGINT', giveUp);
  process.once('SIGTERM', giveUp);
  return new Promise((resolve, reject) => {
    const refuse = (lines: readonly string[]): void => {
      reject(new OverlayError('INTERNAL', lines.join('; '), lines));
    };
    child.on('message', ({ lines, warnings }: StartReport) => {
      for (const warning of warnings) complain(warning);
      if (lines.length > 0) {
        refuse(lines);
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
