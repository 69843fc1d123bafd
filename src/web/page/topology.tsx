/** A picture of the network: this host, its overlays around it, and their peers, with the load on the edges. */
import type { PeerView } from '../messages.js';
import { bitsText } from './format.js';
import type { ShownOverlay } from './state.js';

const SIZE = { x: 1000, y: 520 };
const CENTER = { x: SIZE.x / 2, y: SIZE.y / 2 };
/** Overlays are on an ellipse around the host, and peers on another around them. */
const OVERLAY_RADII = { x: 190, y: 110 };
const PEER_RADII = { x: 370, y: 225 };
/** With more, names would cover each other; they are shown for the node that has the focus or the pointer. */
const MAX_LABELS = 40;

interface Point {
  readonly x: number;
  readonly y: number;
}

/** `turns`: 0 is to the right of the center, a quarter is below it. */
function around(turns: number, radii: Point): Point {
  const angle = 2 * Math.PI * turns;
  return { x: CENTER.x + radii.x * Math.cos(angle), y: CENTER.y + radii.y * Math.sin(angle) };
}

const loadOf = ({ txBits, rxBits }: { txBits: number | null; rxBits: number | null }): number =>
  (txBits ?? 0) + (rxBits ?? 0);
/** From 1 at rest to 7 at 10 Gbit/s. */
const widthOf = (bits: number): number => 1 + Math.max(0, Math.log10(Math.max(1, bits)) - 3) * 0.86;
const isBad = ({ state }: PeerView): boolean => state === 'unreachable' || state === 'silent';

const stationsText = (count: number | null): string =>
  count === null ? '' : count === 1 ? ', 1 MAC' : `, ${count} MACs`;

function peerText(peers: readonly PeerView[]): string {
  const [{ ip }] = peers;
  const each = peers.map(
    (peer) =>
      `${peer.overlay}: ${peer.state}${stationsText(peer.stationCount)}, sends ${bitsText(peer.rxBits)}, gets ${bitsText(peer.txBits)}`,
  );
  return `peer ${ip ?? 'others'}; ${each.join('; ')}`;
}

export function Topology({
  host,
  overlays,
  peers,
}: {
  readonly host: string;
  readonly overlays: readonly ShownOverlay[];
  readonly peers: readonly PeerView[];
}) {
  const byIp = new Map<string, PeerView[]>();
  for (const peer of peers) byIp.set(peer.ip ?? '*', [...(byIp.get(peer.ip ?? '*') ?? []), peer]);
  const overlayPlaces = new Map(
    overlays.map(({ name }, index) => [name, around(index / overlays.length, OVERLAY_RADII)]),
  );
  // The peers of an overlay lie side by side, beyond it.
  const stations = [...byIp].sort(([a, [one]], [b, [other]]) =>
    `${one.overlay} ${a}` < `${other.overlay} ${b}` ? -1 : 1,
  );
  const places = new Map(
    stations.map(([ip], index) => [
      ip,
      around((index + 0.5) / stations.length - 0.5 / Math.max(1, overlays.length), PEER_RADII),
    ]),
  );
  const hasLabels = stations.length <= MAX_LABELS;
  const summary = `${host}; overlays: ${overlays.length}; peers: ${stations.length}; the table below has the same as text`;
  return (
    <svg class="topology" viewBox={`0 0 ${SIZE.x} ${SIZE.y}`} role="img" aria-label={summary}>
      {overlays.map((overlay) => {
        const load = overlay.rates === null ? 0 : loadOf(overlay.rates);
        return (
          <Edge
            key={overlay.name}
            from={CENTER}
            to={overlayPlaces.get(overlay.name)!}
            load={load}
            bad={overlay.status !== 'ONLINE'}
          />
        );
      })}
      {peers.map((peer) => {
        const from = overlayPlaces.get(peer.overlay);
        const to = places.get(peer.ip ?? '*');
        if (from === undefined || to === undefined) return null;
        return (
          <Edge
            key={`${peer.overlay} ${peer.ip}`}
            from={from}
            to={to}
            load={loadOf(peer)}
            bad={isBad(peer)}
          />
        );
      })}
      {stations.map(([ip, views]) => {
        const { x, y } = places.get(ip)!;
        const macs = views.reduce((sum, { stationCount }) => sum + (stationCount ?? 0), 0);
        return (
          <g key={ip} class={views.some(isBad) ? 'peer bad' : 'peer'}>
            <title>{peerText(views)}</title>
            <circle cx={x} cy={y} r={hasLabels ? 8 : 4} />
            {hasLabels && (
              <text x={x} y={y + 12} text-anchor="middle" dominant-baseline="hanging">
                {ip === '*' ? 'others' : ip}
                {macs > 0 ? ` (${macs})` : ''}
              </text>
            )}
          </g>
        );
      })}
      {overlays.map(({ name, status, ports }) => {
        const { x, y } = overlayPlaces.get(name)!;
        return (
          <g key={name} class={status === 'ONLINE' ? 'overlay' : 'overlay bad'}>
            <title>{`${name}: ${status}; ports: ${ports.map((port) => port.name).join(', ')}`}</title>
            <circle cx={x} cy={y} r={12} />
            {overlays.length <= MAX_LABELS && (
              <text x={x} y={y - 16} text-anchor="middle">
                {name}
              </text>
            )}
          </g>
        );
      })}
      <g class="host">
        <circle cx={CENTER.x} cy={CENTER.y} r={20} />
        <text x={CENTER.x} y={CENTER.y + 36} text-anchor="middle">
          {host}
        </text>
      </g>
    </svg>
  );
}

function Edge({
  from,
  to,
  load,
  bad,
}: {
  readonly from: Point;
  readonly to: Point;
  readonly load: number;
  readonly bad: boolean;
}) {
  const kind = bad ? 'edge bad' : load > 1000 ? 'edge busy' : 'edge';
  return <line class={kind} x1={from.x} y1={from.y} x2={to.x} y2={to.y} stroke-width={widthOf(load)} />;
}

/** The same as text. */
export function PeerTable({ peers }: { readonly peers: readonly PeerView[] }) {
  return (
    <details>
      <summary>Peers as a table</summary>
      <div class="wide" tabIndex={0} role="region" aria-label="peers">
        <table>
          <thead>
            <tr>
              <th scope="col">overlay</th>
              <th scope="col">peer</th>
              <th scope="col">state</th>
              <th scope="col">MACs</th>
              <th scope="col">sends</th>
              <th scope="col">gets</th>
            </tr>
          </thead>
          <tbody>
            {peers.map((peer) => (
              <tr key={`${peer.overlay} ${peer.ip}`}>
                <td>{peer.overlay}</td>
                <td>{peer.ip ?? 'others'}</td>
                <td class={isBad(peer) ? 'bad' : ''}>{peer.state}</td>
                <td title={peer.stations.join(' ')}>{peer.stationCount ?? '--'}</td>
                <td>{bitsText(peer.rxBits)}</td>
                <td>{bitsText(peer.txBits)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
