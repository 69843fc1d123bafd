/**
 * Follows a packet through the rules of a firewall, as nft-rules.ts and iptables-rules.ts have read them.
 *
 * A condition of a rule may be one that is not understood here, or one that depends on more than the packet (a
 * rate, a mark). Then it is `undefined`, and both ways are followed. Where one of them drops the packet and one
 * does not, the result is `unsure` instead of a guess.
 */
import { type IpAddress, isV4, toBytes } from '../../wire/ip.js';

export interface Packet {
  readonly direction: 'in' | 'out';
  readonly from: IpAddress;
  readonly to: IpAddress;
  /** Of UDP. Source ports are chosen by flow, so no rule can name them. */
  readonly port: number;
  /** That it arrives or leaves by. */
  readonly link: string | undefined;
}

export type Verdict =
  | { readonly does: 'accept' | 'drop' | 'return' }
  | { readonly does: 'jump' | 'goto'; readonly chain: string };

export interface Rule {
  /** Undefined: not known. */
  readonly matches: (packet: Packet) => boolean | undefined;
  /** Undefined: the packet goes on to the next rule. */
  readonly verdict: Verdict | undefined;
  /** The rule in the words of the firewall. */
  readonly text: string;
}

export interface Chain {
  readonly name: string;
  readonly rules: readonly Rule[];
  /** Where the kernel enters it; undefined for a chain that only other chains lead to. */
  readonly hook?: {
    readonly direction: Packet['direction'];
    readonly isForV4: boolean;
    readonly isForV6: boolean;
    /** Only of a chain that is not for every link. */
    readonly links?: readonly string[] | 'not known';
    readonly policy: 'accept' | 'drop';
  };
}

export type Outcome =
  | { readonly is: 'accept' }
  | { readonly is: 'drop' | 'unsure'; readonly chain: string; readonly rule: string };

/** More jumps than the kernel allows (NFT_JUMP_STACK_SIZE 16) are a mistake of this reading. */
const MAX_DEPTH = 16;

/** An end of the way of a packet in a chain. `end`: no rule has ended it, or one returns. */
interface End {
  readonly is: 'accept' | 'drop' | 'end';
  readonly chain: string;
  readonly rule: string;
}

/** What becomes of a packet. Every chain with a hook may drop it; a chain that accepts it speaks for itself alone. */
export function follow(packet: Packet, chains: readonly Chain[]): Outcome {
  let unsure: Outcome | undefined;
  for (const chain of chains) {
    const { hook } = chain;
    if (hook?.direction !== packet.direction) continue;
    if (!(isV4(packet.to) ? hook.isForV4 : hook.isForV6)) continue;
    const isMeant = isForLink(hook.links, packet.link);
    if (isMeant === false) continue;
    const ends = endsIn(packet, chain, chains, 0).map((end) =>
      end.is === 'end' ? { ...end, is: hook.policy, chain: chain.name, rule: `policy ${hook.policy}` } : end,
    );
    const drop = ends.find(({ is }) => is === 'drop');
    if (drop === undefined) continue;
    const { chain: name, rule } = drop;
    if (isMeant === true && ends.every(({ is }) => is === 'drop')) return { is: 'drop', chain: name, rule };
    unsure ??= { is: 'unsure', chain: name, rule };
  }
  return unsure ?? { is: 'accept' };
}

function isForLink(
  links: readonly string[] | 'not known' | undefined,
  link: string | undefined,
): boolean | undefined {
  if (links === undefined) return true;
  return links === 'not known' || link === undefined ? undefined : links.includes(link);
}

/** Every end that is possible: more than one where a condition is not known. */
function endsIn(packet: Packet, chain: Chain, chains: readonly Chain[], depth: number): End[] {
  const ends: End[] = [];
  const at = (is: End['is'], rule: string): End => ({ is, chain: chain.name, rule });
  for (const { matches, verdict, text } of chain.rules) {
    const doesMatch = matches(packet);
    if (doesMatch === false || verdict === undefined) continue;
    if (verdict.does === 'jump' || verdict.does === 'goto') {
      const next = chains.find(({ name }) => name === verdict.chain);
      // What such a chain does is not known.
      const inside =
        next === undefined || depth === MAX_DEPTH
          ? [at('accept', text), at('drop', text), at('end', text)]
          : endsIn(packet, next, chains, depth + 1);
      ends.push(...inside.filter(({ is }) => is !== 'end'));
      const returns = inside.some(({ is }) => is === 'end');
      if (returns && verdict.does === 'goto') ends.push(at('end', text));
      if (doesMatch === true && (!returns || verdict.does === 'goto')) return ends;
      continue;
    }
    ends.push(at(verdict.does === 'return' ? 'end' : verdict.does, text));
    if (doesMatch === true) return ends;
  }
  return [...ends, at('end', '')];
}

/** All of them; undefined when none is false and one is not known. */
export function every(parts: readonly (boolean | undefined)[]): boolean | undefined {
  if (parts.includes(false)) return false;
  return parts.includes(undefined) ? undefined : true;
}

/** One of them; undefined when none is true and one is not known. */
export function some(parts: readonly (boolean | undefined)[]): boolean | undefined {
  if (parts.includes(true)) return true;
  return parts.includes(undefined) ? undefined : false;
}

/** Whether an address is in a prefix of the same family. */
export function isWithin(ip: IpAddress, prefix: IpAddress, bits: number): boolean {
  if (isV4(ip) !== isV4(prefix)) return false;
  const [a, b] = [toBytes(ip), toBytes(prefix)];
  // toBytes gives 16 bytes, IPv4 as v4-mapped.
  const compared = bits + (isV4(ip) ? 96 : 0);
  for (let bit = 0; bit < compared; bit++)
    if (((a[bit >> 3] ^ b[bit >> 3]) & (0x80 >> (bit & 7))) !== 0) return false;
  return true;
}
