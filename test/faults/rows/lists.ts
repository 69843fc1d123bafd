// Very large lists that a plugin hands to varpd in one go, beside an overlay that must not notice.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { waitUntil } from '../../helpers/process.js';
import { SteadyPing } from '../../helpers/zlan.js';
import { check, checkTime, type Row, tunnel } from '../row.js';

const COUNT = 1_000_000;
/** For what the control side and the datapath make of a list, once the plugin has handed it over. */
const AFTER_MS = 10_000;

/** The plugin keeps what it makes of a million rows until its garbage is collected. */
const PLUGIN_MIB = 2048;

/** For a known flow meanwhile. */
const MAX_P99_MS = 5;

/** What it does once a file of that name is beside it. */
const WORK: Readonly<Record<string, string>> = {
  peers: `host.setPeers(peers(0)); setTimeout(() => host.setPeers(peers(COUNT / 2)), 50)`,
  targets: `host.setTargets(Array.from({ length: COUNT }, (_, n) => ({ mac: FIRST + n, to: { ip: '192.0.2.' + (1 + n % 200), port: 4789 } })))`,
  invalidations: `for (let n = 0; n < COUNT; n++) host.invalidate([FIRST + n])`,
};

const SOURCE = `
import { existsSync } from 'node:fs';
const COUNT = ${COUNT};
const FIRST = 0x020001000000;
const peers = (from) => Array.from({ length: COUNT }, (_, i) =>
  '10.' + ((from + i) >> 16) + '.' + (((from + i) >> 8) & 255) + '.' + ((from + i) & 255));
const work = { ${Object.entries(WORK)
  .map(([name, body]) => `${name}: (host) => { ${body} }`)
  .join(',\n')} };
const begun = new Set();
const at = (name) => new URL(name, import.meta.url);
export default {
  apiVersion: 2, name: 'lists', mode: 'dynamic', properties: [],
  create: (host) => {
    let timer;
    return {
      start: async () => {
        timer = setInterval(() => {
          for (const [name, begin] of Object.entries(work)) {
            if (begun.has(name) || !existsSync(at(name))) continue;
            begun.add(name);
            begin(host);
            host.log.info(name + ' done');
          }
        }, 10);
        host.setTargets(Array.from({ length: 20000 }, (_, n) => ({ mac: FIRST + n * 50, to: { ip: '192.0.2.1', port: 4789 } })));
      },
      stop: async () => clearInterval(timer),
      resolve: () => ({ kind: 'drop', reason: 'nobody' }),
    };
  },
};
`;

const lists: Row = {
  name: 'F23',
  fault:
    'a plugin names 1,000,000 peers, then others, pushes 1,000,000 targets, and invalidates 1,000,000 MACs, under load',
  async run(bed) {
    const directory = bed.directory();
    const plugin = path.join(directory, 'lists');
    mkdirSync(plugin);
    writeFileSync(path.join(plugin, 'index.mjs'), SOURCE);
    const { a, b, daemon } = await tunnel(bed, {
      pluginPath: [directory],
      config: { limits: { pluginMemoryMib: PLUGIN_MIB } },
    });
    await daemon.ok(`create-overlay -e vxlan -s lists -v 7 -p vxlan/listen_ip=${a.underlay.v4} lists0`);
    const seen: string[] = [];
    for (const name of Object.keys(WORK)) {
      const flow = await SteadyPing.start(a, b.overlay.v4);
      writeFileSync(path.join(plugin, name), '');
      const isDone = (): boolean => daemon.log().includes(`plugin lists: ${name} done`);
      await waitUntil(isDone, { timeoutMs: 60_000, what: `the ${name}` });
      await sleep(AFTER_MS);
      const rttMs = flow.rttUs.map((us) => us / 1000).sort((x, y) => x - y);
      const { sent, lost } = await flow.stop();
      const p99Ms = rttMs[Math.floor(rttMs.length * 0.99)];
      const figures = `p99 ${p99Ms.toFixed(1)} ms, at most ${rttMs.at(-1)?.toFixed(1)} ms`;
      check(lost === 0, `${name}: no packet of a known flow is lost, not ${lost} of ${sent}`);
      checkTime(p99Ms < MAX_P99_MS, `${name}: p99 of a known flow is below ${MAX_P99_MS} ms: ${figures}`);
      seen.push(`${name}: ${figures}, 0 of ${sent} lost`);
    }
    check(daemon.running, 'varpd lives');
    return seen.join('; ');
  },
};

export const listRows: readonly Row[] = [lists];
