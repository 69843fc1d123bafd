/**
 * SIGHUP and SIGUSR2 from the first line on. Node ends at one that nobody listens to, and varpd takes half a second to load
 * what obeys them. One that comes before is obeyed then.
 */

type Heard = 'SIGHUP' | 'SIGUSR2';

const early = new Set<Heard>();
const works = new Map<Heard, () => void>();

/** Once, before what takes long to load. */
export function listenToSignals(): void {
  for (const name of ['SIGHUP', 'SIGUSR2'] as const)
    process.on(name, () => {
      const work = works.get(name);
      if (work === undefined) early.add(name);
      else work();
    });
}

export function obey(name: Heard, work: () => void): void {
  works.set(name, work);
  if (early.delete(name)) work();
}
