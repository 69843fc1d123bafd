/**
 * SIGHUP and SIGUSR2 from the first line on. Node ends at one that nobody listens to, and varpd takes half a second to load
 * what obeys them. One that comes before is obeyed then. This file imports nothing, so that it is there first.
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

/** Once, before what takes long to load. */
export function listenToSignals(): void {
  for (const name of NAMES) process.on(name, hear);
}

/** In a process that is no daemon. One that has come already ends it, as it would have. */
export function stopListening(): void {
  for (const name of NAMES) process.off(name, hear);
  for (const name of early) process.kill(process.pid, name);
}

export function obey(name: Heard, work: () => void): void {
  works.set(name, work);
  if (early.delete(name)) work();
}
