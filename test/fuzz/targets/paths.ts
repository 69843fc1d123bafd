// News of paths: whatever is quoted of what was sent, by whoever says to be a router, it is believed, shown or refused, once. Nobody is
// believed who quotes what was not sent, and below its floor no path gets: frames of the least size always leave.
import { readCounters } from '../../../src/core/counts/counters.js';
import { leastPathMtuBytes, leastUnprovenBytes } from '../../../src/core/peers/path-news.js';
import { VXLAN } from '../../../src/encap/vxlan.js';
import * as ipv4 from '../../../src/wire/ipv4.js';
import { concat, endpoint, frame, Lab, MAC, packet } from '../../helpers/lab.js';
import { fromHex } from '../../vectors/frames.js';
import type { Target } from '../engine.js';

/** One world for so many inputs: what was believed before is part of the test. */
const INPUTS_A_WORLD = 500;
/** Choices, time, and the size that is announced. */
const PREFIX_BYTES = 6;
/** Of two overlays, each with a peer of its own. */
const VNIS = [100, 101] as const;
const HEADERS = ['0800000000006400', '0800000000006500'].map(fromHex);
const VXLAN_BYTES = 8;
const UDP_BYTES = 8;

const UNDERLAYS = {
  4: { ips: ['192.0.2.1', '192.0.2.2', '192.0.2.3'], stranger: '192.0.2.9', overhead: 50 },
  6: { ips: ['2001:db8::1', '2001:db8::2', '2001:db8::3'], stranger: '2001:db8::9', overhead: 70 },
} as const;

const inner = (bytes: number, ...tags: number[]): Uint8Array =>
  packet({ payloadBytes: bytes - ipv4.HEADER_BYTES - UDP_BYTES, tags });

class World {
  readonly #underlay: 4 | 6;
  readonly #lab = new Lab(9000);
  readonly #vtep;
  readonly #sites;
  #nowMs = 0;

  constructor(underlay: 4 | 6) {
    this.#underlay = underlay;
    const [own, ...peers] = UNDERLAYS[underlay].ips;
    const vtep = (this.#vtep = this.#lab.vtep(own));
    this.#sites = VNIS.map((vnetid, index) => {
      const peer = this.#lab.peer(peers[index]);
      const net = vtep.overlay({ vnetid, destination: peer.local, mtuBytes: 8900 });
      return { peer, net, port: net.port(MAC.a, { own: true }) };
    });
    vtep.engine.setTime(0);
    this.#sendLeast();
  }

  hear(bytes: Uint8Array): void {
    const [how, time] = bytes;
    const mtuBytes = new DataView(bytes.buffer, bytes.byteOffset).getInt32(2) & 0x7fff_ffff;
    const quoted = bytes.slice(PREFIX_BYTES);
    const isSender = (how & 2) === 0;
    const [one, other] = this.#sites.map(({ peer }) => peer.local);
    const to = [one, other, { ...one, port: 4790 }, endpoint(UNDERLAYS[this.#underlay].stranger)][
      (how >> 2) & 3
    ];
    this.#vtep.engine.setTime((this.#nowMs += time * (how & 16 ? 1000 : 1)));
    if (how & 32) this.#sendLeast();
    const before = this.#read();
    const heard = this.#vtep.paths.length;
    (isSender ? this.#vtep.senders[0] : this.#vtep.listener).icmp.push({ to, mtuBytes, quoted });
    this.#lab.run();
    const [learned, refused, tooSmall] = this.#read().map((count, index) => count - before[index]);
    if (learned + refused + tooSmall > 1) throw new Error(`counted ${learned + refused + tooSmall} times`);
    const reports = this.#vtep.paths.slice(heard);
    if (learned > reports.length || reports.length > 1) throw new Error('believed, and nobody is told');
    if (reports.length === 1)
      this.#judge(isSender ? VNIS[[one, other].indexOf(to)] : undefined, mtuBytes, quoted);
    this.#sendLeast();
  }

  /** Of what is believed here, or told to the other threads. */
  #judge(vnetid: number | undefined, mtuBytes: number, quoted: Uint8Array): void {
    if (vnetid === undefined) throw new Error('nothing was sent so');
    if (quoted.length >= VXLAN_BYTES) {
      const vni = (quoted[4] << 16) | (quoted[5] << 8) | quoted[6];
      if ((quoted[0] & 8) === 0 || vni !== vnetid) throw new Error('of no overlay with that peer');
    }
    const sent = this.#sentBytes(quoted.subarray(VXLAN_BYTES, 64));
    const least = (sent === undefined ? leastUnprovenBytes : leastPathMtuBytes)(VXLAN, this.#underlay);
    if (mtuBytes < least) throw new Error(`${mtuBytes} is less than ${least}`);
    if (sent !== undefined && sent <= mtuBytes) throw new Error(`${sent} bytes fit into ${mtuBytes}`);
  }

  /** Of the packet on the underlay; undefined where it is not quoted. Another way of looking than core/peers/path-news.ts. */
  #sentBytes(bytes: Uint8Array): number | undefined {
    const tag = /^.{24}((?:8100|88a8|9100).{4}){0,4}/.exec(Buffer.from(bytes).toString('hex'))?.[0];
    if (tag === undefined) return undefined;
    const at = tag.length / 2 + 2;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const type = at <= bytes.length ? view.getUint16(at - 2) : 0;
    const around = at + this.#underlayOverhead;
    if (type === 0x0800 && at + 4 <= bytes.length) return view.getUint16(at + 2) + around;
    if (type === 0x86dd && at + 6 <= bytes.length) return view.getUint16(at + 4) + 40 + around;
    return undefined;
  }

  /** Outer IP, UDP and VXLAN. */
  get #underlayOverhead(): number {
    return UNDERLAYS[this.#underlay].overhead - 14;
  }

  /** A frame that no news may keep from the tunnel. */
  #sendLeast(): void {
    const { overhead } = UNDERLAYS[this.#underlay];
    for (const { port, peer } of this.#sites) {
      port.send(inner(leastPathMtuBytes(VXLAN, this.#underlay) - overhead));
      if (peer.take().length !== 1) throw new Error('a frame of the least size did not leave');
      port.take();
    }
  }

  #read(): readonly [learned: number, refused: number, tooSmall: number] {
    const counters = readCounters(...this.#sites.map(({ net }) => net.values), this.#vtep.socketCounters);
    return [counters.path_mtu_learned, counters.path_mtu_refused, counters.path_mtu_too_small];
  }
}

const worlds: Partial<Record<4 | 6, { world: World; inputs: number }>> = {};

function run(bytes: Uint8Array): void {
  if (bytes.length < PREFIX_BYTES) return;
  const underlay = bytes[0] & 1 ? 6 : 4;
  let kept = worlds[underlay];
  if (kept === undefined || kept.inputs === INPUTS_A_WORLD)
    worlds[underlay] = kept = { world: new World(underlay), inputs: 0 };
  kept.inputs++;
  kept.world.hear(bytes);
}

function* seeds(): Generator<Uint8Array> {
  const frames = [
    inner(8000),
    inner(8000, 5),
    packet({ version: 6, payloadBytes: 4000, from: MAC.b }),
    frame(MAC.b, MAC.a, 60),
  ];
  const quotes = HEADERS.flatMap((header) => frames.map((bytes) => concat(header, bytes.subarray(0, 56))));
  for (let how = 0; how < 64; how++) {
    for (const mtuBytes of [68, 1280, 1400])
      for (const quoted of [...quotes, new Uint8Array(0)])
        yield concat(Uint8Array.of(how, 1, 0, 0, mtuBytes >> 8, mtuBytes & 0xff), quoted);
  }
}

export const target: Target = { name: 'paths', seeds, run };
