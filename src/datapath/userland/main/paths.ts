/**
 * Passes path news of one datapath thread to the others. Each of them believes the news if it has sent to
 * that destination lately; a thread that has not will receive ICMP itself when it does.
 */
import type { PathReport } from '../../../core/overlay-options.js';
import type { Link } from './thread.js';

/** `learned` is called for each path that thread `from` believes. */
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
