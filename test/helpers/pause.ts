// How long nothing answers while something is done to a host.
import type { Namespace } from './netns.js';
import { waitUntil } from './process.js';

export interface Pause {
  /** Longest time between two answers to a stream of pings, in ms. */
  readonly ms: number;
  /** Pings that were not answered although later ones were. */
  readonly lost: number;
}

/** Pings a hundred times a second, before, during and after the work. */
export async function pause(host: Namespace, target: string, work: () => Promise<unknown>): Promise<Pause> {
  const child = host.spawn(['ping', '-n', '-D', '-i', '0.01', target]);
  await child.waitForOutput(/icmp_seq=20/);
  await work();
  const seen = (): number => [...child.stdout.matchAll(/icmp_seq=/g)].length;
  const before = seen();
  await waitUntil(() => seen() > before + 50, { what: 'pings to be answered again' });
  await child.stop('SIGINT');
  const answers = [...child.stdout.matchAll(/^\[([\d.]+)\] .*icmp_seq=(\d+)/gm)];
  const times = answers.map(([, time]) => Number(time));
  const gaps = times.slice(1).map((time, index) => time - times[index]);
  const answered = new Set(answers.map(([, , number]) => Number(number)));
  return { ms: Math.round(1000 * Math.max(...gaps)), lost: Math.max(...answered) - answered.size };
}
