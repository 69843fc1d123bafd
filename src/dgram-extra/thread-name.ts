/** The name of a thread, as `ps -L` and `top -H` show it. That of the main thread is the name of the process. */
import { writeFileSync } from 'node:fs';

/** TASK_COMM_LEN of linux/sched.h, less the NUL: the kernel cuts a longer name. */
export const MAX_THREAD_NAME = 15;

/**
 * Names the calling thread, until the process becomes another program. Without /proc it keeps the name that
 * it has. Never throws.
 */
export function nameThread(name: string): void {
  try {
    writeFileSync('/proc/thread-self/comm', name.slice(0, MAX_THREAD_NAME));
  } catch {
    // Only people read it.
  }
}
