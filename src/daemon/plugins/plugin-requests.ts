/**
 * The calls of Host that come from a plugin process. The values are of a stranger: each method of the Host checks its
 * arguments, and an invalid one is a mistake of that instance.
 */
import type { Host } from '../../plugin/contract.js';
import type { CallId, InstanceId, RowsLine } from '../../plugin-process/messages.js';
import { complainOf } from './host/complaints.js';
import { SentRows } from './mapping/sent-rows.js';

/** Rows of lists that wait for their call: four million targets, more than any network has, and the parts that they come in,
 * each a message of 64 KiB. */
const MAX_BYTES = 512 * 1024 * 1024;
const MAX_PARTS = 16_384;
const MAX_TIMERS = 1000;

export interface RequestServices {
  readonly host: (id: InstanceId) => Host | undefined;
  /** Has a function run that the instance has given to `every`. Rejects as the function does. */
  readonly tick: (id: InstanceId, timer: number) => Promise<void>;
  readonly done: (id: CallId, value: unknown) => void;
  readonly failed: (id: CallId, error: unknown) => void;
}

export class PluginRequests {
  readonly #services: RequestServices;
  /** Rows that have come, by instance and list. */
  readonly #rows = new Map<InstanceId, Map<string, SentRows>>();
  readonly #timers = new Map<InstanceId, number>();
  #bytes = 0;
  #partCount = 0;

  constructor(services: RequestServices) {
    this.#services = services;
  }

  forget(id: InstanceId): void {
    this.dropRows(id);
    this.#timers.delete(id);
  }

  /** Throws when there are too many. */
  addRows({ instance: id, list, rows }: RowsLine): void {
    if (this.#services.host(id) === undefined) return;
    this.#bytes += rows.length;
    this.#partCount++;
    if (this.#bytes > MAX_BYTES || this.#partCount > MAX_PARTS) throw new RangeError('too many rows');
    const lists = this.#rows.get(id) ?? new Map<string, SentRows>();
    this.#rows.set(id, lists);
    const kept = lists.get(list) ?? new SentRows();
    lists.set(list, kept);
    kept.add(rows);
  }

  /** Forgets the rows that wait for their call. */
  dropRows(id: InstanceId): void {
    for (const list of this.#rows.get(id)?.keys() ?? []) this.#takeRows(id, list);
    this.#rows.delete(id);
  }

  /** Throws when the message is none. */
  tell(id: InstanceId, method: string, args: readonly unknown[]): void {
    const host = this.#services.host(id);
    if (host === undefined) return; // it has been stopped meanwhile
    try {
      this.#tell(id, host, method, args);
    } catch (error) {
      complainOf(host, error);
    }
  }

  #tell(id: InstanceId, host: Host, method: string, [first, second]: readonly unknown[]): void {
    switch (method) {
      case 'log':
        if (first === 'info' || first === 'warn' || first === 'error') host.log[first](textOf(second));
        return;
      case 'setTargets':
        host.setTargets((first === true ? this.#takeRows(id, 'targets') : first) as never);
        return;
      case 'invalidate':
        host.invalidate((first === true ? this.#takeRows(id, 'macs') : first) as never);
        return;
      case 'announce':
        host.announce(first as never, second as never);
        return;
      case 'setPeers':
        host.setPeers(this.#takeRows(id, 'peers') as never);
        return;
      case 'setAllowedIps':
        host.setAllowedIps(first === false ? undefined : (this.#takeRows(id, 'allowed') as never));
        return;
      case 'degrade':
        host.degrade(textOf(first));
        return;
      case 'restore':
        host.restore();
        return;
      case 'inForce':
        host.inForce(first as never, second as never);
        return;
      case 'remark':
        host.remark(textOf(first));
        return;
      case 'note':
        host.note(first === undefined ? undefined : textOf(first));
        return;
      case 'every': {
        const count = (this.#timers.get(id) ?? 0) + 1;
        if (typeof first !== 'number' || typeof second !== 'number' || !(second > 0) || count > MAX_TIMERS)
          throw new TypeError('gave no timer');
        this.#timers.set(id, count);
        host.every(second, () => this.#services.tick(id, first));
        return;
      }
      default:
        throw new TypeError(`called ${method.slice(0, 20)}, which a host has not`);
    }
  }

  /** Throws when the message is none. */
  ask(call: CallId, id: InstanceId, method: string, args: readonly unknown[]): void {
    const { host: hostOf, done, failed } = this.#services;
    const host = hostOf(id);
    const answer = host === undefined ? Promise.reject(gone()) : this.#answer(id, host, method, args);
    answer.then(
      (value) => {
        done(call, value);
      },
      (error: unknown) => {
        failed(call, error);
      },
    );
  }

  async #answer(
    id: InstanceId,
    host: Host,
    method: string,
    [first, second]: readonly unknown[],
  ): Promise<unknown> {
    if (method === 'secret') return host.secret(textOf(first));
    if (method !== 'replaceAll' && method !== 'changeSnapshot') throw new TypeError('no method of a host');
    const lists = Array.isArray(second) ? second.map(String) : [];
    const rows = Object.fromEntries(lists.map((list) => [list, this.#takeRows(id, list)]));
    return host[method]({ ...rows, revision: first } as never);
  }

  #takeRows(id: InstanceId, list: string): SentRows {
    const lists = this.#rows.get(id);
    const rows = lists?.get(list) ?? new SentRows();
    lists?.delete(list);
    this.#bytes -= rows.bytes;
    this.#partCount -= rows.partCount;
    return rows;
  }
}

const gone = (): Error => new Error('the instance has been stopped');

/** Throws when it is none. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new TypeError('gave something else than a text');
}
