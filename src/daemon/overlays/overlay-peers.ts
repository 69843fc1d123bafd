/** The peers of one overlay, as `show-peers` shows them (docs/peers.md). */
import type { PageResult } from '../../control/messages.js';
import type { PeerRow, PeerTrouble, UnreachableInfo } from '../../control/peer-messages.js';
import type { PeerPlace } from '../../core/peers/peer-places.js';
import type { OverlayDatapath } from '../../datapath/contract.js';
import type { PeerReport, UnreachableReport } from '../../model/peer-report.js';
import { unreachableName } from '../../model/unreachable.js';
import type { IpAddress } from '../../wire/ip.js';
import { formatMac } from '../../wire/mac.js';
import { IS_V6 } from '../../wire/path-news.js';
import { pageOf } from './pages.js';

/** The overlay that has the peers. Its mode may come later. */
export interface PeersOwner {
  readonly datapath: Pick<OverlayDatapath, 'peers' | 'describePeers' | 'offloads' | 'sending'>;
  readonly mode: 'point' | 'dynamic';
}

/** Name of the row of all addresses that have none of their own: no address is like it. */
const OTHERS = '*';

type PathInfo = Pick<PeerRow, 'path' | 'pathReason' | 'checksum'>;

/** `troubles`: the peers that are in trouble, by address. */
export async function peerPage(
  { datapath, mode }: PeersOwner,
  after: string | undefined,
  troubles: ReadonlyMap<string, PeerTrouble>,
): Promise<{ rows: PeerRow[] } & PageResult> {
  const { peers, others } = datapath.peers();
  const reports = new Map<string, PeerReport>(peers.map((report) => [report.ip, report]));
  if (others !== undefined) reports.set(OTHERS, others);
  const nowMs = Date.now();
  const { rows, next } = pageOf([...reports.keys()], after, (name) => [
    { name, row: countsOf(reports.get(name)!, name, nowMs, troubles.get(name)) },
  ]);
  const ips = rows.flatMap(({ name }) => (name === OTHERS ? [] : [name as IpAddress]));
  const places = new Map((await datapath.describePeers(ips)).map((place, index) => [ips[index], place]));
  return {
    rows: rows.map(({ name, row }) => {
      const place = places.get(name as IpAddress);
      const hasTable = mode === 'dynamic' && place !== undefined;
      return {
        ...row,
        port: place?.port ?? null,
        stationCount: hasTable ? place.stationCount : null,
        stations: place?.stations.map(formatMac) ?? [],
        mtuBytes: place?.mtuBytes ?? null,
        mtuFrom: place?.mtuBytes === undefined ? null : place.isMtuLearned ? 'icmp' : 'route',
        ...pathOf(datapath, place),
      };
    }),
    next,
  };
}

/** The kind of path that frames to a peer take, and why. */
function pathOf({ offloads, sending }: PeersOwner['datapath'], place: PeerPlace | undefined): PathInfo {
  const { checksum } = sending;
  const tunnelUse = offloads.includes('tunnel') ? (place?.tunnelUse ?? 'none') : undefined;
  if (tunnelUse === 'sent')
    return { path: 'tunnel', pathReason: 'the link of its route takes tunnel frames whole', checksum };
  const single = (pathReason: string): PathInfo => ({ path: 'single', pathReason, checksum });
  if (!sending.maySendTrains) return single('the property offload has no train');
  if (checksum === 'zero') return single('without UDP checksums the kernel cuts no messages');
  if (!offloads.includes('train')) return single('this kernel cuts no messages (UDP_SEGMENT, Linux 4.18)');
  if (place?.refusesSegmentation === true) return single('its route or device refused a message of many');
  const pathReason = 'the kernel or the device cuts messages of up to 64 datagrams';
  const noTunnel = tunnelUse === undefined ? '' : `; ${NO_TUNNEL[tunnelUse](checksum)}`;
  return { path: 'train', pathReason: pathReason + noTunnel, checksum };
}

/** Why superframes do not leave as tunnel frames. */
const NO_TUNNEL = {
  none: (checksum: string) =>
    `no tunnel frames: the link of its route lacks tx-udp_tnl-${checksum === 'full' ? 'csum-' : ''}segmentation, or nothing was sent yet`,
  refused: () => 'no tunnel frames: the kernel has refused one (tx_tunnel_refused)',
} as const;

type Counts = Omit<PeerRow, keyof PathInfo | 'port' | 'stationCount' | 'stations' | 'mtuBytes' | 'mtuFrom'>;

function countsOf(report: PeerReport, name: string, nowMs: number, trouble: PeerTrouble | undefined): Counts {
  const { isPeer, txFrames, txBytes, rxFrames, rxBytes, rxReads, sentAgoMs, heardAgoMs, unreachable } =
    report;
  const used = heardAgoMs !== undefined ? 'ok' : sentAgoMs !== undefined ? 'unheard' : 'idle';
  const at = (agoMs: number | undefined): string | null =>
    agoMs === undefined ? null : new Date(nowMs - agoMs).toISOString();
  return {
    ip: name === OTHERS ? null : name,
    isPeer,
    state: trouble?.state ?? used,
    reason: trouble?.reason ?? null,
    txFrames,
    txBytes,
    rxFrames,
    rxBytes,
    sentAt: at(sentAgoMs),
    heardAt: at(heardAgoMs),
    unreachable: unreachable === undefined ? null : unreachableInfo(unreachable, nowMs),
    framesPerRead: rxReads === 0 ? null : rxFrames / rxReads,
    uncoalescedReads: report.uncoalescedReads,
  };
}

function unreachableInfo(report: UnreachableReport, nowMs: number): UnreachableInfo {
  const { kind, from, port, messages, firstAgoMs, lastAgoMs } = report;
  return {
    what: unreachableName(kind),
    type: (kind >> 8) & 0xff,
    code: kind & 0xff,
    protocol: (kind & IS_V6) === 0 ? 'icmp' : 'icmpv6',
    from: from ?? null,
    port,
    messages,
    firstAt: new Date(nowMs - firstAgoMs).toISOString(),
    lastAt: new Date(nowMs - lastAgoMs).toISOString(),
  };
}
