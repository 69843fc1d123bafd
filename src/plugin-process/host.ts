/**
 * The Host of one instance, in the plugin's process: checks the arguments of each call and sends it to varpd. Long lists
 * go in parts, so that no message keeps varpd busy, and in slices (calls.ts), so that none keeps this process busy.
 */
import type { Host, PluginLog, Snapshot, SnapshotChange } from '../plugin/contract.js';
import type { IpAddress } from '../wire/ip.js';
import {
  checkAddress,
  checkAllowed,
  checkIp,
  checkList,
  checkRows,
  checkMac,
  checkStation,
  checkStationIp,
  checkTarget,
  checkText,
} from './arguments.js';
import { Calls, type Channel, type Lines } from './calls.js';
import { type HostFacts, type InstanceId, MAX_LINE_CHARACTERS, rowsLine } from './messages.js';

/** A part of a list is a quarter of the longest line; one more row fits in the rest. */
const PART_CHARACTERS = MAX_LINE_CHARACTERS / 4;
/** A part with less text is an argument of its call. */
const INLINE_CHARACTERS = 4096;
const MAX_TIMERS = 1000;
/** Rows after which a slice may end. */
const STEP_ROWS = 32;

/** The way to varpd. */
export interface Outlet extends Channel {
  /** Sends a call with a result; rejects as varpd does. */
  readonly ask: (instance: InstanceId, method: string, args: readonly unknown[]) => Promise<unknown>;
}

/** A function that `every` was given. */
export type Tick = () => void | Promise<void>;

/** Rows, and what makes plain data of one. Throws a TypeError for a row that is invalid. */
interface List {
  readonly rows: Iterable<unknown>;
  readonly check: (row: unknown) => unknown;
}

/** The texts of rows, joined to parts that fit into a message, each made to a line by `line`. */
function* partsOf({ rows, check }: List, line: (part: string) => string): Lines {
  let part: string[] = [];
  let characters = 0;
  let index = 0;
  for (const row of rows) {
    const text = JSON.stringify(check(row));
    if (text.length > MAX_LINE_CHARACTERS / 2)
      throw new RangeError(`a row of ${text.length} characters is too long`);
    part.push(text);
    characters += text.length + 1;
    if (characters >= PART_CHARACTERS) {
      yield line(part.join(','));
      part = [];
      characters = 0;
    } else if (++index % STEP_ROWS === 0) yield undefined;
  }
  if (part.length > 0) yield line(part.join(','));
}

export function makeLog(id: InstanceId, { send }: Outlet): PluginLog {
  const say = (level: 'info' | 'warn' | 'error') => (message: string) => {
    send(JSON.stringify(['tell', id, 'log', [level, checkText(`log.${level}`, message)]]));
  };
  return { info: say('info'), warn: say('warn'), error: say('error') };
}

export function makeSecret(id: InstanceId, { ask }: Outlet): Host['secret'] {
  return async (name) => (await ask(id, 'secret', [checkText('secret', name)])) as string;
}

export interface OwnHost {
  readonly host: Host;
  /** By the number that varpd has for each. */
  readonly ticks: readonly Tick[];
}

/** `signal` is aborted at the end of the instance. After that a call changes nothing. */
export function makeHost(
  id: InstanceId,
  { overlay, vnetid, listen }: HostFacts,
  stateDir: string,
  signal: AbortSignal,
  outlet: Outlet,
): OwnHost {
  const { ask } = outlet;
  const calls = new Calls(outlet, signal);
  const ticks: Tick[] = [];
  const endpoint = { ip: listen.ip as IpAddress, port: listen.port };
  const tell = (method: string, ...args: readonly unknown[]): void => {
    if (signal.aborted) return;
    const text = JSON.stringify(['tell', id, method, args]);
    calls.tell(
      (function* () {
        yield text;
      })(),
    );
  };
  /** Checks and copies every row at once, so that the plugin's stack shows its mistake, and the list is that of the call. */
  const checkedList = (method: string, value: unknown, what: string, check: List['check']): List => {
    const rows = [...checkList(method, value, what)].map(check);
    return { rows, check: (row) => row };
  };
  /** Sends the list in independent calls. The rows of a long one stay text until varpd comes to that call. */
  const tellEach = (method: string, name: string, list: List): void => {
    if (signal.aborted) return;
    const call = (rows: string): string => `["tell",${id},${JSON.stringify(method)},[${rows}]]`;
    calls.tell(
      partsOf(list, (part) =>
        part.length < INLINE_CHARACTERS ? call(`[${part}]`) : `${rowsLine(id, name, part)}\n${call('true')}`,
      ),
    );
  };
  /** The lines of a list that belongs to the next call. */
  const rowsOf = (name: string, list: List): Lines => partsOf(list, (part) => rowsLine(id, name, part));
  /** Sends the list, and the call that it belongs to. */
  const tellList = (method: string, name: string, list: List, ...args: readonly unknown[]): void => {
    if (signal.aborted) return;
    calls.tell(
      (function* () {
        yield* rowsOf(name, list);
        yield JSON.stringify(['tell', id, method, args]);
      })(),
    );
  };
  const askDifference = async (
    method: string,
    lists: Readonly<Record<string, List>>,
    revision: unknown,
  ): Promise<never> => {
    const text = checkText(method, revision);
    if (signal.aborted) throw new Error(`${method}: the instance has been stopped`);
    let answer: Promise<unknown> | undefined;
    const lines = function* (): Lines {
      try {
        for (const [name, list] of Object.entries(lists)) yield* rowsOf(name, list);
      } catch (error) {
        yield JSON.stringify(['discard', id]);
        throw error;
      }
      answer = ask(id, method, [text, Object.keys(lists)]);
    };
    await calls.send(lines());
    return (await answer) as never;
  };
  const host: Host = {
    overlay,
    vnetid,
    listen: endpoint,
    log: makeLog(id, outlet),
    signal,
    stateDir,
    now: () => performance.now(),
    every: (ms, fn) => {
      if (typeof ms !== 'number' || !(ms > 0))
        throw new TypeError('every: milliseconds above 0 were expected');
      if (typeof fn !== 'function') throw new TypeError('every: a function was expected');
      if (ticks.length >= MAX_TIMERS)
        throw new RangeError(`every: there are ${MAX_TIMERS} timers of this instance already`);
      ticks.push(fn);
      tell('every', ticks.length - 1, ms);
    },
    secret: makeSecret(id, outlet),
    setTargets: (targets) => {
      const method = 'setTargets';
      tellEach(
        method,
        'targets',
        checkedList(method, targets, 'targets', (row) => checkTarget(method, row, endpoint)),
      );
    },
    invalidate: (macs) => {
      const method = 'invalidate';
      if (macs === undefined) tell(method);
      else
        tellEach(
          method,
          'macs',
          checkedList(method, macs, 'MACs', (mac) => checkMac(method, mac)),
        );
    },
    replaceAll: async ({ targets, addresses, revision }: Snapshot) => {
      const method = 'replaceAll';
      return askDifference(
        method,
        {
          targets: {
            rows: checkRows(method, targets, 'targets'),
            check: (row) => checkTarget(method, row, endpoint),
          },
          addresses: {
            rows: checkRows(method, addresses, 'addresses'),
            check: (row) => checkAddress(method, row),
          },
        },
        revision,
      );
    },
    changeSnapshot: async (change: SnapshotChange) => {
      const method = 'changeSnapshot';
      const { targets = [], removedMacs = [], addresses = [], removedIps = [], revision } = change;
      return askDifference(
        method,
        {
          targets: checkedList(method, targets, 'targets', (row) => checkTarget(method, row, endpoint)),
          removedMacs: checkedList(method, removedMacs, 'MACs', (mac) => checkMac(method, mac)),
          addresses: checkedList(method, addresses, 'addresses', (row) => checkAddress(method, row)),
          removedIps: checkedList(method, removedIps, 'addresses', (ip) => checkIp(method, ip)),
        },
        revision,
      );
    },
    announce: (ip, mac) => {
      tell('announce', checkStationIp('announce', ip), checkStation('announce', mac));
    },
    setPeers: (peers) => {
      const method = 'setPeers';
      tellList(
        method,
        'peers',
        checkedList(method, peers, 'addresses', (ip) => checkIp(method, ip)),
      );
    },
    setAllowedIps: (given) => {
      const method = 'setAllowedIps';
      if (given === undefined) {
        tell(method, false);
        return;
      }
      const check = (row: unknown): unknown => checkAllowed(method, row);
      tellList(method, 'allowed', checkedList(method, given, 'rows of allowed addresses', check), true);
    },
    degrade: (sentence) => {
      tell('degrade', checkText('degrade', sentence));
    },
    restore: () => {
      tell('restore');
    },
    inForce: (revision, entries) => {
      if (!Number.isSafeInteger(entries) || entries < 0)
        throw new TypeError('inForce: a number of entries was expected');
      tell('inForce', checkText('inForce', revision), entries);
    },
    remark: (sentence) => {
      tell('remark', checkText('remark', sentence));
    },
    note: (sentence) => {
      if (sentence === undefined) tell('note');
      else tell('note', checkText('note', sentence));
    },
  };
  return { host, ticks };
}
