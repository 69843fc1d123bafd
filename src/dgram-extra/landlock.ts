/**
 * Landlock (landlock(7)): a ruleset of what a process may do with files, and with processes outside of its domain. The
 * program plugin-process/confine puts a ruleset into force.
 */
import { closeSync, constants, openSync } from 'node:fs';

import { addon, checked } from './addon.js';
import * as kernel from './kernel-numbers.js';

/** Rights over files and directories, as bits. */
export const LANDLOCK = {
  EXECUTE: kernel.LANDLOCK_ACCESS_FS_EXECUTE,
  WRITE_FILE: kernel.LANDLOCK_ACCESS_FS_WRITE_FILE,
  READ_FILE: kernel.LANDLOCK_ACCESS_FS_READ_FILE,
  READ_DIR: kernel.LANDLOCK_ACCESS_FS_READ_DIR,
} as const;

const NEW_RULESET = -1;

/** All rights over files that Landlock of this version knows. */
function rightsOf(version: number): number {
  return (
    (2 * kernel.LANDLOCK_ACCESS_FS_MAKE_SYM - 1) |
    (version >= 2 ? kernel.LANDLOCK_ACCESS_FS_REFER : 0) |
    (version >= 3 ? kernel.LANDLOCK_ACCESS_FS_TRUNCATE : 0) |
    (version >= 5 ? kernel.LANDLOCK_ACCESS_FS_IOCTL_DEV : 0)
  );
}

/** Returns the version of the kernel's Landlock (its ABI), or a negated errno: ENOSYS when the kernel has none,
 * EOPNOTSUPP when it was not enabled at the boot. */
export const landlockVersion = (): number => addon.landlock(NEW_RULESET);

/**
 * Makes a ruleset that forbids all that Landlock of this version can forbid, but for network sockets: every right over
 * files, and since version 6 signals and abstract Unix sockets of processes outside. Returns its descriptor, and the rights
 * that `allowBelow` may give. Throws a NativeError.
 */
export function createRuleset(version: number): { readonly fd: number; readonly rights: number } {
  const rights = rightsOf(version);
  const scopes = version >= 6 ? kernel.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | kernel.LANDLOCK_SCOPE_SIGNAL : 0;
  // struct landlock_ruleset_attr: files, network, scopes; 64 bits each. An older kernel wants the rest to be 0.
  const attributes = Int32Array.of(rights, 0, 0, 0, scopes, 0);
  return {
    fd: checked(addon.landlock(NEW_RULESET, attributes), 'landlock_create_ruleset', 'this process'),
    rights,
  };
}

/**
 * Gives rights over a file, or over a directory and all that is below it now or later. A symbolic link is not followed.
 * Returns false when there is no such file, or when the rights are for directories and it is none. Throws an error of the
 * system when there is no descriptor for it.
 */
export function allowBelow(ruleset: number, file: string, rights: number): boolean {
  let fd: number;
  try {
    fd = openSync(file, kernel.O_PATH | constants.O_NOFOLLOW);
  } catch (error) {
    if (/^(?:EMFILE|ENFILE|ENOMEM)$/.test(String((error as NodeJS.ErrnoException).code))) throw error;
    return false;
  }
  try {
    // struct landlock_path_beneath_attr: 64 bits of rights, and a descriptor
    return addon.landlock(ruleset, Int32Array.of(rights, 0, fd)) === 0;
  } finally {
    closeSync(fd);
  }
}
