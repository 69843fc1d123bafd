/**
 * show-linkprop: shows link properties of VNICs. As on illumos -p names properties here, and -c is for
 * programs.
 */
import type { LinkPropertyRow } from '../../control/messages.js';
import { defineCommand } from '../command.js';
import { parseNames } from '../link-properties.js';
import { chooseListFormat, readList, SHOW_PROPERTY_OPTIONS } from '../show.js';
import type { Column } from '../table.js';

const list = (values: readonly string[] | null): string =>
  values === null || values.length === 0 ? '--' : values.join(',');

const COLUMNS: readonly Column<LinkPropertyRow>[] = [
  { name: 'LINK', width: 9, cell: (row) => row.link },
  { name: 'PROPERTY', width: 20, cell: (row) => row.property },
  { name: 'PERM', width: 5, cell: (row) => row.permission },
  { name: 'VALUE', width: 15, cell: (row) => list(row.value) },
  { name: 'EFFECTIVE', width: 15, cell: (row) => list(row.effective) },
  { name: 'DEFAULT', width: 8, cell: (row) => list(row.default) },
  { name: 'POSSIBLE', width: 13, cell: (row) => list(row.possible) },
];

export const command = defineCommand({
  synopsis: 'show-linkprop [-P] [[-c] -o field,... | --json] [-p prop[,...]] [vnic...]',
  about:
    'Shows link properties of VNICs, those named or all. EFFECTIVE is in force: with the addresses that ' +
    'DHCP has leased and the plugin gives, and without values that no protection looks at.',
  options: [
    { name: 'persistent', short: 'P', about: 'what the next start of varpd will find' },
    ...SHOW_PROPERTY_OPTIONS,
  ],
  examples: [
    'show-linkprop foo0',
    'show-linkprop -p protection,allowed-ips',
    'show-linkprop -c -o value -p protection foo0',
  ],

  async run(args, context) {
    const format = chooseListFormat(args, COLUMNS, context);
    const request = {
      persistent: args.has('persistent'),
      ...(args.operands.length > 0 && { names: [...args.operands] }),
      ...(args.has('prop') && { properties: parseNames(args.values('prop')) }),
    };
    const pages = await readList('failed to get link properties', 'linkprop.list', request, context);
    context.print(format(pages.flatMap(({ rows }) => rows)));
  },
});
