/**
 * Reads the lists that plugins push (`setTargets`, `invalidate`, `setPeers`, `setAllowedIps`). A list may have any
 * length, so each function is a generator that yields after some rows. All throw an AnswerError that names what was
 * found.
 */
import type { MacAddress } from '../../../plugin/contract.js';
import {
  type Destination,
  type Endpoint,
  family,
  type IpAddress,
  parse as parseIp,
} from '../../../wire/ip.js';
import { isMulticast } from '../../../wire/mac.js';
import { PlaceReader } from '../mapping/place-reader.js';
import { listOf } from '../mapping/sent-rows.js';
import { AnswerError, checkMac, checkStaleMs, checkStationIp, checkTtlMs, shown } from '../plugin-answer.js';

/** Rows that are read between two pauses. */
const STEP_ROWS = 32;
/** Far more than a host has VNICs, and addresses of one of them. */
const MAX_ALLOWED_ROWS = 65_536;
const MAX_ALLOWED_IPS = 4096;

/** Rows of `setTargets`, as columns: an object for each of a million rows would be garbage of 100 MB. */
export interface TargetColumns {
  readonly macs: MacAddress[];
  /** Without destinations the MAC, a group, is at this host in any case. */
  readonly to: (readonly Destination[])[];
  readonly ttlMs: number[];
  readonly staleMs: (number | undefined)[];
}

export function* readTargets(value: unknown, listen: Endpoint): Generator<undefined, TargetColumns> {
  const columns: TargetColumns = { macs: [], to: [], ttlMs: [], staleMs: [] };
  const places = new PlaceReader(listen);
  yield* eachOf(value, 'targets', (row) => {
    const { mac: given, to, ttlMs, staleMs } = fieldsOf(row, 'a target');
    const mac = checkMac(given);
    columns.to.push(places.read(to, isMulticast(mac)).to);
    columns.ttlMs.push(checkTtlMs(ttlMs));
    columns.staleMs.push(checkStaleMs(staleMs).staleMs);
    columns.macs.push(mac);
  });
  return columns;
}

export function* readMacs(value: unknown): Generator<undefined, MacAddress[]> {
  const macs: MacAddress[] = [];
  yield* eachOf(value, 'MACs', (row) => macs.push(checkMac(row)));
  return macs;
}

/** The addresses of the family of `listen`, without `listen` itself. */
export function* readPeers(value: unknown, listen: Endpoint): Generator<undefined, IpAddress[]> {
  const peers: IpAddress[] = [];
  yield* eachOf(value, 'addresses', (row) => {
    const peer = typeof row === 'string' ? parseIp(row) : undefined;
    if (peer === undefined) throw new AnswerError(`gave ${shown(row)} where an address was expected`);
    if (family(peer) === family(listen.ip) && peer !== listen.ip) peers.push(peer);
  });
  return peers;
}

export function* readAllowedIps(value: unknown): Generator<undefined, Map<MacAddress, readonly IpAddress[]>> {
  const allowed = new Map<MacAddress, readonly IpAddress[]>();
  let count = 0;
  yield* eachOf(value, 'rows of allowed addresses', (row) => {
    if (++count > MAX_ALLOWED_ROWS)
      throw new AnswerError(`gave more than ${MAX_ALLOWED_ROWS} rows of allowed addresses`);
    const { mac, ips } = fieldsOf(row, 'a row of allowed addresses');
    if (!Array.isArray(ips) || ips.length > MAX_ALLOWED_IPS)
      throw new AnswerError(
        `gave ${shown(ips)} where a list of at most ${MAX_ALLOWED_IPS} addresses was expected`,
      );
    allowed.set(checkMac(mac), ips.map(checkStationIp));
  });
  return allowed;
}

function* eachOf(value: unknown, what: string, read: (row: unknown) => void): Generator<undefined, void> {
  let count = 0;
  for (const row of listOf(value, what)) {
    read(row);
    if (++count % STEP_ROWS === 0) yield;
  }
}

function fieldsOf(row: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof row === 'object' && row !== null) return row as Readonly<Record<string, unknown>>;
  throw new AnswerError(`gave ${shown(row)} where ${what} was expected`);
}
