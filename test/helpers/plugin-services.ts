// What a catalog of plugins needs: limits, and a spawner in a directory of the test's own, which ends with the test.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { parseConfig } from '../../src/daemon/config-file.js';
import type { Limits } from '../../src/daemon/config.js';
import type { CatalogServices } from '../../src/daemon/plugins/plugin-catalog.js';
import { SPAWNER_SOCKET, startSpawner } from '../../src/daemon/process/spawner-start.js';

interface Context {
  teardown(work: () => unknown): unknown;
}

/** Without plugins of a test no spawner is started. */
export function pluginServices(
  t: Context,
  limits: Partial<Limits> = {},
): CatalogServices & { readonly stateRoot: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-'));
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  const socket = path.join(directory, SPAWNER_SOCKET);
  const stateRoot = path.join(directory, 'plugins');
  const all = { ...parseConfig('', '').limits, ...limits };
  return {
    limits: () => all,
    place: { socket, begin: () => startSpawner({ socket, stateRoot }) },
    stateRoot,
  };
}
