// The offloads carry a gigabyte: over every kind of tunnel, each way, IPv4 and IPv6 inside and outside, byte by byte; and so do
// tunnels of the kernel over a port of varpd (the offload `nested`).
//
// They are tests of `npm run test:full`, with so much more to carry that they take minutes.
import { spawn } from 'node:child_process';

import { fromRoot } from '../helpers/need.js';

const TESTS = ['test/netns/offload.test.ts', 'test/full/nested.test.ts'];
const BYTES = 1_000_000_000;
/** For 8 tunnels of 4 GB each, also where nothing is offloaded. */
const TIMEOUT_SECONDS = 3600;

/** False when a byte was not right. */
export async function verify(): Promise<boolean> {
  console.log(`${BYTES / 1e9} GB over each TCP connection of ${TESTS.join(' and ')}: some fifteen minutes`);
  const child = spawn(process.execPath, [fromRoot('dist/test/run.js'), ...TESTS], {
    cwd: fromRoot('.'),
    stdio: 'inherit',
    env: {
      ...process.env,
      VARPD_TEST_WHOLE: 'yes',
      VARPD_TEST_BYTES: `${BYTES}`,
      TAP_TIMEOUT: `${TIMEOUT_SECONDS}`,
    },
  });
  return new Promise((resolve) => {
    child.on('close', (code) => {
      resolve(code === 0);
    });
  });
}
