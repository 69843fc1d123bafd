/** The state of the page, out of the events of the thread: pure functions. */
import {
  type About,
  type History,
  HISTORY_POINTS,
  LOG_LINES,
  type LogLine,
  type OverlayView,
  type PeerView,
  type Snapshot,
  type TableRow,
  type TargetsNews,
  type Update,
} from '../messages.js';

export type ShownOverlay = OverlayView & { readonly history: History };

export interface PageState {
  readonly about: About | undefined;
  readonly overlays: ReadonlyMap<string, ShownOverlay>;
  readonly peers: readonly PeerView[];
  /** The newest last; null = not for this page. */
  readonly log: readonly LogLine[] | null;
  /** The page has lost the thread. */
  readonly isLost: boolean;
}

export const NOTHING: PageState = {
  about: undefined,
  overlays: new Map(),
  peers: [],
  log: [],
  isLost: false,
};
const NO_HISTORY: History = { txBits: [], rxBits: [], drops: [] };

export function withSnapshot({ about, overlays, peers, log }: Snapshot): PageState {
  return { about, overlays: new Map(overlays.map((one) => [one.name, one])), peers, log, isLost: false };
}

export function withUpdate(
  state: PageState,
  { about, overlays: changed, gone, points, log: lines }: Update,
): PageState {
  const overlays = new Map(state.overlays);
  for (const name of gone) overlays.delete(name);
  const fresh = new Set(points);
  for (const one of changed) {
    const before = overlays.get(one.name)?.history ?? NO_HISTORY;
    overlays.set(one.name, { ...one, history: fresh.has(one.name) ? longer(before, one) : before });
  }
  const log = lines.length === 0 ? state.log : [...(state.log ?? []), ...lines].slice(-LOG_LINES);
  return { ...state, about, overlays, log };
}

export const LEVELS = ['error', 'warn', 'info', 'debug'] as const satisfies readonly LogLine['level'][];

/** The lines of this level, and of those that are more serious; the newest first. */
export function linesOf(log: readonly LogLine[], level: LogLine['level']): LogLine[] {
  const shown = LEVELS.slice(0, LEVELS.indexOf(level) + 1);
  return log.filter((line) => shown.includes(line.level)).reverse();
}

function longer(before: History, { rates }: OverlayView): History {
  const more = (key: keyof History): (number | null)[] =>
    [...before[key], rates?.[key] ?? null].slice(-HISTORY_POINTS);
  return { txBits: more('txBits'), rxBits: more('rxBits'), drops: more('drops') };
}

export interface Trouble {
  readonly key: string;
  readonly text: string;
  /** The overlay works all the same. */
  readonly isNote: boolean;
}

/** The most serious first. */
export function troublesOf({ about, overlays, peers, isLost }: PageState): Trouble[] {
  const found: Trouble[] = [];
  const add = (key: string, text: string, isNote = false): void => {
    found.push({ key, text, isNote });
  };
  if (isLost) add('page', 'The page has lost its connection; it tries again. It may show old values.');
  if (about?.problem != null)
    add('varpd', `varpd does not answer: ${about.problem}. The page may show old values.`);
  for (const { name, status, details, underlay, ports } of overlays.values()) {
    if (status !== 'ONLINE') add(`${name} status`, `${name} is ${status}: ${details ?? 'without a reason'}`);
    if (underlay === 'down') add(`${name} underlay`, `${name}: no destination can be reached`);
    if (underlay === 'partly') add(`${name} underlay`, `${name}: some destinations cannot be reached`);
    for (const port of ports)
      if (port.state !== 'up') add(`${name} ${port.name}`, `${port.name} of ${name}: ${port.state}`);
  }
  for (const { overlay, ip, state, reason } of peers)
    if (state === 'unreachable' || state === 'silent')
      add(`${overlay} ${ip}`, `${overlay}: ${reason ?? `peer ${ip} is ${state}`}`, true);
  for (const { name, notes, drops } of overlays.values()) {
    if (notes !== null) add(`${name} notes`, `${name}: ${notes}`, true);
    else
      for (const { kind, reason, perSecond, about: why, last } of drops)
        if (kind === 'trouble' && (perSecond ?? 0) > 0)
          add(
            `${name} ${reason}`,
            `${name}: frames are dropped as ${reason}: ${why}${last === null ? '' : ` (${last})`}`,
            true,
          );
  }
  return found.sort((a, b) => Number(a.isNote) - Number(b.isNote));
}

/** The rows of a table after a change, by MAC. */
export function withNews(rows: readonly TableRow[], news: NonNullable<TargetsNews['rows']>): TableRow[] {
  const changed = new Map(news.map((row) => [row.mac, row]));
  const kept = rows.flatMap((row): TableRow[] => {
    const now = changed.get(row[0]);
    changed.delete(row[0]);
    if (now === undefined) return [row];
    return now.state === 'gone' ? [] : [[now.mac, now.state, now.destinations.join(' '), now.origin, 0]];
  });
  for (const { mac, state, destinations, origin } of changed.values())
    if (state !== 'gone') kept.push([mac, state, destinations.join(' '), origin, 0]);
  return kept.sort(([a], [b]) => (a < b ? -1 : 1));
}
