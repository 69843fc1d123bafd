// A root shell on a host, on which commands are typed: shown with their prompt, run as they stand, output shown.
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { DLADM_MAIN } from '../helpers/daemon.js';
import type { Bed, Namespace } from '../helpers/netns.js';
import type { Child, Result } from '../helpers/process.js';

const TIMEOUT_MS = 20_000;

export class Terminal {
  readonly #env: Readonly<Record<string, string>>;

  /** `dladm` is made a command of this shell, and finds the daemon of this host. */
  constructor(
    bed: Bed,
    readonly host: Namespace,
    readonly hostName: string,
    socket: string,
  ) {
    const directory = bed.directory();
    const command = path.join(directory, 'dladm');
    writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${DLADM_MAIN}' "$@"\n`);
    chmodSync(command, 0o755);
    this.#env = { VARPD_SOCKET: socket, PATH: `${directory}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  }

  /** Shows a line without running it. */
  show(text: string): void {
    console.log(`[root@${this.hostName} ~]# ${text}`);
  }

  async type(text: string): Promise<Result> {
    this.show(text);
    const result = await this.host.run(['sh', '-c', text], { env: this.#env, timeoutMs: TIMEOUT_MS });
    print(result.stdout + result.stderr);
    if (result.code !== 0) console.log(`(exit status ${result.code ?? result.signal ?? '?'})`);
    return result;
  }

  /** Types a command that goes on in the background. Its output is for the caller. */
  start(text: string): Child {
    this.show(`${text} &`);
    return this.host.spawn(['sh', '-c', `exec ${text}`], { env: this.#env });
  }
}

export function print(output: string): void {
  const text = output.trimEnd();
  if (text !== '') console.log(text);
}
