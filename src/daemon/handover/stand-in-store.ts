/**
 * The stand-in over a restart by a service manager. Its orders are a file without a name among the
 * descriptors that are left to the manager. The next varpd starts its threads first of all.
 */
import { constants, fstatSync, openSync, readSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import type { LeaseNews } from '../../core/protection/dhcp-leases.js';
import type { Descriptor, Handover } from '../../datapath/contract.js';
import { onThese, StandInThreads, threadsOf } from '../../datapath/userland/main/stand-in-threads.js';
import { isRecent } from '../state/snapshot-format.js';
import type { StateDirectory } from '../state/state-directory.js';
import { passedDescriptors, STORED_STAND_IN } from './descriptors.js';
import { type Leased, ordersOf, readOrders } from './orders.js';
import type { FrameMover } from './stand-in.js';

/** The ending lets the next start remove the file, should this process die before it does. */
const FILE = '.stand-in.tmp';

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;

/**
 * A descriptor to be left beside the others; none on a disk that is full: then frames wait until all is
 * loaded.
 */
export function storedStandIn(handover: Handover, directory: StateDirectory): Descriptor[] {
  const file = directory.path(FILE);
  try {
    rmSync(file, { force: true });
    const fd = openSync(file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    unlinkSync(file);
    writeFileSync(fd, serialize(ordersOf(handover)));
    return [{ name: STORED_STAND_IN, fd }];
  } catch {
    return [];
  }
}

/**
 * Resolves when frames move; to undefined when no orders were left, or when they are too old. Rejects with an
 * Error when they cannot be read.
 */
export async function startStored(): Promise<FrameMover | undefined> {
  const passed = new Map(passedDescriptors().map(({ name, fd }) => [name, fd]));
  const file = passed.get(STORED_STAND_IN);
  if (file === undefined) return undefined;
  const bytes = new Uint8Array(fstatSync(file).size);
  readSync(file, bytes, 0, bytes.length, 0);
  const orders = readOrders(deserialize(bytes));
  if (!isRecent(orders, Date.now())) return undefined;
  const { descriptors, lists } = orders;
  const here = new Map(descriptors.map(({ name, fd }) => [fd, passed.get(name) ?? -1]));
  const news: LeaseNews[] = [];
  let fail: (() => void) | undefined;
  const failed = new Promise<void>((resolve) => (fail = resolve));
  const threads = new StandInThreads(
    threadsOf(lists),
    (some) => news.push(...some),
    () => fail?.(),
  );
  const carried = threads.carry(onThese(lists, here));
  await Promise.race([carried, failed]);
  return {
    async end(leased: Leased) {
      await Promise.race([threads.stop(), failed]);
      news.forEach(leased);
    },
    // The next attempt is a start by the service manager, which passes its copies again.
    passOn: () => undefined,
  };
}
