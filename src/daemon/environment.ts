/**
 * All environment variables that varpd reads and writes.
 *
 * A process leaves its own variables to the process that it becomes (execve) or starts as a part of varpd.
 * Each is read once and removed from the environment, so that no other child gets it. The others belong to
 * the service manager: sd_notify(3), sd_listen_fds(3), systemd.exec(5).
 */
const OWN = {
  /** This process is the copy of a command that goes into the background (process/detach.ts). */
  detached: 'VARPD_DETACHED',
  /** This process was started by one that gave up its rights (process/privileges.ts). */
  withoutRights: 'VARPD_WITHOUT_RIGHTS',
  /**
   * This process is a restart; the log file of the previous process, empty for standard error
   * (handover/lifecycle.ts).
   */
  restarted: 'VARPD_RESTARTED',
  /**
   * Channel and process id of the stand-in (handover/stand-in.ts): `17:4711`. The name is an old word for it,
   * since an earlier version may have set it.
   */
  standIn: 'VARPD_BRIDGE',
  /**
   * Each ring's descriptor, and the kernel's data about it (rings.ts of the datapath):
   * `17:4096:...,18:4096:...`.
   */
  rings: 'VARPD_RINGS',
  /** Socket of the spawner that another process starts (process/spawner-start.ts, plugins/spawner.ts). */
  spawner: 'VARPD_SPAWNER',
  /** The descriptors of BPF programs (steering.ts and tunnel-port.ts of the datapath). */
  steering: 'VARPD_STEERING',
  redirection: 'VARPD_REDIRECTION',
} as const;

/**
 * Descriptors over execve: `tap/foo0=17,udp/...=23` in VARPD_DESCRIPTORS_0 and so on
 * (handover/descriptors.ts).
 */
const DESCRIPTORS = 'VARPD_DESCRIPTORS_';
const PASSED = /^LISTEN_(PID|FDS|FDNAMES)$/;
/** Variables that are meant for this process alone. */
const NOT_FOR_OTHERS = /^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_|FDSTORE$|CREDENTIALS_DIRECTORY$|VARPD_)/;

type Variable = keyof typeof OWN;

/** The value that the previous process has left; a second call returns undefined. */
export function takeVariable(variable: Variable): string | undefined {
  const value = process.env[OWN[variable]];
  Reflect.deleteProperty(process.env, OWN[variable]);
  return value;
}

/** Leaves a value to the process that this one becomes, or starts; undefined leaves none. */
export function leaveVariable(variable: Variable, value: string | undefined): void {
  if (value !== undefined) process.env[OWN[variable]] = value;
}

/** Environment of one process that this one starts. */
export function environmentWith(variable: Variable, value: string): NodeJS.ProcessEnv {
  return { ...process.env, [OWN[variable]]: value };
}

/** Environment of a process that is no part of varpd. */
export function environmentOfOthers(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOT_FOR_OTHERS.test(name)));
}

/** Lists of descriptors that the previous process has left. */
export function descriptorLists(): string[] {
  return Object.entries(process.env)
    .filter(([name]) => name.startsWith(DESCRIPTORS))
    .map(([, list = '']) => list);
}

/** Leaves lists to the process that this one becomes. */
export function leaveDescriptorLists(lists: readonly string[]): void {
  lists.forEach((list, index) => {
    process.env[`${DESCRIPTORS}${index}`] = list;
  });
}

/**
 * Number and names of the descriptors that the service manager has passed to this process. LISTEN_PID says
 * which process they are for.
 */
export function passedByManager(): { readonly count: number; readonly names: readonly string[] } {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = process.env;
  const isForThis = pid === String(process.pid) && count !== undefined && /^\d{1,5}$/.test(count);
  return { count: isForThis ? Number(count) : 0, names: (names ?? '').split(':') };
}

/** Called once the descriptors have been received: no child of varpd shall look for them. */
export function forgetDescriptors(): void {
  for (const name of Object.keys(process.env))
    if (name.startsWith(DESCRIPTORS) || PASSED.test(name)) Reflect.deleteProperty(process.env, name);
}

/** Whether a service manager has started this process, and hears what it notifies: sd_notify(3). */
export function hasManager(): boolean {
  return process.env['NOTIFY_SOCKET'] !== undefined;
}

/**
 * Number of descriptors that the service manager keeps for this service. systemd sets FDSTORE since version
 * 254; for older versions config/varpd.service does.
 */
export function storeSize(): number {
  const { NOTIFY_SOCKET: manager, FDSTORE: size } = process.env;
  return manager !== undefined && size !== undefined && /^\d{1,9}$/.test(size) ? Number(size) : 0;
}

/** The directory with the credentials of this service (LoadCredential=), if it has any. */
export function credentialsDirectory(): string | undefined {
  return process.env['CREDENTIALS_DIRECTORY'];
}

/** Device and inode of the stream that goes to the journal: `8:1234`. */
export function journalStream(): string | undefined {
  return process.env['JOURNAL_STREAM'];
}

/** The time of WatchdogSec=, in microseconds, and the process that it is for. */
export function watchdogVariables(): NodeJS.ProcessEnv {
  const { WATCHDOG_USEC, WATCHDOG_PID } = process.env;
  return { WATCHDOG_USEC, WATCHDOG_PID };
}
