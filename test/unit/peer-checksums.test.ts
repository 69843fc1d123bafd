// Peers that send zero UDP checksums: what the datapath counts as a sign of it, and what dladm doctor makes of that.
import t from 'tap';

import { checkChecksums, type ChecksumFacts, type PeerTraffic } from '../../src/cli/doctor/checksums.js';
import { PeerReports } from '../../src/datapath/userland/main/peer-reports.js';
import { frame, Lab, MAC, type Net, type Tap } from '../helpers/lab.js';

interface Pair {
  readonly net: Net;
  /** A port at the peer. */
  readonly back: Tap;
}

function pair(batchFrames: number): Pair {
  const lab = new Lab();
  const [a, b] = [lab.vtep('192.0.2.1', { batchFrames }), lab.vtep('192.0.2.2', { batchFrames })];
  const net = a.overlay({ vnetid: 7, destination: b.endpoint });
  net.port(MAC.a);
  return { net, back: b.overlay({ vnetid: 7, destination: a.endpoint }).port(MAC.b) };
}

function signs({ net }: Pair): number {
  const reports = new PeerReports();
  reports.moved(0, net.vtep.peerMemories.get(net.id)!);
  return [...reports.read(new Map(), true).peers][0].uncoalescedReads;
}

await t.test('full-size datagrams of one flow, side by side in a long read', (t) => {
  const send = (sizes: readonly number[], batchFrames = 16): number => {
    const both = pair(batchFrames);
    both.back.send(...sizes.map((bytes) => frame(MAC.a, MAC.b, bytes)));
    t.equal(both.net.counters.rx_frames, sizes.length);
    return signs(both);
  };
  const many = (bytes: number, count = 16): number[] => new Array<number>(count).fill(bytes);
  t.equal(send(many(1400)), 1, 'one sign a read');
  t.equal(send(many(1400, 32)), 2);
  t.equal(send(many(1400, 7)), 0, 'a short read');
  t.equal(send(many(1400, 32), 7), 0, 'short reads');
  t.equal(send(many(200)), 0, 'small frames');
  t.equal(send(many(0, 16).map((_, index) => 1300 + index)), 0, 'of different sizes');
  t.end();
});

const on = (isOn: boolean): ChecksumFacts['wires'] => [
  { name: 'eth0', features: new Map([['generic-receive-offload', { isOn, isFixed: false }]]) },
];
const FACTS: ChecksumFacts = { encap: 'vxlan', isAsked: true, peers: [], wires: on(true) };
const ZERO: PeerTraffic = { ip: '10.0.0.2', rxFrames: 50_000, framesPerRead: 1, uncoalescedReads: 400 };
const FULL: PeerTraffic = { ...ZERO, ip: '10.0.0.3', framesPerRead: 20, uncoalescedReads: 0 };
const IDLE: PeerTraffic = { ...ZERO, ip: '10.0.0.4', rxFrames: 0, framesPerRead: null, uncoalescedReads: 0 };

await t.test('what doctor says', (t) => {
  const said = (more: Partial<ChecksumFacts>): string => {
    const { status, sentence } = checkChecksums({ ...FACTS, ...more });
    return `${status} ${sentence}`;
  };
  t.match(
    said({ peers: [ZERO, IDLE] }),
    /^warn 10\.0\.0\.2 seems to send zero UDP checksums \(inferred\): in 400 .* \(or packets come too far apart/,
  );
  t.match(said({ peers: [ZERO, FULL] }), /, while those of 1 other peer are: receiving is slower$/);
  t.match(
    said({ peers: [ZERO, { ...ZERO, ip: null }] }),
    /^warn 10\.0\.0\.2 and 1 more seem to .* in 800 reads/,
  );
  t.match(said({ peers: [FULL, IDLE] }), /^ok datagrams of 1 peer are put together/);
  t.match(said({ peers: [FULL, { ...FULL, uncoalescedReads: 300 }] }), /^ok/, 'a few among many');
  t.match(said({ peers: [IDLE] }), /^skip no peer has sent enough/);
  t.match(said({ peers: [{ ...ZERO, uncoalescedReads: 99 }] }), /^skip no peer has sent enough/);
  t.match(said({ peers: [{ ...FULL, rxFrames: 50 }] }), /^skip/, 'too little to be well');
  t.match(said({ peers: [ZERO], isAsked: false }), /^skip the overlay does not ask/);
  t.match(said({ peers: [], isAsked: undefined }), /^skip the overlay does not run/);
  t.match(said({ peers: 'varpd does not tell' }), /^skip varpd does not tell/);
  t.match(said({ peers: [ZERO], wires: on(false) }), /^skip eth0 puts nothing together/);
  t.match(said({ peers: [FULL], wires: on(false) }), /^ok/, 'what came together came together');
  t.match(
    said({ peers: [ZERO], wires: [{ name: 'eth0', features: 'no ethtool' }] }),
    /^skip whether eth0 .*no ethtool/,
  );
  t.match(said({ peers: [ZERO], wires: [] }), /^skip the link of the listen address/);
  t.match(checkChecksums({ ...FACTS, encap: 'geneve', peers: [ZERO] }).advice, 'geneve/udp_checksum=full');
  t.end();
});
