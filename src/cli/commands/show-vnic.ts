/** show-vnic: shows VNICs: all, those named, or those over one overlay. */
import type { OverlayStatistics, PortStatistics, VnicInfo } from '../../control/messages.js';
import { defineCommand } from '../command.js';
import { chooseFormat, formatJsonRows, refuseWithJson, readList, SHOW_OPTIONS } from '../show.js';
import {
  portRows,
  readInterval,
  type Selection,
  showStatistics,
  splitCount,
  STATISTICS_OPTIONS,
} from '../statistics.js';
import type { Column } from '../table.js';

const COLUMNS: readonly Column<VnicInfo>[] = [
  { name: 'LINK', width: 13, cell: (row) => row.name },
  { name: 'OVER', width: 13, cell: (row) => row.over },
  // A TAP has no speed: the column is there for scripts.
  { name: 'SPEED', width: 7, cell: () => '--' },
  { name: 'MACADDRESS', width: 18, cell: (row) => row.mac },
  { name: 'MACADDRTYPE', width: 20, cell: (row) => row.macType },
  { name: 'VID', width: 6, cell: (row) => String(row.vid) },
  { name: 'MTU', width: 6, extra: true, cell: (row) => String(row.mtuBytes ?? '--') },
  { name: 'ATTACHMENT', width: 20, extra: true, cell: (row) => row.attachment ?? '--' },
  {
    name: 'STATE',
    width: 20,
    extra: true,
    notable: (row) => row.state !== 'up',
    sentence: true,
    cell: (row) => row.state,
  },
];

export const command = defineCommand({
  synopsis: 'show-vnic [-l overlay] [-s [-i secs]] [[-p] -o field,... | --json] [vnic...] [count]',
  about:
    'Shows VNICs, those named or all. VID 0 is a VNIC that carries every VLAN. STATE is shown when one of them ' +
    'is not up; OFFLINE is one that is stored and does not run.',
  options: [
    { name: 'link', short: 'l', value: 'overlay', about: 'only those over this overlay' },
    ...STATISTICS_OPTIONS,
    ...SHOW_OPTIONS,
  ],
  examples: [
    'show-vnic',
    'show-vnic -l overlay0',
    'show-vnic -p -o link,macaddress',
    'show-vnic -o all foo0',
    'show-vnic -s -i 5 foo0',
  ],

  async run(args, context) {
    if (args.has('json')) refuseWithJson(args);
    const seconds = readInterval(args);
    const { names, count } = splitCount(args.operands, seconds);
    const format =
      args.has('json') || args.has('statistics') ? formatJsonRows : chooseFormat(args, COLUMNS, context);
    const over = args.value('link');
    const request = {
      ...(names.length > 0 && { names: [...names] }),
      ...(over !== undefined && { over }),
    };
    const pages = await readList('failed to get info for vnics', 'vnic.list', request, context);
    const vnics = pages.flatMap((page) => page.vnics);
    if (!args.has('statistics')) {
      context.print(format(vnics));
      return;
    }
    const repeat = seconds === undefined ? undefined : { seconds, count };
    await showStatistics(args, statisticsOf(vnics), repeat, context);
  },
});

/** Those of the VNICs that run, in the order of the overlays. */
function statisticsOf(vnics: readonly VnicInfo[]): Selection {
  const names = new Set(vnics.map(({ name }) => name));
  const portsOf = ({ ports }: OverlayStatistics): readonly PortStatistics[] =>
    ports.filter(({ name }) => names.has(name));
  return {
    overlays: [...new Set(vnics.filter(({ state }) => !state.startsWith('OFFLINE')).map(({ over }) => over))],
    rowsOf: (overlay) => portsOf(overlay).flatMap(portRows),
    select: (overlays) => ({ vnics: overlays.flatMap(portsOf) }),
  };
}
