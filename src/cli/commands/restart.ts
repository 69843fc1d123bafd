/** restart: does the same as SIGUSR2, and waits until every overlay has been tried. */
import { setTimeout as sleep } from 'node:timers/promises';

import { type Call, createClient } from '../../control/client.js';
import type { DaemonStatus } from '../../control/daemon-messages.js';
import { attempt, CommandError, defineCommand } from '../command.js';
import { readPages } from '../../control/pages.js';
import { refuseOperands } from '../values.js';

/** A plugin may take a minute to start (limits.startDeadlineMs), and varpd itself some seconds on a busy host. */
const DEADLINE_MS = 90_000;
const POLL_MS = 50;

export const command = defineCommand({
  synopsis: 'restart',
  about:
    'Restarts varpd, with its program and its configuration as they are now. Links stay, with their addresses and ' +
    'routes, and frames go on in the meantime. Links made with -t go. varpd first tries ' +
    'whether it would come back, and refuses with every reason otherwise. Exit status 1 when something is not well afterwards.',
  options: [],
  examples: ['restart'],

  async run(args, context) {
    refuseOperands(args);
    const { call, warn, fail } = context;
    const { startedAt, pid } = await attempt('restart failed', call('daemon.status', {}));
    const next = await attempt('restart refused', call('daemon.restart', {}));
    next.warnings.forEach(warn);
    const there = createClient(next.socket);
    const status = await whenSettled(there, startedAt, isVisible(pid) ? pid : undefined);
    const log = next.logFile ?? 'its standard error';
    if (status === 'ended')
      throw new CommandError(
        `restart failed: varpd (process ${pid}) has ended: ${log} may say why; start it again`,
        [],
        'NO_DAEMON',
      );
    if (status === undefined)
      throw new CommandError(
        `restart failed: varpd is not back after ${DEADLINE_MS / 1000} s, and goes on trying: ${log} says why`,
        [],
        'NO_DAEMON',
      );
    for (const line of await troubles(there)) fail(new CommandError(`after the restart: ${line}`));
  },
});

/**
 * Undefined when the time is over. A restart keeps the process id, so when process `pid` is gone, varpd has
 * ended.
 */
async function whenSettled(
  call: Call,
  startedAt: string,
  pid: number | undefined,
): Promise<DaemonStatus | 'ended' | undefined> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (performance.now() < deadlineMs) {
    await sleep(POLL_MS);
    const status = await call('daemon.status', {}).catch(() => undefined);
    if (status?.isSettled === true && status.startedAt !== startedAt) return status;
    if (status === undefined && pid !== undefined && !isVisible(pid)) return 'ended';
  }
  return undefined;
}

/**
 * Whether this process sees the other one under this id. In another namespace of processes it has another id.
 */
function isVisible(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** A line for each overlay or VNIC that does not work as it should. */
async function troubles(call: Call): Promise<string[]> {
  const overlayPages = await attempt('restart failed', readPages(call, 'overlay.list', {}));
  const vnicPages = await attempt('restart failed', readPages(call, 'vnic.list', {}));
  const overlays = overlayPages.flatMap((page) => page.overlays);
  const vnics = vnicPages.flatMap((page) => page.vnics);
  return [
    ...overlays
      .filter(({ health }) => health.status !== 'ONLINE')
      .map(({ name, health }) => `${name}: ${health.status}: ${health.details ?? ''}`),
    ...vnics.filter(({ state }) => state !== 'up').map(({ name, state }) => `${name}: ${state}`),
  ];
}
