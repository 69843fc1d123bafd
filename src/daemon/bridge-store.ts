/**
 * The bridge over a restart by a service manager (bridge.ts): what it is told, in a file without a name among the
 * descriptors that are left to the manager.
 */
import { constants, fstatSync, openSync, readSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import type { LeaseNews } from '../core/dhcp-leases.js';
import type { Leased } from './bridge.js';
import { BridgeThreads } from './bridge-threads.js';
import type { Descriptor, Legacy } from './datapath/contract.js';
import type { BareCommand } from './datapath/protocol.js';
import { passedDescriptors, STORED_BRIDGE } from './descriptors.js';
import type { StateDirectory } from './state-directory.js';
import { VERSION } from './version.js';

/** Its ending says that a next start may remove it, should this process die in between. */
const FILE = '.bridge.tmp';
/** As long as targets are kept (target-memory.ts). */
const MAX_AGE_MS = 60_000;

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

interface Stored extends Legacy {
  readonly version: string;
  readonly savedAtMs: number;
}

/** What is to be left beside the rest; nothing on a disk that is full: then frames wait until all is loaded. */
export function storedBridge(legacy: Legacy, directory: StateDirectory): Descriptor[] {
  const file = directory.path(FILE);
  try {
    rmSync(file, { force: true });
    const fd = openSync(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    unlinkSync(file);
    writeFileSync(fd, serialize({ ...legacy, version: VERSION, savedAtMs: Date.now() } satisfies Stored));
    return [{ name: STORED_BRIDGE, fd }];
  } catch {
    return [];
  }
}

/** Resolves when frames move, to how to end it; to undefined when nothing was left, or it is no good. May reject. */
export async function startStored(): Promise<((leased: Leased) => Promise<void>) | undefined> {
  const passed = new Map(passedDescriptors().map(({ name, fd }) => [name, fd]));
  const file = passed.get(STORED_BRIDGE);
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
  const threads = new BridgeThreads(
    lists.length,
    (some) => news.push(...some),
    () => fail?.(),
  );
  const carried = threads.carry(lists.map((list) => list.flatMap((command) => onThese(command, here))));
  await Promise.race([carried, failed]);
  return async (leased) => {
    await Promise.race([threads.stop(), failed]);
    news.forEach(leased);
  };
}

/** The same command with the descriptors of this process; none where they were not passed. */
function onThese(command: BareCommand, here: ReadonlyMap<number, number>): BareCommand[] {
  const of = (fd: number): number => here.get(fd) ?? -1;
  switch (command.kind) {
    case 'add-socket':
    case 'add-port':
      return of(command.fd) < 0 ? [] : [{ ...command, fd: of(command.fd) }];
    case 'add-overlay': {
      const senderFds = command.senderFds.map(of);
      return senderFds.some((fd) => fd < 0) ? [] : [{ ...command, senderFds }];
    }
    default:
      return [command];
  }
}
