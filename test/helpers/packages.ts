// The packages of this tree, as `npm run package` makes them, and a Debian that has nothing but its base.
import { cpSync, existsSync, readdirSync } from 'node:fs';
import path from 'node:path';

import { fromRoot } from './need.js';
import { type Command, exec, type Result, run, type RunOptions, words } from './process.js';

/** For a busy machine: a compressed Debian package takes a minute of one processor. */
const BUILD_MS = 1_500_000;
const DEBOOTSTRAP_MS = 1_200_000;

export interface Packages {
  readonly directory: string;
  readonly npm: string;
  /** Architecture, as Debian calls it -> file. */
  readonly deb: Readonly<Record<'amd64' | 'arm64', string>>;
}

/** Makes them in a copy of this tree's files, `tree`, which must not exist: other tests run from this one meanwhile, and making
 * packages compiles all of it again. The commit gives the date, as in a clone. */
export async function buildPackages(
  tree: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Packages> {
  const git = (...args: string[]): Promise<string> =>
    exec(['git', '-c', 'safe.directory=*', '-C', fromRoot('.'), ...args]);
  const files = (await git('ls-files')).split('\n').filter((file) => file !== '');
  for (const file of files.filter((file) => existsSync(fromRoot(file))))
    cpSync(fromRoot(file), path.join(tree, file));
  await exec(['cp', '-a', fromRoot('node_modules'), tree], { timeoutMs: BUILD_MS });
  const date = (await git('log', '-1', '--format=%ct')).trim();
  await exec(['npm', 'run', '--silent', 'package'], {
    cwd: tree,
    timeoutMs: BUILD_MS,
    env: { SOURCE_DATE_EPOCH: date, ...env },
  });
  const directory = path.join(tree, 'dist/packages');
  const fileOf = (ending: string): string => {
    const found = readdirSync(directory).filter((name) => name.endsWith(ending));
    if (found.length !== 1) throw new Error(`${directory} has ${found.length} files *${ending}`);
    return path.join(directory, found[0]);
  };
  return {
    directory,
    npm: fileOf('.tgz'),
    deb: { amd64: fileOf('_amd64.deb'), arm64: fileOf('_arm64.deb') },
  };
}

/** Mounts what programs expect of a system, in a mount namespace that ends with the command. Every user may open /dev/net/tun, as
 * udev has it. */
const ENTER = `
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for device in null zero full random urandom tty; do
  touch "$1/dev/$device" && mount --bind "/dev/$device" "$1/dev/$device"
done
mkdir "$1/dev/net" && mknod -m 666 "$1/dev/net/tun" c 10 200
mount -t proc proc "$1/proc"
root=$1
shift
exec chroot "$root" "$@"
`;

export class CleanRoot {
  constructor(readonly directory: string) {}

  /** Of the release and from the place that this machine has its packages from. Rejects when there is none. What debootstrap
   * mounts ends with it, however it ends. */
  static async make(directory: string): Promise<CleanRoot> {
    const format = ['--format', '$(REPO_URI) $(RELEASE)', 'Created-By: Packages'];
    const [site, release] = (await exec(['apt-get', 'indextargets', ...format])).split('\n')[0].split(' ');
    const debootstrap = ['debootstrap', '--variant=minbase', '--include=adduser', release, directory, site];
    await exec(['unshare', '--mount', ...debootstrap], { timeoutMs: DEBOOTSTRAP_MS });
    return new CleanRoot(directory);
  }

  /** The command line that runs a command in it, with nothing of this environment: `npm run` names a prefix for npm there. */
  command(command: Command): string[] {
    const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    const enter = ['unshare', '--mount', 'sh', '-c', ENTER, 'enter', this.directory];
    return [...enter, 'env', '-i', path, 'HOME=/root', 'LC_ALL=C', ...words(command)];
  }

  run(command: Command, options?: RunOptions): Promise<Result> {
    return run(this.command(command), options);
  }

  exec(command: Command, options?: RunOptions): Promise<string> {
    return exec(this.command(command), options);
  }

  at(file: string): string {
    return path.join(this.directory, file);
  }

  /** Paths of all files that a package may leave. */
  async files(): Promise<string[]> {
    const left = [
      '/proc',
      '/sys',
      '/dev',
      '/run/adduser',
      '/var/lib/dpkg',
      '/var/cache',
      '/var/log',
      '/tmp',
      '/root',
    ];
    const prune = left.flatMap((place) => ['-path', `.${place}`, '-prune', '-o']);
    const found = await exec(['find', '.', ...prune, '-print'], { cwd: this.directory });
    // Debian's tools keep a copy of each before its last change.
    const isCopy = (file: string): boolean =>
      /^\.\/etc\/(?:passwd|group|shadow|gshadow|subuid|subgid)-$/.test(file);
    return found
      .split('\n')
      .filter((file) => !isCopy(file))
      .sort();
  }
}
