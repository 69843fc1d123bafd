/**
 * Descriptors that outlive a daemon: TAPs and listening sockets, by name, from the one that ends to the one that begins.
 * As long as somebody holds them their links keep carrier, and the kernel keeps what arrives meanwhile.
 *
 * Two ways. A daemon that starts itself anew (execve) leaves them open and names them in its environment. systemd keeps
 * copies over a restart of the service and passes them as it passes sockets: FDSTORE=1 of sd_notify(3),
 * sd_listen_fds(3).
 */
import { closeDescriptor, sdNotify, setInheritable } from '../dgram-extra/index.js';
import type { Descriptor } from './datapath/contract.js';
import type { Log } from './log.js';

/** Of execve: `tap/foo0=17,udp/...=23` in VARPD_DESCRIPTORS_0 and so on. */
const OWN_LIST = 'VARPD_DESCRIPTORS_';
/** In one string of the environment, of which Linux takes 128 KiB (MAX_ARG_STRLEN); an item has at most 64 bytes. */
const LIST_ITEMS = 1024;
/** SD_LISTEN_FDS_START */
const FIRST_PASSED = 3;

/** Those that the service manager passed to this process; LISTEN_PID says whom they are for. */
function passedCount(): number {
  const { LISTEN_PID: pid, LISTEN_FDS: count } = process.env;
  return pid === String(process.pid) && count !== undefined && /^\d{1,5}$/.test(count) ? Number(count) : 0;
}

/** Before this process starts itself anew: what it was given, and has not looked at, is for the one to come. */
export function keepInheritedOpen(): void {
  for (let index = 0; index < passedCount(); index++) setInheritable(FIRST_PASSED + index, true);
  for (const { fd } of ownList()) setInheritable(fd, true);
}

function ownList(): Descriptor[] {
  return Object.entries(process.env)
    .filter(([name]) => name.startsWith(OWN_LIST))
    .flatMap(([, list = '']) => list.split(','))
    .map((item) => /^([^=,]+)=(\d{1,9})$/.exec(item))
    .filter((match) => match !== null)
    .map(([, name, fd]) => ({ name, fd: Number(fd) }));
}

export class Inheritance {
  readonly #fds = new Map<string, number>();

  /** What this process was given; it is forgotten by the environment, and by the service manager. */
  static receive(): Inheritance {
    const inheritance = new Inheritance();
    for (const { name, fd } of ownList()) inheritance.#add(name, fd);
    const names = (process.env['LISTEN_FDNAMES'] ?? '').split(':');
    for (let index = 0; index < passedCount(); index++) {
      const name = names.at(index) ?? '';
      inheritance.#add(name, FIRST_PASSED + index);
      // Or its copy would keep alive what is deleted here.
      sdNotify(`FDSTOREREMOVE=1\nFDNAME=${name}`);
    }
    for (const name of Object.keys(process.env))
      if (name.startsWith(OWN_LIST) || /^LISTEN_(PID|FDS|FDNAMES)$/.test(name))
        Reflect.deleteProperty(process.env, name);
    return inheritance;
  }

  get isEmpty(): boolean {
    return this.#fds.size === 0;
  }

  take(name: string): number | undefined {
    const fd = this.#fds.get(name);
    this.#fds.delete(name);
    return fd;
  }

  /** Nobody has taken these. Their names. */
  closeRest(): string[] {
    const names = [...this.#fds.keys()];
    for (const fd of this.#fds.values()) closeDescriptor(fd);
    this.#fds.clear();
    return names;
  }

  #add(name: string, fd: number): void {
    setInheritable(fd, false);
    const twin = this.#fds.get(name);
    if (twin !== undefined) closeDescriptor(twin);
    this.#fds.set(name, fd);
  }
}

/** For execve. */
export function leaveToMyself(descriptors: readonly Descriptor[]): void {
  for (let first = 0; first < descriptors.length; first += LIST_ITEMS) {
    const items = descriptors.slice(first, first + LIST_ITEMS).map(({ name, fd }) => `${name}=${fd}`);
    process.env[`${OWN_LIST}${first / LIST_ITEMS}`] = items.join(',');
  }
  for (const { fd } of descriptors) setInheritable(fd, true);
}

/** How many the service manager keeps for this service; it says so since systemd 254. */
export function storeSize(): number {
  const size = process.env['FDSTORE'];
  return process.env['NOTIFY_SOCKET'] !== undefined && size !== undefined && /^\d{1,9}$/.test(size)
    ? Number(size)
    : 0;
}

/** For a service manager that keeps descriptors: copies of them, as many as it takes. */
export function leaveToManager(descriptors: readonly Descriptor[], log: Log): void {
  const kept = descriptors.slice(0, storeSize());
  for (const { name, fd } of kept) sdNotify(`FDSTORE=1\nFDNAME=${name}`, fd);
  if (kept.length > 0)
    log.info('store', `${kept.length} of ${descriptors.length} descriptors left to the service manager`);
}
