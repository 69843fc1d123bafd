/**
 * The watchdog of systemd: a sign of life as long as both threads live. The timer shows that the control side comes
 * round, the datapath has to answer in between; one that hangs means silence, and systemd restarts varpd.
 */
import { sdNotify } from '../../dgram-extra/index.js';
import { watchdogVariables } from '../environment.js';

/** Twice in its time, as sd_watchdog_enabled(3) advises. */
const SIGNS = 2;

/** Does nothing when nobody watches. Returns how to end it. */
export function startWatchdog(ping: () => Promise<void>, env = watchdogVariables()): () => void {
  const { WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
  const periodMs = Number(usec) / 1000 / SIGNS;
  if (!(periodMs >= 1) || (pid !== undefined && pid !== String(process.pid))) return () => undefined;
  let isAsking = false;
  const timer = setInterval(() => {
    if (isAsking) return;
    isAsking = true;
    // One that fails is one sign less; one that is never answered is what the service manager has to see.
    ping()
      .then(
        () => sdNotify('WATCHDOG=1'),
        () => false,
      )
      .finally(() => {
        isAsking = false;
      });
  }, periodMs);
  return () => {
    clearInterval(timer);
  };
}
