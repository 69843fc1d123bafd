/** restart: what SIGUSR2 does, and waits until it is done. */
import { setTimeout as sleep } from 'node:timers/promises';

import { attempt, CommandError, defineCommand, UsageError } from '../command.js';

/** A daemon that is not back by then has trouble that its log tells of. */
const DEADLINE_MS = 30_000;
const POLL_MS = 50;

export const command = defineCommand({
  synopsis: 'restart',
  about:
    'Has varpd start anew, with its program and its configuration as they are now. Links stay, with their addresses\n' +
    'and routes, and frames go on in the meantime. What was made with -t goes.',
  options: [],
  examples: ['restart'],

  async run({ operands }, { call }) {
    if (operands.length > 0) throw new UsageError(`expected no operand, got: ${operands.join(' ')}`);
    const { startedAt } = await attempt('restart failed', call('daemon.status', {}));
    await attempt('restart failed', call('daemon.restart', {}));
    const deadlineMs = performance.now() + DEADLINE_MS;
    while (performance.now() < deadlineMs) {
      await sleep(POLL_MS);
      const status = await call('daemon.status', {}).catch(() => undefined);
      if (status !== undefined && status.startedAt !== startedAt) return;
    }
    throw new CommandError(
      `restart failed: varpd is not back after ${DEADLINE_MS / 1000} s; its log says why`,
    );
  },
});
