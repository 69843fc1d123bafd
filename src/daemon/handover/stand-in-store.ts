/**
 * The stand-in over a restart by a service manager (stand-in.ts): what it is told, in a file without a name among the
 * descriptors that are left to the manager.
 */
import { constants, fstatSync, openSync, readSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import type { LeaseNews } from '../../core/dhcp-leases.js';
import type { Descriptor, Handover } from '../../datapath/contract.js';
import { StandInThreads, onThese } from '../../datapath/userland/main/stand-in-threads.js';
import type { StateDirectory } from '../state/state-directory.js';
import { VERSION } from '../version.js';
import { passedDescriptors, STORED_STAND_IN } from './descriptors.js';
import type { Leased } from './stand-in-channel.js';

/** Its ending says that a next start may remove it, should this process die in between. */
const FILE = '.bridge.tmp';
/** As long as targets are kept (snapshot.ts). */
const MAX_AGE_MS = 60_000;

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

interface Stored extends Handover {
  readonly version: string;
  readonly savedAtMs: number;
}

/** What is to be left beside the rest; nothing on a disk that is full: then frames wait until all is loaded. */
export function storedStandIn(handover: Handover, directory: StateDirectory): Descriptor[] {
  const file = directory.path(FILE);
  try {
    rmSync(file, { force: true });
    const fd = openSync(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    unlinkSync(file);
    writeFileSync(fd, serialize({ ...handover, version: VERSION, savedAtMs: Date.now() } satisfies Stored));
    return [{ name: STORED_STAND_IN, fd }];
  } catch {
    return [];
  }
}

/** Resolves when frames move, to how to end it; to undefined when nothing was left, or it is of another version. May reject. */
export async function startStored(): Promise<((leased: Leased) => Promise<void>) | undefined> {
  const passed = new Map(passedDescriptors().map(({ name, fd }) => [name, fd]));
  const file = passed.get(STORED_STAND_IN);
  if (file === undefined) return undefined;
  const bytes = new Uint8Array(fstatSync(file).size);
  readSync(file, bytes, 0, bytes.length, 0);
  const { version, savedAtMs, descriptors, lists } = deserialize(bytes) as Stored;
  const ageMs = Date.now() - savedAtMs;
  if (version !== VERSION || ageMs < 0 || ageMs > MAX_AGE_MS) return undefined;
  const here = new Map(descriptors.map(({ name, fd }) => [fd, passed.get(name) ?? -1]));
  const news: LeaseNews[] = [];
  let fail: (() => void) | undefined;
  const failed = new Promise<void>((resolve) => (fail = resolve));
  const threads = new StandInThreads(
    lists.length,
    (some) => news.push(...some),
    () => fail?.(),
  );
  const carried = threads.carry(onThese(lists, here));
  await Promise.race([carried, failed]);
  return async (leased) => {
    await Promise.race([threads.stop(), failed]);
    news.forEach(leased);
  };
}
