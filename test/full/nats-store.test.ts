// The nats plugin between real hosts: three varpds on a switch, a nats-server on a fourth host, pings over the overlay.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { Daemon, DLADM_MAIN } from '../helpers/daemon.js';
import { skipWithoutNats, NatsServer } from '../helpers/nats-server.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { ping, reaches } from '../helpers/traffic.js';

const PORT = 4222;
const MACS = ['de:ad:be:ef:00:00', 'de:ad:be:ef:00:01', 'de:ad:be:ef:00:02'];
const address = (index: number): string => `10.55.55.${2 + index}`;

/** The health of the overlay, as `show-overlay -f` has it. */
async function untilHealth(daemon: Daemon, pattern: RegExp): Promise<void> {
  let text = '';
  const isSo = async (): Promise<boolean> => {
    const [{ health }] = await daemon.overlays('overlay0');
    text = `${health.status} ${health.details ?? ''}`;
    return pattern.test(text);
  };
  await waitUntil(isSo, { what: `the health ${pattern}` }).catch((error: unknown) => {
    throw new Error(`${(error as Error).message}; it is ${text}`);
  });
}

async function addVnic(host: Namespace, daemon: Daemon, index: number): Promise<void> {
  await daemon.ok(`create-vnic -m ${MACS[index]} -l overlay0 net${index}`);
  await host.ip(`addr add ${address(index)}/24 dev net${index}`);
  await host.ip(`link set net${index} up`);
}

t.test('three hosts and a store', { skip: skipUnlessNetns() || skipWithoutNats }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [store, ...hosts] = await bed.hostsOnSwitch(4);
  const server = await NatsServer.start(t, {
    address: store.underlay.v4,
    port: PORT,
    prefix: ['ip', 'netns', 'exec', store.name],
  });
  const daemons = await Promise.all(hosts.map((host) => Daemon.start(bed, host, { withoutRoot: true })));
  for (const daemon of daemons) daemon.explain(t);
  const file = path.join(bed.directory(), 'hosts.json');
  /** The host of each MAC. */
  const importPlaces = async (...places: number[]): Promise<string> => {
    const entries = places.map((place, index) => [
      MACS[index],
      { ip: hosts[place].underlay.v4, port: 4789, arp: address(index) },
    ]);
    writeFileSync(file, JSON.stringify(Object.fromEntries(entries)));
    // A program, since this process is in no host.
    return hosts[0].exec([
      process.execPath,
      DLADM_MAIN,
      'import-mapping',
      '-p',
      'create=on',
      file,
      `${server.url}/varpd-23`,
    ]);
  };
  t.match(await importPlaces(0, 1, 2), /\+3 -0 ~0 entries/);

  // The first two hosts know every entry, and the third asks for those that it needs.
  const create = (index: number, mode: string): Promise<string> =>
    daemons[index].ok(
      `create-overlay -v 23 -e vxlan -s nats -p vxlan/listen_ip=${hosts[index].underlay.v4} ` +
        `-p nats/servers=${server.url} -p nats/mode=${mode} overlay0`,
    );
  await Promise.all(['snapshot', 'snapshot', 'lookup'].map((mode, index) => create(index, mode)));
  for (const index of [0, 1, 2]) await addVnic(hosts[index], daemons[index], index);

  await t.test('everyone reaches everyone', async (t) => {
    for (const [from, to] of [
      [0, 1],
      [1, 2],
      [2, 0],
    ] as const) {
      const { received, text } = await ping(hosts[from], address(to), { waitMs: 3000 });
      t.equal(received, 3, `${from} to ${to}`, { text });
    }
    for (const daemon of daemons) await untilHealth(daemon, /^ONLINE/);
  });

  await t.test('a VNIC moves to another host', async (t) => {
    await daemons[1].ok('delete-vnic net1');
    await addVnic(hosts[2], daemons[2], 1);
    t.match(await importPlaces(0, 2, 2), /\+0 -0 ~1 entries, 2 unchanged/);
    t.ok(await reaches(hosts[0], address(1)), 'the host that knows every entry reaches it at its new place');
    await daemons[2].ok('delete-vnic net1');
    await addVnic(hosts[1], daemons[1], 1);
    await importPlaces(0, 1, 2);
    t.ok(await reaches(hosts[2], address(1)), 'and the host that asks, after it has moved back');
    t.ok(await reaches(hosts[0], address(1)));
  });

  await t.test('the store is away', async (t) => {
    await server.stop();
    for (const daemon of daemons)
      await untilHealth(daemon, /^DEGRADED .*works on what it knows of the bucket varpd-23/);
    for (const [from, to] of [
      [0, 1],
      [2, 0],
      [1, 2],
    ] as const)
      t.equal((await ping(hosts[from], address(to), { waitMs: 3000 })).received, 3, `${from} to ${to}`);
    // Every varpd starts again, and the last state on disk is all they have.
    for (const daemon of daemons) await daemon.restart();
    for (const index of [0, 1, 2]) {
      await hosts[index].ip(`addr add ${address(index)}/24 dev net${index}`);
      await hosts[index].ip(`link set net${index} up`);
    }
    for (const [from, to] of [
      [0, 1],
      [1, 2],
      [2, 0],
    ] as const)
      t.ok(await reaches(hosts[from], address(to)), `${from} to ${to}, after a start without the store`);
    await server.start();
    for (const daemon of daemons) await untilHealth(daemon, /^ONLINE/);
    await importPlaces(0, 1);
    await waitUntil(async () => (await ping(hosts[0], address(2), { waitMs: 1000 })).received === 0, {
      what: 'the MAC without an entry to be unreachable',
    });
  });
});
