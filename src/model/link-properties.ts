/**
 * Link properties: `set-linkprop` sets them on a VNIC, at any time. They are lists of words, as in dladm(8)
 * of illumos. Text is read strictly and kept in its canonical spelling. The control side decides which values
 * are in force, since leases and the plugin take part in that.
 */
import { write16, write32 } from '../wire/bytes.js';
import {
  type IpAddress,
  isStationIp,
  isV4,
  parse as parseIp,
  type Prefix,
  toBytes,
  V4_BITS,
  V6_BITS,
} from '../wire/ip.js';
import { BYTES as MAC_BYTES, parseMac, writeMac } from '../wire/mac.js';
import { foundExpected, printable, type Problem, problemsError } from './properties.js';
import { failedToSet, GIVEN_TWICE, oneOf } from './sentences.js';
import { unknownProperty } from './suggest.js';

/** As typed: name and values. */
export type GivenLinkProperty = readonly [name: string, values: readonly string[]];

/** Name -> values in canonical spelling, for properties that are set. */
export type LinkValues = ReadonlyMap<string, readonly string[]>;

export interface LinkPropertySpec {
  readonly name: string;
  /** Text for docs/protection.md. */
  readonly about: string;
  readonly default: readonly string[];
  /** Null: too many values to list. */
  readonly possible: readonly string[] | null;
  readonly maxValues: number;
  readonly expected: string;
  /** Returns a value in its canonical spelling; undefined if the text is invalid. */
  readonly read: (text: string) => string | undefined;
}

/** Value of `protection` -> the frames that it lets pass. */
export const PROTECTION_TYPES = {
  'mac-nospoof':
    'its own MAC alone: as the source of a frame, as the sender of ARP, as sender and target of RARP, and in every link-layer address option of neighbour discovery (router and neighbour solicitations and advertisements, redirects, inverse discovery)',
  restricted: 'IPv4, IPv6 and ARP alone',
  'ip-nospoof':
    'IPv4, IPv6, ARP, RARP and neighbour discovery from, and for, its own addresses alone; no message that only routers send, and no inverse discovery',
  'dhcp-nospoof':
    'DHCP and DHCPv6 as a client alone, with its MAC in `chaddr`, and a client id or DUID made of its MAC, none, or a listed one; no message that a server or a relay sends or adds to',
} as const;
export type Protection = keyof typeof PROTECTION_TYPES;
export const PROTECTIONS = Object.keys(PROTECTION_TYPES) as readonly Protection[];

const MAX_LISTED = 32; // illumos mac, MPT_MAXIPADDR and MPT_MAXCID
const MAX_CLIENT_ID_BYTES = 255; // RFC 2132 2: the length of an option is one byte

/** Methods by which leased addresses are allowed in addition to those of `allowed-ips`. */
export const DYNAMIC_METHODS = ['dhcpv4', 'dhcpv6'] as const;
const BOOLEAN = ['true', 'false'] as const;

export const LINK_PROPERTIES: readonly LinkPropertySpec[] = [
  words('protection', PROTECTIONS, 'The frames that the VNIC may send.'),
  {
    name: 'allowed-ips',
    about: 'Its own addresses, for `ip-nospoof`.',
    default: [],
    possible: null,
    maxValues: MAX_LISTED,
    expected: 'an address of one station, or a prefix such as 192.0.2.0/24 without bits behind it',
    read: (text) => {
      const prefix = parsePrefix(text);
      return prefix && formatPrefix(prefix);
    },
  },
  words(
    'dynamic-methods',
    DYNAMIC_METHODS,
    'Leased addresses are its own too. Without `allowed-ips` they are in any case.',
  ),
  {
    name: 'allowed-dhcp-cids',
    about: 'Client ids and DUIDs that `dhcp-nospoof` lets pass.',
    default: [],
    possible: null,
    maxValues: MAX_LISTED,
    expected:
      'hexadecimal digits in pairs behind 0x, a DUID (1.hardware.time.mac, 2.enterprise.hex or 3.hardware.mac), ' +
      `or 1 to ${MAX_CLIENT_ID_BYTES} bytes of other text`,
    read: (text) => (parseClientId(text) === undefined ? undefined : text),
  },
  {
    ...words(
      'allow-all-dhcp-cids',
      BOOLEAN,
      'Whether `dhcp-nospoof` lets every client id and DUID pass: systemd-networkd and NetworkManager make their own.',
    ),
    default: ['false'],
    maxValues: 1,
  },
];

export const LINK_PROPERTY_NAMES = LINK_PROPERTIES.map(({ name }) => name);

function words(name: string, possible: readonly string[], about: string): LinkPropertySpec {
  return {
    name,
    about,
    default: [],
    possible,
    maxValues: possible.length,
    expected: oneOf(possible),
    read: (text) => (possible.includes(text) ? text : undefined),
  };
}

/** Throws an OverlayError; its details have one line for every property that is wrong. */
export function readLinkValues(given: readonly GivenLinkProperty[]): LinkValues {
  const values = new Map<string, readonly string[]>();
  const problems: Problem[] = [];
  for (const [name, texts] of given) {
    const problem = (what: string): void => {
      problems.push({ code: 'INVALID', line: failedToSet(printable(name), what) });
    };
    const spec = LINK_PROPERTIES.find((one) => one.name === name);
    if (spec === undefined) {
      problems.push({
        code: 'NOT_FOUND',
        line: failedToSet(printable(name), unknownProperty(name, LINK_PROPERTY_NAMES)),
      });
    } else if (values.has(name)) problem(GIVEN_TWICE);
    else if (texts.length === 0 || texts.length > spec.maxValues)
      problem(`found ${texts.length} values, expected 1 to ${spec.maxValues}`);
    else values.set(name, readList(spec, texts, problem));
  }
  if (problems.length > 0) throw problemsError(problems);
  return values;
}

function readList(
  { possible, expected, read }: LinkPropertySpec,
  texts: readonly string[],
  problem: (what: string) => void,
): readonly string[] {
  const list: string[] = [];
  for (const text of texts) {
    const value = read(text);
    if (value === undefined) problem(foundExpected(text, expected));
    else if (list.includes(value)) problem(`'${printable(text)}' is given twice`);
    else list.push(value);
  }
  return possible === null ? list : possible.filter((word) => list.includes(word));
}

/** Throws an OverlayError if a name is not that of a property. */
export function checkLinkNames(names: readonly string[]): void {
  const unknown = names.filter((name) => !LINK_PROPERTIES.some((spec) => spec.name === name));
  if (unknown.length === 0) return;
  throw problemsError(
    unknown.map((name) => ({
      code: 'NOT_FOUND',
      line: `${printable(name)}: ${unknownProperty(name, LINK_PROPERTY_NAMES)}`,
    })),
  );
}

export function valuesOf(values: LinkValues, name: string): readonly string[] {
  return values.get(name) ?? LINK_PROPERTIES.find((spec) => spec.name === name)?.default ?? [];
}

// -- Addresses

const PREFIX = /^([^/]+)(?:\/([1-9][0-9]{0,2}))?$/;

/** Reads an address, or a subnet: an address with `/bits`, after which all its bits are zero. */
export function parsePrefix(text: string): Prefix | undefined {
  const [, address, length = ''] = PREFIX.exec(text) ?? ['', ''];
  const ip = parseIp(address);
  if (ip === undefined) return undefined;
  const most = isV4(ip) ? V4_BITS : V6_BITS;
  const bits = length === '' ? most : Number(length);
  if (bits === most) return isStationIp(ip) ? { ip, bits } : undefined;
  return bits < most && isNetwork(ip, bits) ? { ip, bits } : undefined;
}

export function formatPrefix({ ip, bits }: Prefix): string {
  return bits === (isV4(ip) ? V4_BITS : V6_BITS) ? ip : `${ip}/${bits}`;
}

/** Returns whether all bits after the leading ones are zero. */
function isNetwork(ip: IpAddress, bits: number): boolean {
  const first = isV4(ip) ? V6_BITS - V4_BITS + bits : bits;
  return toBytes(ip).every((byte, at) => (byte & (0xff >> Math.min(8, Math.max(0, first - 8 * at)))) === 0);
}

// -- Client ids

const HEX = /^0x((?:[0-9a-f]{2})+)$/i;
const DUID_LLT = /^1\.(\d{1,5})\.(\d{1,10})\.([0-9a-f:]+)$/i;
const DUID_EN = /^2\.(\d{1,10})\.((?:[0-9a-f]{2})+)$/i;
const DUID_LL = /^3\.(\d{1,5})\.([0-9a-f:]+)$/i;
/** A text that begins like one of the above is meant as one. */
const TYPED = /^(?:0x|\d+\.)/i;
const CONTROL = /\p{Cc}/u;

/** Returns the bytes as they are in the packet. */
export function parseClientId(text: string): Uint8Array | undefined {
  const bytes = clientIdBytes(text);
  return bytes === undefined || bytes.length === 0 || bytes.length > MAX_CLIENT_ID_BYTES ? undefined : bytes;
}

function clientIdBytes(text: string): Uint8Array | undefined {
  const hex = HEX.exec(text);
  if (hex !== null) return fromHex(hex[1]);
  const llt = DUID_LLT.exec(text);
  if (llt !== null) return linkLayerDuid(1, llt[1], llt[2], llt[3]);
  const ll = DUID_LL.exec(text);
  if (ll !== null) return linkLayerDuid(3, ll[1], undefined, ll[2]);
  const enterprise = DUID_EN.exec(text);
  if (enterprise !== null) return enterpriseDuid(enterprise[1], enterprise[2]);
  return TYPED.test(text) || CONTROL.test(text) ? undefined : new TextEncoder().encode(text);
}

/** RFC 8415 11.2, 11.4 */
function linkLayerDuid(
  type: 1 | 3,
  hardware: string,
  time: string | undefined,
  address: string,
): Uint8Array | undefined {
  const mac = parseMac(address);
  if (mac === undefined || Number(hardware) > 0xffff || Number(time ?? 0) > 0xffff_ffff) return undefined;
  const head = time === undefined ? 4 : 8;
  const bytes = new Uint8Array(head + MAC_BYTES);
  write16(bytes, 0, type);
  write16(bytes, 2, Number(hardware));
  if (time !== undefined) write32(bytes, 4, Number(time));
  writeMac(bytes, head, mac);
  return bytes;
}

/** RFC 8415 11.3 */
function enterpriseDuid(number: string, hex: string): Uint8Array | undefined {
  if (Number(number) > 0xffff_ffff) return undefined;
  const identifier = fromHex(hex);
  const bytes = new Uint8Array(6 + identifier.length);
  write16(bytes, 0, 2);
  write32(bytes, 2, Number(number));
  bytes.set(identifier, 6);
  return bytes;
}

function fromHex(digits: string): Uint8Array {
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) =>
    parseInt(digits.slice(2 * at, 2 * at + 2), 16),
  );
}
