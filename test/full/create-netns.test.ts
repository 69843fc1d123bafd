// A VNIC that is made in a network namespace: it goes on over a restart, and ends with the namespace.
import t from 'tap';

import { type Daemon, DLADM_MAIN } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { exec, type Result, waitUntil } from '../helpers/process.js';
import { ping } from '../helpers/traffic.js';
import { newBed, startOverlay } from '../helpers/tunnels.js';

/** dladm on the host of a varpd. */
const dladm = (daemon: Daemon, line: string): Promise<Result> =>
  daemon.host.run([process.execPath, DLADM_MAIN, ...line.split(' ')], {
    env: { VARPD_SOCKET: daemon.socket },
  });

await t.test('create-vnic --netns', { skip: skipUnlessNetns() }, async (t) => {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const c = await bed.host();
  const daemon = await startOverlay(t, bed, a, b);
  await startOverlay(t, bed, b, a);
  await b.plumb('overlay0');
  const create = `create-vnic --netns ${c.name} -l overlay0 foo0`;
  const info = async () =>
    (await daemon.vnics()).map(({ name, state, attachment }) => ({ name, state, attachment }));

  t.match(await daemon.dladm(...create.split(' ')), {
    code: 1,
    stderr: /not in the network namespace of dladm/,
  });
  await c.ip('link add foo0 type bridge');
  t.match(await dladm(daemon, create), { code: 1, stderr: /cannot move foo0 into .*EEXIST/ });
  t.strictSame(await daemon.vnics(), [], 'a VNIC that cannot be moved is deleted');
  await c.ip('link del foo0');

  t.match(await dladm(daemon, create), { code: 0, stderr: '' });
  await c.plumb('foo0');
  const there = { name: 'foo0', state: 'up', attachment: `netns:${c.name}` };
  t.strictSame(await info(), [there]);
  t.equal((await ping(c, b.overlay.v4)).received, 3);
  t.match(await dladm(daemon, `${create} --if-missing`), { code: 0 }, 'it is there');
  t.match(await dladm(daemon, 'create-vnic --if-missing -l overlay0 foo0'), {
    code: 5,
    stderr: /attachment is netns:/,
  });
  t.match(daemon.log(), new RegExp(`: ${create}: done`), 'who changed what');

  await daemon.ok('restart');
  await daemon.settled();
  t.strictSame(await info(), [there]);
  t.equal((await ping(c, b.overlay.v4)).received, 3, 'it moves frames after a restart');

  await exec(`ip netns delete ${c.name}`);
  const [gone] = [{ ...there, state: 'the device was removed' }];
  await waitUntil(async () => (await info())[0].state === gone.state, { what: 'the end of the namespace' });
  t.match(await daemon.overlays('overlay0'), [{ health: { status: 'DEGRADED', details: /port foo0/ } }]);
  await daemon.ok('up-overlay');
  t.strictSame(await info(), [gone], 'it is not made again');
  t.notOk(await a.hasDevice('foo0'));
  await daemon.ok('delete-vnic foo0');
  t.match(await daemon.overlays('overlay0'), [{ health: { status: 'ONLINE' } }]);
});
