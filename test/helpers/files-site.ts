// Three hosts with the files plugin, and pings between all of them.

import { type Test } from 'tap';

import { skipUnlessNetns } from './need.js';
import { Bed } from './netns.js';
import { waitUntil } from './process.js';
import { ping } from './traffic.js';
import { buildZlan, MappingFile, type Station, type Stations, type ZlanOptions } from './zlan.js';

export const skip = skipUnlessNetns(['tcpdump', 'tshark', 'setpriv']);
/** A change of the file is in force after this long (plugins/files/README.md; `npm run faults` times it). */
export const IN_FORCE_MS = 1000;

export interface Site {
  readonly bed: Bed;
  readonly file: MappingFile;
  readonly stations: Stations;
}

export async function site(t: Test, options?: ZlanOptions): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const file = new MappingFile(bed);
  const stations = await buildZlan(bed, file, options);
  for (const { daemon } of stations) daemon.explain(t);
  return { bed, file, stations };
}

/** Each with each other. */
export const pairs = (stations: Stations): [from: Station, to: Station][] =>
  stations.flatMap((from) =>
    stations.filter((to) => to !== from).map((to): [Station, Station] => [from, to]),
  );

/** Ping from all to all at once. */
export async function pingAll(t: Test, stations: Stations, target: (to: Station, from: Station) => string) {
  const results = pairs(stations).map(async ([from, to]) => {
    const { received, text } = await ping(from.host, target(to, from), { waitMs: 3000 });
    t.equal(received, 3, `${from.device} reaches ${target(to, from)}`, { text });
  });
  await Promise.all(results);
}

/** Until `show-overlay -f` says so. */
export async function untilDetails({ daemon }: Station, pattern: RegExp): Promise<void> {
  let details = '';
  const says = async (): Promise<boolean> => {
    const [{ health }] = await daemon.overlays('overlay0');
    details = `${health.status} ${health.details ?? ''}`;
    return pattern.test(details);
  };
  await waitUntil(says, { what: `show-overlay to say ${pattern}` }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; it says ${details}`);
  });
}

/** The same host, and the address that the mapping gives it beside the printed ones. */
export const globalOf = (index: number): string => `fd55::${2 + index}`;
