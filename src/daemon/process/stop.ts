/**
 * `varpd stop`: ends the varpd that answers on the configured socket, and waits until its process is gone.
 *
 * varpd is asked first, so that whoever may change things may end it, and its log has who did. A varpd that
 * does not answer gets SIGTERM, which takes the rights to send one.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { ConnectionError, ControlError, createClient } from '../../control/client.js';
import { peerCredentials } from '../../dgram-extra/index.js';
import { EXIT } from '../../model/exit-statuses.js';
import { complain } from '../complaint.js';
import { loadConfig } from '../config-file.js';
import type { Flags } from '../config.js';
import { descriptorOf } from '../socket-file.js';
import { errnoName, systemErrorText } from '../system-error.js';

/** A varpd that works on something answers within a moment. */
const ANSWER_MS = 3000;
/** varpd ends within 2 s of a signal, and a busy host may take longer. */
const END_MS = 10_000;
const POLL_MS = 20;

/** Resolves to the exit status. Rejects with an OverlayError when the configuration is not valid. */
export async function stop(flags: Flags): Promise<number> {
  const file = flags.socket ?? loadConfig(flags).socket;
  const pid = await holderOf(file);
  if (typeof pid !== 'number') {
    const isThere = errnoName(pid) === 'EACCES' || errnoName(pid) === 'EPERM';
    complain(
      isThere
        ? `cannot reach varpd at ${file}: permission denied`
        : `no varpd runs at ${file}: ${systemErrorText(pid)}`,
    );
    return isThere ? EXIT.DENIED : EXIT.NO_DAEMON;
  }
  const started = startOf(pid);
  try {
    await createClient(file, { silenceMs: ANSWER_MS, timeoutMs: ANSWER_MS })('daemon.stop', {});
  } catch (error) {
    if (error instanceof ControlError && error.reason !== 'UNSUPPORTED') {
      complain(`cannot stop varpd (process ${pid}): ${error.message}`);
      return error.status;
    }
    if (!(error instanceof ControlError || error instanceof ConnectionError)) throw error;
    const refusal = signal(pid);
    if (refusal !== undefined) {
      complain(`varpd (process ${pid}) does not answer, and cannot be signalled: ${refusal.text}`);
      return refusal.status;
    }
  }
  const deadlineMs = performance.now() + END_MS;
  while (started !== undefined ? startOf(pid) === started : typeof (await holderOf(file)) === 'number') {
    if (performance.now() > deadlineMs) {
      complain(`varpd (process ${pid}) has not ended within ${END_MS / 1000} s`);
      return EXIT.FAILED;
    }
    await delay(POLL_MS);
  }
  return EXIT.DONE;
}

/** The process at the other end of the socket, by the kernel; or the error that says why there is none. */
function holderOf(file: string): Promise<unknown> {
  return new Promise((resolve) => {
    const socket: Socket = connect(file, () => {
      try {
        resolve(peerCredentials(descriptorOf(socket)).pid);
      } catch (error) {
        resolve(error);
      }
      socket.destroy();
    });
    socket.on('error', resolve);
  });
}

/**
 * When a process started, in ticks since boot: another one with its number has another time. Undefined when
 * it has ended, or is not visible here.
 */
function startOf(pid: number): string | undefined {
  try {
    // proc(5): the name, in brackets, may have blanks in it. State and start are fields 3 and 22.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

function signal(pid: number): { text: string; status: number } | undefined {
  try {
    process.kill(pid, 'SIGTERM');
    // A process that was stopped (SIGSTOP, Ctrl-Z) cannot end before it goes on.
    process.kill(pid, 'SIGCONT');
    return undefined;
  } catch (error) {
    if (errnoName(error) === 'ESRCH') return undefined;
    if (errnoName(error) !== 'EPERM') return { text: systemErrorText(error), status: EXIT.FAILED };
    return { text: `${systemErrorText(error)}: only root and its user may`, status: EXIT.DENIED };
  }
}
