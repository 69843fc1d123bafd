// How much work code does, in steps: they are the same on every machine, which times are not.
import { Session } from 'node:inspector';

const session = new Session();
session.connect();
session.post('Profiler.enable');
// From the start: V8 counts in what it compiles from now on.
session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });

/** How often blocks of the policy (src/core) are entered while `run` runs: functions, branches, rounds of loops. */
export function stepsOf(run: () => void): number {
  taken();
  run();
  return taken();
}

/** Since it was asked last. */
function taken(): number {
  let steps = 0;
  session.post('Profiler.takePreciseCoverage', (_, { result }) => {
    const ours = result.filter(({ url }) => url.includes('/src/core/')).flatMap(({ functions }) => functions);
    for (const { count } of ours.flatMap(({ ranges }) => ranges)) steps += count;
  });
  return steps;
}
