/** A line for each event of `dladm watch`. */
import type { CounterRow } from '../control/messages.js';
import type {
  CountersEvent,
  MissedEvent,
  StateEvent,
  TargetsEvent,
  WatchEvent,
  WatchInfo,
} from '../control/watch-messages.js';
import { counted } from '../model/sentences.js';
import { rateText } from './statistics.js';
import { line } from './text.js';

/** Time, kind, overlay; the last takes what it needs. */
const WIDTHS = [9, 9, 16, 0];

/** A line without its newline for each part of the event that a person looks at by itself. */
export function eventLines(event: WatchEvent): string[] {
  const { at, kind } = event;
  const overlay = 'overlay' in event ? event.overlay : '-';
  const clock = new Date(at).toTimeString().slice(0, 8);
  return textsOf(event).map((text) => line([clock, kind, overlay, text], WIDTHS));
}

export function beginText({ version, pid, startedAt, kinds }: WatchInfo): string {
  return `varpd ${version}, process ${pid}, since ${startedAt}: ${kinds.join(', ')}`;
}

function textsOf(event: WatchEvent): string[] {
  switch (event.kind) {
    case 'state':
      return [stateText(event)];
    case 'targets':
      return targetTexts(event);
    case 'counters':
      return [counterText(event)];
    case 'log':
      return [`${event.level} ${event.message}`];
    case 'missed':
      return [missedText(event)];
  }
}

function stateText({ isGone, status, details, underlay, peers, ports }: StateEvent): string {
  if (isGone) return 'deleted';
  const down = ports.filter(({ state }) => state !== 'up').map(({ name, state }) => `${name}: ${state}`);
  const parts = [
    status,
    ...(peers === null ? [] : [counted(peers, 'peer')]),
    ...(underlay === null || underlay === 'up' ? [] : [`underlay ${underlay}`]),
    ...down,
  ];
  return `${parts.join(', ')}${details === null ? '' : `: ${details}`}`;
}

function targetTexts({ rows }: TargetsEvent): string[] {
  if (rows === null) return ['many targets have changed'];
  return rows.map(({ mac, state, destinations, origin }) =>
    [mac, state, ...destinations, ...(origin === null ? [] : [`(${origin})`])].join(' '),
  );
}

function counterText({ counters, drops, lookups }: CountersEvent): string {
  const rate = (name: string): number | null => rateOf(counters, name);
  const bits = (name: string): string => {
    const bytes = rate(name);
    return rateText(bytes === null ? null : bytes * 8);
  };
  const dropped = drops
    .filter(({ kind, perSecond }) => kind === 'trouble' && (perSecond ?? 0) > 0)
    .map(({ reason, perSecond }) => `${reason} ${rateText(perSecond)}/s`);
  return [
    `tx ${rateText(rate('tx_frames'))} frames/s ${bits('tx_bytes')} bit/s`,
    `rx ${rateText(rate('rx_frames'))} frames/s ${bits('rx_bytes')} bit/s`,
    `lookups ${rateText(rate('lookups'))}/s, ${lookups.open} open`,
    ...(dropped.length === 0 ? [] : [`dropped: ${dropped.join(', ')}`]),
  ].join('; ');
}

/** A counter that is zero has no row. */
function rateOf(counters: readonly CounterRow[], name: string): number | null {
  const row = counters.find((one) => one.name === name);
  return row === undefined ? 0 : row.perSecond;
}

function missedText({ lines }: MissedEvent): string {
  const counts = Object.entries(lines).map(([kind, count]) => `${count} of ${kind}`);
  return `too slow for ${counts.join(', ')}`;
}
