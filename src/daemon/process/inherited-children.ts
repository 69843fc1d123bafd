/**
 * Children that the previous process left when it restarted itself. Node only waits for children that it has
 * started in this process. Without this the others would stay in the kernel's table after their end, as long
 * as varpd runs.
 */
import { readFileSync } from 'node:fs';
import { reapChild } from '../../dgram-extra/index.js';

const LOOK_MS = 1000;

/** Called before this process has started a child. */
export function reapInheritedChildren(): void {
  let left = inherited();
  if (left.length === 0) return;
  const timer = setInterval(() => {
    left = left.filter((pid) => !isGone(pid));
    if (left.length === 0) clearInterval(timer);
  }, LOOK_MS);
  timer.unref();
}

function inherited(): number[] {
  try {
    const text = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8');
    return text.split(' ').filter(Boolean).map(Number);
  } catch {
    return []; // a kernel without this file
  }
}

function isGone(pid: number): boolean {
  try {
    return reapChild(pid);
  } catch {
    return true; // another call has waited for it
  }
}
