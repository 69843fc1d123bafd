// The networks that tests of the engine begin with: two hosts, or one host and a peer that says whatever the test likes.
import type { Test } from 'tap';
import type { OverlayOptions } from '../../src/core/overlay.js';
import type { EncapsulationName } from '../../src/encap/index.js';
import type { MemorySocket } from '../../src/io/memory.js';
import { describe } from '../../src/wire/describe.js';
import { hex, Lab, MAC, type Vtep, type VtepOptions } from './lab.js';

type Options = Partial<OverlayOptions>;

/** Two hosts, each the fixed destination of the other. */
export function pair(
  options: Options = {},
  addresses = ['192.0.2.1', '192.0.2.2'],
  mtuBytes = 1500,
  vtepOptions: VtepOptions = {},
) {
  const lab = new Lab(mtuBytes);
  const [a, b] = addresses.map((ip) => lab.vtep(ip, vtepOptions)) as [Vtep, Vtep];
  const [netA, netB] = [
    a.overlay({ destination: b.endpoint, ...options }),
    b.overlay({ destination: a.endpoint, ...options }),
  ];
  const [portA, portB] = [netA.port(MAC.a, { own: true }), netB.port(MAC.b, { own: true })];
  return { lab, a, b, netA, netB, portA, portB };
}

interface Place {
  readonly ip?: string;
  readonly peerIp?: string;
  readonly encapsulation?: EncapsulationName;
}

/** A host whose only peer says whatever the test likes. */
export function facing(
  options: Options = {},
  { ip = '192.0.2.1', peerIp = '192.0.2.2', encapsulation = 'vxlan' }: Place = {},
) {
  const lab = new Lab(65535);
  const vtep = lab.vtep(ip, { encapsulation });
  const peer = lab.peer(peerIp);
  const net = vtep.overlay({ destination: peer.local, ...options });
  const port = net.port(MAC.a, { own: true });
  const inject = (inner: Uint8Array, header: string = HEADERS[encapsulation], tos = 0) => {
    lab.inject(peer, vtep, header, inner, tos);
  };
  return { lab, vtep, peer, net, port, inject };
}

/** RFC 7348 5: the I flag, VNI 100, all else zero. */
export const VXLAN_100 = '08000000 00006400';
/** RFC 8926 3.4: no option, Ethernet, VNI 100. */
export const GENEVE_100 = '00006558 00006400';
const HEADERS = { vxlan: VXLAN_100, geneve: GENEVE_100 };

/** A host that asks, and a peer that hears. `answer` = every MAC is at the peer. */
export function asking(options: Options = {}, vtepOptions: VtepOptions = {}) {
  const lab = new Lab();
  const vtep = lab.vtep('192.0.2.1', vtepOptions);
  const peer = lab.peer('192.0.2.2');
  const net = vtep.overlay(options);
  const port = net.port(MAC.a, { own: true });
  const target = (ttlMs = Infinity) => ({ kind: 'target', to: [peer.local], ttlMs }) as const;
  return { lab, vtep, peer, net, port, target };
}

/** Inner frames of the datagrams that a peer got. */
export function inner(peer: MemorySocket): Uint8Array[] {
  return peer.take().map(({ bytes }) => bytes.subarray(8));
}

export function same(
  t: Test,
  found: readonly Uint8Array[],
  expected: readonly Uint8Array[],
  message: string,
): void {
  t.strictSame(found.map(show), expected.map(show), message);
}

function show(bytes: Uint8Array): string {
  return `${describe(bytes)} ${hex(bytes)}`;
}

/** MACs that belong to no port. */
export const remote = (index: number): number => 0x0200_0100_0000 + index;

export const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));

/** As many questions about unicast MACs as may be under way in one overlay. */
export const OPEN_QUESTIONS = 1024;
