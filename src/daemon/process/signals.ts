/**
 * Catches SIGHUP and SIGUSR2 from the start. Such a signal ends a Node process without a listener, and varpd
 * takes half a second to load the code that acts on it. A signal that comes earlier is acted on when that
 * code is there. This file imports nothing, so that it is loaded first.
 */

const NAMES = ['SIGHUP', 'SIGUSR2'] as const;
type Heard = (typeof NAMES)[number];

const early = new Set<Heard>();
const works = new Map<Heard, () => void>();

function hear(name: Heard): void {
  const work = works.get(name);
  if (work === undefined) early.add(name);
  else work();
}

/** Called once, before the imports that take long. */
export function listenToSignals(): void {
  for (const name of NAMES) process.on(name, hear);
}

/**
 * Called in a process that is no daemon. A signal that has come meanwhile ends it, as it would have without
 * `hear`.
 */
export function stopListening(): void {
  for (const name of NAMES) process.off(name, hear);
  for (const name of early) process.kill(process.pid, name);
}

export function obey(name: Heard, work: () => void): void {
  works.set(name, work);
  if (early.delete(name)) work();
}
