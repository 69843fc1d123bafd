/**
 * Checks the values that plugins hand over before they are used. A plugin may be written in JavaScript, and a
 * wrong destination would send the frames of one network to strangers.
 */
import { isStation } from '../../core/proxy/proxy-frame.js';
import type { LookupAnswer } from '../../datapath/contract.js';
import { printable } from '../../model/properties.js';
import { otherFamily } from '../../model/sentences.js';
import type { ProxyKind } from '../../plugin/contract.js';
import { MAX_FLOOD_DESTINATIONS } from '../../plugin/proxy-kind.js';
import {
  type Destination,
  type Endpoint,
  family,
  formatEndpoint,
  type IpAddress,
  isSameEndpoint,
  isStationIp,
  isUnspecified,
  parse as parseIp,
} from '../../wire/ip.js';
import { BROADCAST } from '../../wire/mac.js';

/** An invalid value from a plugin. The message says what the plugin did, to follow the plugin's name. */
export class AnswerError extends Error {
  override readonly name = 'AnswerError';
}

const SHOWN_MEMBERS = 4;
const SHOWN_CHARACTERS = 100;

/** Any value as text for a message. Never fails, and takes the same time whatever the size of the value. */
export function shown(value: unknown): string {
  try {
    if (typeof value === 'string') return printable(`'${value.slice(0, SHOWN_CHARACTERS)}'`);
    if (value === undefined || typeof value === 'function') return typeof value;
    return printable(JSON.stringify(outline(value, 2)));
  } catch {
    return `a value of type ${typeof value}`;
  }
}

/** The first members of a value, down to some depth. */
function outline(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return value.slice(0, SHOWN_CHARACTERS);
  if (typeof value === 'bigint' || typeof value === 'symbol') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value))
    return depth === 0 ? '...' : value.slice(0, SHOWN_MEMBERS).map((one) => outline(one, depth - 1));
  if (depth === 0) return '...';
  const members: [string, unknown][] = [];
  for (const key in value) {
    if (members.length === SHOWN_MEMBERS) break;
    members.push([key, outline((value as Readonly<Record<string, unknown>>)[key], depth - 1)]);
  }
  return Object.fromEntries(members);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

/** A destination of the address family of `listen`, with a port. Throws an AnswerError. */
export function checkDestination(value: unknown, listen: Endpoint): Destination {
  const to = checkPlace(value);
  if (family(to.ip) !== family(listen.ip))
    throw new AnswerError(`gave the destination ${otherFamily(`${formatEndpoint(to)}, which`, listen.ip)}`);
  return to;
}

/** An address of any family, with a port. Throws an AnswerError. */
export function checkPlace(value: unknown): Destination {
  const { ip, port } = isRecord(value) ? value : {};
  const address = typeof ip === 'string' ? parseIp(ip) : undefined;
  if (address === undefined || isUnspecified(address) || !isPort(port))
    throw new AnswerError(`gave ${shown(value)} where an { ip, port } was expected`);
  return { ip: address, port };
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65535;
}

/** Milliseconds above zero; `leftOutMs` when left out. Throws an AnswerError. */
export function checkTtlMs(value: unknown, leftOutMs = Infinity): number {
  if (value === undefined) return leftOutMs;
  if (typeof value === 'number' && value > 0) return value;
  throw new AnswerError(`gave ${shown(value)} where a ttlMs above 0 was expected`);
}

/** Throws an AnswerError. */
export function checkMac(value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= BROADCAST) return value;
  throw new AnswerError(`gave ${shown(value)} where a MAC as a 48-bit number was expected`);
}

/** The MAC of one station: neither a group nor zero. Throws an AnswerError. */
export function checkStation(value: unknown): number {
  const mac = checkMac(value);
  if (isStation(mac)) return mac;
  throw new AnswerError(`gave ${shown(value)} where the MAC of one station was expected`);
}

/** An address that one station can have. Throws an AnswerError. */
export function checkStationIp(value: unknown): IpAddress {
  const ip = typeof value === 'string' ? parseIp(value) : undefined;
  if (ip !== undefined && isStationIp(ip)) return ip;
  throw new AnswerError(`gave ${shown(value)} where the address of one station was expected`);
}

/** Milliseconds; undefined when left out. Throws an AnswerError. */
export function checkStaleMs(value: unknown): { readonly staleMs?: number } {
  if (value === undefined) return {};
  if (typeof value === 'number' && value >= 0) return { staleMs: value };
  throw new AnswerError(`gave ${shown(value)} where a staleMs of 0 or more was expected`);
}

/** The destination, or the flood list, of a target that is pushed. Throws an AnswerError. */
export function checkPushedPlace(to: unknown, listen: Endpoint, isGroup: boolean): Destination[] {
  const all = (Array.isArray(to) ? checkList(to, 'flood') : [to]).map((one) => checkDestination(one, listen));
  return isGroup ? others(all, listen) : all;
}

/** The checked answer to a lookup: one for the datapath, or work for a proxy. */
export type CheckedAnswer =
  | LookupAnswer
  | { readonly kind: 'proxy'; readonly what: ProxyKind; readonly otherwise: readonly Destination[] };

/**
 * Checks the answer to a lookup; `isGroup`: the lookup is about one frame to a group MAC. Throws an
 * AnswerError.
 *
 * This overlay's own listen endpoint as a target says that the MAC lives at this host: behind the VNIC that
 * has it, else behind the own interface. For a frame to a group it is left out, since ports of this host have
 * had their copy.
 */
export function checkAnswer(value: unknown, listen: Endpoint, isGroup = false): CheckedAnswer {
  const answer = isRecord(value) ? value : {};
  // The answer holds for one frame: the next frame to the same group may be another kind of question.
  const leftOutMs = isGroup ? 0 : Infinity;
  switch (answer['kind']) {
    case 'target':
      return toTargets([answer['to']], ageOf(answer, leftOutMs), listen, isGroup);
    case 'flood':
      return toTargets(checkList(answer['to'], 'flood'), ageOf(answer, leftOutMs), listen, isGroup);
    case 'drop': {
      const { ttlMs } = answer;
      return {
        kind: 'drop',
        reason: 'lookup_drop',
        ...(ttlMs !== undefined && { ttlMs: checkTtlMs(ttlMs) }),
      };
    }
    case 'proxy': {
      const { what, otherwise = [] } = answer;
      if (!isGroup)
        throw new AnswerError(`gave ${shown(value)} for a unicast MAC: only broadcasts are proxied`);
      if (what !== 'arp' && what !== 'ndp' && what !== 'dhcp')
        throw new AnswerError(`gave ${shown(value)} where a proxy of arp, ndp or dhcp was expected`);
      return { kind: 'proxy', what, otherwise: elsewhere(checkList(otherwise, 'proxy'), listen) };
    }
    default:
      throw new AnswerError(
        `gave ${shown(value)} where an answer of kind target, flood, proxy or drop was expected`,
      );
  }
}

function checkList(value: unknown, kind: string): readonly unknown[] {
  if (Array.isArray(value) && value.length <= MAX_FLOOD_DESTINATIONS) return value;
  throw new AnswerError(
    `gave a ${kind} answer without a list of at most ${MAX_FLOOD_DESTINATIONS} destinations`,
  );
}

function elsewhere(values: readonly unknown[], listen: Endpoint): Destination[] {
  return others(
    values.map((one) => checkDestination(one, listen)),
    listen,
  );
}

/** Leaves out this host: its ports have had their copy of a frame to a group. */
function others(destinations: readonly Destination[], listen: Endpoint): Destination[] {
  return destinations.filter((one) => !isSameEndpoint(one, listen));
}

interface CheckedAge {
  readonly ttlMs: number;
  readonly staleMs?: number;
}

function ageOf(answer: Readonly<Record<string, unknown>>, leftOutMs: number): CheckedAge {
  return { ttlMs: checkTtlMs(answer['ttlMs'], leftOutMs), ...checkStaleMs(answer['staleMs']) };
}

function toTargets(
  values: readonly unknown[],
  age: CheckedAge,
  listen: Endpoint,
  isGroup: boolean,
): LookupAnswer {
  const to = isGroup ? elsewhere(values, listen) : values.map((one) => checkDestination(one, listen));
  return to.length === 0 ? { kind: 'drop', reason: 'lookup_drop' } : { kind: 'target', to, ...age };
}
