// service-manager.py with a varpd as its service.
import path from 'node:path';

import { Daemon, type DaemonOptions, VARPD_MAIN } from './daemon.js';
import { fromRoot } from './need.js';
import type { Bed, Namespace } from './netns.js';
import { type Child, waitUntil } from './process.js';

export interface ManagerLine {
  readonly message?: Record<string, string>;
  readonly started?: number;
  readonly passed?: string[];
  readonly ended?: number;
  readonly deaf?: boolean;
}

export class Manager {
  /** Never started by itself. */
  readonly daemon: Daemon;
  readonly child: Child;

  constructor(
    bed: Bed,
    host: Namespace,
    env: Readonly<Record<string, string>> = {},
    options?: DaemonOptions,
  ) {
    this.daemon = new Daemon(bed, host, options);
    const python = ['python3', fromRoot('test/helpers/service-manager.py')];
    const varpd = [process.execPath, VARPD_MAIN, '--config', this.daemon.configFile, '--foreground'];
    const command = [...python, path.join(this.daemon.directory, 'notify'), ...varpd];
    this.child = host.spawn(this.daemon.startable(command), { env }, 'pipe');
  }

  lines(): ManagerLine[] {
    const lines = this.child.stdout.split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as ManagerLine);
  }

  /** Messages that have it. */
  count(name: string, value = '1'): number {
    return this.lines().filter(({ message }) => message?.[name] === value).length;
  }

  ready(times: number): Promise<void> {
    return waitUntil(() => this.count('READY') === times, { what: 'READY=1' });
  }

  /** As `systemctl restart` does it. */
  restart(): void {
    this.child.write('restart\n');
  }

  /** Its socket is there and refuses from now on. */
  async deafen(): Promise<void> {
    this.child.write('deaf\n');
    await waitUntil(() => this.lines().some(({ deaf }) => deaf === true), { what: 'a deaf manager' });
  }

  /** A kill -9, and a new start as by `Restart=`. */
  kill(): void {
    this.child.write('kill\n');
  }
}
