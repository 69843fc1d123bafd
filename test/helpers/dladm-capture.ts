// dladm capture as a program of its own, and what it has written.
import { readFileSync } from 'node:fs';
import path from 'node:path';

import { type Capture, readCapture } from '../../src/wire/pcapng-read.js';
import type { Interface, Packet } from '../../src/wire/pcapng.js';

import { TCP_CARRIES_DATA } from './capture.js';
import { type Daemon, DLADM_MAIN } from './daemon.js';
import type { Bed } from './netns.js';
import { type Child, type Exit, run } from './process.js';

/** tshark takes a second or two to start, and more on a busy machine. */
const TSHARK_TIMEOUT_MS = 60_000;

export interface Captured extends Packet {
  readonly source: Interface;
}

export class DladmCapture {
  private constructor(
    readonly child: Child,
    readonly file: string,
  ) {}

  /** Resolves when frames are captured. `args` without `-w`. */
  static async start(bed: Bed, daemon: Daemon, ...args: readonly string[]): Promise<DladmCapture> {
    const file = path.join(bed.directory(), 'captured.pcapng');
    const dladm = [process.execPath, DLADM_MAIN, '--socket', daemon.socket, 'capture', '-w', file, ...args];
    const child = daemon.host.spawn(dladm);
    await child.waitForOutput(/capturing/);
    return new DladmCapture(child, file);
  }

  stop(): Promise<Exit> {
    return this.child.stop('SIGINT');
  }

  get whole(): Capture {
    const capture = readCapture(readFileSync(this.file));
    if (capture === undefined) throw new Error(`${this.file} is no capture`);
    return capture;
  }

  get packets(): Captured[] {
    const { interfaces, packets } = this.whole;
    return packets.map((packet) => ({ ...packet, source: interfaces[packet.interfaceId] }));
  }

  /** What tshark and capinfos complain of, packets that tshark cannot read included unless some are meant to be so. */
  async complaints({ mayBeMalformed = false } = {}): Promise<string> {
    const options = { timeoutMs: TSHARK_TIMEOUT_MS };
    const read = await run(
      ['tshark', '-n', ...TCP_CARRIES_DATA, '-r', this.file, '-Y', '_ws.malformed'],
      options,
    );
    const info = await run(['capinfos', this.file], options);
    // tshark run as root says so.
    const said = read.stderr.split('\n').filter((line) => !/^Running as user "root"/.test(line));
    return [
      said.join('\n').trim(),
      mayBeMalformed ? '' : read.stdout,
      info.code === 0 ? '' : info.stderr,
    ].join('');
  }
}
