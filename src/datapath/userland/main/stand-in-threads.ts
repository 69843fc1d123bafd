/** The threads of a stand-in (daemon/handover/stand-in.ts): a datapath without a control side. It asks no
 * plugin and reports only leases. */
import { type AskedLeases, createAskedLeases } from '../../../core/protection/asked-leases.js';
import { createCounters } from '../../../core/counts/counters.js';
import type { LeaseNews } from '../../../core/protection/dhcp-leases.js';
import { createPresence, type PresenceMemory } from '../../../core/presence.js';
import { createStationMemory, type StationMemory } from '../../../core/tables/stations.js';
import type { Lists } from '../../contract.js';
import type { BareCommand, Command, Report } from '../protocol.js';
import { DatapathThread } from './thread.js';

export class StandInThreads {
  readonly #threads: readonly DatapathThread[];

  /** `leased` gets the leases that ports are granted. */
  constructor(count: number, leased: (news: readonly LeaseNews[]) => void, failed: (error: Error) => void) {
    const heard = (report: Report): void => {
      if (report.kind === 'leases') leased(report.news);
    };
    this.#threads = Array.from(
      { length: count },
      (_, index) => new DatapathThread(index, true, { heard, failed }),
    );
  }

  /** Resolves when they run. */
  async started(): Promise<void> {
    await Promise.all(this.#threads.map(({ running }) => running));
  }

  /** To be called once. Resolves when frames move, which is after all commands are obeyed. */
  async carry(lists: Lists): Promise<void> {
    const asked = new Map<string, AskedLeases>();
    const present = new Map<string, PresenceMemory>();
    const stations = new Map<number, StationMemory>();
    const complete = (command: BareCommand): Command => {
      const counted = { ...command, counters: createCounters() } as Command;
      if (counted.kind === 'add-overlay') {
        // All threads of an overlay share this memory.
        const { id } = counted.options;
        const memory = stations.get(id) ?? createStationMemory();
        stations.set(id, memory);
        return { ...counted, stations: memory };
      }
      if (counted.kind !== 'add-port') return counted;
      // All queues of a port share this memory.
      const askedLeases = asked.get(counted.name) ?? createAskedLeases();
      asked.set(counted.name, askedLeases);
      const presence = present.get(counted.name) ?? createPresence();
      present.set(counted.name, presence);
      return { ...counted, askedLeases, presence };
    };
    lists.forEach((list, index) => {
      for (const command of list) this.#threads[index].post(complete(command as BareCommand));
    });
    await this.#all((thread) => thread.request({ kind: 'begin' }));
  }

  /** Resolves when no thread uses a descriptor any more. */
  async stop(): Promise<void> {
    await this.#all((thread) => thread.stop());
  }

  async #all(work: (thread: DatapathThread) => Promise<unknown>): Promise<void> {
    await Promise.all(this.#threads.map(work));
  }
}

/** Returns how many threads the lists are for. */
export const threadsOf = (lists: Lists): number => lists.length;

/** Replaces the descriptors in the lists by those of this process; commands with a descriptor that is missing
 * here are left out. */
export function onThese(lists: Lists, here: ReadonlyMap<number, number>): Lists {
  return lists.map((list) => list.flatMap((command) => withDescriptors(command as BareCommand, here)));
}

function withDescriptors(command: BareCommand, here: ReadonlyMap<number, number>): BareCommand[] {
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
