// Frames for the proxies, and what becomes of them, as rows of tables.

import { type Test } from 'tap';
import { type Facts, proxy } from '../../src/daemon/plugins/proxy.js';
import type { LookupAnswer } from '../../src/datapath/contract.js';
import type { MacAddress, ProxyKind } from '../../src/plugin/index.js';
import { formatMac } from '../../src/wire/mac.js';
import { toHex } from './frames.js';
import { fromHex } from '../vectors/frames.js';

export const A = 0x0200_0000_000a;
export const B = 0x0200_0000_000b;
export const C = 0x0200_0000_000c;

export const NEIGHBORS = new Map<string, MacAddress>([
  ['10.0.0.1', A],
  ['10.0.0.2', B],
  ['fe80::a', A],
  ['fe80::b', B],
  ['2001:db8::a', A],
  ['2001:db8::b', B],
  // What must not be asked for, although the plugin would answer.
  ...['127.0.0.1', '224.0.0.1', '0.0.0.0', '255.255.255.255', '::', '::1', 'ff02::b'].map(
    (ip) => [ip, B] as const,
  ),
]);

export function facts(): Facts & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    neighbor: (ip) => {
      asked.push(ip);
      return Promise.resolve(NEIGHBORS.get(ip) ?? null);
    },
    dhcpServer: (client) => {
      asked.push(client.toString(16));
      return Promise.resolve(client === A ? B : null);
    },
  };
}

/** What comes of a frame: the reply as digits, the new destination, or the reason. */
export async function outcome(what: ProxyKind, bytes: Uint8Array, warn: string[] = []): Promise<string> {
  const answer: LookupAnswer = await proxy(what, bytes, facts(), (message) => warn.push(message));
  switch (answer.kind) {
    case 'reply':
      return toHex(answer.frame);
    case 'redirect':
      return `to ${formatMac(answer.to)}`;
    case 'drop':
      return answer.reason;
    case 'target':
      throw new Error('a proxy does not choose destinations');
  }
}

export const plain = (hex: string): string => hex.replace(/\s/g, '');

export type Row = readonly [row: string, frame: string, expected: string];

export async function checkRows(t: Test, what: ProxyKind, rows: readonly Row[]): Promise<void> {
  for (const [row, hex, expected] of rows) t.equal(await outcome(what, fromHex(hex)), plain(expected), row);
}
