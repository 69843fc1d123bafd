// Types commands of the documentation at a host: dladm speaks to the varpd of the test, a shell runs the others.
import type { Daemon } from './daemon.js';
import type { Namespace } from './netns.js';
import { CommandError } from './process.js';

export class Typist {
  /** `values`: text of the page -> its value here, such as an address or a file. */
  constructor(
    readonly host: Namespace,
    readonly daemon: Daemon,
    readonly values: Readonly<Record<string, string>> = {},
  ) {}

  /** The line as it is typed here. */
  here(line: string): string {
    let text = line;
    for (const [from, to] of Object.entries(this.values)) text = text.replaceAll(from, to);
    return text;
  }

  /** Each must succeed. Resolves with what they print. */
  async type(...lines: readonly string[]): Promise<string> {
    let printed = '';
    for (const line of lines) printed += await this.#one(this.here(line));
    return printed;
  }

  async #one(line: string): Promise<string> {
    if (line.startsWith('dladm ')) return this.daemon.ok(line.slice('dladm '.length));
    // A program that goes on must not keep the output open.
    const shell = line.includes(' & ') ? `{ ${line}; } > /dev/null 2>&1` : line;
    const result = await this.host.run(['sh', '-c', shell]);
    if (result.code !== 0) throw new CommandError(result);
    return result.stdout;
  }
}
