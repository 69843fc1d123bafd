// Hosts as network namespaces.
//
//   const bed = new Bed();
//   const [a, b] = await bed.twoHosts();          // under0 -- under0, 10.88.88.69 -- 10.88.88.70
//   await a.exec(`ping -c 1 ${b.underlay.v4}`);
//   await bed.cleanup();                          // or t.teardown(() => bed.cleanup())
//
// A Bed owns everything made through it. Names hold the process id, so runs beside each other do not meet, and what
// a killed run left behind is recognised and removed by the next one.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import {
  Child,
  type Command,
  exec,
  type Result,
  run,
  type RunOptions,
  type SpawnOptions,
  words,
} from './process.js';

export const UNDERLAY_DEVICE = 'under0';

export interface Addresses {
  readonly v4: string;
  readonly v6: string;
}

/** Addresses of the n-th host of a bed, as in the article: .69, .70, ... below; .2, .3, ... above. */
export const underlayAddresses = (index: number): Addresses => ({
  v4: `10.88.88.${69 + index}`,
  v6: `fd88::${69 + index}`,
});
export const overlayAddresses = (index: number): Addresses => ({
  v4: `10.55.55.${2 + index}`,
  v6: `fd55::${2 + index}`,
});

export class Namespace {
  readonly children: Child[] = [];

  constructor(
    readonly name: string,
    readonly index: number,
    readonly underlay: Addresses,
    readonly overlay: Addresses,
  ) {}

  /** Runs a command inside and reports, whatever its exit code. */
  run(command: Command, options?: RunOptions): Promise<Result> {
    return run(['ip', 'netns', 'exec', this.name, ...words(command)], options);
  }

  /** Runs a command inside; an exit code other than 0 is an error. Resolves with its stdout. */
  exec(command: Command, options?: RunOptions): Promise<string> {
    return exec(['ip', 'netns', 'exec', this.name, ...words(command)], options);
  }

  /** Starts a command that goes on; it is stopped with the bed at the latest. `ip netns exec` becomes the command: the pid is its own. */
  spawn(command: Command, options?: SpawnOptions, stdin?: 'pipe' | 'ignore'): Child {
    const child = new Child(['ip', 'netns', 'exec', this.name, ...words(command)], options, stdin);
    this.children.push(child);
    return child;
  }

  /** `ip` on this namespace, without entering it. */
  ip(command: Command): Promise<string> {
    return exec(['ip', '-n', this.name, ...words(command)]);
  }

  /** Several commands of `ip`, in one program: it costs more than most of them. */
  async ipBatch(...lines: readonly string[]): Promise<void> {
    await exec(['ip', '-n', this.name, '-batch', '-'], { input: lines.map((line) => `${line}\n`).join('') });
  }

  async hasDevice(device: string): Promise<boolean> {
    return (await run(['ip', '-n', this.name, 'link', 'show', 'dev', device])).code === 0;
  }

  async macOf(device: string): Promise<string> {
    const [link] = JSON.parse(await this.ip(`-j link show dev ${device}`)) as [{ address: string }];
    return link.address;
  }

  async mtuOf(device: string): Promise<number> {
    const [link] = JSON.parse(await this.ip(`-j link show dev ${device}`)) as [{ mtu: number }];
    return link.mtu;
  }

  /** sysctl('net.ipv6.conf.all.disable_ipv6', 1) */
  async sysctl(name: string, value: string | number): Promise<void> {
    await this.sysctls({ [name]: value });
  }

  async sysctls(values: Readonly<Record<string, string | number>>): Promise<void> {
    const lines = Object.entries(values).map(
      ([name, value]) => `echo ${value} > /proc/sys/${name.replaceAll('.', '/')}`,
    );
    await this.exec(['sh', '-c', lines.join(' && ')]);
  }

  /** No IPv6 on a device: it sends nothing of its own accord, no solicitation and no multicast report. */
  async quietIpv6(device: string): Promise<void> {
    await this.sysctl(`net.ipv6.conf.${device}.disable_ipv6`, 1);
  }

  /** The same for every device that is made from now on. */
  async quietNewDevices(): Promise<void> {
    await this.sysctl('net.ipv6.conf.default.disable_ipv6', 1);
  }

  /** Gives a device this host's overlay addresses and brings it up. */
  async plumb(
    device: string,
    { mtuBytes, v6 = true }: { mtuBytes?: number; v6?: boolean } = {},
  ): Promise<void> {
    await this.ipBatch(
      `addr replace ${this.overlay.v4}/24 dev ${device}`,
      ...(v6 ? [`addr replace ${this.overlay.v6}/64 dev ${device} nodad`] : []),
      `link set ${device} ${mtuBytes === undefined ? '' : `mtu ${mtuBytes}`} up`,
    );
  }

  async stopAll(): Promise<void> {
    await Promise.all(this.children.splice(0).map((child) => child.stop()));
  }
}

export interface KernelVxlanOptions {
  readonly device?: string;
  readonly vnetid: number;
  readonly local: string;
  readonly remote: string;
  readonly port?: number;
  /** More words for `ip link add ... type vxlan`. */
  readonly extra?: string;
}

/** The kernel's own VXLAN as a peer. */
export async function addKernelVxlan(host: Namespace, options: KernelVxlanOptions): Promise<string> {
  const { device = 'vx0', vnetid, local, remote, port = 4789, extra = '' } = options;
  const tunnel = `id ${vnetid} local ${local} remote ${remote} dstport ${port} dev ${UNDERLAY_DEVICE} ${extra}`;
  await host.ip(`link add ${device} type vxlan ${tunnel}`);
  return device;
}

export interface HostOptions {
  readonly mtuBytes?: number;
  /** False: IPv6 is off on every device, present and future. */
  readonly v6?: boolean;
}

/** One that is gone already keeps no other. */
async function deleteNamespaces(names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const input = names.map((name) => `netns delete ${name}\n`).join('');
  await run(['ip', '-force', '-batch', '-'], { input });
}

/** Of namespaces and temporary directories: the process that made them. */
const NAME_PATTERN = /^varpd-test(\d+)-/;
let bedCount = 0;

export class Bed {
  readonly hosts: Namespace[] = [];
  readonly #prefix = `varpd-test${process.pid}-${bedCount++}`;
  readonly #directories: string[] = [];
  readonly #atExit = (): void => {
    for (const host of this.hosts) for (const child of host.children) child.signal('SIGKILL');
    for (const host of this.hosts) spawnSync('ip', ['netns', 'delete', host.name], { stdio: 'ignore' });
    this.#directories.forEach(removeDirectory);
  };

  constructor() {
    process.on('exit', this.#atExit);
  }

  /** A host with only a loopback. */
  async host({ v6 = true }: HostOptions = {}): Promise<Namespace> {
    const index = this.hosts.length;
    const name = `${this.#prefix}${String.fromCharCode(97 + index)}`;
    const host = new Namespace(name, index, underlayAddresses(index), overlayAddresses(index));
    if (index === 0) await removeLeftovers();
    await exec(['ip', 'netns', 'add', name]);
    this.hosts.push(host);
    await host.ip('link set lo up');
    // Routers are looked for by every new device otherwise.
    await host.sysctls({
      'net.ipv6.conf.default.accept_ra': 0,
      'net.ipv6.conf.default.router_solicitations': 0,
      ...(v6 ? {} : { 'net.ipv6.conf.default.disable_ipv6': 1 }),
    });
    return host;
  }

  /** Two hosts joined by one veth pair, under0 on both. */
  async twoHosts(options: HostOptions = {}): Promise<[Namespace, Namespace]> {
    const a = await this.host(options);
    const b = await this.host(options);
    const mtu = `mtu ${options.mtuBytes ?? 1500}`;
    const end = (host: Namespace): string => `name ${UNDERLAY_DEVICE} netns ${host.name} ${mtu}`;
    await exec(`ip link add ${end(a)} type veth peer ${end(b)}`);
    for (const host of [a, b]) await plumbUnderlay(host, UNDERLAY_DEVICE, options);
    return [a, b];
  }

  /** Any number of hosts on one switch (a bridge in a namespace of its own, which is the last of the result's hosts). */
  async hostsOnSwitch(count: number, options: HostOptions = {}): Promise<Namespace[]> {
    const hosts: Namespace[] = [];
    for (let index = 0; index < count; index++) hosts.push(await this.host(options));
    const hub = await this.host(options);
    const mtu = `mtu ${options.mtuBytes ?? 1500}`;
    await hub.ip(`link add switch0 ${mtu} type bridge`);
    await hub.ip('link set switch0 up');
    for (const host of hosts) {
      const plug = `port${host.index}`;
      const end = `name ${UNDERLAY_DEVICE} netns ${host.name} ${mtu}`;
      await exec(`ip link add ${end} type veth peer name ${plug} netns ${hub.name} ${mtu}`);
      await hub.ip(`link set ${plug} master switch0 up`);
      await plumbUnderlay(host, UNDERLAY_DEVICE, options);
    }
    return hosts;
  }

  /** A directory that goes away with the bed. Everybody may read there, as varpd must. */
  directory(): string {
    const directory = mkdtempSync(path.join(tmpdir(), `${this.#prefix}-`));
    chmodSync(directory, 0o755);
    this.#directories.push(directory);
    return directory;
  }

  /** Stops what was started, last first, and removes hosts and directories. May be called twice. */
  async cleanup(): Promise<void> {
    for (const host of [...this.hosts].reverse()) await host.stopAll();
    await deleteNamespaces(this.hosts.splice(0).map(({ name }) => name));
    this.#directories.splice(0).forEach(removeDirectory);
    process.off('exit', this.#atExit);
  }
}

/** Gives a device this host's underlay addresses and brings it up. */
export async function plumbUnderlay(
  host: Namespace,
  device: string,
  { v6 = true }: HostOptions,
): Promise<void> {
  await host.ipBatch(
    `addr add ${host.underlay.v4}/24 dev ${device}`,
    ...(v6 ? [`addr add ${host.underlay.v6}/64 dev ${device} nodad`] : []),
    `link set ${device} up`,
  );
}

/** Why a test of the kernel's own Geneve is skipped here, or false. */
export async function skipUnlessGeneveDevices(): Promise<false | string> {
  const bed = new Bed();
  try {
    const { code } = await (await bed.host()).run('ip link add gnv0 type geneve id 42 remote 192.0.2.1');
    return code !== 0 && 'this kernel has no Geneve devices (CONFIG_GENEVE)';
  } finally {
    await bed.cleanup();
  }
}

let leftoversRemoved: Promise<void> | undefined;

/** What runs left behind that were killed: the processes in their namespaces, the namespaces, the directories. Once a process. */
function removeLeftovers(): Promise<void> {
  leftoversRemoved ??= (async () => {
    for (const name of ownedByTheDead(namespaceNames())) {
      // Another run may do the same at this moment: what is gone already is as good as removed.
      const { stdout } = await run(['ip', 'netns', 'pids', name]);
      for (const pid of words(stdout)) kill(Number(pid));
      await run(['ip', 'netns', 'delete', name]);
    }
    for (const name of ownedByTheDead(readdirSync(tmpdir()))) removeDirectory(path.join(tmpdir(), name));
  })();
  return leftoversRemoved;
}

/** Whatever a killed program has mounted in it is taken away first, since its files are not of the directory. */
function removeDirectory(directory: string): void {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((place) => place.startsWith(`${directory}/`));
  for (const place of mounts.reverse()) spawnSync('umount', ['--lazy', place], { stdio: 'ignore' });
  rmSync(directory, { recursive: true, force: true });
}

/** Where `ip netns` keeps them, one file each. */
function namespaceNames(): string[] {
  try {
    return readdirSync('/var/run/netns');
  } catch {
    return []; // there was none yet
  }
}

function ownedByTheDead(names: readonly string[]): string[] {
  return names.filter((name) => {
    const owner = NAME_PATTERN.exec(name)?.[1];
    return owner !== undefined && !isAlive(Number(owner));
  });
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    return; // it has ended meanwhile
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
