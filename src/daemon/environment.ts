/**
 * The environment variables that varpd reads and writes, all of them.
 *
 * By those of its own a process tells the one that it becomes (execve) or starts what that is. Each is read once and taken out of
 * the environment: nothing else that varpd starts is meant. The others are the service manager's: sd_notify(3),
 * sd_listen_fds(3), systemd.exec(5).
 */
const OWN = {
  /** The copy of a command that goes into the background (process/detach.ts). */
  detached: 'VARPD_DETACHED',
  /** This process was started by one that gave up its rights (process/privileges.ts). */
  withoutRights: 'VARPD_WITHOUT_RIGHTS',
  /** This process is a restart; the log file of the process before, empty for standard error (handover/lifecycle.ts). */
  restarted: 'VARPD_RESTARTED',
  /** Channel and number of the process that moves frames (handover/stand-in.ts): `17:4711`. The name is older than the word, and an
   * earlier version may have set it. */
  standIn: 'VARPD_BRIDGE',
  /** Each ring's descriptor and what the kernel has said of it (rings.ts of the datapath): `17:4096:...,18:4096:...`. */
  rings: 'VARPD_RINGS',
  /** The descriptor of the BPF program (steering.ts of the datapath). */
  steering: 'VARPD_STEERING',
} as const;

/** Of execve: `tap/foo0=17,udp/...=23` in VARPD_DESCRIPTORS_0 and so on (handover/descriptors.ts). */
const DESCRIPTORS = 'VARPD_DESCRIPTORS_';
const PASSED = /^LISTEN_(PID|FDS|FDNAMES)$/;
/** Those that are meant for this process alone. */
const NOT_FOR_OTHERS = /^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_|FDSTORE$|VARPD_)/;

type Variable = keyof typeof OWN;

/** What the process before has left in it; a second time there is nothing. */
export function takeVariable(variable: Variable): string | undefined {
  const value = process.env[OWN[variable]];
  Reflect.deleteProperty(process.env, OWN[variable]);
  return value;
}

/** For the process that this one becomes, or starts. Undefined: nothing. */
export function leaveVariable(variable: Variable, value: string | undefined): void {
  if (value !== undefined) process.env[OWN[variable]] = value;
}

/** For one process that this one starts. */
export function environmentWith(variable: Variable, value: string): NodeJS.ProcessEnv {
  return { ...process.env, [OWN[variable]]: value };
}

/** For a process that has nothing to do with what this one is. */
export function environmentOfOthers(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_FOR_OTHERS.test(name)));
}

/** What the process before has left, each a list of descriptors. */
export function descriptorLists(): string[] {
  return Object.entries(process.env)
    .filter(([name]) => name.startsWith(DESCRIPTORS))
    .map(([, list = '']) => list);
}

/** For the process that this one becomes. */
export function leaveDescriptorLists(lists: readonly string[]): void {
  lists.forEach((list, index) => {
    process.env[`${DESCRIPTORS}${index}`] = list;
  });
}

/** How many descriptors the service manager has passed to this process, and their names; LISTEN_PID says whom they are for. */
export function passedByManager(): { readonly count: number; readonly names: readonly string[] } {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = process.env;
  const isForThis = pid === String(process.pid) && count !== undefined && /^\d{1,5}$/.test(count);
  return { count: isForThis ? Number(count) : 0, names: (names ?? '').split(':') };
}

/** The descriptors have been received: nothing that varpd starts is to look for them. */
export function forgetDescriptors(): void {
  for (const name of Object.keys(process.env))
    if (name.startsWith(DESCRIPTORS) || PASSED.test(name)) Reflect.deleteProperty(process.env, name);
}

/** How many descriptors the service manager keeps for this service. systemd says so since 254; before, config/varpd.service does. */
export function storeSize(): number {
  const { NOTIFY_SOCKET: manager, FDSTORE: size } = process.env;
  return manager !== undefined && size !== undefined && /^\d{1,9}$/.test(size) ? Number(size) : 0;
}

/** Device and inode of the stream that goes to the journal: `8:1234`. */
export function journalStream(): string | undefined {
  return process.env['JOURNAL_STREAM'];
}

/** Of WatchdogSec=, in microseconds, and for which process. */
export function watchdogVariables(): NodeJS.ProcessEnv {
  const { WATCHDOG_USEC, WATCHDOG_PID } = process.env;
  return { WATCHDOG_USEC, WATCHDOG_PID };
}
