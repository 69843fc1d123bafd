// A start beside plugins that take their time: nobody waits for another's.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { reaches } from '../helpers/traffic.js';

/** Starts when a file is there, and not before. */
const SLOW = `
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
export default {
  apiVersion: 2, name: 'slow', mode: 'dynamic', properties: [],
  create: () => ({
    start: async () => { while (!existsSync(new URL('go', import.meta.url))) await sleep(20); },
    stop: async () => {},
    resolve: () => ({ kind: 'drop', reason: 'none' }),
  }),
};`;
/** Is never imported. */
const HANGING = 'await new Promise((resolve) => setTimeout(resolve, 1e8)); export default {};';

await t.test('plugins that hang at the start keep nobody waiting', { skip: skipUnlessNetns() }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 });
  await b.plumb('vx0');
  const plugins = bed.directory();
  for (const [name, source] of Object.entries({ slow: SLOW, hanging: HANGING })) {
    mkdirSync(path.join(plugins, name));
    writeFileSync(path.join(plugins, name, 'index.mjs'), source);
  }
  const go = path.join(plugins, 'slow/go');
  writeFileSync(go, '');
  const config = { limits: { startDeadlineMs: 60_000 } };
  const daemon = (await Daemon.start(bed, a, { pluginPath: [plugins], config })).explain(t);
  const slow = Array.from({ length: 10 }, (_, index) => `slow${index}`);
  for (const [index, name] of slow.entries())
    await daemon.ok(
      `create-overlay -e vxlan -s slow -v ${100 + index} -p vxlan/listen_ip=${a.underlay.v4} ${name}`,
    );
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.stop();
  rmSync(go);

  await daemon.startAnswering();
  await waitUntil(() => a.hasDevice('overlay0'), { what: 'the overlay that waits for nobody' });
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'an overlay whose plugin is there works');
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('delete-vnic foo0');
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid: 43, name: 'overlay1' }));
  t.pass('and changes of others wait for nobody');
  t.match((await daemon.call('overlay.list', { names: ['slow3'] })).overlays, [
    { name: 'slow3', health: { status: 'OFFLINE', details: /is being started/ } },
  ]);
  t.equal((await daemon.call('daemon.status', {})).isSettled, false);
  writeFileSync(go, '');
  await waitUntil(async () => (await daemon.call('daemon.status', {})).isSettled, {
    what: 'all to be up',
  });
  t.equal((await daemon.overlays()).length, 12);
});
