// Very large lists that a plugin hands to varpd in one go, beside an overlay that must not notice.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { giveToDaemon } from '../../helpers/daemon-user.js';
import { waitUntil } from '../../helpers/process.js';
import { SteadyPing } from '../../helpers/zlan.js';
import { check, checkTime, type Row, tunnel } from '../row.js';

const COUNT = 1_000_000;
/** For what the control side and the datapath make of a list, once the plugin has handed it over. */
const AFTER_MS = 10_000;

/** What it does once a file of that name is beside it. */
const WORK: Readonly<Record<string, string>> = {
  peers: `host.setPeers(peers(0)); setTimeout(() => host.setPeers(peers(COUNT / 2)), 50)`,
  invalidations: `for (let n = 0; n < COUNT; n++) host.invalidate(FIRST + n)`,
};

const SOURCE = `
import { existsSync, writeFileSync } from 'node:fs';
const COUNT = ${COUNT};
const FIRST = 0x020001000000;
const peers = (from) => Array.from({ length: COUNT }, (_, i) =>
  '10.' + ((from + i) >> 16) + '.' + (((from + i) >> 8) & 255) + '.' + ((from + i) & 255));
const work = { ${Object.entries(WORK)
  .map(([name, body]) => `${name}: (host) => { ${body} }`)
  .join(',\n')} };
const at = (name) => new URL(name, import.meta.url);
export default {
  apiVersion: 1, name: 'lists', mode: 'dynamic', properties: [],
  create: (host) => {
    let timer;
    return {
      start: async () => {
        timer = setInterval(() => {
          for (const [name, begin] of Object.entries(work)) {
            if (!existsSync(at(name)) || existsSync(at(name + '.done'))) continue;
            writeFileSync(at(name + '.done'), '');
            begin(host);
          }
        }, 10);
        for (let n = 0; n < 20000; n++) host.setTarget(FIRST + n * 50, { ip: '192.0.2.1', port: 4789 }, Infinity);
      },
      stop: async () => clearInterval(timer),
      resolve: () => ({ kind: 'drop', reason: 'nobody' }),
    };
  },
};
`;

const lists: Row = {
  name: 'F23',
  fault: 'a plugin names 1,000,000 peers, then others, and invalidates 1,000,000 MACs, under load',
  async run(bed) {
    const directory = bed.directory();
    const plugin = path.join(directory, 'lists');
    mkdirSync(plugin);
    giveToDaemon(plugin); // it says there what it has done
    writeFileSync(path.join(plugin, 'index.mjs'), SOURCE);
    const { a, b, daemon } = await tunnel(bed, { pluginPath: [directory] });
    await daemon.ok(`create-overlay -e vxlan -s lists -v 7 -p vxlan/listen_ip=${a.underlay.v4} lists0`);
    const seen: string[] = [];
    for (const name of Object.keys(WORK)) {
      const flow = await SteadyPing.start(a, b.overlay.v4);
      writeFileSync(path.join(plugin, name), '');
      const isDone = (): boolean => existsSync(path.join(plugin, `${name}.done`));
      await waitUntil(isDone, { timeoutMs: 60_000, what: `the ${name}` });
      await sleep(AFTER_MS);
      const rttMs = flow.rttUs.map((us) => us / 1000).sort((x, y) => x - y);
      const { sent, lost } = await flow.stop();
      const p99Ms = rttMs[Math.floor(rttMs.length * 0.99)];
      const figures = `p99 ${p99Ms.toFixed(1)} ms, at most ${rttMs.at(-1)?.toFixed(1)} ms`;
      check(lost === 0, `${name}: no packet of a known flow is lost, not ${lost} of ${sent}`);
      checkTime(p99Ms < 50, `${name}: p99 of a known flow is below 50 ms: ${figures}`);
      seen.push(`${name}: ${figures}, 0 of ${sent} lost`);
    }
    check(daemon.running, 'varpd lives');
    return seen.join('; ');
  },
};

export const listRows: readonly Row[] = [lists];
