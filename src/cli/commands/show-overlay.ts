/**
 * show-overlay: the properties of overlays, their health (-f), or their target tables (-t).
 *
 * What can be shown is shown; for what cannot there is a line on standard error and exit status 1.
 */
import type { Call } from '../../control/client.js';
import type { OverlayInfo, PropertyRow, TargetRow } from '../../control/messages.js';
import { attempt, CommandError, type Context, defineCommand, UsageError } from '../command.js';
import {
  chooseFormat,
  formatJson,
  refuseWithJson,
  reportMissing,
  SHOW_OPTIONS,
  type ShowArguments,
  warnOfOffline,
} from '../show.js';
import { withQuotations } from '../quotation.js';
import type { Column } from '../table.js';

/** With the widths of the first preview, so that its table comes out as it was printed; 80 together. */
const PROPERTY_COLUMNS: readonly Column<PropertyRow & { link: string }>[] = [
  { name: 'LINK', width: 13, cell: (row) => row.link },
  { name: 'PROPERTY', width: 20, cell: (row) => row.property },
  { name: 'PERM', width: 5, cell: (row) => row.permission },
  { name: 'REQ', width: 4, cell: (row) => (row.required ? 'y' : '-') },
  { name: 'VALUE', width: 12, cell: (row) => row.value ?? '--' },
  { name: 'DEFAULT', width: 12, cell: (row) => row.default ?? '--' },
  { name: 'POSSIBLE', width: 14, cell: (row) => row.possible ?? '--' },
];

const HEALTH_COLUMNS: readonly Column<OverlayInfo>[] = [
  { name: 'LINK', width: 20, cell: (row) => row.name },
  // One more than illumos has, for a blank behind DEGRADED.
  { name: 'STATUS', width: 9, cell: (row) => row.health.status },
  { name: 'DETAILS', width: 51, sentence: true, cell: (row) => row.health.details ?? '-' },
  { name: 'OFFLOADS', width: 28, extra: true, cell: (row) => row.offloads.join(',') || '--' },
  // Destinations that are sent to frame by frame, since their route or device took no message of many.
  {
    name: 'REFUSED',
    width: 8,
    extra: true,
    cell: (row) => String(row.counters['tx_segmentation_refused'] ?? 0),
  },
];
const ONLY_HEALTH = HEALTH_COLUMNS.filter((column) => column.extra).map(({ name }) => name);

const TARGET_COLUMNS: readonly Column<TargetRow & { link: string }>[] = [
  { name: 'LINK', width: 20, cell: (row) => row.link },
  { name: 'TARGET', width: 18, cell: (row) => row.mac },
  {
    name: 'DESTINATION',
    width: 42,
    cell: (row) => (row.destinations.length > 0 ? row.destinations.join(',') : row.state),
  },
];

/** As many as the door calls of illumos took at a time. */
const PAGE_ROWS = 100;

export const command = defineCommand({
  synopsis: 'show-overlay [-f | -t] [[-p] -o field,... | --json] [overlay...]',
  about:
    'Shows overlays, those named or all: their properties, their health or their target tables. What is stored and\n' +
    'does not run is OFFLINE, and has no target table. Properties are set when an overlay is created: PERM is rw for\n' +
    'those that -p of create-overlay takes, r- for the others.',
  options: [
    { name: 'fma', short: 'f', about: 'whether they work, and if not why; offloads and refused with -o' },
    { name: 'target', short: 't', about: 'which MAC address is reached where' },
    ...SHOW_OPTIONS,
  ],
  examples: [
    'show-overlay',
    'show-overlay -t overlay0',
    'show-overlay -p -o property,value overlay0',
    'show-overlay -o link,offloads,refused',
  ],

  async run(args, context) {
    const { print } = context;
    if (args.has('fma') && args.has('target')) throw new UsageError('only one of -f or -t may be used');
    if (args.has('json')) refuseWithJson(args);

    if (args.has('json')) {
      const overlays = await list(args.operands, context);
      if (!args.has('target')) print(formatJson(overlays));
      else print(formatJson(await withTargets(overlays, context)));
    } else if (args.has('target')) {
      const format = chooseFormat(args, TARGET_COLUMNS, context);
      const overlays = await withTargets(await list(args.operands, context), context);
      print(format(overlays.flatMap(({ name, targets }) => targets.map((row) => ({ ...row, link: name })))));
    } else if (args.has('fma') || asksForHealth(args)) {
      const format = chooseFormat(args, HEALTH_COLUMNS, context);
      const overlays = await list(args.operands, context);
      // A table is for people: what programs read is what varpd says.
      print(format(args.has('parsable') ? overlays : overlays.map(quoted)));
    } else {
      const format = chooseFormat(args, PROPERTY_COLUMNS, context);
      const overlays = await list(args.operands, context);
      warnOfOffline(overlays, context.warn);
      print(
        format(overlays.flatMap(({ name, properties }) => properties.map((row) => ({ ...row, link: name })))),
      );
    }
  },
});

function quoted(overlay: OverlayInfo): OverlayInfo {
  const { details } = overlay.health;
  if (details === null) return overlay;
  return { ...overlay, health: { ...overlay.health, details: withQuotations(details) } };
}

/** Columns that only the health has, and nothing but them and the name, need no -f. */
function asksForHealth(args: ShowArguments): boolean {
  const fields = args.value('output')?.toUpperCase().split(',') ?? [];
  const isKnown = (field: string): boolean => ONLY_HEALTH.includes(field) || field === 'LINK';
  return fields.every(isKnown) && fields.some((field) => ONLY_HEALTH.includes(field));
}

async function list(names: readonly string[], context: Context): Promise<readonly OverlayInfo[]> {
  const answer = context.call('overlay.list', names.length > 0 ? { names: [...names] } : {});
  const { overlays, missing } = await attempt('failed to get info for overlays', answer);
  reportMissing(missing, context);
  return overlays;
}

/** The overlays whose target tables could be read, with them. */
async function withTargets(
  overlays: readonly OverlayInfo[],
  { call, fail }: Context,
): Promise<(OverlayInfo & { targets: TargetRow[] })[]> {
  const complete = [];
  warnOfOffline(overlays, fail);
  for (const overlay of overlays) {
    if (overlay.health.status === 'OFFLINE') continue;
    try {
      complete.push({ ...overlay, targets: await readTargets(overlay.name, call) });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      [...error.reasons, error.message].forEach(fail);
    }
  }
  return complete;
}

async function readTargets(name: string, call: Call): Promise<TargetRow[]> {
  const rows: TargetRow[] = [];
  let after = {};
  while (true) {
    const answer = call('overlay.targets', { name, limit: PAGE_ROWS, ...after });
    const page = await attempt(`failed to get targets of ${name}`, answer);
    rows.push(...page.rows);
    if (page.next === null) return rows;
    after = { after: page.next };
  }
}
