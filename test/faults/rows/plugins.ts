// Plugins that do all that a program can do wrong, each beside an overlay that must not notice.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import type { Bed } from '../../helpers/netns.js';
import { SteadyPing } from '../../helpers/zlan.js';
import { answersNow, check, type Row, tunnel, untilHealth } from '../row.js';

/** What `resolve` does while the file `misbehave` is there. */
const WAYS: Readonly<Record<string, string>> = {
  throws: `throw new Error('out of order')`,
  rejects: `return Promise.reject(new Error('out of order'))`,
  'never settles': `return new Promise(() => {})`,
  'answers nonsense': `return { kind: 'target', to: { ip: '999.1.1.1', port: -1 } }`,
  'throws from a timer': `setTimeout(() => { throw new Error('late') }, 5); return new Promise(() => {})`,
  exits: `process.exit(7)`,
  aborts: `process.abort()`,
  blocks: `const end = Date.now() + BLOCK_MS; while (Date.now() < end); return { kind: 'drop', reason: 'late' }`,
};

const BLOCK_MS = 10_000;

const source = (blockMs: number): string => `
import { existsSync, readFileSync } from 'node:fs';
const BLOCK_MS = ${blockMs};
const ways = { ${Object.entries(WAYS)
  .map(([name, body]) => `${JSON.stringify(name)}: () => { ${body} }`)
  .join(',\n')} };
const file = new URL('./misbehave', import.meta.url);
export default {
  apiVersion: 1, name: 'rogue', mode: 'dynamic', properties: [],
  create: () => ({
    start: async () => {}, stop: async () => {},
    resolve: () => {
      const way = existsSync(file) ? readFileSync(file, 'utf8') : '';
      return way === '' ? { kind: 'drop', reason: 'nobody', ttlMs: 1 } : ways[way]();
    },
  }),
};
`;

async function misbehave(bed: Bed, ways: readonly string[], blockMs: number): Promise<string> {
  const directory = bed.directory();
  const rogue = path.join(directory, 'rogue');
  mkdirSync(rogue);
  writeFileSync(path.join(rogue, 'index.mjs'), source(blockMs));
  const { a, b, daemon } = await tunnel(bed, {
    pluginPath: [directory],
    config: { limits: { lookupDeadlineMs: 300, negativeTtlMs: 1 } },
  });
  await daemon.ok(`create-overlay -e vxlan -s rogue -v 7 -p vxlan/listen_ip=${a.underlay.v4} rogue0`);
  await a.ip('addr add 10.77.0.1/24 dev rogue0');
  await a.ip('link set rogue0 up');
  let victim = 1;
  const provoke = (): Promise<unknown> => {
    const ip = `10.77.0.${++victim}`;
    return a
      .ip(`neigh add ${ip} lladdr 2:0:0:0:0:${victim.toString(16)} dev rogue0`)
      .then(() => a.run(['ping', '-c', '2', '-i', '0.2', '-W', '1', ip]));
  };
  const flow = await SteadyPing.start(a, b.overlay.v4);
  for (const way of ways) {
    writeFileSync(path.join(rogue, 'misbehave'), way);
    await provoke();
    check(daemon.running, `${way}: varpd lives`);
    await untilHealth(daemon, 'DEGRADED', { name: 'rogue0', timeoutMs: blockMs + 10_000 });
    const [other] = await daemon.overlays('overlay0');
    check(other.health.status === 'ONLINE', `${way}: the other overlay is not concerned`);
    writeFileSync(path.join(rogue, 'misbehave'), '');
    await provoke();
    await untilHealth(daemon, 'ONLINE', { name: 'rogue0', timeoutMs: blockMs + 10_000 });
  }
  const { sent, lost } = await flow.stop();
  check(lost <= sent / 100, `the other overlay loses less than 1 %, not ${lost} of ${sent}`);
  await answersNow(a, b.overlay.v4);
  return `${ways.length} ways: degraded, recovered; the other overlay lost ${lost} of ${sent} packets`;
}

const rogue: Row = {
  name: 'F16',
  fault: `plugin ${Object.keys(WAYS).join(', ')} for 10 s`,
  run: (bed) => misbehave(bed, Object.keys(WAYS), BLOCK_MS),
};

/** The part of it that `npm test` has, and has nowhere else. */
const UNLIKE_OTHERS = ['throws from a timer', 'exits', 'aborts', 'blocks'];

export const rogueShortly: Row = {
  ...rogue,
  fault: `plugin ${UNLIKE_OTHERS.join(', ')} for 1 s`,
  run: (bed) => misbehave(bed, UNLIKE_OTHERS, 1000),
};

export const pluginRows: readonly Row[] = [rogue];
