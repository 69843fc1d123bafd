/** Reads what doctor needs of the system: files, processes, other programs. Nothing here throws. */
import { execFile } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync, type Stats } from 'node:fs';

/** A program that takes longer is not waited for: doctor answers within 3 s. */
const PROGRAM_MS = 1500;
/** A ruleset of 10,000 rules is about 5 MB in JSON. */
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;
/** Debian keeps the system programs off the path of an ordinary user. */
const SEARCH_PATH = [process.env['PATH'] ?? '', '/usr/sbin', '/sbin'].join(':');

/** Undefined when the file cannot be read. */
export function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** Names in a directory; undefined when it cannot be read. */
export function namesIn(directory: string): readonly string[] | undefined {
  try {
    return readdirSync(directory);
  } catch {
    return undefined;
  }
}

export function linkOf(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch {
    return undefined;
  }
}

/** The file itself, not what a link leads to; undefined when it is not there, or this user may not look. */
export function statOf(file: string): Stats | undefined {
  try {
    return lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

export type Output =
  | { readonly state: 'done'; readonly text: string }
  | { readonly state: 'absent' | 'failed'; readonly text: string };

/** Output of a program. `failed`: `text` is the first line that it wrote to standard error. */
export function outputOf(program: string, args: readonly string[]): Promise<Output> {
  const options = {
    timeout: PROGRAM_MS,
    maxBuffer: MAX_OUTPUT_BYTES,
    env: { ...process.env, PATH: SEARCH_PATH, LC_ALL: 'C' },
  };
  return new Promise((resolve) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve({ state: 'done', text: stdout });
      else if (error.code === 'ENOENT') resolve({ state: 'absent', text: `${program} is not installed` });
      else {
        const line = stderr.trim().split('\n', 1)[0];
        const why = error.killed === true ? `it took longer than ${PROGRAM_MS} ms` : line;
        resolve({ state: 'failed', text: `${program}: ${why === '' ? error.message : why}` });
      }
    });
  });
}

/** A process as proc(5) shows it to everybody, and its network namespace as it shows that to root. */
export interface ProcessFacts {
  readonly pid: number;
  readonly uid: number;
  readonly gids: readonly number[];
  readonly hasNetAdmin: boolean;
  /** It, or a program that it starts as root, can have CAP_NET_ADMIN. */
  readonly mayHaveNetAdmin: boolean;
  /** In the first user namespace, where CAP_NET_ADMIN is that of the host. */
  readonly isOfHost: boolean;
  readonly args: readonly string[];
  readonly network: string | undefined;
}

const CAP_NET_ADMIN = 12n; // linux/capability.h

export function processFacts(pid: number | 'self'): ProcessFacts | undefined {
  const status = textOf(`/proc/${pid}/status`);
  return status === undefined
    ? undefined
    : parseProcess(status, {
        args: textOf(`/proc/${pid}/cmdline`) ?? '',
        uidMap: textOf(`/proc/${pid}/uid_map`) ?? '',
        network: linkOf(`/proc/${pid}/ns/net`),
      });
}

interface OtherFiles {
  readonly args: string;
  readonly uidMap: string;
  readonly network: string | undefined;
}

/** From the text of /proc/PID/status, cmdline and uid_map. */
export function parseProcess(status: string, { args, uidMap, network }: OtherFiles): ProcessFacts {
  const cells = (name: string): string[] =>
    (new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '')
      .split(/\s+/)
      .filter((one) => one !== '');
  const has = (set: string): boolean => {
    const bits = BigInt(`0x${cells(set).at(0) ?? '0'}`);
    return ((bits >> CAP_NET_ADMIN) & 1n) === 1n;
  };
  return {
    pid: Number(cells('Pid')[0]),
    // Effective user and group.
    uid: Number(cells('Uid')[1]),
    gids: [cells('Gid')[1], ...cells('Groups')].map(Number),
    hasNetAdmin: has('CapEff'),
    mayHaveNetAdmin: has('CapBnd'),
    isOfHost: /^\s*0\s+0\s+4294967295\s*$/.test(uidMap),
    args: args.split('\0').slice(0, -1),
    network,
  };
}

/** `97 (varpd)`, or the number alone. */
export function userText(uid: number): string {
  const row = (textOf('/etc/passwd') ?? '').split('\n').map((line) => line.split(':'));
  const name = row.find(([, , number]) => number === String(uid))?.[0];
  return name === undefined ? `uid ${uid}` : `uid ${uid} (${name})`;
}
