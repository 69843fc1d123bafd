/** The data that the thread of the live page sends to the page: by server-sent events, and in answers. */
import type { LogEvent, StateEvent, TargetChange } from '../control/watch-messages.js';

/** Rates of the last 2 to 4 seconds; null while they are not known. */
export interface Rates {
  readonly txBits: number | null;
  readonly rxBits: number | null;
  readonly txFrames: number | null;
  readonly rxFrames: number | null;
  /** Frames dropped for a reason that is trouble. */
  readonly drops: number | null;
}

export interface DropView {
  readonly reason: string;
  readonly about: string;
  readonly kind: 'trouble' | 'by_design';
  readonly frames: number;
  readonly perSecond: number | null;
  /** The last frame, in words; null = not known. */
  readonly last: string | null;
}

export interface OverlayView extends Omit<StateEvent, 'kind' | 'at' | 'isGone' | 'overlay'> {
  readonly name: string;
  /** Null before the first counters, and while it is offline. */
  readonly rates: Rates | null;
  readonly drops: readonly DropView[];
  readonly lookups: {
    readonly open: number;
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
  } | null;
}

/** The last ten minutes of one overlay: a point every two seconds, the newest last; null = not known. */
export interface History {
  readonly txBits: readonly (number | null)[];
  readonly rxBits: readonly (number | null)[];
  readonly drops: readonly (number | null)[];
}

export interface PeerView {
  readonly overlay: string;
  /** Null for all addresses that have no row of their own. */
  readonly ip: string | null;
  readonly state: 'ok' | 'unheard' | 'idle' | 'silent' | 'unreachable';
  readonly reason: string | null;
  readonly stationCount: number | null;
  /** The first of them. */
  readonly stations: readonly string[];
  readonly txBits: number | null;
  readonly rxBits: number | null;
}

export interface About {
  readonly host: string;
  readonly version: string | null;
  readonly pid: number | null;
  readonly startedAt: string | null;
  /** Null while varpd answers; else why not. */
  readonly problem: string | null;
}

export type LogLine = Omit<LogEvent, 'kind'>;

export interface Snapshot {
  readonly about: About;
  readonly overlays: readonly (OverlayView & { readonly history: History })[];
  readonly peers: readonly PeerView[];
  /** The newest last; null = users without the right to see the log may open this page. */
  readonly log: readonly LogLine[] | null;
}

/** Overlays that have changed. With `isPoint` their rates are the next point of their history. */
export interface Update {
  readonly about: About;
  readonly overlays: readonly OverlayView[];
  readonly gone: readonly string[];
  /** Names of overlays with a new point. */
  readonly points: readonly string[];
  /** Lines that are new in the log. */
  readonly log: readonly LogLine[];
}

export interface TargetsNews {
  readonly overlay: string;
  /** Null: the table is to be read again. */
  readonly rows: readonly TargetChange[] | null;
}

/** A row of the table: MAC, state, destinations, origin, age in seconds. */
export type TableRow = readonly [string, string, string, string | null, number | null];

export interface Table {
  readonly overlay: string;
  readonly rows: readonly TableRow[];
  /** There are more rows that match. */
  readonly isCut: boolean;
}

/** Events by name. */
export interface PageEvents {
  readonly snapshot: Snapshot;
  readonly update: Update;
  readonly peers: readonly PeerView[];
  readonly targets: TargetsNews;
}

export const HISTORY_POINTS = 300;
export const POINT_SECONDS = 2;
/** Lines of the log that are kept: some screens, and 100 KiB at most that a page gets when it is opened. */
export const LOG_LINES = 200;
/** Rows of a table that a page gets. */
export const MAX_TABLE_ROWS = 20_000;

/** The daemon gives these to the thread. */
export interface ThreadOptions {
  /** The control socket. */
  readonly socket: string;
  readonly listen: { readonly host: string; readonly port: number } | { readonly path: string };
  /** Names of this host that a request may be for, beside localhost and addresses. */
  readonly hosts: readonly string[];
  /** Undefined: every client that reaches the page may see it. */
  readonly token: string | undefined;
  readonly hostName: string;
}

/** Messages of the thread to the daemon. */
export type ThreadNews =
  | { readonly kind: 'listening'; readonly port: number | null }
  | { readonly kind: 'failed'; readonly code: string | null; readonly message: string }
  | { readonly kind: 'bug'; readonly stack: string };
