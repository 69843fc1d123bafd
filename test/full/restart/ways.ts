// The ways to restart varpd: what each does, what an operator sees of it, and what can be done between the end of the
// old process and the start of the new one.
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { type Call, createClient } from '../../../src/control/client.js';
import { Daemon } from '../../helpers/daemon.js';
import { giveToDaemon } from '../../helpers/daemon-user.js';
import { fromRoot } from '../../helpers/need.js';
import type { Bed, Namespace } from '../../helpers/netns.js';
import { type Result, waitUntil } from '../../helpers/process.js';
import { Systemd } from '../../helpers/systemd.js';
import type { Files } from './places.js';
import type { Column } from './table.js';

/** Of a restart: the exit status of the command that an operator typed, and what it or varpd wrote. */
export interface Outcome {
  readonly code: number;
  readonly text: string;
}

export interface RestartOptions {
  /** Done when the old process has let go, and before the new one has taken anything. */
  readonly between?: (() => Promise<unknown>) | undefined;
  /** Where its configuration has the new one listen. */
  readonly socket?: string;
}

export interface Way extends Files {
  readonly column: Column;
  /** Asks varpd, wherever its socket is. */
  readonly call: Call;
  /** The first start. */
  begin(): Promise<void>;
  restart(options?: RestartOptions): Promise<Outcome>;
  /** After a start that failed. */
  startAgain(): Promise<Outcome>;
  /** More keys of the configuration, and lines of it as they are. */
  configure(more: Readonly<Record<string, unknown>>, text?: string): void;
  readonly socket: string;
  /** What varpd sees as /dev/net/tun. */
  removeTun(): Promise<void>;
  makeTun(): Promise<void>;
  readonly isRunning: boolean;
  /** What a service manager shows of it; undefined without one. */
  statusText(): Promise<string | undefined>;
  /** All that varpd has written. */
  readonly log: string;
  end(): Promise<void>;
}

const RESTART_MS = 90_000;

/** Loaded into node before varpd: stops the process that the file `wait` names, and starts it when that has gone. */
const GATE = `
const { existsSync, readFileSync, writeFileSync } = require('node:fs');
const { isMainThread } = require('node:worker_threads');
const at = (name) => __dirname + '/' + name;
const isWanted = () => existsSync(at('wait')) && Number(readFileSync(at('wait'), 'utf8')) === process.pid;
if (isMainThread && isWanted()) {
  writeFileSync(at('reached'), '');
  while (isWanted()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
}
`;

const SERVICE_LOG = '/run/varpd.log';
/** The same for systemd, as long as a file is there; and what would go to the journal goes to a file. */
const GATE_UNIT = `[Service]
StandardOutput=append:${SERVICE_LOG}
StandardError=append:${SERVICE_LOG}
ExecStartPre=+/bin/sh -c '[ ! -e /run/gate ] || { touch /run/gate.reached; while [ -e /run/gate ]; do sleep 0.02; done; }'
`;

const outcomeOf = (result: Result): Outcome => ({
  code: result.code ?? -1,
  text: result.stdout + result.stderr,
});

function put(file: string, text: string): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  chmodSync(file, 0o644);
}

/** varpd as a process that this test starts. */
abstract class ByHand implements Way {
  abstract readonly column: Column;
  protected readonly daemon: Daemon;
  /** A directory. */
  protected readonly gate: string;
  readonly #tunFlag: string;
  readonly #own: Readonly<Record<string, unknown>>;

  constructor(bed: Bed, host: Namespace, own: Readonly<Record<string, unknown>>) {
    const directory = bed.directory();
    this.gate = path.join(directory, 'gate');
    this.#tunFlag = path.join(directory, 'no-tun');
    // A /dev/net of its own, which goes with the process: nothing of the machine's is touched.
    const before = `mount -t tmpfs -o mode=755 tmpfs /dev/net && if [ ! -e ${this.#tunFlag} ]; then mknod -m 666 /dev/net/tun c 10 200; fi`;
    put(`${this.gate}/gate.cjs`, GATE);
    giveToDaemon(this.gate);
    const nodeArgs = ['--require', `${this.gate}/gate.cjs`];
    this.daemon = new Daemon(bed, host, { before, nodeArgs, socketFlag: false });
    this.#own = { pluginPath: [this.path('plugins')], ...own };
    mkdirSync(this.path('plugins'));
    this.configure({});
  }

  get call(): Call {
    return this.daemon.call;
  }

  get socket(): string {
    return this.daemon.socket;
  }

  path(name: string): string {
    return path.join(this.daemon.directory, name);
  }

  write(name: string, text: string): void {
    put(this.path(name), text);
  }

  remove(name: string): void {
    rmSync(this.path(name), { force: true, recursive: true });
  }

  configure(more: Readonly<Record<string, unknown>>, text = ''): void {
    this.daemon.writeConfig({ ...this.#own, ...more });
    if (text !== '') writeFileSync(this.daemon.configFile, text, { flag: 'a' });
  }

  begin(): Promise<void> {
    return this.daemon.start();
  }

  abstract restart(options?: RestartOptions): Promise<Outcome>;

  async startAgain(): Promise<Outcome> {
    return this.#start();
  }

  protected async stopAndStart(how: 'stop' | 'kill', { between, socket }: RestartOptions): Promise<Outcome> {
    await this.daemon[how]();
    await between?.();
    if (socket !== undefined) this.daemon.useSocket(socket);
    return this.#start();
  }

  async #start(): Promise<Outcome> {
    const before = this.daemon.log().length;
    const text = (): string => this.daemon.log().slice(before);
    try {
      await this.daemon.start();
      return { code: 0, text: text() };
    } catch {
      if (this.daemon.running) return { code: -1, text: `it runs, and does not answer\n${text()}` };
      return { code: (await this.daemon.ended())?.code ?? -1, text: text() };
    }
  }

  async removeTun(): Promise<void> {
    put(this.#tunFlag, '');
    if (this.daemon.running) rmSync(this.daemon.inside('/dev/net/tun'), { force: true });
  }

  async makeTun(): Promise<void> {
    rmSync(this.#tunFlag, { force: true });
    const file = this.daemon.inside('/dev/net/tun');
    if (this.daemon.running && !existsSync(file))
      await this.daemon.host.exec(`mknod -m 666 ${file} c 10 200`);
  }

  get isRunning(): boolean {
    return this.daemon.running;
  }

  statusText(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  get log(): string {
    return this.daemon.log();
  }

  async end(): Promise<void> {
    await this.daemon.stop();
  }
}

class ByDladm extends ByHand {
  readonly column = 'dladm restart';

  constructor(bed: Bed, host: Namespace) {
    super(bed, host, {});
  }

  async restart({ between, socket }: RestartOptions = {}): Promise<Outcome> {
    if (between !== undefined) put(`${this.gate}/wait`, String(this.daemon.pid));
    let isOver = false;
    const restarted = this.daemon.dladm('restart').finally(() => (isOver = true));
    if (between !== undefined) {
      const isReached = (): boolean => isOver || existsSync(`${this.gate}/reached`);
      await waitUntil(isReached, { timeoutMs: RESTART_MS, what: 'the old varpd to have let go' });
      await between();
      for (const name of ['wait', 'reached']) rmSync(`${this.gate}/${name}`, { force: true });
    }
    const outcome = outcomeOf(await restarted);
    if (socket !== undefined) this.daemon.useSocket(socket);
    return outcome;
  }
}

class ByTerm extends ByHand {
  readonly column = 'SIGTERM and start';

  constructor(bed: Bed, host: Namespace) {
    super(bed, host, { persistTaps: true });
  }

  restart(options: RestartOptions = {}): Promise<Outcome> {
    return this.stopAndStart('stop', options);
  }
}

class ByKill extends ByHand {
  readonly column = 'kill -9 and start';

  constructor(bed: Bed, host: Namespace) {
    super(bed, host, {});
  }

  restart(options: RestartOptions = {}): Promise<Outcome> {
    return this.stopAndStart('kill', options);
  }
}

/** varpd as a service of systemd, as docs/service.md installs it. */
abstract class ByService implements Way {
  abstract readonly column: Column;
  socket = '/run/varpd/varpd.sock';

  constructor(protected readonly systemd: Systemd) {
    mkdirSync(systemd.inside(this.path('plugins')));
    this.configure({});
  }

  get call(): Call {
    return createClient(this.systemd.inside(this.socket));
  }

  path(name: string): string {
    return `/etc/varpd/${name}`;
  }

  write(name: string, text: string): void {
    put(this.systemd.inside(this.path(name)), text);
  }

  remove(name: string): void {
    rmSync(this.systemd.inside(this.path(name)), { force: true, recursive: true });
  }

  configure(more: Readonly<Record<string, unknown>>, text = ''): void {
    const keys = { pluginPath: [this.path('plugins')], ...more };
    const lines = Object.entries(keys).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
    this.write('varpd.yaml', lines.join('') + text);
  }

  async begin(): Promise<void> {
    put(this.systemd.inside('/etc/systemd/system/varpd.service.d/gate.conf'), GATE_UNIT);
    await this.systemd.exec('systemctl daemon-reload');
    await this.systemd.exec('systemctl restart varpd');
  }

  async restart({ between, socket }: RestartOptions = {}): Promise<Outcome> {
    const before = this.log.length;
    // As often as a test restarts it, nobody does within ten seconds.
    await this.systemd.run('systemctl reset-failed varpd');
    if (between !== undefined) put(this.systemd.inside('/run/gate'), '');
    const restarted = this.doRestart();
    if (between !== undefined) {
      const isReached = (): boolean => existsSync(this.systemd.inside('/run/gate.reached'));
      await waitUntil(isReached, { timeoutMs: RESTART_MS, what: 'systemd to start varpd' });
      await between();
      for (const file of ['/run/gate', '/run/gate.reached'])
        rmSync(this.systemd.inside(file), { force: true });
    }
    const { code, text } = await restarted;
    if (socket !== undefined) this.socket = socket;
    return { code, text: text + this.log.slice(before) };
  }

  protected abstract doRestart(): Promise<Outcome>;

  async startAgain(): Promise<Outcome> {
    await this.systemd.run('systemctl reset-failed varpd');
    return outcomeOf(await this.systemd.run('systemctl restart varpd'));
  }

  async show(property: string): Promise<string> {
    return (await this.systemd.exec(`systemctl show --value -p ${property} varpd`)).trim();
  }

  removeTun(): Promise<void> {
    rmSync(this.systemd.inside('/dev/net/tun'));
    return Promise.resolve();
  }

  async makeTun(): Promise<void> {
    await this.systemd.exec('mknod -m 666 /dev/net/tun c 10 200');
  }

  get isRunning(): boolean {
    return existsSync(this.systemd.inside(this.socket));
  }

  statusText(): Promise<string> {
    return this.show('StatusText');
  }

  get log(): string {
    const file = this.systemd.inside(SERVICE_LOG);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  end(): Promise<void> {
    return this.systemd.end();
  }
}

class BySystemctl extends ByService {
  readonly column = 'systemctl restart';

  protected async doRestart(): Promise<Outcome> {
    return outcomeOf(await this.systemd.run('systemctl restart varpd', { timeoutMs: RESTART_MS }));
  }
}

class ByCrash extends ByService {
  readonly column = 'crash of the service';

  /** systemd starts it again; where that fails, until it has been tried once. */
  protected async doRestart(): Promise<Outcome> {
    const [, restarts] = await this.#state();
    await this.systemd.exec('systemctl kill -s KILL varpd');
    const isOver = async (): Promise<boolean> => {
      const [state, tried] = await this.#state();
      return state === 'failed' || (state === 'active' && tried > restarts) || tried > restarts + 1;
    };
    await waitUntil(isOver, { timeoutMs: RESTART_MS, stepMs: 50, what: 'systemd to start it again' });
    return { code: (await this.show('ActiveState')) === 'active' ? 0 : 1, text: '' };
  }

  /** ActiveState and NRestarts, of one moment: systemd may learn of the end between two looks. */
  async #state(): Promise<[string, number]> {
    const text = await this.systemd.exec('systemctl show -p ActiveState -p NRestarts varpd');
    const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? '';
    return [value('ActiveState'), Number(value('NRestarts'))];
  }
}

/** Resolves with the reason where systemd cannot run services. */
async function byService(make: (systemd: Systemd) => Way, host: Namespace): Promise<Way | string> {
  const systemd = await Systemd.bootWhereItRuns(host, fromRoot('.'));
  if (typeof systemd === 'string') return systemd;
  await systemd.install();
  return make(systemd);
}

/** By its column, how to make each; or why it cannot be had here. */
export const WAYS: Readonly<Record<Column, (bed: Bed, host: Namespace) => Promise<Way | string>>> = {
  'dladm restart': async (bed, host) => new ByDladm(bed, host),
  'SIGTERM and start': async (bed, host) => new ByTerm(bed, host),
  'systemctl restart': (_, host) => byService((systemd) => new BySystemctl(systemd), host),
  'crash of the service': (_, host) => byService((systemd) => new ByCrash(systemd), host),
  'kill -9 and start': async (bed, host) => new ByKill(bed, host),
};
