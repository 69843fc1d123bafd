/**
 * What plugins hand over, checked before anything is done with it: they may be written in JavaScript, and a wrong
 * destination would send one network's frames to strangers.
 */
import { printable } from '../core/properties.js';
import type { Destination } from '../plugin/contract.js';
import {
  type Endpoint,
  family,
  formatEndpoint,
  type IpAddress,
  isUnspecified,
  parse as parseIp,
} from '../wire/ip.js';
import { BROADCAST } from '../wire/mac.js';
import type { LookupAnswer } from './datapath/contract.js';

/** A frame for all becomes at most this many packets: beyond it, head-end replication is the wrong tool. */
const MAX_FLOOD_DESTINATIONS = 1024;

/** Nonsense from a plugin; the message says what it was, to follow the plugin's name. */
export class AnswerError extends Error {
  override readonly name = 'AnswerError';
}

/** Any value as text for a message. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) as string | undefined);
  return printable(text ?? typeof value);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

/** Of the family of `listen`, with a port. Throws an AnswerError. */
export function checkDestination(value: unknown, listen: Endpoint): Destination {
  const { ip, port } = isRecord(value) ? value : {};
  const address = typeof ip === 'string' ? parseIp(ip) : undefined;
  if (address === undefined || isUnspecified(address) || !isPort(port))
    throw new AnswerError(`gave ${shown(value)} where an { ip, port } was expected`);
  if (family(address) !== family(listen.ip))
    throw new AnswerError(
      `gave the destination ${formatEndpoint({ ip: address, port })}, ` +
        `which is not of the same family as the listen address ${listen.ip}`,
    );
  return { ip: address, port };
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65535;
}

export function isSame(a: Endpoint, b: Endpoint): boolean {
  return a.ip === b.ip && a.port === b.port;
}

/** Milliseconds above zero; left out = for ever. Throws an AnswerError. */
export function checkTtlMs(value: unknown): number {
  if (value === undefined) return Infinity;
  if (typeof value === 'number' && value > 0) return value;
  throw new AnswerError(`gave ${shown(value)} where a ttlMs above 0 was expected`);
}

/** Throws an AnswerError. */
export function checkMac(value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= BROADCAST) return value;
  throw new AnswerError(`gave ${shown(value)} where a MAC as a 48-bit number was expected`);
}

/** Throws an AnswerError. */
export function checkPeers(value: unknown): IpAddress[] {
  if (!Array.isArray(value))
    throw new AnswerError(`gave ${shown(value)} where a list of addresses was expected`);
  return value.map((peer: unknown) => {
    const address = typeof peer === 'string' ? parseIp(peer) : undefined;
    if (address === undefined) throw new AnswerError(`gave ${shown(peer)} where an address was expected`);
    return address;
  });
}

/**
 * The answer to a lookup, as the datapath takes it. Throws an AnswerError.
 * This overlay's own listen endpoint is left out: the same mappings serve all hosts, so an entry of this host may well
 * be asked for after its port is gone, and is nobody's mistake. Sending to it would make a loop.
 */
export function checkAnswer(value: unknown, listen: Endpoint): LookupAnswer {
  const answer = isRecord(value) ? value : {};
  switch (answer['kind']) {
    case 'target':
      return toTargets([answer['to']], answer['ttlMs'], listen);
    case 'flood': {
      const { to } = answer;
      if (!Array.isArray(to) || to.length > MAX_FLOOD_DESTINATIONS)
        throw new AnswerError(
          `gave a flood answer without a list of at most ${MAX_FLOOD_DESTINATIONS} destinations`,
        );
      return toTargets(to, answer['ttlMs'], listen);
    }
    case 'drop': {
      const { ttlMs } = answer;
      return {
        kind: 'drop',
        reason: 'lookup_drop',
        ...(ttlMs !== undefined && { ttlMs: checkTtlMs(ttlMs) }),
      };
    }
    default:
      throw new AnswerError(
        `gave ${shown(value)} where an answer of kind target, flood or drop was expected`,
      );
  }
}

function toTargets(values: readonly unknown[], ttlMs: unknown, listen: Endpoint): LookupAnswer {
  const to = values.map((one) => checkDestination(one, listen)).filter((one) => !isSame(one, listen));
  const checkedTtlMs = checkTtlMs(ttlMs);
  return to.length === 0
    ? { kind: 'drop', reason: 'lookup_drop' }
    : { kind: 'target', to, ttlMs: checkedTtlMs };
}
