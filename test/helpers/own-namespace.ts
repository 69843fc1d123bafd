// A test file inside a network namespace of its own, for calls that work on the namespace of the process that makes them.
//
// The file runs twice: tap starts it, and it starts itself again inside the namespace, whose name is its argument. What the
// calls make is gone with the namespace.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import t from 'tap';

import { endAgents } from './agents.js';
import { skipUnlessNetns } from './need.js';
import { Bed, Namespace, overlayAddresses, underlayAddresses } from './netns.js';

/** Undefined in the outer run. */
const namespace = process.argv.at(2);
export const isInside = namespace !== undefined;
export const here = new Namespace(namespace ?? '', 0, underlayAddresses(0), overlayAddresses(0));

/** The tests of the file with this URL. */
export async function inOwnNamespace(url: string, tests: () => Promise<void>): Promise<void> {
  const name = 'in a namespace of its own';
  if (isInside) {
    t.teardown(endAgents);
    await tests();
  } else if (skipUnlessNetns() !== false) {
    t.pass(name, { skip: skipUnlessNetns() });
  } else {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const host = await bed.host();
    const command = ['netns', 'exec', host.name, process.execPath, fileURLToPath(url), host.name];
    const child = spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'] });
    await t.stdin({ name, tapStream: child.stdout });
  }
}
