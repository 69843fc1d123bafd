/** The result of a probe as text, in the manner of ping(8), and as rows of a table. */
import type { ProbeCount, ProbeInfo, RoundTrips } from '../control/messages.js';
import { counted } from '../model/sentences.js';
import type { Column } from './table.js';
import { printable } from './text.js';

/** The whole probe, or one path of it. */
interface Row extends ProbeCount {
  readonly probe: ProbeInfo;
  readonly sourcePort: number | undefined;
}

const time = (one: keyof RoundTrips) => (row: Row) => row.roundTripMs?.[one].toFixed(3) ?? '--';

export const COLUMNS: readonly Column<Row>[] = [
  { name: 'TARGET', width: 19, cell: ({ probe }) => stationOf(probe) },
  { name: 'METHOD', width: 10, cell: ({ probe }) => probe.method },
  { name: 'PEER', width: 16, cell: ({ probe }) => probe.peer ?? '--' },
  { name: 'SOURCEPORT', width: 12, cell: ({ sourcePort }) => String(sourcePort ?? '--') },
  { name: 'SENT', width: 6, cell: ({ sent }) => String(sent) },
  { name: 'RECEIVED', width: 10, cell: ({ received }) => String(received) },
  { name: 'MIN', width: 9, cell: time('min') },
  { name: 'AVG', width: 9, cell: time('avg') },
  { name: 'MAX', width: 9, cell: time('max') },
  { name: 'LARGEST', width: 8, cell: ({ probe }) => String(probe.mtu?.packetBytes ?? '--') },
  { name: 'DROPPED', width: 16, extra: true, cell: ({ probe }) => probe.dropped?.reason ?? '--' },
];

/** The first row is the whole probe; the others are its paths. */
export function rowsOf(probe: ProbeInfo): readonly Row[] {
  const { sent, received, roundTripMs } = probe;
  const paths = (probe.paths ?? []).map((path) => ({ probe, ...path }));
  return [{ probe, sourcePort: undefined, sent, received, roundTripMs }, ...paths];
}

export function answeredPaths({ paths }: ProbeInfo): number {
  return (paths ?? []).filter(({ received }) => received > 0).length;
}

export function textOf(
  probe: ProbeInfo,
  wanted: { readonly isMtuSought: boolean; readonly isEachPath: boolean },
): string {
  const { packetBytes, overlay, port, vlan } = probe;
  const from = port === overlay ? overlay : `${overlay} from ${port}`;
  const lines = [
    `PROBE ${stationOf(probe)} through ${from}${vlan === 0 ? '' : ` in VLAN ${vlan}`}: packets of ${packetBytes} bytes`,
    ...countLines(probe),
    ...(wanted.isMtuSought ? mtuLines(probe) : []),
    ...(wanted.isEachPath ? pathLines(probe) : []),
  ];
  return lines.map((line) => `${printable(line)}\n`).join('');
}

function stationOf({ mac, ip }: ProbeInfo): string {
  if (ip === null) return mac ?? '--';
  return mac === null ? ip : `${ip} (${mac})`;
}

const QUESTIONS = {
  loopback: 'loopback message',
  arp: 'ARP request',
  ndp: 'neighbour solicitation',
} as const;

function countLines(probe: ProbeInfo): readonly string[] {
  const { method, unanswered, sent, received, roundTripMs, peer, dropped, mac } = probe;
  const by = method === 'loopback' ? 'varpd' : 'the station itself';
  const lost = Math.round((100 * (sent - received)) / sent);
  const answered = received === 0 ? 'none answered' : `${received} answered by ${by} at ${peer ?? '--'}`;
  return [
    ...(method === 'loopback' || mac === null || unanswered === 0
      ? []
      : [
          `${counted(unanswered, QUESTIONS.loopback)} sent, none answered: its VTEP is not varpd, or has loopback=off`,
        ]),
    `${counted(sent, QUESTIONS[method])} sent, ${answered}, ${lost}% lost`,
    ...(roundTripMs === null ? [] : [`round trip min/avg/max = ${timesText(roundTripMs)} ms`]),
    ...(dropped === null ? [] : [`${dropped.frames} dropped here, ${dropped.reason}: ${dropped.about}`]),
    ...(received > 0 ? [] : [adviceOf(probe)]),
  ];
}

function adviceOf({ dropped, mac, unanswered, port }: ProbeInfo): string {
  if (dropped !== null) return 'no message has left this host: mend that first';
  if (mac === null) return 'no station has this address, or the tunnel does not reach it';
  const also = unanswered > 0 ? ', nor to ARP or neighbour solicitation' : '';
  return `no answer to loopback messages${also}: look for drops at the other end, whose mapping must have ${port} too`;
}

function timesText({ min, avg, max }: RoundTrips): string {
  return [min, avg, max].map((one) => one.toFixed(3)).join('/');
}

function mtuLines({ mtu, mac, method, received }: ProbeInfo): readonly string[] {
  if (mtu === null)
    return received > 0 || mac === null || method !== 'loopback' ? [] : ['largest packet: not tried'];
  const { packetBytes, underlayBytes, limitBytes, isBothWays } = mtu;
  const way = isBothWays ? 'there and back' : 'there; the way back is not tried';
  const judged =
    packetBytes === limitBytes ? 'the mtu of the overlay' : `less than the mtu of the overlay, ${limitBytes}`;
  return [
    `largest packet: ${packetBytes} bytes ${way}, which is ${judged} (${underlayBytes} on the underlay)`,
  ];
}

function pathLines(probe: ProbeInfo): readonly string[] {
  const { paths, received } = probe;
  if (paths === null)
    return received === 0 ? [] : ['paths: not tried, since only loopback messages can choose one'];
  const broken = paths.filter((path) => path.received === 0);
  return [
    `paths: ${answeredPaths(probe)} of ${paths.length} source ports answered`,
    ...broken.map(
      ({ sourcePort, sent }) => `no answer from source port ${sourcePort}: ${counted(sent, 'message')} lost`,
    ),
  ];
}
