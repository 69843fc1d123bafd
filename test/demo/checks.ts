// What the demo claims, and whether it was so.
import type { Daemon } from '../helpers/daemon.js';

const checks: { readonly text: string; readonly ok: boolean }[] = [];

export function check(text: string, ok: boolean): void {
  checks.push({ text, ok });
  if (!ok) console.log(`*** not so: ${text}`);
}

export function heading(text: string): void {
  console.log(`\n== ${text}\n`);
}

export function showLogs(daemons: readonly Daemon[]): void {
  for (const daemon of daemons) console.log(`\n-- log of varpd on ${daemon.host.name}\n${daemon.log()}`);
}

export const allHold = (): boolean => checks.every(({ ok }) => ok);

/** All checks, one a line. */
export function summary(): void {
  heading('Summary');
  for (const { text, ok } of checks) console.log(`${ok ? 'ok    ' : 'FAILED'}  ${text}`);
  const good = checks.filter(({ ok }) => ok).length;
  console.log(`\ndemo: ${good} of ${checks.length} checks hold`);
}
