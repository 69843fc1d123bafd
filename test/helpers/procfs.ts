// What the kernel says about a process and about the machine.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** USER_HZ: the unit of times in /proc, 100 on every architecture Node runs on. */
const TICKS_PER_SECOND = 100;

const read = (file: string): string => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
};

/** Time of all threads, in the process itself and in the kernel for it; 0 for a process that is gone. */
export function cpuTimes(pid: number): { user: number; system: number } {
  // The name, in brackets, may hold anything: fields are counted from behind it (utime and stime are 14 and 15 of all).
  const stat = read(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    user: Number(fields[11] ?? 0) / TICKS_PER_SECOND,
    system: Number(fields[12] ?? 0) / TICKS_PER_SECOND,
  };
}

export function cpuSeconds(pid: number): number {
  const { user, system } = cpuTimes(pid);
  return user + system;
}

export function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
}

/** The most that it ever had. */
export function peakResidentKib(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
}

/** Of the constants of its program: the parts of the file that nothing writes to and nothing runs. */
export function residentConstantsKib(pid: number): number {
  const program = linkOf(`/proc/${pid}/exe`);
  const [, ...parts] = read(`/proc/${pid}/smaps`).split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const constants = parts.filter(
    (part) => /^\S+ r--p /.test(part) && part.split('\n', 1)[0].endsWith(program),
  );
  return constants.reduce((sum, part) => sum + Number(/^Rss:\s+(\d+) kB/m.exec(part)?.[1] ?? 0), 0);
}

/** Open descriptors. */
export function descriptorsOf(pid: number): number {
  const held = readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`));
  return held.filter((what) => what !== '').length;
}

/** What a link of /proc says; nothing where it has gone meanwhile. */
export function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}

/** Reads that a ring of this process has done so far, modulo 2^32. */
export function ringReads(pid: number, fd: number): number {
  return Number(/^CqTail:\s+(\d+)$/m.exec(read(`/proc/${pid}/fdinfo/${fd}`))?.[1] ?? 0);
}

/** CPU time the whole machine has spent on anything but waiting. */
export function machineBusySeconds(): number {
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = read('/proc/stat')
    .split('\n', 1)[0]
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND;
}

/** Programs of a varpd that may load some: for several queues, and for the offload tunnel. */
export const BPF_PROGRAMS = 2;

/** How many BPF programs this process has open. */
export function bpfProgramsOf(pid: number): number {
  const isProgram = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`) === 'anon_inode:bpf-prog';
    } catch {
      return false; // closed meanwhile
    }
  };
  return readdirSync(`/proc/${pid}/fd`).filter(isProgram).length;
}

/** Processes that it has started and that are there still, ended ones included. */
export function childrenOf(pid: number): number[] {
  const texts = readdirSync(`/proc/${pid}/task`).map((task) => read(`/proc/${pid}/task/${task}/children`));
  return texts.flatMap((text) => text.split(' ').filter(Boolean).map(Number));
}

/** Its command line; empty when it has ended. */
export const commandOf = (pid: number): string => read(`/proc/${pid}/cmdline`);

/** Those of them that read mapping files (plugins/files); one that has been left behind has no command line any more. */
export const readersOf = (pid: number): number[] =>
  childrenOf(pid).filter((child) => commandOf(child).includes('reader-process'));
