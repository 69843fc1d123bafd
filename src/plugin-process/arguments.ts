/**
 * Checks the arguments of Host methods in the plugin's own call, so that the plugin's stack shows its mistake. varpd
 * checks them again: this process may be told to send anything.
 */
import type { Address, AllowedIps, Destination, IpText, MacAddress, Target } from '../plugin/contract.js';
import { type Endpoint, family, isStationIp, isUnspecified, parse as parseIp } from '../wire/ip.js';
import { BROADCAST, isMulticast } from '../wire/mac.js';
import { MAX_TEXT_CHARACTERS } from './messages.js';

const MAX_SHOWN_CHARACTERS = 100;

function wrong(method: string, value: unknown, expected: string): TypeError {
  return new TypeError(`${method}: gave ${shown(value)} where ${expected} was expected`);
}

function shown(value: unknown): string {
  try {
    const text = typeof value === 'string' ? `'${value}'` : (JSON.stringify(value) as string | undefined);
    return (text ?? typeof value).slice(0, MAX_SHOWN_CHARACTERS);
  } catch {
    return `a value of type ${typeof value}`;
  }
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined;
}

export function checkList(method: string, value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value as readonly unknown[];
  throw wrong(method, value, `a list of ${what}`);
}

/** The rows of a snapshot may come out of a generator, and are read one by one. */
export function checkRows(method: string, value: unknown, what: string): Iterable<unknown> {
  if (typeof value === 'object' && value !== null && Symbol.iterator in value)
    return value as Iterable<unknown>;
  throw wrong(method, value, `a list of ${what}`);
}

export function checkMac(method: string, value: unknown): MacAddress {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= BROADCAST) return value;
  throw wrong(method, value, 'a MAC as a 48-bit number');
}

export function checkStation(method: string, value: unknown): MacAddress {
  const mac = checkMac(method, value);
  if (mac !== 0 && !isMulticast(mac)) return mac;
  throw wrong(method, value, 'the MAC of one station');
}

export function checkIp(method: string, value: unknown): IpText {
  const ip = typeof value === 'string' ? parseIp(value) : undefined;
  if (ip !== undefined) return ip;
  throw wrong(method, value, 'an address');
}

export function checkStationIp(method: string, value: unknown): IpText {
  const ip = typeof value === 'string' ? parseIp(value) : undefined;
  if (ip !== undefined && isStationIp(ip)) return ip;
  throw wrong(method, value, 'the address of one station');
}

export function checkText(method: string, value: unknown): string {
  if (typeof value === 'string') return value.slice(0, MAX_TEXT_CHARACTERS);
  throw wrong(method, value, 'a text');
}

function checkAge(method: string, row: unknown, name: 'ttlMs' | 'staleMs'): number | undefined {
  const value = memberOf(row, name);
  if (value === undefined) return undefined;
  const isGood = typeof value === 'number' && (name === 'ttlMs' ? value > 0 : value >= 0);
  if (isGood) return Math.min(value, Number.MAX_VALUE);
  throw wrong(method, value, `a ${name} ${name === 'ttlMs' ? 'above 0' : 'of 0 or more'}`);
}

function checkDestination(method: string, value: unknown, listen: Endpoint): Destination {
  const [ip, port] = [memberOf(value, 'ip'), memberOf(value, 'port')];
  const address = typeof ip === 'string' ? parseIp(ip) : undefined;
  if (address === undefined || isUnspecified(address) || !isPort(port))
    throw wrong(method, value, 'an { ip, port }');
  if (family(address) !== family(listen.ip))
    throw wrong(method, value, `an address of the family of ${listen.ip}`);
  return { ip: address, port };
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65535;
}

/** The row itself, without other members. */
export function checkTarget(method: string, row: unknown, listen: Endpoint): Target {
  const mac = checkMac(method, memberOf(row, 'mac'));
  const to = memberOf(row, 'to');
  const ttlMs = checkAge(method, row, 'ttlMs');
  const staleMs = checkAge(method, row, 'staleMs');
  return {
    mac,
    to: Array.isArray(to)
      ? to.map((one) => checkDestination(method, one, listen))
      : checkDestination(method, to, listen),
    ...(ttlMs !== undefined && { ttlMs }),
    ...(staleMs !== undefined && { staleMs }),
  };
}

export function checkAddress(method: string, row: unknown): Address {
  return {
    ip: checkStationIp(method, memberOf(row, 'ip')),
    mac: checkStation(method, memberOf(row, 'mac')),
  };
}

export function checkAllowed(method: string, row: unknown): AllowedIps {
  const ips = checkList(method, memberOf(row, 'ips'), 'addresses').map((ip) => checkStationIp(method, ip));
  return { mac: checkMac(method, memberOf(row, 'mac')), ips };
}
