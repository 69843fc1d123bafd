// The proxies: no request of a guest makes them throw, and a reply is small, well-formed, and for who has asked.
import { answerArp, readArp } from '../../../src/core/proxy/proxy-arp.js';
import { readDhcp } from '../../../src/core/proxy/proxy-dhcp.js';
import { answerNdp, readNdp } from '../../../src/core/proxy/proxy-ndp.js';
import { describe } from '../../../src/wire/describe.js';
import { dhcpFrame, hex } from '../../helpers/lab.js';
import { frame, fromHex, vectors, type Name } from '../../vectors/frames.js';
import type { Target } from '../engine.js';

const OWNER = 0x0200_0000_00ff;
/** RFC 4861 7.2.4: to the source, or, where there is none, to all nodes. */
const ALL_NODES = '333300000001';

function expectSound(reply: Uint8Array, request: Uint8Array): void {
  if (reply.length > request.length * 1.5 + 26)
    throw new Error(`${reply.length} bytes for ${request.length}`);
  const to = hex(reply.subarray(0, 6));
  if (to !== hex(request.subarray(6, 12)) && to !== ALL_NODES) throw new Error(`goes to ${to}`);
  const line = describe(reply);
  if (/malformed|truncated|bad|undefined|NaN/i.test(line)) throw new Error(line);
}

function run(bytes: Uint8Array): void {
  const arp = readArp(bytes);
  const ndp = readNdp(bytes);
  const dhcp = readDhcp(bytes);
  if (typeof arp !== 'string') {
    const reply = answerArp(bytes, arp, OWNER);
    if (typeof reply !== 'string') expectSound(reply, bytes);
  }
  if (typeof ndp !== 'string') {
    const reply = answerNdp(bytes, ndp, OWNER);
    if (typeof reply !== 'string') expectSound(reply, bytes);
  }
  const takers = [arp, ndp, dhcp].filter((one) => typeof one !== 'string');
  if (takers.length > 1) throw new Error('two proxies take it');
}

const DAD =
  '3333ff00000b02000000000a86dd6000000000183aff00000000000000000000000000000000' +
  'ff0200000000000000000001ff00000b87007c1100000000fe80000000000000000000000000000b';

function* seeds(): Generator<Uint8Array> {
  for (const name of Object.keys(vectors) as Name[]) yield frame(name);
  yield fromHex(DAD);
  yield dhcpFrame();
}

export const target: Target = { name: 'proxies', seeds, run };
