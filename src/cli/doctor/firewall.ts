/** Looks for rules of nftables and iptables that drop the packets of an overlay. */
import type { Endpoint } from '../../wire/ip.js';
import { fail, ok, type Plain, skip } from './finding.js';
import { IPTABLES_PROGRAMS, parseIptables } from './iptables-rules.js';
import { parseNft } from './nft-rules.js';
import { type Chain, follow, type Packet } from './ruleset.js';
import type { OverlaySubject } from './subject.js';
import { outputOf } from './system.js';

/** Rules of one program, or why there are none. */
export type Ruleset = { readonly chains: readonly Chain[] } | { readonly unread: string };

export interface Rulesets {
  readonly nftables: Ruleset;
  readonly iptables: Ruleset;
}

/** They are the same for all overlays, so they are read once. */
export async function readRulesets(): Promise<Rulesets> {
  const [nft, ...saved] = await Promise.all([
    outputOf('nft', ['-j', 'list', 'ruleset']),
    ...IPTABLES_PROGRAMS.map((program) => outputOf(`${program}-save`, [])),
  ]);
  const chains = saved.flatMap(({ state, text }, index) =>
    state === 'done' ? parseIptables(text, IPTABLES_PROGRAMS[index]) : [],
  );
  return {
    nftables: nft.state === 'done' ? readNft(nft.text) : { unread: nft.text },
    iptables: saved[0].state === 'done' ? { chains } : { unread: saved[0].text },
  };
}

function readNft(text: string): Ruleset {
  try {
    return { chains: parseNft(text) };
  } catch (error) {
    return { unread: `the output of nft is not as expected: ${(error as Error).message}` };
  }
}

export interface FirewallFacts extends Pick<OverlaySubject, 'listenIp' | 'listenPort'>, Rulesets {
  readonly destinations: readonly Endpoint[];
  /** Link that packets go out by, by destination, and the one that they arrive by. */
  readonly linkTo: (ip: Endpoint['ip']) => string | undefined;
  readonly home: string | undefined;
}

/** Each is followed through every rule. Those of one host differ little to a firewall. */
const MAX_DESTINATIONS = 256;

export function checkFirewall(facts: FirewallFacts): Plain[] {
  return [
    finding('NFTABLES', () => 'nft list ruleset', facts.nftables, facts),
    finding('IPTABLES', (chain) => `${chain.split(' ', 1)[0]}-save`, facts.iptables, facts),
  ];
}

function finding(
  code: 'NFTABLES' | 'IPTABLES',
  commandFor: (chain: string) => string,
  rules: Ruleset,
  { destinations, listenIp, listenPort, linkTo, home }: FirewallFacts,
): Plain {
  if ('unread' in rules) return skip(code, rules.unread);
  if (destinations.length === 0) return skip(code, 'no destination is known');
  const { chains } = rules;
  const packets = destinations.slice(0, MAX_DESTINATIONS).flatMap(({ ip, port }): Packet[] => [
    { direction: 'in', from: ip, to: listenIp, port: listenPort, link: home },
    { direction: 'out', from: listenIp, to: ip, port, link: linkTo(ip) },
  ]);
  const results = packets.map((packet) => ({ packet, outcome: follow(packet, chains) }));
  const drop =
    results.find(({ outcome }) => outcome.is === 'drop') ??
    results.find(({ outcome }) => outcome.is === 'unsure');
  if (drop === undefined || drop.outcome.is === 'accept')
    return ok(
      code,
      `no rule drops UDP from or to ${destinations.length === 1 ? 'the destination' : `the ${destinations.length} destinations`}`,
    );
  const { outcome, packet } = drop;
  const command = commandFor(outcome.chain);
  const what = `UDP from ${packet.from} to port ${packet.port} of ${packet.to}`;
  const where = `chain '${outcome.chain}', rule '${outcome.rule}'`;
  return outcome.is === 'drop'
    ? fail(
        code,
        `${what} is dropped: ${where}`,
        `let it pass before that rule, as docs/firewall.md shows (${command})`,
      )
    : skip(
        code,
        `${what} may be dropped, which depends on more than the packet: ${where}`,
        `look at it: ${command}`,
      );
}
