// dladm doctor on a host of a test, and what a planted fault must look like in its report.
import type { Test } from 'tap';

import type { Code, Finding } from '../../src/cli/doctor/finding.js';
import { DLADM_MAIN } from './daemon.js';
import type { Namespace } from './netns.js';

export interface Report {
  readonly v: number;
  readonly findings: readonly Finding[];
}

/** Where doctor runs, and how. */
export interface Place {
  readonly host: Namespace;
  readonly socket: string;
  readonly config: string;
  /** A shell line that is run before, in mounts that are gone afterwards. */
  readonly before?: string;
  /** A command that becomes dladm, such as `setpriv ... --`. */
  readonly as?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Doctor as a program of its own: it looks at the namespace that it runs in. */
export async function doctor(
  place: Place,
  ...operands: readonly string[]
): Promise<Report & { readonly code: number | null }> {
  const { host, socket, config, before = 'true', as = [], env = {} } = place;
  const command = [...as, process.execPath, DLADM_MAIN, 'doctor', '--config', config, '--json', ...operands];
  const result = await host.run(['sh', '-c', `${before} && exec "$@"`, 'sh', ...command], {
    env: { VARPD_SOCKET: socket, ...env },
  });
  if (result.code !== 0 && result.code !== 10) throw new Error(`${result.code}: ${result.stderr}`);
  return { ...(JSON.parse(result.stdout) as Report), code: result.code };
}

export const troubles = (report: Report): string[] =>
  report.findings
    .filter(({ status }) => status === 'warn' || status === 'fail')
    .map(({ status, code, about, sentence }) => `${status} ${code} ${about ?? ''}: ${sentence}`);

export interface Fault {
  readonly status?: 'fail' | 'warn';
  readonly says: RegExp;
  readonly about?: string;
}

/** A finding with this code says so, and it has an advice. */
export function hasFault(t: Test, report: Report & { code: number | null }, code: Code, fault: Fault): void {
  const { status = 'fail', says, about } = fault;
  const found = report.findings.filter(
    (one) => one.code === code && one.status === status && (about === undefined || one.about === about),
  );
  t.equal(found.length, 1, `one line: ${status} ${code}`);
  t.match(found.at(0)?.sentence ?? troubles(report).join('\n'), says);
  t.ok(found.at(0)?.advice, 'with what to do');
  t.equal(report.code, report.findings.some((one) => one.status === 'fail') ? 10 : 0, 'exit status');
}
