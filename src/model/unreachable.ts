/**
 * The ICMP and ICMPv6 messages that a destination cannot be reached, by kind (wire/path-news.ts), in words for
 * an operator.
 */
import { IS_V6 } from '../wire/path-news.js';

interface Meaning {
  /** The message, in the words of its RFC. */
  readonly name: string;
  /** The question that it raises; `PORT` stands for the UDP port of the peer. */
  readonly question: string;
}

const PORT: Meaning = {
  name: 'port unreachable',
  question: 'is varpd stopped there, or does a firewall reject UDP port PORT?',
};
const HOST: Meaning = {
  name: 'host unreachable',
  question: 'is the host off, or its address wrong?',
};
const NETWORK: Meaning = {
  name: 'network unreachable',
  question: 'does a router lack the route to it?',
};
const PROHIBITED: Meaning = {
  name: 'administratively prohibited',
  question: 'does a firewall reject UDP port PORT?',
};
const EXPIRED: Meaning = {
  name: 'time exceeded',
  question: 'do routers send packets to it round in a circle?',
};
const OTHER: Meaning = {
  name: 'destination unreachable',
  question: 'is there a route to it, and does no firewall reject UDP port PORT?',
};

const kindOf = (type: number, code: number): number => (type << 8) | code;

/** RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1, RFC 4443 3.1 and 3.3. */
const MEANINGS: ReadonlyMap<number, Meaning> = new Map([
  [kindOf(3, 0), NETWORK],
  [kindOf(3, 1), HOST],
  [kindOf(3, 2), { ...PORT, name: 'protocol unreachable' }],
  [kindOf(3, 3), PORT],
  [kindOf(3, 9), PROHIBITED],
  [kindOf(3, 10), PROHIBITED],
  [kindOf(3, 13), PROHIBITED],
  [kindOf(11, 0), EXPIRED],
  [IS_V6 | kindOf(1, 0), { ...NETWORK, name: 'no route to destination' }],
  [IS_V6 | kindOf(1, 1), PROHIBITED],
  [IS_V6 | kindOf(1, 3), { ...HOST, name: 'address unreachable' }],
  [IS_V6 | kindOf(1, 4), PORT],
  [IS_V6 | kindOf(1, 5), PROHIBITED],
  [IS_V6 | kindOf(1, 6), { ...NETWORK, name: 'reject route to destination' }],
  [IS_V6 | kindOf(3, 0), EXPIRED],
]);

export function unreachableName(kind: number): string {
  return (MEANINGS.get(kind) ?? OTHER).name;
}

export function unreachableQuestion(kind: number, port: number): string {
  return (MEANINGS.get(kind) ?? OTHER).question.replace('PORT', String(port));
}
