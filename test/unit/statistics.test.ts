// What overlays have counted: rates, the last frame of each reason to drop, what the log and health say of trouble.
import t from 'tap';
import { droppedFrameText, durationText } from '../../src/control/drop-text.js';
import type { DropReport, DroppedFrame } from '../../src/datapath/contract.js';
import { droppedFrameInfo } from '../../src/daemon/observe/dropped-frame.js';
import { DropNews } from '../../src/daemon/observe/drop-news.js';
import type { ObservedOverlay, ObservedPlace } from '../../src/daemon/observe/observed.js';
import { PlaceNews } from '../../src/daemon/observe/place-news.js';
import { Statistics } from '../../src/daemon/observe/statistics.js';
import { Health } from '../../src/daemon/health.js';
import { LookupTimes } from '../../src/daemon/plugins/lookup-times.js';
import { encapsulation } from '../../src/encap/index.js';
import type { DropReason } from '../../src/model/drops.js';
import { concat, endpoint, frame, MAC } from '../helpers/lab.js';
import { fromHex } from '../vectors/frames.js';

/** An overlay whose counters and clock are the test's. */
class Observed {
  nowMs = 0;
  id = 1;
  readonly log: string[] = [];
  readonly counters: Record<string, number> = {};
  readonly portCounters: Record<string, number> = {};
  places: readonly ObservedPlace[] = [];
  readonly examples = new Map<DropReason, DroppedFrame>();
  readonly #keep = (_topic: string, message: string): void => void this.log.push(message);
  readonly logger = { debug: this.#keep, info: this.#keep, warn: this.#keep, error: this.#keep };
  readonly health = new Health('overlay0', this.logger);
  readonly statistics = new Statistics(() => this.nowMs);
  readonly news = new DropNews(this.logger, () => this.nowMs);

  get overlay(): ObservedOverlay {
    const { counters, examples } = this;
    const reasons = (): DropReason[] =>
      Object.keys(counters).filter((name) =>
        /_(drop|error|vni|firewall|failed|hairpin|peer)/.test(name),
      ) as DropReason[];
    return {
      id: this.id,
      name: 'overlay0',
      plan: { vnetid: 42, search: 'files', encap: 'vxlan' },
      listen: endpoint('192.0.2.1'),
      datapath: {
        counters: () => ({ ...counters }),
        targetCount: () => Promise.resolve(0),
        recordedPeers: () => [],
        drops: (): DropReport[] =>
          reasons()
            .filter((reason) => counters[reason] > 0)
            .map((reason) => ({ reason, frames: counters[reason], last: examples.get(reason) })),
      },
      links: { carrier: true, destinationCount: 1 },
      health: this.health,
      plugin: {
        lookupTimes: { open: 1, latencyMs: { p50: 1, p99: 2, max: 3 } },
        counts: { answers: { within: [], count: 0, sumS: 0 }, exits: 0 },
      },
      info: () => {
        throw new Error('not asked for');
      },
      places: () => this.places,
      ports: () => [{ name: 'foo0', state: 'up', counters: { ...this.portCounters } }],
    };
  }

  /** What the log says of frames dropped meanwhile. */
  after(ms: number, reason: DropReason, frames: number): string[] {
    this.nowMs += ms;
    this.counters[reason] = (this.counters[reason] ?? 0) + frames;
    this.log.length = 0;
    this.news.look([this.overlay], { countersOf: () => this.counters });
    return [...this.log];
  }

  get note(): string | null {
    return this.health.report().details;
  }
}

const VNI_32 = fromHex('08000000 00002000');
const dropped = (bytes: Uint8Array, more: Partial<DroppedFrame> = {}): DroppedFrame => ({
  ageMs: 3000,
  from: undefined,
  port: undefined,
  lengthBytes: bytes.length,
  beginning: bytes.subarray(0, 64),
  ...more,
});

t.test('a dropped frame as JSON and in words', (t) => {
  const vxlan = encapsulation('vxlan');
  const from = endpoint('10.88.88.70', 52011);
  const nowMs = Date.parse('2026-11-30T12:00:03.000Z');
  const stranger = droppedFrameInfo(
    'rx_unknown_vni',
    dropped(concat(VNI_32, frame(MAC.all, MAC.b)), { from }),
    vxlan,
    nowMs,
  );
  t.same(stranger, {
    at: '2026-11-30T12:00:00.000Z',
    from: '10.88.88.70:52011',
    port: null,
    vnetid: 32,
    sourceMac: '02:b1:b2:b3:b4:0b',
    destinationMac: 'ff:ff:ff:ff:ff:ff',
    etherType: 0x88b5,
    vlan: null,
    bytes: 60,
  });
  t.equal(
    droppedFrameText(stranger),
    'VNI 32 from 10.88.88.70:52011, 02:b1:b2:b3:b4:0b > ff:ff:ff:ff:ff:ff, 0x88b5, 60 bytes',
  );
  const tagged = droppedFrameInfo('tx_vlan', dropped(frame(MAC.b, MAC.a, 64, 5), { port: 'foo0' }), vxlan);
  t.match(tagged, { port: 'foo0', from: null, vnetid: null, vlan: 5, bytes: 64 });
  t.match(droppedFrameText(tagged), /^from foo0, .*, VLAN 5, .*, 64 bytes$/);
  const runt = droppedFrameInfo('rx_truncated', dropped(fromHex('08000000 0000'), { from }), vxlan);
  t.match(runt, { vnetid: null, sourceMac: null, destinationMac: null, etherType: null, bytes: 6 });
  t.equal(droppedFrameText(runt), 'from 10.88.88.70:52011, 6 bytes');
  t.match(droppedFrameInfo('tx_runt', dropped(new Uint8Array(0)), vxlan), { bytes: 0, sourceMac: null });
  t.same([0, 119_999, 120_000, 7_199_000, 7_200_000, 172_800_000, -5].map(durationText), [
    '0 s',
    '119 s',
    '2 min',
    '119 min',
    '2 h',
    '2 d',
    '0 s',
  ]);
  t.end();
});

t.test('rates are those of the last looks', (t) => {
  const seen = new Observed();
  const { statistics, counters, portCounters } = seen;
  Object.assign(counters, { tx_frames: 100, rx_frames: 0, lookups: 7, tx_error: 4 });
  portCounters['tx_frames'] = 50;
  t.same(statistics.of(seen.overlay), {
    name: 'overlay0',
    health: { status: 'ONLINE', details: null },
    counters: [
      { name: 'tx_frames', value: 100, perSecond: null },
      { name: 'lookups', value: 7, perSecond: null },
    ],
    lookups: { asked: 7, open: 1, latencyMs: { p50: 1, p99: 2, max: 3 } },
    drops: [
      {
        reason: 'tx_error',
        kind: 'trouble',
        about: 'the underlay socket failed in another way',
        frames: 4,
        perSecond: null,
        last: null,
      },
    ],
    ports: [{ name: 'foo0', counters: [{ name: 'tx_frames', value: 50, perSecond: null }] }],
  });
  statistics.look([seen.overlay]);
  seen.nowMs += 2000;
  counters['tx_frames'] += 20;
  statistics.look([seen.overlay]);
  seen.nowMs += 2000;
  counters['tx_frames'] += 60;
  counters['rx_frames'] += 4;
  portCounters['tx_frames'] += 8;
  const { counters: rows, ports } = statistics.of(seen.overlay);
  t.same(rows[0], { name: 'tx_frames', value: 180, perSecond: 20 }, 'over both looks');
  t.same(rows[1], { name: 'rx_frames', value: 4, perSecond: 1 });
  t.equal(ports[0].counters[0].perSecond, 2);
  seen.id = 2;
  t.equal(statistics.of(seen.overlay).counters[0].perSecond, null, 'one that was deleted and created again');
  t.end();
});

t.test('lookup times', (t) => {
  const times = new LookupTimes();
  t.equal(times.latencyMs, null);
  for (let ms = 1; ms <= 100; ms++) times.add(ms);
  t.same(times.latencyMs, { p50: 51, p99: 100, max: 100 });
  for (let index = 0; index < 1000; index++) times.add(5);
  t.same(times.latencyMs, { p50: 5, p99: 5, max: 5 }, 'of the last 1,000');
  t.end();
});

t.test('trouble is told of once while it lasts', (t) => {
  const seen = new Observed();
  const from = endpoint('10.88.88.70', 52011);
  seen.examples.set('rx_unknown_vni', dropped(concat(VNI_32, frame(MAC.all, MAC.b)), { from }));
  t.same(seen.after(2000, 'rx_unknown_vni', 1), [], 'a single frame');
  t.equal(seen.note, null);
  const said =
    /^(overlay0: )?2 frames dropped as rx_unknown_vni \(VNI 32 from 10.88.88.70:52011, .*\): no overlay with that VNI on this address and port$/;
  t.match(seen.after(2000, 'rx_unknown_vni', 1), [said]);
  t.match(seen.note, said);
  t.equal(seen.health.report().status, 'ONLINE');
  for (let i = 0; i < 60; i++) t.same(seen.after(2000, 'rx_unknown_vni', 100), [], 'it goes on');
  t.match(seen.note, /^6002 frames/);
  t.same(seen.after(50_000, 'rx_unknown_vni', 0), [], 'nor when it ends');
  t.match(seen.note, /^6002 frames/);
  t.same(seen.after(10_000, 'rx_unknown_vni', 0), []);
  t.equal(seen.note, null, 'after a minute without one');
  t.same(seen.after(10_000, 'rx_unknown_vni', 1), []);
  t.match(seen.after(2000, 'rx_unknown_vni', 3), [/^overlay0: 4 frames/], 'it begins again');
  t.end();
});

t.test('what is no trouble, and what needs no second frame', (t) => {
  const seen = new Observed();
  t.same(seen.after(2000, 'tx_hairpin', 1000), [], 'by design');
  t.same(seen.after(2000, 'lookup_failed', 1000), [], 'the plugin has its own sentence');
  t.match(seen.after(2000, 'tx_firewall', 1), [
    /^overlay0: 1 frame dropped as tx_firewall: a firewall of this host .*output rules$/,
  ]);
  seen.id = 2;
  seen.counters['tx_firewall'] = 0;
  t.match(seen.after(2000, 'tx_firewall', 7), [/^overlay0: 7 frames/], 'deleted and created again');
  seen.health.degrade('underlay', 'nothing can be reached');
  t.same(
    seen.health.report(),
    { status: 'DEGRADED', details: 'nothing can be reached' },
    'trouble comes first',
  );
  seen.health.restore('underlay');
  seen.health.remark('3 entries');
  t.match(seen.health.report(), { status: 'ONLINE', details: /^3 entries; .*tx_firewall/ });
  t.end();
});

t.test('ports that the mapping does not know, or has elsewhere', (t) => {
  const seen = new Observed();
  const addresses: string[] = [];
  const news = new PlaceNews(() => addresses);
  const after = (...places: readonly ObservedPlace[]): string | null => {
    seen.places = places;
    news.look([seen.overlay]);
    return seen.note;
  };
  const foo = { port: 'foo0', mac: MAC.a, place: null };
  const here = { port: 'foo0', mac: MAC.a, place: endpoint('192.0.2.1') };
  t.equal(after({ ...foo, place: undefined }), null, 'a plugin that cannot tell');
  t.equal(after(here), null);
  t.equal(after(foo), null, 'the entry may come just after the VNIC');
  const unknown =
    'the mapping does not know foo0 (02:a1:a2:a3:a4:0a): no other host finds it; add it with 192.0.2.1:4789';
  t.equal(after(foo), unknown);
  t.equal(after(foo), unknown);
  t.equal(after(here), null);
  t.same(seen.log, [`overlay0: ${unknown}`, `overlay0: no longer so: ${unknown}`], 'a line at each end');
  const there = { port: 'bar0', mac: MAC.b, place: endpoint('192.0.2.7') };
  after(there);
  t.equal(
    after(there),
    'the mapping has bar0 (02:b1:b2:b3:b4:0b) at 192.0.2.7:4789, and it is here, at 192.0.2.1:4789',
  );
  after({ ...there, place: endpoint('192.0.2.1', 4790) });
  t.match(after({ ...there, place: endpoint('192.0.2.1', 4790) }), / at 192.0.2.1:4790, and/, 'another port');
  const many = [1, 2, 3, 4].map((index) => ({ port: `foo${index}`, mac: index, place: null }));
  after(...many, there);
  t.match(after(...many, there), /know foo1 \(.*\), foo2 \(.*\) and 2 more: .*; the mapping has bar0 \(/);
  const own = { port: 'overlay0', mac: MAC.c, place: null };
  for (const ip of [[], ['fe80::1']]) {
    addresses.splice(0, Infinity, ...ip);
    after(own);
    t.equal(after(own), null, 'the own interface is no station yet');
  }
  addresses.push('10.0.0.1');
  after(own);
  t.match(after(own), /know overlay0/);
  addresses.length = 0;
  after({ ...own, place: endpoint('192.0.2.7') });
  t.match(
    after({ ...own, place: endpoint('192.0.2.7') }),
    /has overlay0 .* at 192.0.2.7/,
    'which is wrong in any case',
  );
  t.end();
});
