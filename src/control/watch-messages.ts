/** The lines of `watch.start` (methods.ts): a JSON object each. Members may be added to them; a reader skips those that it does not know. */
import type {
  LookupStatistics,
  OverlayHealth,
  OverlayStatistics,
  TargetRow,
  UnderlayInfo,
} from './messages.js';

export const WATCH_KINDS = ['state', 'targets', 'counters', 'log'] as const;
export type WatchKind = (typeof WATCH_KINDS)[number];

/** The kind that wants the rights of a change: a line of the log may quote a file or the data of another user. */
export const PRIVATE_KIND: WatchKind = 'log';

/** The watch has begun. */
export interface WatchInfo {
  readonly version: string;
  readonly pid: number;
  /** Time of varpd's start, ISO 8601. Another one than before: counters begin from zero. */
  readonly startedAt: string;
  /** Kinds of lines that come. */
  readonly kinds: readonly WatchKind[];
}

export interface WatchedPort {
  readonly name: string;
  /** As `state` of a VNIC: `up`, or the reason why not. */
  readonly state: string;
}

/** An overlay, and its ports. One comes for each overlay at the beginning, and another when something in it has changed. */
export interface StateEvent {
  readonly kind: 'state';
  /** ISO 8601. */
  readonly at: string;
  readonly overlay: string;
  /** The overlay was deleted: the rest is as it was last. */
  readonly isGone: boolean;
  readonly status: OverlayHealth['status'];
  readonly details: string | null;
  /** As `notes` of OverlayHealth; null = none. */
  readonly notes: string | null;
  /** Null while it is offline. */
  readonly underlay: UnderlayInfo['state'] | null;
  /** Underlay addresses that frames go to; null while it is offline. */
  readonly peers: number | null;
  /** Its own port, then those of its VNICs; empty while it is offline. */
  readonly ports: readonly WatchedPort[];
}

/** A row of a target table that was set or forgotten. */
export interface TargetChange {
  /** Padded, lower-case. */
  readonly mac: string;
  /** `gone`: it was forgotten. */
  readonly state: Exclude<TargetRow['state'], 'pending'> | 'gone';
  readonly destinations: readonly string[];
  /** As `origin` of a TargetRow. */
  readonly origin: 'plugin' | 'pushed' | 'set' | null;
}

/**
 * Changes of a target table, the last one of each MAC within 200 ms. Rows that end with their time, or make room for
 * others, end without a line.
 */
export interface TargetsEvent {
  readonly kind: 'targets';
  readonly at: string;
  readonly overlay: string;
  /** Null: all were forgotten, or too many have changed to be listed. `overlay.targets` has the table. */
  readonly rows: readonly TargetChange[] | null;
}

/** The counters of an overlay that runs, every two seconds. */
export interface CountersEvent extends Omit<OverlayStatistics, 'name' | 'health'> {
  readonly kind: 'counters';
  readonly at: string;
  readonly overlay: string;
  readonly lookups: LookupStatistics;
}

/** A line of the log, as the log has it. It is of no overlay, and comes whichever overlays are named. */
export interface LogEvent {
  readonly kind: 'log';
  readonly at: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly message: string;
}

/**
 * Lines that the client was too slow for, and that were thrown away, since the line before this one. After missed state lines
 * each overlay comes again.
 */
export interface MissedEvent {
  readonly kind: 'missed';
  readonly at: string;
  /** Zeros are left out. */
  readonly lines: Readonly<Partial<Record<WatchKind, number>>>;
}

export type WatchEvent = StateEvent | TargetsEvent | CountersEvent | LogEvent | MissedEvent;
