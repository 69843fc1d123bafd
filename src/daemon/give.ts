/** To make another user or group the owner of what this user has made. */
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/**
 * By a descriptor, and not through a symbolic link: what is another user's, or a file that has a second name, is not what was
 * made, and stays as it is. `flags`: more of open(2). Throws the system's error.
 */
export function give(file: string, flags: number, { uid, gid }: Owner): void {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | flags);
  try {
    const found = fstatSync(fd);
    const isWhole = found.isDirectory() || found.nlink === 1;
    if (found.uid === process.geteuid?.() && isWhole) fchownSync(fd, uid, gid);
  } finally {
    closeSync(fd);
  }
}
