// src/wire: no bytes make a check, a parse or describe throw, and none is judged by what lies behind its end.
import { isDeepStrictEqual } from 'node:util';

import * as arp from '../../../src/wire/arp.js';
import { describe } from '../../../src/wire/describe.js';
import * as dhcpv4 from '../../../src/wire/dhcpv4.js';
import * as dhcpv6 from '../../../src/wire/dhcpv6.js';
import * as ethernet from '../../../src/wire/ethernet.js';
import * as icmp from '../../../src/wire/icmp.js';
import * as icmpv6 from '../../../src/wire/icmpv6.js';
import * as ip from '../../../src/wire/ip.js';
import * as ipv4 from '../../../src/wire/ipv4.js';
import * as ipv6 from '../../../src/wire/ipv6.js';
import * as loopback from '../../../src/wire/loopback.js';
import * as mac from '../../../src/wire/mac.js';
import * as ndp from '../../../src/wire/ndp.js';
import { readCapture } from '../../../src/wire/pcapng-read.js';
import * as tcp from '../../../src/wire/tcp.js';
import * as udp from '../../../src/wire/udp.js';
import * as virtioNet from '../../../src/wire/virtio-net.js';
import * as vlan from '../../../src/wire/vlan.js';
import * as vxlan from '../../../src/wire/vxlan.js';
import { frame, vectors, type Name } from '../../vectors/frames.js';
import type { Target } from '../engine.js';

const gates = [
  arp,
  dhcpv4,
  ethernet,
  icmp,
  icmpv6,
  ipv4,
  ipv6,
  loopback,
  ndp,
  tcp,
  udp,
  virtioNet,
  vlan,
  vxlan,
];

/** The first byte chooses. */
const PARSERS: readonly ((bytes: Uint8Array) => void)[] = [
  ...gates.map((gate) => (bytes: Uint8Array) => {
    const result = gate.check(bytes, 0, bytes.length);
    if (result === 0 || result > bytes.length) throw new Error(`check says ${result} of ${bytes.length}`);
    const longer = new Uint8Array(bytes.length + 40).fill(0xff);
    longer.set(bytes);
    if (gate.check(longer, 0, bytes.length) !== result) throw new Error('judged by what lies behind');
    const parsed = gate.parse(bytes, 0, bytes.length);
    if (parsed !== undefined && result < 0) throw new Error('parsed what was refused');
    if (!isDeepStrictEqual(parsed, gate.parse(longer, 0, bytes.length)))
      throw new Error('parsed what lies behind');
  }),
  (bytes) => {
    const line = describe(bytes);
    if (!line.startsWith('Ethernet') || /undefined|NaN|\n/.test(line)) throw new Error(line);
  },
  (bytes) => {
    readCapture(bytes);
  },
  (bytes) => {
    if (dhcpv6.check(bytes, 0, bytes.length) < 0) return;
    for (let code = 0; code < 30; code++) dhcpv6.findOption(bytes, 0, bytes.length, code);
    dhcpv6.forEachAddress(bytes, 0, bytes.length, () => undefined);
  },
  (bytes) => {
    const text = Buffer.from(bytes).toString('latin1');
    const address = ip.parse(text);
    if (address !== undefined && ip.parse(address) !== address) throw new Error(`${text} is not canonical`);
    const endpoint = ip.parseEndpoint(text);
    if (endpoint !== undefined && ip.parseEndpoint(ip.formatEndpoint(endpoint)) === undefined)
      throw new Error(`${text} cannot be read again`);
    const number = mac.parseMac(text);
    if (number !== undefined && mac.parseMac(mac.formatMac(number)) !== number) throw new Error(text);
  },
  (bytes) => {
    const found = ipv6.check(bytes, 0, bytes.length) < 0 ? -1 : ipv6.transport(bytes, 0);
    if (found >= 0 && ipv6.transportOffset(found) > bytes.length) throw new Error('transport behind the end');
  },
];

const withChoice = (choice: number, bytes: Uint8Array): Uint8Array => Uint8Array.from([choice, ...bytes]);

function* seeds(): Generator<Uint8Array> {
  for (const choice of PARSERS.keys()) {
    for (const name of Object.keys(vectors) as Name[]) {
      const whole = frame(name);
      for (const from of [0, 14, 34, 42, 54])
        if (from < whole.length) yield withChoice(choice, whole.subarray(from));
    }
    for (const text of ['10.0.0.1', '2001:db8::1', '[fe80::1]:4789', '10.0.0.1:4789', '2:0:0:0:0:1'])
      yield withChoice(choice, Buffer.from(text));
  }
}

export const target: Target = {
  name: 'codecs',
  seeds,
  run: (bytes) => {
    if (bytes.length > 0) PARSERS[bytes[0] % PARSERS.length](bytes.subarray(1));
  },
};
