// dladm show-peers: the rows that varpd makes, page by page, and the forms that dladm gives them.
import t from 'tap';

import type { PeerRow } from '../../src/control/peer-messages.js';
import { type PeerPlace, MAX_STATIONS } from '../../src/core/peers/peer-places.js';
import { peerPage, type PeersOwner } from '../../src/daemon/overlays/overlay-peers.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import type { PeerReport, Sending } from '../../src/model/peer-report.js';
import { IS_V6 } from '../../src/wire/path-news.js';
import { fakeDaemon, run } from '../helpers/fake-control.js';
import { address } from '../helpers/lab.js';

const report = (ip: string, more: Partial<PeerReport> = {}): PeerReport => ({
  ip: address(ip),
  isPeer: true,
  txFrames: 0,
  txBytes: 0,
  rxFrames: 0,
  rxBytes: 0,
  rxReads: 0,
  uncoalescedReads: 0,
  sentAgoMs: undefined,
  heardAgoMs: undefined,
  asked: 0,
  unreachable: undefined,
  ...more,
});

const PLACE: PeerPlace = {
  port: 4789,
  mtuBytes: 1500,
  isMtuLearned: false,
  refusesSegmentation: false,
  tunnelUse: 'none',
  stationCount: 2,
  stations: [0x0200_0000_0001, 0x0200_0000_0002],
};

interface Owner {
  readonly peers?: readonly PeerReport[];
  readonly others?: PeerReport;
  readonly mode?: 'point' | 'dynamic';
  readonly sending?: Sending;
  readonly offloads?: PeersOwner['datapath']['offloads'];
  readonly place?: Partial<PeerPlace>;
}

function peersOf(owner: Owner): PeersOwner {
  const { peers = [report('10.0.0.2')], others, mode = 'dynamic', place } = owner;
  const { sending = { checksum: 'full', maySendTrains: true }, offloads = ['train'] } = owner;
  return {
    mode,
    datapath: {
      peers: () => ({ peers, others }),
      describePeers: (ips) => Promise.resolve(ips.map(() => ({ ...PLACE, ...place }))),
      sending,
      offloads,
    },
  };
}

async function rowOf(owner: Owner): Promise<PeerRow> {
  return (await peerPage(peersOf(owner), undefined, new Map())).rows[0];
}

await t.test('states and counts', async (t) => {
  t.match(await rowOf({}), {
    ip: '10.0.0.2',
    state: 'idle',
    sentAt: null,
    heardAt: null,
    framesPerRead: null,
  });
  t.match(await rowOf({ peers: [report('10.0.0.2', { sentAgoMs: 5 })] }), { state: 'unheard' });
  const counts = { sentAgoMs: 5, heardAgoMs: 70_000, rxFrames: 30, rxReads: 10, txBytes: 7 };
  const row = await rowOf({ peers: [report('10.0.0.2', counts)] });
  t.match(row, { state: 'ok', framesPerRead: 3, txBytes: 7, stationCount: 2, port: 4789, mtuFrom: 'route' });
  t.strictSame(row.stations, ['02:00:00:00:00:01', '02:00:00:00:00:02']);
  const agoMs = Date.now() - Date.parse(row.heardAt ?? '');
  t.ok(agoMs >= 70_000 && agoMs < 130_000, `heard ${agoMs} ms ago`);
  t.match(await rowOf({ mode: 'point' }), { stationCount: null });
  t.match(await rowOf({ place: { isMtuLearned: true, mtuBytes: 1400 } }), {
    mtuBytes: 1400,
    mtuFrom: 'icmp',
  });
  t.match(await rowOf({ place: { mtuBytes: undefined, port: undefined } }), {
    mtuBytes: null,
    mtuFrom: null,
    port: null,
  });
});

await t.test('kinds of path', async (t) => {
  t.match(await rowOf({}), { path: 'train', checksum: 'full' });
  const off = { checksum: 'full', maySendTrains: false } as const;
  t.match(await rowOf({ sending: off }), { path: 'single', pathReason: /offload has no train/ });
  const zero = { checksum: 'zero', maySendTrains: true } as const;
  t.match(await rowOf({ sending: zero }), { path: 'single', checksum: 'zero', pathReason: /checksums/ });
  t.match(await rowOf({ offloads: [] }), { path: 'single', pathReason: /this kernel/ });
  const offloads = ['train', 'tunnel'] as const;
  t.match(await rowOf({ offloads, place: { tunnelUse: 'sent' } }), { path: 'tunnel' });
  t.match(await rowOf({ place: { tunnelUse: 'sent' } }), { path: 'train' }, 'of another overlay');
  t.match(await rowOf({ offloads }), { path: 'train', pathReason: /lacks tx-udp_tnl-csum-segmentation/ });
  const tunnelUse = 'refused';
  t.match(await rowOf({ offloads, place: { tunnelUse } }), { path: 'train', pathReason: /has refused one/ });
  t.match(await rowOf({ place: { refusesSegmentation: true } }), { path: 'single', pathReason: /refused/ });
});

await t.test('ICMP, trouble and others', async (t) => {
  const unreachable = {
    kind: IS_V6 | 0x104,
    port: 6081,
    from: address('fd00::9'),
    messages: 3,
    firstAgoMs: 9000,
    lastAgoMs: 1000,
  };
  const row = await rowOf({ peers: [report('fd00::2', { unreachable })] });
  t.match(row.unreachable, {
    what: 'port unreachable',
    protocol: 'icmpv6',
    type: 1,
    code: 4,
    from: 'fd00::9',
    messages: 3,
  });
  t.equal(row.reason, null, 'no trouble, or no longer');
  const peers = peersOf({ others: report('::', { rxFrames: 5, isPeer: false }) });
  const troubles = new Map([['10.0.0.2', { state: 'silent', reason: 'says nothing' } as const]]);
  const { rows, next } = await peerPage(peers, undefined, troubles);
  t.match(rows, [
    { ip: '10.0.0.2', state: 'silent', reason: 'says nothing' },
    { ip: null, isPeer: false, rxFrames: 5, stationCount: null, port: null },
  ]);
  t.equal(next, null);
});

await t.test('pages: every peer once', async (t) => {
  const all = Array.from({ length: 5000 }, (_, index) => report(`10.1.${index >> 8}.${index & 255}`));
  const peers = peersOf({ peers: all });
  const seen: (string | null)[] = [];
  let pages = 0;
  for (let after: string | undefined | null = undefined; after !== null; pages++) {
    const page: Awaited<ReturnType<typeof peerPage>> = await peerPage(peers, after, new Map());
    seen.push(...page.rows.map(({ ip }) => ip));
    after = page.next;
  }
  t.ok(pages > 1, `${pages} pages`);
  t.strictSame(
    seen,
    all.map(({ ip }) => ip),
  );
  await t.rejects(peerPage(peers, '10.1.0.0', new Map()), { code: 'INVALID' });
  t.equal(MAX_STATIONS, 16);
});

// -- dladm

const now = Date.now();
const at = (agoMs: number): string => new Date(now - agoMs).toISOString();
const ROW: PeerRow = {
  ip: '10.88.88.70',
  isPeer: true,
  port: 4789,
  state: 'ok',
  reason: null,
  stationCount: 3,
  stations: ['02:00:00:00:00:01', '02:00:00:00:00:02'],
  txFrames: 120341,
  txBytes: 1,
  rxFrames: 118904,
  rxBytes: 2,
  sentAt: at(3_600_500 * 3),
  heardAt: at(600_500),
  unreachable: null,
  mtuBytes: 1500,
  mtuFrom: 'route',
  path: 'train',
  pathReason: 'the kernel cuts',
  checksum: 'full',
  framesPerRead: 12.345,
  uncoalescedReads: 0,
};
const SICK: PeerRow = {
  ...ROW,
  ip: '10.88.88.71',
  state: 'unreachable',
  reason:
    'peer 10.88.88.71 cannot be reached: port unreachable (0 s ago, for 14 s): is varpd stopped there, or does a firewall reject UDP port 4789?',
  heardAt: null,
  rxFrames: 0,
  stationCount: null,
  mtuBytes: null,
  mtuFrom: null,
  framesPerRead: null,
  unreachable: {
    what: 'port unreachable',
    type: 3,
    code: 3,
    protocol: 'icmp',
    from: '10.88.88.71',
    port: 4789,
    messages: 12,
    firstAt: at(3_600_500 * 2 + 14_000),
    lastAt: at(3_600_500 * 2),
  },
};

const info = (name: string, status = 'ONLINE') => ({ name, health: { status, details: 'so it is' } });

function daemon(missing: readonly { name: string; message: string }[] = []) {
  return fakeDaemon({
    'overlay.list': () => ({ overlays: [info('overlay0'), info('off0', 'OFFLINE')], missing, next: null }),
    'overlay.peers': ({ after }) =>
      after === undefined ? { rows: [ROW], next: '0:10.88.88.70' } : { rows: [SICK], next: null },
  });
}

await t.test('the table has 80 columns, trouble first, with its reason below', async (t) => {
  const { socket, requests } = await daemon();
  const { out, err, status } = await run(socket, 'show-peers');
  t.equal(
    out,
    [
      'LINK     PEER            MACS TXFRAMES RXFRAMES HEARD  MTU   PATH   STATE',
      'overlay0 10.88.88.71     --   120341   0        --     --    train  unreachable',
      'overlay0 10.88.88.70     3    120341   118904   10 min 1500  train  ok',
      '',
      'overlay0: peer 10.88.88.71 cannot be reached: port unreachable (0 s ago, for 14',
      's): is varpd stopped there, or does a firewall reject UDP port 4789?',
      '',
    ].join('\n'),
  );
  t.ok(out.split('\n').every((line) => line.length <= 80));
  t.match(err, 'off0 is OFFLINE');
  t.equal(status, 0);
  t.strictSame(
    requests.filter(({ method }) => method === 'overlay.peers').map(({ params }) => params),
    [{ name: 'overlay0' }, { name: 'overlay0', after: '0:10.88.88.70' }],
  );
});

await t.test('other forms', async (t) => {
  const { socket } = await daemon([{ name: 'nope0', message: 'object not found' }]);
  const fields = 'peer,port,sent,icmp,mtufrom,checksum,coalesced,stations';
  const parsable = await run(socket, 'show-peers', '-p', '-o', fields);
  t.equal(
    parsable.out,
    '10.88.88.71:4789:3 h:port unreachable from 10.88.88.71, 2 h ago, 12 times:--:full:--:02\\:00\\:00\\:00\\:00\\:01,02\\:00\\:00\\:00\\:00\\:02\n' +
      '10.88.88.70:4789:3 h:--:route:full:12.3:02\\:00\\:00\\:00\\:00\\:01,02\\:00\\:00\\:00\\:00\\:02\n',
  );
  t.equal(parsable.status, EXIT.NOT_FOUND);
  t.match(parsable.err, 'nope0');
  const json = JSON.parse((await run(socket, 'show-peers', '--json')).out) as unknown;
  t.strictSame(json, { v: 1, overlays: [{ name: 'overlay0', peers: [SICK, ROW] }] });
  t.match(await run(socket, 'show-peers', '--json', '-o', 'peer'), { status: EXIT.USAGE });
  t.match(await run(socket, 'show-peers', '-p'), { status: EXIT.USAGE });
  t.match((await run(socket, 'show-peers', '-o', 'all')).out, /^LINK .* STATIONS$/m);
});
