// A virtual machine of QEMU: a kernel of Debian and a root file system in memory, with a shell on its serial console. QEMU computes
// every instruction itself (TCG), so it needs no right and no processor of its own.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';

import type { Bed, Namespace } from './netns.js';
import { type Child, exec, findProgram, waitUntil } from './process.js';

/** Programs of the guest, which are copied from this machine with their libraries. */
const PROGRAMS = ['busybox', 'iperf3'];
/** Programs that a test with a machine needs. */
export const MACHINE_PROGRAMS: readonly string[] = [
  'qemu-system-x86_64',
  'apt-get',
  'dpkg',
  'ldd',
  ...PROGRAMS,
];

/** The driver of the network device, each module behind those that it needs. */
const MODULES = [
  'drivers/virtio/virtio_ring',
  'drivers/virtio/virtio',
  'drivers/virtio/virtio_pci_modern_dev',
  'drivers/virtio/virtio_pci_legacy_dev',
  'drivers/virtio/virtio_pci',
  'net/core/failover',
  'drivers/net/net_failover',
  'drivers/net/virtio_net',
];

const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t devtmpfs dev /dev
for module in ${MODULES.map((name) => path.basename(name)).join(' ')}; do insmod /modules/$module.ko; done
ip link set lo up
exec setsid sh -c 'stty -echo -F /dev/ttyS0; echo READY > /dev/ttyS0; PS1= exec sh < /dev/ttyS0 > /dev/ttyS0 2>&1'
`;
const DOWNLOAD_MS = 300_000;
const BOOT_MS = 180_000;
const COMMAND_MS = 120_000;

/** What a machine boots: two files. */
export interface Boot {
  readonly kernel: string;
  readonly files: string;
}

/** Rejects where the packages of this machine have no such kernel. */
export async function prepareBoot(bed: Bed): Promise<Boot> {
  const directory = bed.directory();
  const kernel = await unpackKernel(path.join(directory, 'kernel'));
  const root = path.join(directory, 'root');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp', 'modules'])
    mkdirSync(path.join(root, name), { recursive: true });
  for (const name of MODULES)
    copyFileSync(
      path.join(kernel.modules, `${name}.ko`),
      path.join(root, 'modules', `${path.basename(name)}.ko`),
    );
  for (const name of PROGRAMS) {
    const program = findProgram(name) ?? name;
    copyFileSync(program, path.join(root, 'bin', name));
    await copyLibraries(program, root);
  }
  writeFileSync(path.join(root, 'init'), INIT, { mode: 0o755 });
  const archive = path.join(directory, 'files');
  await exec(['sh', '-c', `cd ${root} && find . | busybox cpio -o -H newc > ${archive} 2> ${archive}.log`]);
  writeFileSync(archive, gzipSync(readFileSync(archive), { level: 1 }));
  return { kernel: kernel.file, files: archive };
}

/** To be installed it would want programs that start a machine, so it is only unpacked. */
async function unpackKernel(directory: string): Promise<{ file: string; modules: string }> {
  mkdirSync(directory);
  const depends = await exec(['apt-cache', 'depends', 'linux-image-cloud-amd64']);
  const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1];
  if (name === undefined) throw new Error('no package linux-image-cloud-amd64');
  const download = `cd ${directory} && apt-get -qq download ${name} 2> apt.log && dpkg -x ${name}_*.deb .`;
  await exec(['sh', '-c', download], { timeoutMs: DOWNLOAD_MS });
  const version = name.replace('linux-image-', '');
  const modules = path.join(directory, 'lib/modules', version, 'kernel');
  return { file: path.join(directory, 'boot', `vmlinuz-${version}`), modules };
}

/** Copies the libraries of a program to the same places below another root. */
export async function copyLibraries(program: string, root: string): Promise<void> {
  for (const file of (await exec(['ldd', program])).match(/\/\S+/g) ?? []) {
    const copy = path.join(root, file);
    mkdirSync(path.dirname(copy), { recursive: true });
    if (!existsSync(copy)) copyFileSync(file, copy);
  }
}

/** Arguments of QEMU beside those of the network device. A busy machine may run too little of the guest for it to find its
 * timer, so it is not to check that. */
export const bootArguments = ({ kernel, files }: Boot): string =>
  `-accel tcg -m 256 -nographic -no-reboot -kernel ${kernel} -initrd ${files} -append "console=ttyS0 panic=-1 quiet no_timer_check"`;

export class Machine {
  readonly #console: Child;
  #count = 0;

  private constructor(console: Child) {
    this.#console = console;
  }

  /** `line`: a line of shell that becomes QEMU. */
  static async boot(host: Namespace, line: string): Promise<Machine> {
    const machine = new Machine(host.spawn(['sh', '-c', `exec ${line}`], {}, 'pipe'));
    await machine.#console.waitForOutput(/READY/, BOOT_MS);
    return machine;
  }

  get output(): string {
    return this.#console.stdout + this.#console.stderr;
  }

  /** Runs a line of shell; one that fails is an error. Resolves with what it printed. */
  async exec(line: string): Promise<string> {
    const mark = `mark${this.#count++}`;
    // The mark is not in what is typed, since a console may echo it.
    this.#console.write(`{ ${line}; }; echo "${mark}:$?:"\n`);
    const done = new RegExp(`${mark}:(\\d+):`);
    const from = this.#console.stdout.length;
    const isDone = (): boolean => this.#console.ended || done.test(this.#console.stdout);
    await waitUntil(isDone, { timeoutMs: COMMAND_MS, what: `the machine to run: ${line}` });
    const code = done.exec(this.#console.stdout)?.at(1);
    const printed = this.#console.stdout.slice(from).replace(/\r/g, '').replace(done, '');
    if (code !== '0') throw new Error(`${line}\nended with ${code ?? 'the machine'}\n${printed}`);
    return printed;
  }

  /** The power is off. */
  async stop(): Promise<void> {
    this.#console.write('poweroff -f\n');
    await this.#console.exited;
  }
}

/** The device of a macvtap link, as udev makes it below /dev. */
export async function makeMacvtapNode(host: Namespace, link: string, directory: string): Promise<void> {
  const place = `/sys/class/net/${link}`;
  const make = `index=$(cat ${place}/ifindex) && mknod ${directory}/tap$index c $(tr : ' ' < ${place}/tap$index/dev)`;
  await host.exec(['sh', '-c', make]);
}
