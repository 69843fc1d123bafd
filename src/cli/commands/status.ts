/**
 * status: how varpd and its overlays are, on one screen: what is not well comes first, with its reason.
 *
 * Trouble is an answer, not a failure: the exit status is 0 as soon as varpd has answered.
 */
import type { DaemonStatus } from '../../control/daemon-messages.js';
import type { OverlayInfo, VnicInfo } from '../../control/messages.js';
import { attempt, type Context, defineCommand } from '../command.js';
import { readPages } from '../../control/pages.js';
import { withQuotations } from '../quotation.js';
import { chooseFormat, formatJson, refuseWithJson, SHOW_OPTIONS, type ShowArguments } from '../show.js';
import { type Column, formatTable } from '../table.js';
import { printable, wrap } from '../text.js';
import { refuseOperands } from '../values.js';

/** Version of the shape of --json (docs/overlays.md). */
const SHAPE = 1;
const SCREEN_COLUMNS = 80;
const INDENT = '    ';

/** One overlay. Null: not known, since it is offline. */
interface Row {
  readonly name: string;
  readonly temporary: boolean;
  readonly encap: string | null;
  readonly vnetid: number | null;
  readonly plugin: string | null;
  /** `10.88.88.69:4789` */
  readonly listen: string | null;
  readonly peers: number | null;
  /** Its own and those of its VNICs, stored ones included. */
  readonly ports: number;
  readonly portsRunning: number;
  readonly state: OverlayInfo['health']['status'];
  readonly reason: string | null;
  /** Notes of an overlay that works. */
  readonly notes: string | null;
  /** VNICs that do not run, although the overlay does. */
  readonly offlineVnics: readonly { readonly name: string; readonly reason: string }[];
}

const COLUMNS: readonly Column<Row>[] = [
  { name: 'LINK', width: 9, cell: (row) => row.name },
  { name: 'ENCAP', width: 6, cell: (row) => row.encap ?? '--' },
  { name: 'VNETID', width: 7, cell: (row) => String(row.vnetid ?? '--') },
  { name: 'PLUGIN', width: 7, cell: (row) => row.plugin ?? '--' },
  { name: 'LISTEN', width: 7, cell: (row) => row.listen ?? '--' },
  { name: 'PEERS', width: 6, cell: (row) => String(row.peers ?? '--') },
  { name: 'PORTS', width: 6, cell: portsText },
  { name: 'STATE', width: 9, cell: (row) => row.state },
  { name: 'REASON', width: 20, extra: true, sentence: true, cell: (row) => row.reason ?? '--' },
];
const SHOWN = COLUMNS.filter(({ extra }) => extra !== true);

/** `-o` with these alone is about varpd itself. */
const DAEMON_COLUMNS: readonly Column<DaemonStatus>[] = [
  { name: 'VERSION', width: 10, cell: ({ version }) => version },
  { name: 'PID', width: 8, cell: ({ pid }) => String(pid) },
  { name: 'UPTIME', width: 10, cell: ({ uptimeSeconds }) => String(uptimeSeconds) },
  { name: 'USER', width: 10, cell: ({ user }) => user },
  { name: 'CONFIGURATION', width: 30, sentence: true, cell: (row) => row.configuration ?? '--' },
];

export const command = defineCommand({
  synopsis: 'status [[-p] -o field,... | --json]',
  about:
    'Shows how varpd is, and then each overlay with its state, trouble first. The exit status is 0 whatever the ' +
    'state is. PORTS are the own interface and the VNICs; 2/3 means that one of three does not run. ' +
    'Fields of -o: those of the table and reason; or version, pid, uptime (in seconds), user, configuration.',
  options: SHOW_OPTIONS,
  examples: ['status', 'status -p -o link,state,reason', 'status -p -o pid', 'status --json'],

  async run(args, context) {
    refuseOperands(args);
    if (args.has('json')) refuseWithJson(args);
    const { print } = context;
    if (asksForDaemon(args)) {
      const format = chooseFormat(args, DAEMON_COLUMNS, context);
      print(format([await daemonStatus(context)]));
      return;
    }
    const isChosen = args.has('parsable') || args.has('output');
    const format = isChosen ? chooseFormat(args, COLUMNS, context) : undefined;
    const varpd = await daemonStatus(context);
    const rows = await overlayRows(context);
    if (args.has('json')) print(formatJson({ v: SHAPE, varpd, overlays: rows }));
    else print(format?.(rows) ?? asScreen(varpd, rows));
  },
});

function asksForDaemon(args: ShowArguments): boolean {
  const fields = args.value('output')?.toUpperCase().split(',') ?? [];
  return fields.length > 0 && fields.every((field) => DAEMON_COLUMNS.some(({ name }) => name === field));
}

function daemonStatus({ call }: Context): Promise<DaemonStatus> {
  return attempt('failed to get the status of varpd', call('daemon.status', {}));
}

/** Overlays with trouble come first; otherwise the order is that of varpd. */
async function overlayRows({ call }: Context): Promise<Row[]> {
  const what = 'failed to get info for overlays';
  const overlayPages = await attempt(what, readPages(call, 'overlay.list', {}));
  const vnicPages = await attempt(what, readPages(call, 'vnic.list', {}));
  const vnicsOver = new Map<string, VnicInfo[]>();
  for (const vnic of vnicPages.flatMap(({ vnics }) => vnics)) {
    const others = vnicsOver.get(vnic.over);
    if (others === undefined) vnicsOver.set(vnic.over, [vnic]);
    else others.push(vnic);
  }
  return overlayPages
    .flatMap(({ overlays }) => overlays)
    .map((overlay) => rowOf(overlay, vnicsOver.get(overlay.name) ?? []))
    .sort((a, b) => urgency(a) - urgency(b));
}

const VNIC_OFFLINE = /^OFFLINE: /;

function rowOf({ name, temporary, properties, health, peers }: OverlayInfo, vnics: readonly VnicInfo[]): Row {
  const valueOf = (property: string): string | null =>
    properties.find((row) => row.property === property)?.value ?? null;
  const [encap, vnetid] = [valueOf('encap'), valueOf('vnetid')];
  const [ip, port] = [valueOf(`${encap}/listen_ip`), valueOf(`${encap}/listen_port`)];
  const isRunning = health.status !== 'OFFLINE';
  const offline = vnics.filter(({ state }) => VNIC_OFFLINE.test(state));
  return {
    name,
    temporary,
    encap,
    vnetid: vnetid === null ? null : Number(vnetid),
    plugin: valueOf('search'),
    listen: ip === null || port === null ? null : ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`,
    peers,
    ports: 1 + vnics.length,
    portsRunning: isRunning ? 1 + vnics.length - offline.length : 0,
    state: health.status,
    reason: health.details,
    notes: health.notes ?? null,
    offlineVnics: isRunning
      ? offline.map((vnic) => ({ name: vnic.name, reason: vnic.state.replace(VNIC_OFFLINE, '') }))
      : [],
  };
}

function urgency({ state, notes, offlineVnics }: Row): number {
  if (state === 'OFFLINE') return 0;
  if (state === 'DEGRADED') return 1;
  if (offlineVnics.length > 0) return 2;
  return notes === null ? 4 : 3;
}

function portsText({ ports, portsRunning }: Row): string {
  return ports === portsRunning ? String(ports) : `${portsRunning}/${ports}`;
}

/** Everything within the columns of a terminal, unless one word is longer. */
function asScreen(varpd: DaemonStatus, rows: readonly Row[]): string {
  const about = [
    `varpd ${varpd.version}: process ${varpd.pid}`,
    `user ${varpd.user}`,
    ...(typeof varpd.pluginUser === 'string'
      ? [`plugins as user ${varpd.pluginUser}${confinementText(varpd)}`]
      : []),
    `up ${durationText(varpd.uptimeSeconds)}`,
    varpd.configuration ?? 'without a configuration file',
  ].join(', ');
  const starting = varpd.isSettled ? [] : ['Overlays are still being brought up.'];
  const lack = typeof varpd.pluginLack === 'string' ? [`Plugins: ${varpd.pluginLack}`] : [];
  const head = [about, ...lack, ...starting].flatMap((text) => wrap(printable(text), SCREEN_COLUMNS));
  const lines = rows.length === 0 ? ['There are no overlays.'] : tableLines(rows);
  return [...head, '', ...lines].map((text) => `${text}\n`).join('');
}

/** ` with Landlock (ABI 7)`, ` without Landlock (this kernel has none)`; empty for a varpd that does not say it. */
function confinementText({ pluginConfinement: confinement }: DaemonStatus): string {
  if (confinement === undefined || confinement === null) return '';
  const { landlock, lack } = confinement;
  const parts = [...(landlock > 0 ? [`ABI ${landlock}`] : []), ...(lack === null ? [] : [lack])];
  return ` ${landlock > 0 ? 'with' : 'without'} Landlock (${parts.join('; ')})`;
}

/** Where a long address makes the table too wide, it is in a line of its own. */
function tableLines(rows: readonly Row[]): string[] {
  const linesOf = (columns: readonly Column<Row>[]): string[] =>
    formatTable(columns, rows).trimEnd().split('\n');
  const all = linesOf(SHOWN);
  const fits = all.every((text) => text.length <= SCREEN_COLUMNS);
  const [header, ...lines] = fits ? all : linesOf(SHOWN.filter(({ name }) => name !== 'LISTEN'));
  return [header, ...rows.flatMap((row, index) => [lines[index], ...remarks(row, !fits)])];
}

function remarks({ state, reason, notes, offlineVnics, listen }: Row, isListenToBeSaid: boolean): string[] {
  const sentences = [
    ...(isListenToBeSaid && listen !== null ? [`listens on ${listen}`] : []),
    // While an overlay works, the news of its plugin are for show-overlay -f.
    ...[state === 'ONLINE' ? notes : reason].flatMap((text) => (text === null ? [] : [withQuotations(text)])),
    ...offlineVnics.map((vnic) => `${vnic.name} is OFFLINE: ${withQuotations(vnic.reason)}`),
  ];
  return sentences
    .flatMap((text) => wrap(printable(text), SCREEN_COLUMNS - INDENT.length))
    .map((text) => `${INDENT}${text}`);
}

/** The two largest units: `3 d 4 h`. */
function durationText(seconds: number): string {
  const units = [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ] as const;
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first === -1) return '0 s';
  let rest = seconds;
  return units
    .slice(first, first + 2)
    .map(([unit, length]) => {
      const count = Math.floor(rest / length);
      rest -= count * length;
      return `${count} ${unit}`;
    })
    .join(' ');
}
