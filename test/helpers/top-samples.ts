// Statistics as varpd answers them, for tests of `dladm top`.
import type {
  CounterRow,
  DropRow,
  OverlayHealth,
  OverlayStatistics,
  PortStatistics,
} from '../../src/control/messages.js';
import type { PeerRow } from '../../src/control/peer-messages.js';
import type { PeerReading } from '../../src/cli/rates.js';
import { DROPS, type DropReason } from '../../src/model/drops.js';

type Rates = Readonly<Record<string, number | null>>;

/** Counters by name, each with this rate; their values are ten times that. */
export const counters = (rates: Rates): CounterRow[] =>
  Object.entries(rates).map(([name, perSecond]) => ({ name, value: (perSecond ?? 0) * 10, perSecond }));

export const port = (name: string, rates: Rates = {}): PortStatistics => ({
  name,
  counters: counters(rates),
});

export function drop(reason: DropReason, perSecond: number | null, frames = 100): DropRow {
  return { reason, ...DROPS[reason], frames, perSecond, last: null };
}

/** The same after some seconds at its rates. */
export function grown(overlay: OverlayStatistics, seconds: number): OverlayStatistics {
  const by = (perSecond: number | null): number => Math.round((perSecond ?? 0) * seconds);
  const later = (rows: readonly CounterRow[]): CounterRow[] =>
    rows.map((row) => ({ ...row, value: row.value + by(row.perSecond) }));
  return {
    ...overlay,
    counters: later(overlay.counters),
    drops: overlay.drops.map((row) => ({ ...row, frames: row.frames + by(row.perSecond) })),
    ports: overlay.ports.map((port) => ({ ...port, counters: later(port.counters) })),
  };
}

interface Shape {
  readonly rates?: Rates;
  readonly health?: OverlayHealth;
  readonly drops?: readonly DropRow[];
  readonly ports?: readonly PortStatistics[];
}

export function overlay(name: string, shape: Shape = {}): OverlayStatistics {
  const { rates = {}, drops = [], ports = [port(name)] } = shape;
  const health = shape.health ?? { status: 'ONLINE', details: null };
  const lookups = { asked: 0, open: 0, latencyMs: null };
  return { name, health, counters: counters(rates), lookups, drops, ports };
}

/** A peer that is well, unless the shape says otherwise. */
export function peerRow(ip: string | null, shape: Partial<PeerRow> = {}): PeerRow {
  return {
    ip,
    isPeer: true,
    port: 4789,
    state: 'ok',
    reason: null,
    stationCount: 1,
    stations: ['02:00:00:00:00:01'],
    txFrames: 0,
    txBytes: 0,
    rxFrames: 0,
    rxBytes: 0,
    sentAt: null,
    heardAt: null,
    unreachable: null,
    mtuBytes: 1500,
    mtuFrom: 'route',
    path: 'train',
    pathReason: 'the kernel or the device cuts messages of up to 64 datagrams',
    checksum: 'full',
    framesPerRead: null,
    uncoalescedReads: 0,
    ...shape,
  };
}

/** A peer as a reading of top has it. */
export function peer(overlay: string, row: PeerRow, rates: Rates = {}): PeerReading {
  return { overlay, peer: row, counters: counters(rates) };
}
