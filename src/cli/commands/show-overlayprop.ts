/**
 * show-overlayprop: shows properties of overlays. As with show-linkprop -p names properties here, and -c is for programs.
 */
import type { PropertyRow } from '../../control/messages.js';
import { CommandError, defineCommand } from '../command.js';
import { parseNames } from '../link-properties.js';
import { chooseListFormat, readList, SHOW_PROPERTY_OPTIONS, tellOffline } from '../show.js';
import type { Column } from '../table.js';

type Row = PropertyRow & { readonly link: string };

const COLUMNS: readonly Column<Row>[] = [
  { name: 'LINK', width: 13, cell: (row) => row.link },
  { name: 'PROPERTY', width: 20, cell: (row) => row.property },
  { name: 'PERM', width: 5, cell: (row) => row.permission },
  { name: 'VALUE', width: 15, cell: (row) => row.value ?? '--' },
  { name: 'DEFAULT', width: 12, cell: (row) => row.default ?? '--' },
  { name: 'POSSIBLE', width: 15, cell: (row) => row.possible ?? '--' },
];

export const command = defineCommand({
  synopsis: 'show-overlayprop [[-c] -o field,... | --json] [-p prop[,...]] [overlay...]',
  about:
    'Shows properties of overlays, those named or all. PERM is rw for those that set-overlayprop changes while ' +
    'the overlay runs, and r- for the others.',
  options: SHOW_PROPERTY_OPTIONS,
  examples: [
    'show-overlayprop overlay0',
    'show-overlayprop -p mtu',
    'show-overlayprop -c -o value -p mtu overlay0',
  ],

  async run(args, context) {
    const format = chooseListFormat(args, COLUMNS, context);
    const wanted = args.has('prop') ? parseNames(args.values('prop')) : undefined;
    const params = args.operands.length > 0 ? { names: [...args.operands] } : {};
    const pages = await readList('failed to get overlay properties', 'overlay.list', params, context);
    const overlays = pages.flatMap((page) => page.overlays);
    tellOffline(overlays, context.warn);
    const rows = overlays.flatMap(({ name: link, properties }): Row[] => {
      const all = properties.map((row) => ({ link, ...row }));
      return wanted?.flatMap((name) => all.filter(({ property }) => property === name)) ?? all;
    });
    for (const name of wanted ?? [])
      if (overlays.length > 0 && !rows.some(({ property }) => property === name))
        context.fail(new CommandError(`no overlay shown has a property ${name}`, [], 'NOT_FOUND'));
    context.print(format(rows));
  },
});
