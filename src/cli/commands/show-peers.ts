/** show-peers: shows the peers of overlays, all of them or those named (docs/peers.md). */
import { durationText } from '../../control/drop-text.js';
import type { PeerRow } from '../../control/peer-messages.js';
import { attempt, type Context, defineCommand } from '../command.js';
import { readPages } from '../../control/pages.js';
import { isTroubled, peerText, readPeers } from '../peers.js';
import {
  chooseFormat,
  formatJson,
  refuseWithJson,
  reportMissing,
  SHOW_OPTIONS,
  tellOffline,
} from '../show.js';
import type { Column } from '../table.js';
import { printable, wrap } from '../text.js';

/** Version of the shape of --json (docs/peers.md). */
const SHAPE = 1;
const SCREEN_COLUMNS = 80;

type Row = PeerRow & { readonly link: string };

/** Those that are shown have 80 columns, with IPv4. */
const COLUMNS: readonly Column<Row>[] = [
  { name: 'LINK', width: 9, cell: (row) => row.link },
  { name: 'PEER', width: 16, cell: peerText },
  { name: 'MACS', width: 5, cell: (row) => String(row.stationCount ?? '--') },
  { name: 'TXFRAMES', width: 9, cell: (row) => String(row.txFrames) },
  { name: 'RXFRAMES', width: 9, cell: (row) => String(row.rxFrames) },
  { name: 'HEARD', width: 7, cell: (row) => agoText(row.heardAt) },
  { name: 'MTU', width: 6, cell: (row) => String(row.mtuBytes ?? '--') },
  { name: 'PATH', width: 7, cell: (row) => row.path },
  { name: 'STATE', width: 12, cell: (row) => row.state },
  {
    name: 'REASON',
    width: 20,
    extra: true,
    sentence: true,
    cell: (row) => row.reason ?? '--',
  },
  { name: 'PORT', width: 6, extra: true, cell: (row) => String(row.port ?? '--') },
  { name: 'TXBYTES', width: 12, extra: true, cell: (row) => String(row.txBytes) },
  { name: 'RXBYTES', width: 12, extra: true, cell: (row) => String(row.rxBytes) },
  { name: 'SENT', width: 7, extra: true, cell: (row) => agoText(row.sentAt) },
  { name: 'ICMP', width: 30, extra: true, sentence: true, cell: icmpText },
  { name: 'MTUFROM', width: 8, extra: true, cell: (row) => row.mtuFrom ?? '--' },
  { name: 'CHECKSUM', width: 9, extra: true, cell: (row) => row.checksum },
  { name: 'COALESCED', width: 10, extra: true, cell: (row) => row.framesPerRead?.toFixed(1) ?? '--' },
  { name: 'PATHREASON', width: 40, extra: true, sentence: true, cell: (row) => row.pathReason },
  { name: 'STATIONS', width: 18, extra: true, cell: (row) => row.stations.join(',') || '--' },
];

export const command = defineCommand({
  synopsis: 'show-peers [[-p] -o field,... | --json] [overlay...]',
  about:
    'Shows the peers of overlays: the hosts that their frames go to and come from, with the MAC addresses that live ' +
    'there, when each was heard last, and what is wrong. COALESCED is how many frames one read brought on average. ' +
    'Other fields of -o: see docs/peers.md.',
  options: SHOW_OPTIONS,
  examples: [
    'show-peers',
    'show-peers -o all overlay0',
    'show-peers -p -o peer,state,reason',
    'show-peers --json',
  ],

  async run(args, context) {
    if (args.has('json')) refuseWithJson(args);
    const format = args.has('json') ? undefined : chooseFormat(args, COLUMNS, context);
    const names = await runningOverlays(args.operands, context);
    const overlays = [];
    for (const name of names) overlays.push({ name, peers: await peersOf(name, context) });
    if (format === undefined) {
      context.print(formatJson({ v: SHAPE, overlays }));
      return;
    }
    const rows = overlays.flatMap(({ name, peers }) => peers.map((row) => ({ ...row, link: name })));
    context.print(format(rows));
    if (!args.has('output')) context.print(reasonsText(rows));
  },
});

/** Those that are missing or OFFLINE are reported, and the others shown. */
async function runningOverlays(operands: readonly string[], context: Context): Promise<string[]> {
  const request = operands.length > 0 ? { names: [...operands] } : {};
  const pages = await attempt(
    'failed to get info for overlays',
    readPages(context.call, 'overlay.list', request),
  );
  for (const { missing } of pages) reportMissing(missing, context);
  const overlays = pages.flatMap((page) => page.overlays);
  tellOffline(overlays, (text) => {
    context.warn(text);
  });
  return overlays.filter(({ health }) => health.status !== 'OFFLINE').map(({ name }) => name);
}

/** Trouble first; otherwise the order of varpd. */
async function peersOf(name: string, { call }: Context): Promise<PeerRow[]> {
  const rows = await attempt(`cannot read the peers of ${name}`, readPeers(call, name));
  return rows.sort((a, b) => Number(isTroubled(b)) - Number(isTroubled(a)));
}

/** The reasons of trouble, below the table. */
function reasonsText(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ link, reason }) =>
    reason === null ? [] : wrap(printable(`${link}: ${reason}`), SCREEN_COLUMNS),
  );
  return ['', ...lines]
    .map((text) => `${text}\n`)
    .slice(0, lines.length === 0 ? 0 : undefined)
    .join('');
}

/** `3 s`: the time since then. */
function agoText(at: string | null): string {
  return at === null ? '--' : durationText(Date.now() - Date.parse(at));
}

/** `port unreachable from 10.88.88.70, 3 s ago, 12 times` */
function icmpText({ unreachable }: PeerRow): string {
  if (unreachable === null) return '--';
  const { what, from, lastAt, messages } = unreachable;
  const times = messages === 1 ? 'once' : `${messages} times`;
  return `${what}${from === null ? '' : ` from ${from}`}, ${agoText(lastAt)} ago, ${times}`;
}
