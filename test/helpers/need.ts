// What a test needs from the machine, as a reason to skip it: t.test('...', { skip: skipUnless({ root: true }) }, ...)
import { accessSync, constants, existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { findArping, findProgram } from './process.js';

export interface Needs {
  readonly root?: boolean;
  readonly programs?: readonly string[];
  /** Readable files, such as test data that is not in the repository. */
  readonly files?: readonly string[];
  /** TAP devices: /dev/net/tun can be opened. */
  readonly tap?: boolean;
  /** The one of iputils: see findArping. */
  readonly arping?: boolean;
  /** Other devices that must be there to be opened. */
  readonly devices?: readonly string[];
}

/** False when all is there (the test runs), else the reason in words. */
export function skipUnless({
  root,
  programs = [],
  files = [],
  tap,
  arping,
  devices = [],
}: Needs): false | string {
  if (root === true && process.getuid?.() !== 0) return 'needs root';
  if (tap === true && !isUsable('/dev/net/tun')) return 'needs /dev/net/tun';
  const noDevice = devices.filter((device) => !isUsable(device));
  if (noDevice.length > 0) return `needs ${noDevice.join(', ')}`;
  if (arping === true && findArping() === undefined) return 'needs the arping of iputils';
  const noProgram = programs.filter((name) => findProgram(name) === undefined);
  if (noProgram.length > 0) return `needs the program ${noProgram.join(', ')}`;
  const noFile = files.filter((file) => !existsSync(file));
  if (noFile.length > 0) return `needs the file ${noFile.join(', ')}`;
  return false;
}

/** Namespaces, veth pairs and TAP devices: what every test in test/netns wants. */
export const skipUnlessNetns = (programs: readonly string[] = []): false | string =>
  skipUnless({ root: true, tap: true, programs: ['ip', 'ping', ...programs] });

/** A file of the repository, seen from dist/test/helpers. */
export const fromRoot = (relative: string): string =>
  fileURLToPath(new URL(`../../../${relative}`, import.meta.url));

function isUsable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
