/**
 * The interfaces, addresses and routes of an attachment, in the words of the CNI specification 1.1.0 (section 5, Success),
 * and in those of older versions.
 */
import * as z from 'zod';
import { errorText } from '../model/errors.js';
import { type IpAddress, isV4, parse, V4_BITS, V6_BITS } from '../wire/ip.js';
import { CniError, CODE } from './errors.js';
import { isAtLeast, type Version } from './request.js';

const whole = z.int().min(0).optional();

/** Members that are not known are those of other plugins, and stay. */
const RESULT = z.looseObject({
  interfaces: z
    .array(
      z.looseObject({
        name: z.string(),
        mac: z.string().optional(),
        mtu: whole,
        sandbox: z.string().optional(),
      }),
    )
    .default([]),
  ips: z
    .array(z.looseObject({ address: z.string(), gateway: z.string().optional(), interface: whole }))
    .default([]),
  routes: z
    .array(
      z.looseObject({
        dst: z.string(),
        gw: z.string().optional(),
        mtu: whole,
        advmss: whole,
        priority: whole,
        table: whole,
        scope: whole,
      }),
    )
    .default([]),
  dns: z.looseObject({}).default({}),
});
export type CniResult = z.infer<typeof RESULT>;
export type CniIp = CniResult['ips'][number];
export type CniRoute = CniResult['routes'][number];

export const EMPTY: CniResult = { interfaces: [], ips: [], routes: [], dns: {} };

/** `from`: the program or the member that the result is of. Throws a CniError. */
export function readResult(value: unknown, from: string): CniResult {
  const parsed = RESULT.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new CniError(CODE.DECODE, `${from} cannot be read`, `${path.join('.')}: ${message}`);
}

/** Throws a CniError. */
export function parseResult(text: string, from: string): CniResult {
  try {
    return readResult(JSON.parse(text), from);
  } catch (error) {
    if (error instanceof CniError) throw error;
    throw new CniError(CODE.DECODE, `${from} cannot be read`, errorText(error));
  }
}

/** The result of a plugin before this one in the chain, and behind it that of this one. */
export function joined(before: CniResult, own: CniResult): CniResult {
  const offset = before.interfaces.length;
  const ips = own.ips.map((ip) => ({ ...ip, interface: (ip.interface ?? 0) + offset }));
  return {
    ...before,
    ...own,
    interfaces: [...before.interfaces, ...own.interfaces],
    ips: [...before.ips, ...ips],
    routes: [...before.routes, ...own.routes],
    dns: { ...before.dns, ...own.dns },
  };
}

const withoutMtu = (one: CniResult['interfaces'][number]) => ({ ...one, mtu: undefined });

/** Writes a result as a version has it: before 1.0.0 an address says its family, and before 1.1.0 an interface has no MTU. */
export function writeResult(version: Version, { interfaces, ips, ...rest }: CniResult): string {
  const shown = {
    ...rest,
    cniVersion: version,
    interfaces: isAtLeast(version, '1.1.0') ? interfaces : interfaces.map(withoutMtu),
    ips: isAtLeast(version, '1.0.0')
      ? ips
      : ips.map((ip) => ({ ...ip, version: ip.address.includes(':') ? '6' : '4' })),
  };
  return `${JSON.stringify(shown, null, 4)}\n`;
}

export interface Network {
  readonly ip: IpAddress;
  readonly bits: number;
}

/** Reads an address, or a destination, with the length of its prefix. Throws a CniError. */
export function readNetwork(text: string): Network {
  const [, address = '', length = ''] = /^([^/]*)\/([0-9]{1,3})$/.exec(text) ?? [];
  const ip = parse(address);
  const bits = Number(length);
  if (ip === undefined || bits > (isV4(ip) ? V4_BITS : V6_BITS))
    throw new CniError(CODE.DECODE, `'${text}' is no address with the length of its prefix`);
  return { ip, bits };
}

/** Throws a CniError. */
export function readAddress(text: string): IpAddress {
  const ip = parse(text);
  if (ip === undefined) throw new CniError(CODE.DECODE, `'${text}' is no IP address`);
  return ip;
}
