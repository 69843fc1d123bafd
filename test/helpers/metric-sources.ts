// Overlays as metrics see them.

import { setTimeout as sleep } from 'node:timers/promises';

import { COUNTER_NAMES } from '../../src/core/counts/counters.js';
import { type MetricSources } from '../../src/daemon/observe/metrics.js';
import type { IpAddress } from '../../src/wire/ip.js';

export type View = MetricSources['directory']['overlays'] extends ReadonlyMap<string, infer V> ? V : never;

/** Each counter has a value of its own. */
export const counters = (more = 0): Record<string, number> =>
  Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, 1000 * (index + 1) + more]));

export function overlay(name: string, { isDown = false, hasLost = false, isStuck = false } = {}): View {
  const id = name.length;
  return {
    name,
    id,
    plan: { vnetid: 42, search: 'files', encap: 'vxlan' },
    health: {
      note: () => undefined,
      endNote: () => undefined,
      tell: () => undefined,
      report: () => ({ status: 'ONLINE', details: null }),
      troubleCounts: () => new Map([['plugin', isDown ? 1 : 0]]),
    },
    plugin: {
      lookupTimes: { open: 4, latencyMs: null },
      counts: {
        answers: {
          within: [
            { boundS: 0.001, count: 5 },
            { boundS: 1, count: 6 },
          ],
          count: 8,
          sumS: 3.5,
        },
        exits: 2,
      },
    },
    listen: { ip: '2001:db8::1' as IpAddress, port: 4789 },
    datapath: {
      counters: () => counters(),
      drops: () => [],
      recordedPeers: () => [],
      targetCount: () => sleep(isStuck ? 2000 : 0, 12),
    },
    links: { carrier: !isDown, destinationCount: 3 },
    info: () => ({
      name,
      temporary: false,
      mode: 'dynamic',
      properties: [],
      health: { status: isDown ? 'DEGRADED' : 'ONLINE', details: null },
      mapping: isDown ? null : { revision: 'sha256:0', entries: 3, at: '2026-01-01T00:00:00.000Z' },
      underlay: { state: isDown ? 'down' : 'up', losses: 7, changedAt: '' },
      peers: 1,
      offloads: ['checksum', 'train'],
      counters: counters(),
    }),
    places: () => [],
    ports: () => [
      { name, state: 'up', counters: counters(1) },
      hasLost
        ? { name: 'foo0', state: 'the device was removed', counters: {} }
        : { name: 'foo0', state: 'up', counters: counters(2) },
    ],
  };
}

export function sources(...overlays: readonly View[]): MetricSources {
  return {
    directory: {
      overlays: new Map(overlays.map((one) => [one.name, one])),
      counts: { overlays: overlays.length, vnics: overlays.length },
      offline: { overlays: 1, vnics: 2 },
    },
    datapath: {
      ping: () => sleep(0),
      features: { tapCarrier: true, udpSegmentation: false },
      socketCounters: () => new Map([['[2001:db8::1]:4789', counters(3)]]),
    },
    peers: {
      troubles: () => new Map([['10.0.0.1', { state: 'unreachable', reason: 'port unreachable' }]]),
    },
  };
}
