// The user that varpd becomes, and what a machine that is no installation of it lacks: a program that this user may read, a
// /dev/net/tun that it may open (udev lets everybody). Both are made for one varpd alone, in its own mounts.
import { chownSync, statSync } from 'node:fs';
import path from 'node:path';

import { type Account, account } from '../../src/daemon/accounts.js';
import { DEFAULT_USER } from '../../src/daemon/config.js';
import { fromRoot } from './need.js';

let found: Account | undefined;

/** Set-up has made it. */
export function daemonUser(): Account {
  found ??= account(DEFAULT_USER);
  return found;
}

/** What only that user may change from now on. Without root all is whoever's runs the test. */
export function giveToDaemon(...files: readonly string[]): void {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = daemonUser();
  for (const file of files) chownSync(file, uid, gid);
}

const OPEN_TUN =
  'mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun';

/** Lines of shell, as root, in mounts that are this varpd's own. `stash` is an empty directory. */
export const forDaemonUser = (stash: string): string => [...openWays(stash), OPEN_TUN].join(' && ');

/** The project or Node may be in a home that is closed: then a directory with nothing else in it is in its place. */
function openWays(stash: string): string[] {
  const needed = [fromRoot('.'), path.dirname(path.dirname(process.execPath))].map((place) =>
    path.resolve(place),
  );
  const closed = new Map<string, string[]>();
  for (const place of needed) {
    const gate = ancestors(place).find((directory) => (statSync(directory).mode & 0o001) === 0);
    if (gate !== undefined) closed.set(gate, [...(closed.get(gate) ?? []), place]);
  }
  return [...closed].flatMap(([gate, places], gateIndex) => {
    const kept = places.map((place, index) => [place, path.join(stash, `way${gateIndex}-${index}`)] as const);
    return [
      ...kept.map(([place, at]) => `mkdir ${at} && mount --bind ${place} ${at}`),
      `mount -t tmpfs -o mode=755 tmpfs ${gate}`,
      ...kept.map(([place, at]) => `mkdir -p ${place} && mount --move ${at} ${place}`),
    ];
  });
}

/** From the root down, without the directory itself. */
function ancestors(directory: string): string[] {
  const parent = path.dirname(directory);
  return parent === directory ? [] : [...ancestors(parent), parent];
}
