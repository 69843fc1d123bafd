/**
 * A lookup plugin for the bench: fills the target table of its overlay up to a number of targets, a few of which are real.
 *
 * The real ones, one every `many/every`, live at `many/dest_ip`; the others at addresses nobody has. Nothing is known of
 * any other MAC. `show-overlay -f` says when all targets are set.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';

import { definePlugin, type Destination, type Host } from '../../../../src/plugin/index.js';

const FIRST_MAC = 0x0200_0100_0000;
const PORT = 4789;
/** Hosts that the targets which are not real are spread over: 198.18.0.0/15, RFC 2544 C.2.2. */
const VTEPS = 1000;
/** Set at a time: the control side answers in between. */
const SLICE = 2000;

const elsewhere = (index: number): Destination => {
  const vtep = index % VTEPS;
  return { ip: `198.18.${vtep >> 8}.${vtep & 0xff}`, port: PORT };
};

async function fill(
  host: Host,
  { count, every, to }: { count: number; every: number; to: Destination },
  isStopped: () => boolean,
): Promise<void> {
  for (let first = 0; first < count && !isStopped(); first += SLICE) {
    const rows = Array.from({ length: Math.min(SLICE, count - first) }, (_, row) => first + row);
    host.setTargets(
      rows.map((index) => ({ mac: FIRST_MAC + index, to: index % every === 0 ? to : elsewhere(index) })),
    );
    await nextTurn();
  }
  if (!isStopped()) host.remark(`${count} targets are set`);
}

export default definePlugin({
  apiVersion: 2,
  name: 'many',
  mode: 'dynamic',
  properties: [
    { name: 'many/count', type: 'uint', required: true, min: 1, max: 1_000_000 },
    { name: 'many/every', type: 'uint', required: true, min: 1, max: 1_000_000 },
    { name: 'many/dest_ip', type: 'ip', required: true },
  ],
  create(host) {
    let stopped = false;
    return {
      start({ count, every, dest_ip }) {
        const plan = { count, every, to: { ip: dest_ip, port: PORT } };
        // More than a start may take: it goes on beside.
        void fill(host, plan, () => stopped);
        return Promise.resolve();
      },
      stop() {
        stopped = true;
        return Promise.resolve();
      },
      resolve: () => ({ kind: 'drop', reason: 'not in the list' }),
    };
  },
});
