/** show-vnic: shows VNICs: all, those named, or those over one overlay. */
import type { VnicInfo } from '../../control/messages.js';
import { attempt, defineCommand } from '../command.js';
import { readPages } from '../pages.js';
import { chooseFormat, formatJson, refuseWithJson, reportMissing, SHOW_OPTIONS } from '../show.js';
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
  synopsis: 'show-vnic [-l overlay] [[-p] -o field,... | --json] [vnic...]',
  about:
    'Shows VNICs, those named or all. VID 0 is a VNIC that carries every VLAN. STATE is shown when one of them ' +
    'is not up; OFFLINE is one that is stored and does not run.',
  options: [
    { name: 'link', short: 'l', value: 'overlay', about: 'only those over this overlay' },
    ...SHOW_OPTIONS,
  ],
  examples: [
    'show-vnic',
    'show-vnic -l overlay0',
    'show-vnic -p -o link,macaddress',
    'show-vnic -o all foo0',
  ],

  async run(args, context) {
    if (args.has('json')) refuseWithJson(args);
    const format = args.has('json') ? formatJson : chooseFormat(args, COLUMNS, context);
    const over = args.value('link');
    const request = {
      ...(args.operands.length > 0 && { names: [...args.operands] }),
      ...(over !== undefined && { over }),
    };
    const pages = await attempt(
      'failed to get info for vnics',
      readPages(context.call, 'vnic.list', request),
    );
    for (const { missing } of pages) reportMissing(missing, context);
    context.print(format(pages.flatMap(({ vnics }) => vnics)));
  },
});
