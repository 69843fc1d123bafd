/** The boot of this host, as text that a file may keep. */
import { readFileSync } from 'node:fs';
import { uptime } from 'node:os';

const FILE = '/proc/sys/kernel/random/boot_id';
/** Where the file is hidden (systemd's ProcSubset=pid): the time of the boot, in milliseconds. */
const SINCE = /^since (\d+)$/;
/** A step of the clock by no more than this leaves the boot the same. The next boot is later by more. */
const MAX_STEP_MS = 2000;

export function bootId(file = FILE): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return `since ${Math.round(Date.now() - uptime() * 1000)}`;
  }
}

export function isSameBoot(one: string, other: string): boolean {
  const apartMs = Math.abs(sinceMs(one) - sinceMs(other));
  return one === other || apartMs <= MAX_STEP_MS;
}

/** NaN for an identifier. */
const sinceMs = (boot: string): number => Number(SINCE.exec(boot)?.[1]);
