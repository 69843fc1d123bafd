/**
 * show-overlay: shows the properties of overlays, their health (-f), or their target tables (-t).
 *
 * Each overlay that cannot be shown has a line on standard error, and makes the exit status; the others are
 * shown.
 */
import type { OverlayInfo, PropertyRow, TargetRow } from '../../control/messages.js';
import { CommandError, type Context, defineCommand, UsageError } from '../command.js';
import { targetPages } from '../pages.js';
import {
  chooseFormat,
  formatJsonRows,
  refuseWithJson,
  readList,
  SHOW_OPTIONS,
  type ShowArguments,
  tellOffline,
  versioned,
} from '../show.js';
import { withQuotations } from '../quotation.js';
import {
  overlayRows,
  readInterval,
  showStatistics,
  splitCount,
  STATISTICS_OPTIONS,
  STATISTICS_SHAPE,
} from '../statistics.js';
import type { Column } from '../table.js';

/** Widths as in the first preview, so that tables look as documented there; 80 together. */
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
  // One more than in illumos, for a blank after DEGRADED.
  { name: 'STATUS', width: 9, cell: (row) => row.health.status },
  { name: 'DETAILS', width: 51, sentence: true, cell: (row) => row.health.details ?? '-' },
  { name: 'OFFLOADS', width: 28, extra: true, cell: (row) => row.offloads.join(',') || '--' },
  // Destinations that get single frames, since their route or device does not accept batches for
  // segmentation.
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
  { name: 'ORIGIN', width: 9, extra: true, cell: (row) => row.origin ?? '--' },
  { name: 'AGE', width: 7, extra: true, cell: (row) => seconds(row.ageMs) },
  { name: 'USED', width: 7, extra: true, cell: (row) => seconds(row.idleMs) },
  { name: 'TTL', width: 7, extra: true, cell: (row) => (row.isStale ? 'stale' : seconds(row.ttlMs)) },
];

/** The columns of -t -s: all, within 80 characters. */
const TARGET_WIDTHS: Readonly<Record<string, number>> = { LINK: 10, DESTINATION: 22 };
const TARGET_STATISTICS = TARGET_COLUMNS.map(({ name, width, ...column }) => ({
  name,
  width: TARGET_WIDTHS[name] ?? width,
  cell: (row: Parameters<typeof column.cell>[0]) => column.cell(row),
}));

function seconds(milliseconds: number | null): string {
  return milliseconds === null ? '--' : String(Math.floor(milliseconds / 1000));
}

export const command = defineCommand({
  synopsis: 'show-overlay [-f | -t | -s [-i secs]] [[-p] -o field,... | --json] [overlay...] [count]',
  about:
    'Shows overlays, those named or all: their properties, their health, their target tables or what they have counted. An overlay that is stored ' +
    'and does not run is OFFLINE, and has no target table. PERM is rw for properties ' +
    'that set-overlayprop changes while the overlay runs, r- for the others.',
  options: [
    { name: 'fma', short: 'f', about: 'whether they work, and if not why; offloads and refused with -o' },
    {
      name: 'target',
      short: 't',
      about: 'which MAC address is reached where; with -s also origin, and age, last use and ttl in seconds',
    },
    ...STATISTICS_OPTIONS,
    ...SHOW_OPTIONS,
  ],
  examples: [
    'show-overlay',
    'show-overlay -t overlay0',
    'show-overlay -p -o property,value overlay0',
    'show-overlay -o link,offloads,refused',
    'show-overlay -s overlay0',
    'show-overlay -s -i 5 overlay0 12',
  ],

  async run(args, context) {
    const { print } = context;
    // -s adds columns to -t.
    const hasRows = args.has('target') && args.has('statistics') && !args.has('interval');
    const tables = (['fma', 'target', 'statistics'] as const).filter((name) => args.has(name));
    if (tables.length > (hasRows ? 2 : 1)) throw new UsageError('only one of -f, -t or -s may be used');
    const seconds = readInterval(args);
    if (args.has('statistics') && !hasRows) {
      const { names, count } = splitCount(args.operands, seconds);
      const selection = {
        overlays: names,
        rowsOf: overlayRows,
        select: (overlays: unknown) => ({ overlays }),
      };
      await showStatistics(args, selection, seconds === undefined ? undefined : { seconds, count }, context);
      return;
    }
    if (args.has('json')) refuseWithJson(args);

    if (args.has('json')) {
      const overlays = await list(args.operands, context);
      if (!args.has('target')) print(formatJsonRows(overlays));
      else await printWithTargets(overlays, context, hasRows ? STATISTICS_SHAPE : undefined);
    } else if (args.has('target')) {
      const format = chooseFormat(args, hasRows ? TARGET_STATISTICS : TARGET_COLUMNS, context);
      let shown = 0;
      await eachTable(await list(args.operands, context), context, ({ name }, rows) => {
        if (rows.length === 0) return;
        print(format(rows.map((row) => ({ ...row, link: name }))));
        shown += rows.length;
      });
      if (shown === 0) print(format([]));
    } else if (args.has('fma') || asksForHealth(args)) {
      const format = chooseFormat(args, HEALTH_COLUMNS, context);
      const overlays = await list(args.operands, context);
      // Quotations are for people; programs get the text of varpd.
      print(format(args.has('parsable') ? overlays : overlays.map(quoted)));
    } else {
      const format = chooseFormat(args, PROPERTY_COLUMNS, context);
      const overlays = await list(args.operands, context);
      tellOffline(overlays, context.warn);
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

/** If -o names only columns that the health table alone has, and LINK, it chooses that table without -f. */
function asksForHealth(args: ShowArguments): boolean {
  const fields = args.value('output')?.toUpperCase().split(',') ?? [];
  const isKnown = (field: string): boolean => ONLY_HEALTH.includes(field) || field === 'LINK';
  return fields.every(isKnown) && fields.some((field) => ONLY_HEALTH.includes(field));
}

async function list(names: readonly string[], context: Context): Promise<readonly OverlayInfo[]> {
  const params = names.length > 0 ? { names: [...names] } : {};
  const pages = await readList('failed to get info for overlays', 'overlay.list', params, context);
  return pages.flatMap(({ overlays }) => overlays);
}

/**
 * Reads the target tables of overlays page by page, since a table may be too large for the memory. `take` is
 * called at least once for each table that can be read, and `end` after its last page.
 */
async function eachTable(
  overlays: readonly OverlayInfo[],
  { call, fail }: Context,
  take: (overlay: OverlayInfo, rows: readonly TargetRow[]) => void,
  end: () => void = () => undefined,
): Promise<void> {
  tellOffline(overlays, (text) => {
    fail(new CommandError(text, [], 'AGAIN'));
  });
  for (const overlay of overlays) {
    if (overlay.health.status === 'OFFLINE') continue;
    let isBegun = false;
    try {
      for await (const rows of targetPages(overlay.name, call)) {
        take(overlay, rows);
        isBegun = true;
      }
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      fail(error);
    }
    if (isBegun) end();
  }
}

/**
 * Prints overlays in the form of formatJsonRows, with `targets` as their last member: a list, or with a version the member
 * `overlays` of an object.
 */
async function printWithTargets(
  overlays: readonly OverlayInfo[],
  context: Context,
  version: number | undefined,
): Promise<void> {
  const isList = version === undefined;
  const margin = isList ? '' : '  ';
  const print = (text: string): void => {
    context.print(text.replaceAll('\n', `\n${margin}`));
  };
  const indented = (value: unknown, depth: number): string =>
    JSON.stringify(value, undefined, 2).replace(/^/gm, ' '.repeat(depth));
  context.print(isList ? '[' : `{\n  "v": ${version},\n  "overlays": [`);
  let current: OverlayInfo | undefined;
  let isFirstRow = true;
  await eachTable(
    overlays,
    context,
    (overlay, rows) => {
      if (overlay !== current) {
        const withNone = indented({ ...(isList ? versioned(overlay) : overlay), targets: [] }, 2);
        print(`${current === undefined ? '' : ','}\n${withNone.slice(0, -NO_TARGETS.length)}`);
        current = overlay;
        isFirstRow = true;
      }
      if (rows.length === 0) return;
      print(`${isFirstRow ? '' : ','}\n${rows.map((row) => indented(row, 6)).join(',\n')}`);
      isFirstRow = false;
    },
    () => {
      print(`${isFirstRow ? '' : '\n    '}${NO_TARGETS}`);
    },
  );
  print(current === undefined ? ']' : '\n]');
  context.print(isList ? '\n' : '\n}\n');
}

/** The end of the JSON of an overlay without targets. */
const NO_TARGETS = ']\n  }';
