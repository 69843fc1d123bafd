/**
 * Tries, before a restart, whether the next process could run; collects, after a failed start, all its
 * reasons; and tries, for `varpd --check`, all that a start needs. A process of its own reads the configuration, looks up users and groups, opens files and sockets,
 * and imports the plugins (rehearsal-process.ts), with the rights of this process. It reports its findings.
 * If it dies or hangs, its last step tells where.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { errorText } from '../../model/errors.js';
import { howEnded } from '../../model/sentences.js';
import type { Config, Flags } from '../config.js';
import { environmentOfOthers } from '../environment.js';
import type { Preparation } from '../process/root.js';

const PROGRAM = fileURLToPath(new URL('../rehearsal-process.js', import.meta.url));
/** Plugins have 5 s each to be imported, side by side; more is a hang. */
const DEADLINE_MS = 15_000;

/** A line of its standard output. */
export type Finding =
  /** The next step. */
  | { readonly kind: 'step'; readonly text: string }
  /** The next process could not run. */
  | { readonly kind: 'reason'; readonly text: string }
  /** The next process could run, but without a part that the text names. */
  | { readonly kind: 'warning'; readonly text: string }
  | { readonly kind: 'done' };

export interface Rehearsal {
  readonly reasons: string[];
  readonly warnings: string[];
}

/** The order of a check (check.ts) to its process. */
export interface CheckOrder {
  /** False: what only the user of varpd may open is not tried. */
  readonly isUser: boolean;
  /** Places that a start as root would have prepared: not to be looked at. */
  readonly prepared: Preparation;
}

/** Purpose of the process. */
export interface Order {
  readonly flags: Flags;
  /** A restart: the configuration in force. */
  readonly running?: Config;
  /** Socket of the spawner that loads plugins. Undefined = one of its own, with the user of this process. */
  readonly spawner?: string | undefined;
  /** A check. Without both, the reasons of a start that has failed. */
  readonly check?: CheckOrder;
}

/** Every reason of a start that has failed for `known`. Never rejects. */
export async function allReasons(flags: Flags, known: readonly string[]): Promise<string[]> {
  const { reasons } = await rehearse({ flags });
  // A reason in `known` has the place in the file before it.
  const others = reasons.filter((reason) => !known.some((line) => line.endsWith(reason)));
  // A single reason is the known one, in other words.
  return reasons.length > 1 ? [...known, ...others] : [...known];
}

/** Never rejects. */
export function rehearse(order: Order): Promise<Rehearsal> {
  const found: Rehearsal = { reasons: [], warnings: [] };
  let step = 'it starts';
  let isDone = false;
  return new Promise((resolve) => {
    const end = (reason?: string): void => {
      clearTimeout(timer);
      if (reason !== undefined) found.reasons.push(reason);
      resolve(found);
    };
    const timer = setTimeout(() => {
      child?.kill('SIGKILL');
      end(`the trial of the next varpd did not finish in ${DEADLINE_MS / 1000} s: it hangs while ${step}`);
    }, DEADLINE_MS);
    const child = startRehearsal(order, (error) => {
      end(`the next varpd cannot be started: ${errorText(error)}`);
    });
    if (child === undefined) return;
    // Only the last output counts, and only Node's own lines: the reason why it could not start. Other lines
    // come from plugins or quote varpd's program, which not every caller may read.
    let complaint = '';
    child.stderr.on('data', (bytes: Buffer) => {
      complaint = (complaint + bytes.toString()).slice(-500);
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const finding = readFinding(line);
      if (finding?.kind === 'step') step = finding.text;
      else if (finding?.kind === 'reason') found.reasons.push(finding.text);
      else if (finding?.kind === 'warning') found.warnings.push(finding.text);
      else if (finding?.kind === 'done') isDone = true;
    });
    child.on('close', (code, signal) => {
      const how = howEnded(code, signal);
      end(isDone ? undefined : `the next varpd would end while ${step} (${how})${ownWords(complaint)}`);
    });
  });
}

/** Starts the trial in a process of its own; undefined when there is none. `failed` is called then, now or soon: without
 * descriptors Node reports it by an event, and without memory by throwing. */
function startRehearsal(
  order: Order,
  failed: (error: unknown) => void,
): ChildProcessByStdio<null, Readable, Readable> | undefined {
  try {
    const args = [...process.execArgv, PROGRAM, JSON.stringify(order)];
    const child = spawn(process.execPath, args, {
      env: environmentOfOthers(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.on('error', failed);
    // A child without a process has no streams either, whatever its type says.
    return child.pid === undefined ? undefined : child;
  } catch (error) {
    failed(error);
    return undefined;
  }
}

function ownWords(complaint: string): string {
  const own = complaint.split('\n').filter((line) => line.startsWith(`${process.execPath}: `));
  return own.map((line) => ` ${line}`).join('');
}

/** Undefined for a line that a plugin has printed. */
function readFinding(line: string): Finding | undefined {
  try {
    const value = JSON.parse(line) as Partial<Finding> | null;
    return typeof value?.kind === 'string' ? (value as Finding) : undefined;
  } catch {
    return undefined;
  }
}
