/**
 * The views of `dladm top`: a table each, with its columns and its rows. Everything else of top, its batch mode
 * included, knows a view by this table alone.
 */
import { durationText } from '../../control/drop-text.js';
import type {
  CounterRow,
  DropRow,
  Failure,
  OverlayHealth,
  OverlayStatistics,
} from '../../control/messages.js';
import { type DropReason, DROPS } from '../../model/drops.js';
import { isTroubled, peerText } from '../peers.js';
import type { PeerReading } from '../rates.js';
import { dropText, lookupText, rateText } from '../statistics.js';

/** One reading of varpd. */
export interface Sample {
  readonly overlays: readonly OverlayStatistics[];
  /** Overlays that are OFFLINE, and names that do not exist. */
  readonly missing: readonly Failure[];
  /** Undefined: not read. They are while the view shows them. */
  readonly peers?: readonly PeerReading[];
}

export type Cell = string | number | null;

export interface TopRow {
  /** Different for each row of a view. */
  readonly key: string;
  readonly overlay: string;
  /** By name of the column. Null = not known. */
  readonly cells: Readonly<Record<string, Cell>>;
  /** The row stands out. */
  readonly isTrouble: boolean;
  /** The row comes behind those that are not, whatever they are sorted by. */
  readonly isLast?: boolean;
}

export type Unit = 'bits' | 'bytes';

export interface TopColumn {
  readonly name: string;
  /** Without the blank between columns. */
  readonly width: number;
  /** Only as wide as the longest of the rows. Names are shorter than may be, as a rule, and a narrow screen needs the room. */
  readonly isElastic?: true;
  /** `rate`: a second. `seconds`: an age. */
  readonly is: 'text' | 'rate' | 'count' | 'seconds';
  /** A narrow screen has the columns of the lowest ranks. A column without a rank is for batch mode alone. */
  readonly rank?: number;
  /** The key that sorts by this column. */
  readonly key?: string;
  /** Shown while this is the unit. */
  readonly unit?: Unit;
  /** Anything but zero is trouble. */
  readonly isTrouble?: true;
}

export interface View {
  readonly name: string;
  readonly columns: readonly TopColumn[];
  /** Key of the column that the view is sorted by at first. */
  readonly sort: string;
  /** A reading for this view has the peers, which are a request for each overlay. */
  readonly hasPeers?: true;
  rows(sample: Sample): readonly TopRow[];
}

/** IFNAMSIZ of <linux/if.h>, less the NUL. */
const LINK_CHARACTERS = 15;
const LINK: TopColumn = {
  name: 'LINK',
  width: LINK_CHARACTERS,
  isElastic: true,
  is: 'text',
  rank: 0,
  key: 'n',
};
/** INET6_ADDRSTRLEN of <netinet/in.h> for an address that holds no other, less the NUL. */
const ADDRESS_CHARACTERS = 39;
/** Takes the room that is left, and is not shown where that is less than its width. */
export const DETAILS: TopColumn = { name: 'DETAILS', width: 20, is: 'text', rank: 20 };

const RATE_CHARACTERS = 6;
const rate = (name: string, rank: number, key: string, unit?: Unit): TopColumn => ({
  name,
  width: Math.max(RATE_CHARACTERS, name.length),
  is: 'rate',
  rank,
  key,
  ...(unit !== undefined && { unit }),
});
const volume = (direction: string, rank: number, key: string): TopColumn[] => [
  rate(`${direction}BITS`, rank, key, 'bits'),
  rate(`${direction}BYTES`, rank, key, 'bytes'),
];
const DROPPED: TopColumn = { ...rate('DROPS', 2, 'd'), isTrouble: true };
/** Both directions, then each. */
const TRAFFIC: readonly TopColumn[] = [
  ...volume('', 1, 'b'),
  rate('TXFRAMES', 6, 't'),
  ...volume('TX', 4, 'T'),
  rate('RXFRAMES', 7, 'x'),
  ...volume('RX', 5, 'X'),
];

export const VIEWS: readonly View[] = [
  {
    name: 'overlays',
    columns: [
      LINK,
      { name: 'STATE', width: 8, is: 'text', rank: 3, key: 'e' },
      ...TRAFFIC,
      rate('LOCAL', 9, 'L'),
      rate('LOOKUPS', 8, 'l'),
      DROPPED,
      { name: 'BYDESIGN', width: 8, is: 'rate' },
      DETAILS,
    ],
    sort: 'b',
    rows: ({ overlays, missing }) => [...missing.map(absentRow), ...overlays.map(overlayRow)],
  },
  {
    name: 'ports',
    columns: [
      LINK,
      { name: 'OVER', width: LINK_CHARACTERS, is: 'text', rank: 3, key: 'o' },
      ...TRAFFIC,
      DROPPED,
      DETAILS,
    ],
    sort: 'b',
    rows: ({ overlays }) => overlays.flatMap(portRows),
  },
  {
    name: 'drops',
    columns: [
      LINK,
      { name: 'REASON', width: 18, is: 'text', rank: 1, key: 'e' },
      { name: 'KIND', width: 9, is: 'text' },
      DROPPED,
      { name: 'FRAMES', width: 8, is: 'count', rank: 3, key: 'f' },
      { name: 'LAST', width: 7, is: 'seconds', rank: 4, key: 'a' },
      DETAILS,
    ],
    sort: 'd',
    rows: ({ overlays }) => overlays.flatMap(dropRows),
  },
  {
    name: 'peers',
    columns: [
      { name: 'PEER', width: ADDRESS_CHARACTERS, isElastic: true, is: 'text', rank: 0, key: 'i' },
      LINK,
      { name: 'STATE', width: 11, is: 'text', rank: 2, key: 'e' },
      ...TRAFFIC,
      { name: 'HEARD', width: 6, is: 'seconds', rank: 3, key: 'a' },
      { name: 'MACS', width: 5, is: 'count', rank: 8, key: 'm' },
      DETAILS,
    ],
    sort: 'b',
    hasPeers: true,
    rows: ({ peers = [] }) => peers.map(peerRow),
  },
];

function overlayRow(overlay: OverlayStatistics): TopRow {
  const { name, counters, drops, lookups } = overlay;
  const health = healthOf(overlay);
  const dropped = (kind: DropRow['kind']): number | null =>
    sum(drops.filter((drop) => drop.kind === kind).map(({ perSecond }) => perSecond));
  const news = health?.details ?? null;
  return {
    key: name,
    overlay: name,
    cells: {
      LINK: name,
      STATE: health?.status ?? null,
      ...trafficCells(counters),
      LOCAL: rateOf(counters, 'local_frames'),
      LOOKUPS: rateOf(counters, 'lookups'),
      DROPS: dropped('trouble'),
      BYDESIGN: dropped('by_design'),
      DETAILS: `${news === null ? '' : `${news}; `}lookups: ${lookupText(lookups)}`,
    },
    isTrouble: health?.status === 'DEGRADED',
  };
}

/** A varpd that was started before dladm was replaced does not say it. */
export function healthOf({ health }: Partial<OverlayStatistics>): OverlayHealth | undefined {
  return health;
}

function absentRow(failure: Failure): TopRow {
  const { name, message } = failure;
  return {
    key: name,
    overlay: name,
    cells: {
      LINK: name,
      STATE: isOffline(failure) ? 'OFFLINE' : 'MISSING',
      DETAILS: isOffline(failure) ? message.slice(message.indexOf(':') + 2) : message,
    },
    isTrouble: true,
  };
}

/** Whether the overlay exists. */
export function isOffline({ name, message }: Failure): boolean {
  return message.startsWith(`${name} is OFFLINE: `);
}

function portRows({ name: overlay, ports }: OverlayStatistics): TopRow[] {
  return ports.map(({ name, counters }) => {
    const drops = counters.flatMap((row) =>
      Object.hasOwn(DROPS, row.name) ? [{ ...row, ...DROPS[row.name as DropReason] }] : [],
    );
    const troubles = drops.filter(({ kind }) => kind === 'trouble');
    return {
      key: `${overlay} ${name}`,
      overlay,
      cells: {
        LINK: name,
        OVER: overlay,
        ...trafficCells(counters),
        DROPS: sum(troubles.map(({ perSecond }) => perSecond)),
        DETAILS: drops.map((row) => `${row.value} dropped as ${row.name}: ${row.about}`).join('; '),
      },
      isTrouble: false,
    };
  });
}

function dropRows({ name, drops }: OverlayStatistics): TopRow[] {
  return drops.map((drop) => ({
    key: `${name} ${drop.reason}`,
    overlay: name,
    cells: {
      LINK: name,
      REASON: drop.reason,
      KIND: drop.kind === 'by_design' ? 'by design' : drop.kind,
      DROPS: drop.perSecond,
      FRAMES: drop.frames,
      LAST: secondsSince(drop.last?.at ?? null),
      DETAILS: dropText(drop),
    },
    isTrouble: drop.kind === 'trouble' && drop.perSecond !== 0,
    isLast: drop.kind === 'by_design',
  }));
}

function peerRow({ overlay, peer, counters }: PeerReading): TopRow {
  const { state, reason, heardAt, stationCount, stations, mtuBytes, path } = peer;
  const healthy = [
    ...(mtuBytes === null ? [] : [`MTU ${mtuBytes}`]),
    `path ${path}`,
    ...(stations.length === 0 ? [] : [`MACs: ${stations.join(', ')}`]),
  ];
  return {
    key: `${overlay} ${peer.ip}`,
    overlay,
    cells: {
      PEER: peerText(peer),
      LINK: overlay,
      STATE: state,
      ...trafficCells(counters),
      HEARD: secondsSince(heardAt),
      MACS: stationCount,
      DETAILS: reason ?? healthy.join('; '),
    },
    isTrouble: isTroubled(peer),
  };
}

function secondsSince(at: string | null): number | null {
  return at === null ? null : Math.max(0, Date.now() - Date.parse(at)) / 1000;
}

function trafficCells(counters: readonly CounterRow[]): TopRow['cells'] {
  const [tx, rx] = [rateOf(counters, 'tx_bytes'), rateOf(counters, 'rx_bytes')];
  const bits = (bytes: number | null): number | null => (bytes === null ? null : bytes * 8);
  const both = sum([tx, rx]);
  return {
    BITS: bits(both),
    BYTES: both,
    TXFRAMES: rateOf(counters, 'tx_frames'),
    TXBITS: bits(tx),
    TXBYTES: tx,
    RXFRAMES: rateOf(counters, 'rx_frames'),
    RXBITS: bits(rx),
    RXBYTES: rx,
  };
}

/** A counter that is not listed is zero. */
export function rateOf(counters: readonly CounterRow[], name: string): number | null {
  const row = counters.find((counter) => counter.name === name);
  return row === undefined ? 0 : row.perSecond;
}

/** Null as soon as one is not known. */
export function sum(rates: readonly (number | null)[]): number | null {
  return rates.reduce((total, one) => (total === null || one === null ? null : total + one), 0);
}

/** For people. */
export function cellText({ is }: TopColumn, value: Cell): string {
  if (value === null) return '--';
  if (typeof value === 'string') return value;
  if (is === 'seconds') return durationText(value * 1000);
  if (is === 'count' && value < 1000) return String(value);
  return scaled(value);
}

/** For programs. */
export function exactText({ is }: TopColumn, value: Cell): string {
  return typeof value === 'number' && is === 'rate' ? rateText(value) : String(value ?? '--');
}

/** Five characters at most: `0`, `0.4`, `999`, `1.23k`, `45.6M`. */
export function scaled(value: number | null): string {
  if (value === null || value < 999.5) return rateText(value);
  const prefixes = ['k', 'M', 'G', 'T', 'P', 'E'];
  let rest = value / 1000;
  for (const prefix of prefixes) {
    if (rest < 999.5) return `${rest.toFixed(rest < 9.995 ? 2 : rest < 99.95 ? 1 : 0)}${prefix}`;
    rest /= 1000;
  }
  return 'huge';
}
