// Where and with what was measured.
import os from 'node:os';

import { fromRoot } from '../helpers/need.js';
import { run } from '../helpers/process.js';

export const cores = os.availableParallelism();

export async function describeMachine(): Promise<Record<string, string | number>> {
  const { stdout: commit } = await run('git describe --always --dirty', { cwd: fromRoot('.') });
  return {
    kernel: os.release(),
    architecture: os.arch(),
    cpu: os.cpus()[0]?.model ?? '',
    cores,
    node: process.version,
    commit: commit.trim(),
  };
}
