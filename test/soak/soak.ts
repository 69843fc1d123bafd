// Hours of ordinary work in a row: a steady load, a mapping that changes, VNICs that come and go; and what it leaves behind.
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

import { fromRoot } from '../helpers/need.js';
import type { Bed } from '../helpers/netns.js';
import { reaches } from '../helpers/traffic.js';
import { buildZlan, changed, MappingFile, plumb, type Station } from '../helpers/zlan.js';

const UDP_LOAD = fromRoot('dist/test/bench/udp-load');
const PORT = 5303;
const PAYLOAD_BYTES = 64;
const PACKETS_PER_SECOND = 10_000;
const FLOWS = 16;
/** A busy machine may stop the stream for so long, and it is not the end of it. */
const PAUSE_MS = 5000;
const CHANGE_SECONDS = 10;
const VNIC_SECONDS = 60;

export interface Sample {
  readonly seconds: number;
  readonly residentKib: number;
  readonly descriptors: number;
}

export interface SoakResult {
  /** After the warm-up, of the daemon that grew most. */
  readonly slopeMbAnHour: number;
  /** Its standard error: a short run says little. */
  readonly errorMbAnHour: number;
  /** Between the first and the last minute after the warm-up; of the daemon that grew most. */
  readonly descriptorsGrown: number;
  readonly sent: number;
  readonly received: number;
  readonly changes: number;
  readonly vnics: number;
}

export interface SoakOptions {
  readonly seconds: number;
  /**
   * As many changes of the mapping and VNICs, one after the other, before the time begins. V8 keeps more of a function each
   * time that it runs often enough to be compiled better: at one VNIC a minute, that would go on for a day.
   */
  readonly warmUpRounds: number;
  /** Not judged: V8 gives back what the warm-up has grown. */
  readonly warmUpSeconds: number;
  readonly onSample?: (station: Station, sample: Sample) => void;
}

export async function soak(
  bed: Bed,
  { seconds, warmUpRounds, warmUpSeconds, onSample }: SoakOptions,
): Promise<SoakResult> {
  const file = new MappingFile(bed);
  const nodeArgs = ['--expose-gc', '--import', pathToFileURL(fromRoot('dist/test/soak/collect.js')).href];
  const [zlan, zlan2, zlan3] = await buildZlan(bed, file, { daemon: { nodeArgs } });
  for (const station of [zlan, zlan2, zlan3]) await plumb(station);
  if (!(await reaches(zlan.host, zlan2.v4, 10_000))) throw new Error(`${zlan2.v4} does not answer`);

  const watched = [zlan, zlan2];
  let [changes, vnics] = [0, 0];
  const change = (): void => {
    const stranger = `02:00:00:00:${(changes & 0xff).toString(16)}:01`;
    file.replace(changed(file.article, { [stranger]: { ip: '10.88.88.70', port: 4789 } }));
    changes++;
  };
  const comeAndGo = async (): Promise<void> => {
    for (const { daemon } of watched) {
      await daemon.call('vnic.create', { name: 'soak0', over: 'overlay0', temporary: false });
      await daemon.call('vnic.delete', { name: 'soak0', temporary: false });
    }
    vnics++;
  };
  for (let round = 0; round < warmUpRounds; round++) {
    change();
    await comeAndGo();
  }

  const sink = zlan2.host.spawn([UDP_LOAD, 'sink', `${PORT}`, `${seconds + 10}`, `${PAUSE_MS}`]);
  await sink.waitForOutput(/ready/);
  const words = ['send', zlan2.v4, PORT, seconds, PAYLOAD_BYTES, PACKETS_PER_SECOND, FLOWS].map(String);
  const load = zlan.host.spawn([UDP_LOAD, ...words]);

  const samples = watched.map((): Sample[] => []);
  const startedMs = performance.now();
  for (let next = CHANGE_SECONDS; next <= seconds; next += CHANGE_SECONDS) {
    await sleep(Math.max(0, startedMs + next * 1000 - performance.now()));
    change();
    if (next % VNIC_SECONDS === 0) await comeAndGo();
    for (const [index, station] of watched.entries()) {
      const { daemon } = station;
      const sample = { seconds: next, residentKib: daemon.residentKib(), descriptors: daemon.descriptors };
      samples[index].push(sample);
      onSample?.(station, sample);
    }
  }
  await load.exited;
  await sink.exited;
  const { sent } = JSON.parse(load.stdout) as { sent: number };
  const { received } = JSON.parse(sink.stdout) as { received: number };
  const judged = samples.map((list) => list.filter((sample) => sample.seconds > warmUpSeconds));
  const steepest = judged.map(slopeMbAnHour).reduce((a, b) => (b.slope > a.slope ? b : a));
  return {
    slopeMbAnHour: steepest.slope,
    errorMbAnHour: steepest.error,
    descriptorsGrown: Math.max(
      ...judged.map((list) => fewest(list.slice(-MINUTE)) - fewest(list.slice(0, MINUTE))),
    ),
    sent,
    received,
    changes,
    vnics,
  };
}

/** Samples in a minute. A client that is being answered has a descriptor, too: the fewest of a minute count. */
const MINUTE = 60 / CHANGE_SECONDS;
const fewest = (samples: readonly Sample[]): number =>
  Math.min(...samples.map(({ descriptors }) => descriptors));

const WINDOW_SECONDS = 60;

/** Of a line through the least of each minute (least squares), in which garbage was collected once (collect.ts). */
function slopeMbAnHour(samples: readonly Sample[]): { slope: number; error: number } {
  const least = new Map<number, Sample>();
  for (const sample of samples) {
    const window = Math.floor(sample.seconds / WINDOW_SECONDS);
    const known = least.get(window);
    if (known === undefined || sample.residentKib < known.residentKib) least.set(window, sample);
  }
  const points = [...least.values()];
  if (points.length < 3) return { slope: 0, error: Infinity };
  const mean = (of: (point: Sample) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean((point) => point.seconds), mean((point) => point.residentKib)];
  const above = points.reduce((sum, point) => sum + (point.seconds - x) * (point.residentKib - y), 0);
  const below = points.reduce((sum, point) => sum + (point.seconds - x) ** 2, 0);
  const slope = above / below;
  const squares = points.reduce(
    (sum, point) => sum + (point.residentKib - y - slope * (point.seconds - x)) ** 2,
    0,
  );
  const error = Math.sqrt(squares / (points.length - 2) / below);
  return { slope: (slope / 1024) * 3600, error: (error / 1024) * 3600 };
}
