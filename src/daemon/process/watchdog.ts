/**
 * The watchdog of systemd: varpd sends a sign of life as long as both threads live. The timer shows that the
 * control thread runs, and the datapath has to answer before each sign. If either hangs there is no sign, and
 * systemd restarts varpd.
 */
import { sdNotify } from '../../dgram-extra/index.js';
import { watchdogVariables } from '../environment.js';

/** Signs within the watchdog's time, as sd_watchdog_enabled(3) advises. */
const SIGNS = 2;

/** Does nothing when no service manager watches. Returns a function that ends it. */
export function startWatchdog(ping: () => Promise<void>, env = watchdogVariables()): () => void {
  const { WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
  const periodMs = Number(usec) / 1000 / SIGNS;
  if (!(periodMs >= 1) || (pid !== undefined && pid !== String(process.pid))) return () => undefined;
  let isAsking = false;
  const timer = setInterval(() => {
    if (isAsking) return;
    isAsking = true;
    // A failed ping costs one sign. A ping that is never answered stops the signs, so that the service
    // manager acts.
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
