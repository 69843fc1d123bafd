/**
 * Reads the output of `iptables-save` or `ip6tables-save` (iptables-extensions(8)) as far as it is about UDP
 * packets and the addresses, ports and links that they have. Everything else is a condition that is not known.
 */
import { family, type IpAddress, parse as parseIp, V4_BITS, V6_BITS } from '../../wire/ip.js';
import { type Chain, every, isWithin, type Packet, type Rule, some, type Verdict } from './ruleset.js';

const HOOKS: ReadonlyMap<string, Packet['direction']> = new Map([
  ['PREROUTING', 'in'],
  ['INPUT', 'in'],
  ['OUTPUT', 'out'],
  ['POSTROUTING', 'out'],
]);

/** Each has rules of its own: those of `legacy` are not in nftables, and no other program shows them. */
export const IPTABLES_PROGRAMS = ['iptables', 'ip6tables', 'iptables-legacy', 'ip6tables-legacy'] as const;

/** `program`: its `-save` has this output. */
export function parseIptables(text: string, program: (typeof IPTABLES_PROGRAMS)[number]): Chain[] {
  const chains: (Chain & { rules: Rule[] })[] = [];
  let table = '';
  const isForV6 = program.startsWith('ip6');
  const keyOf = (name: string): string => `${program} ${table} ${name}`;
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    const head = /^:(\S+) (\S+)/.exec(line);
    if (head !== null) {
      const [, name, policy] = head;
      const direction = HOOKS.get(name);
      const hook = direction && {
        direction,
        isForV4: !isForV6,
        isForV6,
        policy: policy === 'DROP' ? ('drop' as const) : ('accept' as const),
      };
      chains.push({ name: keyOf(name), rules: [], ...(hook && { hook }) });
    }
    const rule = /^-A (\S+) (.*)$/.exec(line);
    if (rule !== null)
      chains.find(({ name }) => name === keyOf(rule[1]))?.rules.push(readRule(rule[0], rule[2], keyOf));
  }
  return chains;
}

/** Words of a rule; a text in quotes is one word. */
const wordsOf = (text: string): string[] =>
  [...text.matchAll(/"(?:[^"\\]|\\.)*"|\S+/g)].map(([word]) => word);

function readRule(text: string, options: string, keyOf: (name: string) => string): Rule {
  const words = wordsOf(options);
  const parts: ((packet: Packet) => boolean | undefined)[] = [];
  let verdict: Verdict | undefined;
  for (let at = 0; at < words.length;) {
    const isNot = words[at] === '!';
    if (isNot) at++;
    const option = words[at++];
    const start = at;
    while (at < words.length && words[at] !== '!' && !/^--?[a-z]/i.test(words[at])) at++;
    const values = words.slice(start, at);
    if (option === '-j' || option === '-g') verdict = verdictOf(option, values[0], keyOf);
    else if (!PASSING.includes(option) && !ofTarget(option)) {
      const does = condition(option, values);
      parts.push((packet) => {
        const result = does(packet);
        return isNot && result !== undefined ? !result : result;
      });
    }
  }
  return { matches: (packet) => every(parts.map((part) => part(packet))), verdict, text };
}

/** Options that no packet fails: a module is named, a comment is made. */
const PASSING = ['-m', '--match', '--comment'];

/** Options of targets that go on, or of REJECT: they are no conditions. */
const ofTarget = (option: string): boolean => /^--(?:reject-with|log-|nflog-|set-|to-|random)/.test(option);

/** Targets after which a packet goes on to the next rule. */
const GOING_ON = ['LOG', 'NFLOG', 'MARK', 'CONNMARK', 'NOTRACK', 'CT', 'TCPMSS', 'DSCP', 'CLASSIFY', 'TRACE'];

/** Targets that change an address and let the packet pass. */
const TRANSLATING = ['MASQUERADE', 'SNAT', 'DNAT', 'REDIRECT', 'NETMAP'];

function verdictOf(option: string, target: string, keyOf: (name: string) => string): Verdict | undefined {
  if (option === '-g') return { does: 'goto', chain: keyOf(target) };
  if (target === 'ACCEPT' || TRANSLATING.includes(target)) return { does: 'accept' };
  if (target === 'DROP' || target === 'REJECT') return { does: 'drop' };
  if (target === 'RETURN') return { does: 'return' };
  return GOING_ON.includes(target) ? undefined : { does: 'jump', chain: keyOf(target) };
}

function condition(option: string, values: readonly string[]): (packet: Packet) => boolean | undefined {
  const [first = ''] = values;
  switch (option) {
    case '-p':
      return () => ['udp', '17', 'all'].includes(first);
    case '-s':
      return ({ from }) => isInPrefix(from, first);
    case '-d':
      return ({ to }) => isInPrefix(to, first);
    case '-i':
      return (packet) => (packet.direction === 'in' ? isLink(packet, first) : false);
    case '-o':
      return (packet) => (packet.direction === 'out' ? isLink(packet, first) : false);
    case '--dport':
    case '--dports':
      return ({ port }) => some(first.split(',').map((range) => isInRange(port, range)));
    case '--state':
    case '--ctstate':
      // Two VTEPs do not answer each other from the same ports, so every packet is a new flow.
      return () => first.split(',').includes('NEW');
    default:
      return () => undefined;
  }
}

function isInPrefix(ip: IpAddress, text: string): boolean | undefined {
  const [base, bits = family(ip) === 4 ? V4_BITS : V6_BITS] = text.split('/');
  const prefix = parseIp(base);
  return prefix === undefined ? undefined : isWithin(ip, prefix, Number(bits));
}

/** `eth+` stands for every link whose name begins so. */
function isLink({ link }: Packet, name: string): boolean | undefined {
  if (link === undefined) return undefined;
  return name.endsWith('+') ? link.startsWith(name.slice(0, -1)) : link === name;
}

function isInRange(port: number, range: string): boolean {
  const [low, high = low] = range.split(':');
  return port >= Number(low || 0) && port <= Number(high || 65_535);
}
