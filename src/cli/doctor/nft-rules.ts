/**
 * Reads the output of `nft -j list ruleset` (libnftables-json(5)) as far as it is about UDP packets and the
 * addresses, ports and links that they have. Everything else is a condition that is not known.
 */
import { isV4, parse as parseIp } from '../../wire/ip.js';
import { type Chain, every, isWithin, type Packet, type Rule, some, type Verdict } from './ruleset.js';

type Json = Readonly<Record<string, unknown>>;

interface Named {
  readonly family: string;
  readonly table: string;
  readonly name: string;
}

/** Hooks that a packet of this host passes, in and out. */
const HOOKS: Readonly<Record<string, Packet['direction']>> = {
  ingress: 'in',
  prerouting: 'in',
  input: 'in',
  output: 'out',
  postrouting: 'out',
  egress: 'out',
};

/** Throws when the text is no JSON of nft. */
export function parseNft(text: string): Chain[] {
  const { nftables } = JSON.parse(text) as { nftables: readonly Json[] };
  const of = <T>(kind: string): (Named & T)[] =>
    nftables.flatMap((one) => (one[kind] === undefined ? [] : [one[kind] as Named & T]));
  const sets = new Map(
    [...of<{ elem?: readonly unknown[] }>('set'), ...of<{ elem?: readonly unknown[] }>('map')].map((set) => [
      keyOf(set, set.name),
      set.elem ?? [],
    ]),
  );
  const rules = of<{ chain: string; expr: readonly Json[] }>('rule');
  return of<{ hook?: string; policy?: string; dev?: string | readonly string[] }>('chain').map((chain) => {
    const key = keyOf(chain, chain.name);
    const direction = chain.hook === undefined || chain.family === 'arp' ? undefined : HOOKS[chain.hook];
    const own = rules.filter((rule) => keyOf(rule, rule.chain) === key);
    return {
      name: key,
      rules: own.flatMap((rule) => readRule(rule, rule.expr, sets)),
      ...(direction === undefined
        ? {}
        : {
            hook: {
              direction,
              isForV4: chain.family !== 'ip6',
              isForV6: chain.family !== 'ip',
              ...linksOf(chain),
              policy: chain.policy === 'drop' ? ('drop' as const) : ('accept' as const),
            },
          }),
    };
  });
}

/** `inet filter input` */
const keyOf = ({ family, table }: Named, name: string): string => `${family} ${table} ${name}`;

/** Links whose packets a chain sees; undefined = all. nft 1.0.6 does not say it for the family netdev, and the family bridge is
 * for those that are bridges. */
function linksOf({
  family,
  dev,
}: Named & { readonly dev?: string | readonly string[] }): Pick<NonNullable<Chain['hook']>, 'links'> {
  if (family !== 'netdev' && family !== 'bridge') return {};
  return { links: dev === undefined ? 'not known' : [dev].flat() };
}

type Sets = ReadonlyMap<string, readonly unknown[]>;

/** One rule, or several: each entry of a verdict map is one. */
function readRule(rule: Named, statements: readonly Json[], sets: Sets): Rule[] {
  const parts: ((packet: Packet) => boolean | undefined)[] = [];
  const matches = (packet: Packet): boolean | undefined => every(parts.map((part) => part(packet)));
  for (const statement of statements) {
    const [[kind, value]] = Object.entries(statement);
    const verdict = verdictOf(rule, kind, value);
    if (verdict !== undefined) return [{ matches, verdict, text: textOf(statements) }];
    if (kind === 'vmap') return readMap(rule, value as Json, sets, matches);
    if (kind === 'match') {
      const { op, left, right } = value as { op: string; left: unknown; right: unknown };
      parts.push((packet) =>
        compare(op, valuesOf(left, packet), right, (name) => sets.get(keyOf(rule, name))),
      );
    } else if (!PASSING.includes(kind)) parts.push(() => undefined);
  }
  return [];
}

/** Statements that a packet passes, whatever it is. */
const PASSING = ['counter', 'log', 'notrack', 'mangle', 'flow', 'set', 'comment', 'last'];

function verdictOf(rule: Named, kind: string, value: unknown): Verdict | undefined {
  switch (kind) {
    case 'accept':
    case 'drop':
    case 'return':
      return { does: kind };
    case 'reject':
      return { does: 'drop' };
    case 'jump':
    case 'goto':
      return { does: kind, chain: keyOf(rule, (value as { target: string }).target) };
    default:
      return undefined;
  }
}

function readMap(
  rule: Named,
  { key, data }: Json,
  sets: Sets,
  before: (packet: Packet) => boolean | undefined,
): Rule[] {
  const find = (name: string): readonly unknown[] | undefined => sets.get(keyOf(rule, name));
  const entries = typeof data === 'string' ? find(data.slice(1)) : (data as { set?: readonly unknown[] }).set;
  return (entries ?? []).flatMap((entry): Rule[] => {
    const [value, verdicts] = entry as [unknown, Json];
    const [[kind, target]] = Object.entries(verdicts);
    const verdict = verdictOf(rule, kind, target);
    const matches = (packet: Packet): boolean | undefined =>
      every([before(packet), compare('==', valuesOf(key, packet), value, find)]);
    return verdict === undefined
      ? []
      : [{ matches, verdict, text: `${leftText(key)} ${rightText(value)} : ${kind}` }];
  });
}

/** The value that an expression has for this packet, in each spelling; undefined = not known. */
type Values = readonly (string | number)[] | undefined;

const UDP: Values = ['udp', 17]; // IANA protocol number

function valuesOf(left: unknown, packet: Packet): Values {
  const { payload, meta, ct } = left as {
    payload?: { protocol?: string; field?: string };
    meta?: { key: string };
    ct?: { key: string };
  };
  if (payload !== undefined) return payloadOf(payload, packet);
  // Two VTEPs do not answer each other from the same ports, so every packet is a new flow.
  if (ct !== undefined) return ct.key === 'state' ? ['new'] : undefined;
  const v4 = isV4(packet.to);
  switch (meta?.key) {
    case 'l4proto':
      return UDP;
    case 'nfproto':
      return v4 ? ['ipv4'] : ['ipv6'];
    case 'protocol':
      return v4 ? ['ip'] : ['ip6'];
    case 'iif':
    case 'iifname':
      return packet.direction === 'in' ? linkOf(packet) : [];
    case 'oif':
    case 'oifname':
      return packet.direction === 'out' ? linkOf(packet) : [];
    default:
      return undefined;
  }
}

const linkOf = ({ link }: Packet): Values => (link === undefined ? undefined : [link]);

function payloadOf({ protocol, field }: { protocol?: string; field?: string }, packet: Packet): Values {
  const v4 = isV4(packet.to);
  switch (protocol) {
    case 'udp':
    case 'th':
      return field === 'dport' ? [packet.port] : undefined;
    case 'ip':
    case 'ip6':
      // A rule about the other family does not match.
      if ((protocol === 'ip') !== v4) return [];
      if (field === 'saddr') return [packet.from];
      if (field === 'daddr') return [packet.to];
      return field === 'protocol' || field === 'nexthdr' ? UDP : undefined;
    case 'tcp':
    case 'icmp':
    case 'icmpv6':
    case 'sctp':
    case 'dccp':
      return [];
    default:
      return undefined;
  }
}

type FindSet = (name: string) => readonly unknown[] | undefined;

function compare(op: string, values: Values, right: unknown, find: FindSet): boolean | undefined {
  if (values === undefined) return undefined;
  // Nothing of the kind is in the packet.
  if (values.length === 0) return false;
  const isIn = some(values.map((value) => isOneOf(value, right, find)));
  if (op === '!=') return isIn === undefined ? undefined : !isIn;
  return op === '==' || op === 'in' ? isIn : undefined;
}

function isOneOf(value: string | number, right: unknown, find: FindSet): boolean | undefined {
  if (typeof right === 'number') return value === right;
  if (typeof right === 'string') {
    if (right.startsWith('@')) return isInSet(value, find(right.slice(1)), find);
    if (right.endsWith('*')) return String(value).startsWith(right.slice(0, -1));
    return String(value) === (parseIp(right) ?? right);
  }
  if (Array.isArray(right)) return isInSet(value, right as readonly unknown[], find);
  const { set, range, prefix, elem } = (right ?? {}) as {
    set?: readonly unknown[];
    range?: readonly [unknown, unknown];
    prefix?: { addr: string; len: number };
    elem?: { val: unknown };
  };
  if (set !== undefined) return isInSet(value, set, find);
  if (elem !== undefined) return isOneOf(value, elem.val, find);
  const ip = typeof value === 'string' ? parseIp(value) : undefined;
  if (prefix !== undefined) {
    const base = parseIp(prefix.addr);
    return ip === undefined || base === undefined ? undefined : isWithin(ip, base, prefix.len);
  }
  if (range === undefined) return undefined;
  const [low, high] = range;
  return typeof value === 'number' && typeof low === 'number' && typeof high === 'number'
    ? value >= low && value <= high
    : undefined;
}

const isInSet = (
  value: string | number,
  set: readonly unknown[] | undefined,
  find: FindSet,
): boolean | undefined => (set === undefined ? undefined : some(set.map((one) => isOneOf(value, one, find))));

/** As near to the text of `nft` as a sentence needs: `udp dport 4789 drop`. */
function textOf(statements: readonly Json[]): string {
  return statements
    .flatMap((statement) => {
      const [[kind, value]] = Object.entries(statement);
      if (kind === 'counter' || kind === 'log') return [];
      if (kind === 'jump' || kind === 'goto') return [`${kind} ${(value as { target: string }).target}`];
      if (kind !== 'match') return [kind];
      const { op, left, right } = value as { op: string; left: unknown; right: unknown };
      const sign = op === '==' || op === 'in' ? '' : ` ${op}`;
      return [`${leftText(left)}${sign} ${rightText(right)}`];
    })
    .join(' ');
}

function leftText(left: unknown): string {
  const [[kind, what]] = Object.entries(left as Json);
  if (Array.isArray(what)) return what.map(leftText).join(' . ');
  const { protocol, field, key } = what as { protocol?: string; field?: string; key?: string };
  return [kind === 'ct' ? kind : protocol, field, key].filter((word) => word !== undefined).join(' ');
}

function rightText(right: unknown): string {
  if (typeof right === 'string') return right;
  if (Array.isArray(right)) return right.map(rightText).join(',');
  const { set, range, prefix, concat } = (right ?? {}) as {
    set?: readonly unknown[];
    range?: readonly unknown[];
    prefix?: { addr: string; len: number };
    concat?: readonly unknown[];
  };
  if (set !== undefined) return `{ ${set.map(rightText).join(', ')} }`;
  if (range !== undefined) return range.map(rightText).join('-');
  if (concat !== undefined) return concat.map(rightText).join(' . ');
  return prefix === undefined ? JSON.stringify(right) : `${prefix.addr}/${prefix.len}`;
}
