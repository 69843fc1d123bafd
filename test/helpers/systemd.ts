// A real systemd as the first process of a host: process numbers, mounts, control groups and a root file system of its own
// over the one of the machine, which sees nothing of it. Of units it has those alone that are given to it here.
import path from 'node:path';

import type { Namespace } from './netns.js';
import {
  type Child,
  type Command,
  exec,
  type Result,
  run,
  type RunOptions,
  waitUntil,
  words,
} from './process.js';

export const SYSTEMD = '/lib/systemd/systemd';

/** The control group of all of it; the argument is its name. */
const GROUP = `
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/groups && mount -t cgroup2 cgroup2 /mnt/groups
`;
const ENTER = `${GROUP}
mkdir /mnt/groups/$1 && echo $$ > /mnt/groups/$1/cgroup.procs
exec unshare --fork --pid --kill-child --mount --ipc --uts --cgroup sh -c "$2" boot "$3" "$4"
`;
const LEAVE = `${GROUP}
cd /mnt/groups && [ ! -d $1 ] || find $1 -depth -type d -exec rmdir {} +
`;

/** Arguments: the project, node. What it writes first is its process number, as the machine has it. */
const BOOT = `
set -e
read -r pid rest < /proc/self/stat
echo "pid $pid"
mkdir /mnt/fs && mount -t tmpfs tmpfs /mnt/fs
mkdir /mnt/fs/upper /mnt/fs/work /mnt/fs/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/fs/upper,workdir=/mnt/fs/work /mnt/fs/root
cd /mnt/fs/root
mkdir -p opt/varpd && mount --bind "$1" opt/varpd
touch usr/local/bin/node && mount --bind "$2" usr/local/bin/node
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for place in run dev var/lib etc/systemd lib/systemd/system lib/systemd/system-generators; do
  mkdir -p $place && mount -t tmpfs -o mode=755 tmpfs $place
done
mount -t tmpfs -o mode=1777 tmpfs tmp
for device in null zero full random urandom tty; do
  touch dev/$device && mount --bind /dev/$device dev/$device
done
mkdir dev/net dev/shm etc/systemd/system run/lock && mknod -m 666 dev/net/tun c 10 200
for target in basic sysinit network network-online multi-user shutdown; do
  printf '[Unit]\\nDescription=%s\\nDefaultDependencies=no\\n' $target > lib/systemd/system/$target.target
done
mkdir -p old && pivot_root . old && umount -l /old
export container=varpd-test
exec ${SYSTEMD} --system --unit=multi-user.target --default-standard-output=inherit --show-status=no
`;

/** docs/service.md, without what is there already: set-up has made the users. */
const INSTALL: readonly Command[] = [
  'ln -sf /opt/varpd/dist/src/daemon/main.js /usr/local/bin/varpd',
  'ln -sf /opt/varpd/dist/src/cli/main.js /usr/local/bin/dladm',
  'ln -sf /opt/varpd/dist/src/plugin-process/spawner-process.js /usr/local/bin/varpd-spawner',
  // A tree of an earlier version has fewer units.
  ['sh', '-c', 'cp /opt/varpd/config/*.service /opt/varpd/config/*.socket /etc/systemd/system/ || true'],
  'install -D -m 644 /opt/varpd/config/varpd.yaml /etc/varpd/varpd.yaml',
  'install -D -m 644 /opt/varpd/config/hosts.json /etc/varpd/hosts.json',
  'systemctl daemon-reload',
  'systemctl enable --now varpd',
];

export class Systemd {
  readonly #group = `varpd-test-${process.pid}`;
  readonly #child: Child;
  #pid = 0;

  private constructor(host: Namespace, project: string) {
    const boot = [this.#group, BOOT, project, process.execPath];
    this.#child = host.spawn(['unshare', '--mount', 'sh', '-c', ENTER, 'enter', ...boot]);
  }

  /** Resolves when it runs; rejects with what was written when it does not. */
  static async boot(host: Namespace, project: string): Promise<Systemd> {
    const systemd = new Systemd(host, project);
    try {
      await systemd.#child.waitForOutput(/^pid (\d+)$/m);
      systemd.#pid = Number(/^pid (\d+)$/m.exec(systemd.#child.stdout)?.[1]);
      const runs = async (): Promise<boolean> =>
        systemd.#child.ended ||
        /running|degraded/.test((await systemd.run('systemctl is-system-running')).stdout);
      await waitUntil(runs, { stepMs: 100, what: 'systemd to run' });
      if (systemd.#child.ended) throw new Error('systemd ended at once');
      return systemd;
    } catch (error) {
      await systemd.end();
      throw new Error(`${(error as Error).message}\n${systemd.output}`, { cause: error });
    }
  }

  /** Resolves to the reason where systemd cannot run services: in some containers. */
  static async bootWhereItRuns(host: Namespace, project: string): Promise<Systemd | string> {
    let systemd: Systemd | undefined;
    try {
      systemd = await Systemd.boot(host, project);
      await systemd.probe();
      return systemd;
    } catch (error) {
      await systemd?.end();
      return `systemd cannot run services here: ${(error as Error).message}`;
    }
  }

  /** What it and its services have written. */
  get output(): string {
    return this.#child.stdout + this.#child.stderr;
  }

  /** A file of it, as this test sees it. */
  inside(file: string): string {
    return `/proc/${this.#pid}/root${file}`;
  }

  /** A command in it. */
  run(command: Command, options?: RunOptions): Promise<Result> {
    return run([...this.#enter, ...words(command)], options);
  }

  /** One that must succeed; resolves with what it printed. */
  exec(command: Command): Promise<string> {
    return exec([...this.#enter, ...words(command)]);
  }

  /** A file in it. */
  async write(file: string, text: string): Promise<void> {
    const write = `mkdir -p ${path.dirname(file)} && cat > ${file}`;
    await exec([...this.#enter, 'sh', '-c', write], { input: text });
  }

  /** Rejects where this systemd cannot confine any service as varpd.service wants it: in some containers. */
  async probe(): Promise<void> {
    const edits = [
      's/^Type=.*/Type=oneshot/',
      's|^ExecStart=.*|ExecStart=/bin/true|',
      '/^(User|Group|Watchdog|Restart)/d',
    ];
    const probe = edits.map((edit) => `-e '${edit}'`).join(' ');
    const [from, to] = ['/opt/varpd/config/varpd.service', '/run/systemd/system/probe.service'];
    await this.exec(['sh', '-c', `mkdir -p ${to.replace(/[^/]*$/, '')} && sed -E ${probe} ${from} > ${to}`]);
    await this.exec('systemctl daemon-reload');
    await this.exec('systemctl start probe');
    await this.exec('rm -rf /run/varpd /var/lib/varpd /etc/varpd');
  }

  /** Resolves when varpd runs as its service. */
  async install(): Promise<void> {
    for (const line of INSTALL) await this.exec(line);
  }

  get #enter(): string[] {
    return ['nsenter', '--target', String(this.#pid), '--all', '--'];
  }

  async end(): Promise<void> {
    await this.#child.stop('SIGKILL');
    // Its processes are killed with it, and leave the groups a little later.
    const left = async (): Promise<boolean> =>
      (await run(['unshare', '--mount', 'sh', '-c', LEAVE, 'leave', this.#group])).code === 0;
    await waitUntil(left, { stepMs: 100, what: 'the control groups to be empty' });
  }
}
