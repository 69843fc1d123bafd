/**
 * What one datapath thread hears of paths, the others are told. Each believes it where it has sent there lately itself: one
 * that has not will hear of it when it does.
 */
import type { PathReport } from '../../../core/overlay-options.js';
import type { Link } from './thread.js';

/** `learned` hears of what that one believes. */
export function tellOfPaths(
  from: number,
  news: readonly (PathReport & { readonly isBelieved: boolean })[],
  threads: readonly Link[],
  learned: (report: PathReport) => void,
): void {
  const reports = news.map(({ overlay, to, mtuBytes }) => ({ overlay, to, mtuBytes }));
  threads.forEach((thread, index) => {
    if (index !== from) thread.post({ kind: 'paths', news: reports });
  });
  news.forEach(({ isBelieved }, index) => {
    if (isBelieved) learned(reports[index]);
  });
}
