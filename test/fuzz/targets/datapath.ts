// The datapath engine: classify, encapsulation, decapsulation, link protection, DHCP leases, "too big". Whatever a frame or datagram
// holds, it is delivered, waits, or is counted under one reason; nothing throws, nothing from the tunnel goes back into it, and no lie of a
// protected port gets there.
import { WHOLE } from '../../../src/io/memory.js';
import { parsePrefix } from '../../../src/model/link-properties.js';
import { concat, dhcpFrame, endpoint, frame, hex, MAC, packet, type Tap } from '../../helpers/lab.js';
import { lieOf } from '../../helpers/lies.js';
import { World } from '../../helpers/world.js';
import { frame as vector, fromHex, type Name, vectors } from '../../vectors/frames.js';
import type { Target } from '../engine.js';

/** One world for so many inputs: what they leave in its tables is part of the test. */
const INPUTS_A_WORLD = 2000;
/** Before a frame: what is done with it, a byte each for its offload header or traffic class, and the time. */
const PREFIX_BYTES = 3;
const HEADER = fromHex('0800000000006400');

const WORLDS = [
  { destination: endpoint('192.0.2.2') },
  { destination: undefined },
  { destination: undefined, strictSource: true, copyDscp: true },
  { destination: endpoint('192.0.2.9'), acceptAny: true, carryTags: false, mtuBytes: 576 },
] as const;

let count = 0;
let nowMs = 0;
let world = fresh();

function fresh(): World {
  const made = new World(WORLDS[Math.floor(count / INPUTS_A_WORLD) % WORLDS.length]);
  made.addPort(MAC.a, 0, true);
  made.addPort(MAC.b, 0, false);
  made.addPort(MAC.c, 5, false);
  made.live[1].protect({
    types: ['mac-nospoof', 'ip-nospoof', 'dhcp-nospoof', 'restricted'],
    addresses: [parsePrefix('10.0.0.0/24')!, parsePrefix('fd00::/64')!],
    clientIds: [],
  });
  return made;
}

/** Of the protected port: its MAC, and the start of each address that it may use. */
const OWN_MAC = '02b1b2b3b40b';
const OWN_ADDRESS = /^(0a0000|fd00000000000000|fe8000000000000000b1b2fffeb3b40b$)/;

function transmit(tap: Tap, bytes: Uint8Array, header = WHOLE): void {
  const { datagrams } = world.lab;
  const before = datagrams.length;
  world.transmit(tap, bytes, header);
  if (tap !== world.live[1]) return;
  for (const { bytes: datagram } of datagrams.slice(before)) {
    const lie = lieOf(datagram.subarray(HEADER.length), OWN_MAC, (address) => OWN_ADDRESS.test(address));
    if (lie !== undefined) throw new Error(`${lie}: ${hex(datagram)}`);
  }
}

function run(bytes: Uint8Array): void {
  if (bytes.length < PREFIX_BYTES) return;
  if (++count % INPUTS_A_WORLD === 0) {
    world.end();
    world = fresh();
    nowMs = 0;
  }
  const [what, detail, time] = bytes;
  const inner = bytes.slice(PREFIX_BYTES);
  world.vtep.engine.setTime((nowMs += time));
  switch (what % 8) {
    case 0:
    case 1:
    case 2:
      transmit(world.live[what % 8], inner);
      break;
    case 3: {
      const offload = { flags: 1, checksumStart: detail, checksumOffset: detail & 1 ? 16 : 6 };
      transmit(world.live[detail % 3], inner, { ...WHOLE, ...offload });
      break;
    }
    case 4:
      world.receive(concat(HEADER, inner), true, detail);
      break;
    case 5:
      world.receive(concat(HEADER, inner), false, detail);
      break;
    case 6:
      world.receive(inner, true, detail);
      break;
    default: {
      const question = world.vtep.questions.at(-1 - (detail % 4));
      world.did(() => {
        if (question === undefined) return;
        const to = [endpoint(detail & 8 ? '192.0.2.2' : '192.0.2.3')];
        if (detail & 16) world.net.answer(question, { kind: 'drop', reason: 'lookup_failed' });
        else world.net.answer(question, { kind: 'target', to, ttlMs: 3000 });
      });
    }
  }
}

function* seeds(): Generator<Uint8Array> {
  const frames = [
    ...(Object.keys(vectors) as Name[]).map((name) => vector(name)),
    frame(MAC.b, MAC.a),
    frame(MAC.all, MAC.b, 60, 5),
    dhcpFrame(),
    packet({ version: 4, trafficClass: 3 }),
    packet({ version: 6, extensions: 2, from: MAC.b }),
    packet({ version: 4, protocol: 6, checksum: 'partial' }),
    packet({ version: 6, protocol: 6, fragment: 1, from: MAC.b }),
    packet({ version: 4, payloadBytes: 1450 }),
    packet({ version: 6, payloadBytes: 1450 }),
    dhcpFrame({ clientMac: MAC.b, hops: 1 }, { from: MAC.b }),
    packet({ from: MAC.b, protocol: 1, firstByte: 9 }),
    packet({ from: MAC.b, protocol: 2, firstByte: 0x30 }),
    ...[133, 134, 135, 137, 141].map((type) =>
      packet({ version: 6, source: 'fd00::1', protocol: 58, firstByte: type, payloadBytes: 48, from: MAC.b }),
    ),
    frame(MAC.b, MAC.c, 68, 0, [0x88a8, 6]),
  ];
  for (let what = 0; what < 8; what++)
    for (const one of frames) yield concat(Uint8Array.of(what, what === 3 ? 34 : 1, 10), one);
}

export const target: Target = { name: 'datapath', seeds, run };
