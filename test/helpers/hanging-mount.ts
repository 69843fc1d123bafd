// A file system that hangs when told to: bindfs, a FUSE server, stopped by SIGSTOP as one of NFS or sshfs is by a network that
// is gone. It is mounted where one varpd alone sees it, and goes with that varpd: nothing that hangs is left to others.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { skipUnless, skipUnlessNetns } from './need.js';
import type { Bed } from './netns.js';

export const skipUnlessFuse = (programs: readonly string[] = []): false | string =>
  skipUnlessNetns(['bindfs', 'mountpoint', ...programs]) || skipUnless({ devices: ['/dev/fuse'] });

export interface HangOptions {
  /** What a server has been asked it never answers: then not even SIGKILL ends who asks. Otherwise it is not asked. */
  readonly underWay?: boolean;
}

export class HangingMount {
  /** Where its files really are: these never hang. */
  readonly real: string;
  readonly #directory: string;
  readonly #underWay: boolean;

  constructor(bed: Bed, { underWay = false }: HangOptions = {}) {
    this.#directory = bed.directory();
    this.#underWay = underWay;
    this.real = path.join(this.#directory, 'real');
    for (const name of ['real', 'inner', 'mount']) mkdirSync(path.join(this.#directory, name));
  }

  /** As varpd sees it. */
  path(name: string): string {
    return path.join(this.#directory, 'mount', name);
  }

  write(name: string, content: unknown): void {
    writeFileSync(path.join(this.real, name), `${JSON.stringify(content)}\n`);
  }

  /** For DaemonOptions: mounts it. A server whose own files hang has taken the request, and does not answer it. */
  get before(): string {
    // No signal at the death of a parent: that is another user's by then.
    const untilEnd = 'tail --pid=$$ -f /dev/null';
    const serve = (from: string, to: string, pidFile: string): string =>
      `{ trap '' TERM; bindfs -f -o allow_other ${from} ${to} & echo $! > ${pidFile}; ${untilEnd}; kill -KILL $!; } > /dev/null 2>&1 & ` +
      `until mountpoint -q ${to}; do sleep 0.02; done; `;
    const [inner, mount, pidFile] = ['inner', 'mount', 'pid'].map((name) => path.join(this.#directory, name));
    const servers = this.#underWay
      ? serve(this.real, inner, pidFile) + serve(inner, mount, `${pidFile}-outer`)
      : serve(this.real, mount, pidFile);
    return `${servers} if [ -e ${this.#mark} ]; then kill -STOP $(cat ${pidFile}); fi`;
  }

  /** From now on, and for a varpd that is started later. */
  hang(): void {
    writeFileSync(this.#mark, '');
    this.#signal('SIGSTOP');
  }

  goOn(): void {
    rmSync(this.#mark, { force: true });
    this.#signal('SIGCONT');
  }

  get #mark(): string {
    return path.join(this.#directory, 'hangs');
  }

  #signal(name: NodeJS.Signals): void {
    process.kill(Number(readFileSync(path.join(this.#directory, 'pid'), 'utf8')), name);
  }
}
