// A log of the daemon that keeps its lines.
import type { Log } from '../../src/daemon/log.js';

export function newLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const keep = (level: string) => (_kind: string, message: string) => void lines.push(`${level} ${message}`);
  return { lines, debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
}
