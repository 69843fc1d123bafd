// The nats plugin in mode snapshot, against a real nats-server on the loopback address.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { KV } from '@nats-io/kv';
import t from 'tap';
import { waitUntil } from '../helpers/process.js';
import { Line, NatsServer, purgeTrace, putAll, skipWithoutNats } from '../helpers/nats-server.js';
import {
  ask,
  entry,
  key,
  mac,
  macText,
  type Scene,
  startNats,
  stateDirectory,
  until,
} from '../helpers/nats-scene.js';

const skip = skipWithoutNats;
const BUCKET = 'varpd-23';

/** A fresh bucket of the server. */
async function fresh(t: Parameters<typeof NatsServer.start>[0], server: NatsServer): Promise<KV> {
  const old = await server.bucket(t, BUCKET);
  await old.destroy();
  return server.bucket(t, BUCKET);
}

const live = ({ host }: Scene): Promise<void> =>
  until(
    'the overlay to be current',
    () => host.degraded === undefined && host.remarked?.startsWith('bucket'),
  );

t.test('one server', { skip }, async (t) => {
  const server = await NatsServer.start(t);

  t.test('a start, changes, deletions', async (t) => {
    const kv = await fresh(t, server);
    await kv.put(key(1), entry({ arp: '10.0.0.1', ndp: ['fe80::1', '2001:db8::1'] }));
    await kv.put(key(2), entry({ ip: '10.88.88.71', 'dhcp-proxy': macText(1) }));
    await kv.put(key(3), entry({ ip: '2001:db8::70' }));
    const scene = await startNats(t, server);
    const { host, instance } = scene;
    t.equal(host.destinationOf(mac(1)), '10.88.88.70:4789');
    t.equal(host.destinationOf(mac(2)), '10.88.88.71:4789');
    t.equal(host.destinationOf(mac(3)), undefined, 'a VTEP of another family is no target');
    t.match(await ask(scene, mac(3)), { kind: 'drop', reason: /family of the listen address/ });
    t.match(await ask(scene, mac(9)), { kind: 'drop', reason: /no such MAC/ });
    t.equal(host.snapshot?.addresses.get('2001:db8::1'), mac(1));
    t.equal(await instance.neighbor!('10.0.0.1' as never, host.signal), mac(1));
    t.equal(await instance.dhcpServer!(mac(2), host.signal), mac(1));
    t.equal(await instance.dhcpServer!(mac(1), host.signal), null);
    t.strictSame([...host.peers].sort(), ['10.88.88.70', '10.88.88.71', '2001:db8::70']);
    t.strictSame(await ask(scene, 0xffff_ffff_ffff, 0x0806), { kind: 'proxy', what: 'arp' });

    await kv.put(key(4), entry({ ip: '10.88.88.72' }));
    await until('a new MAC', () => host.destinationOf(mac(4)) === '10.88.88.72:4789');
    await until('its VTEP among the peers', () => host.peers.includes('10.88.88.72'));
    await kv.put(key(4), entry({ ip: '10.88.88.71', arp: '10.0.0.4' }));
    await until('a move', () => host.destinationOf(mac(4)) === '10.88.88.71:4789');
    t.equal(host.snapshot?.addresses.get('10.0.0.4'), mac(4));
    await until('the VTEP without MACs to be no peer', () => !host.peers.includes('10.88.88.72'));
    await kv.delete(key(4));
    await until('a deletion', () => host.destinationOf(mac(4)) === undefined);
    t.equal(host.snapshot?.addresses.get('10.0.0.4'), undefined);
    await kv.purge(key(2));
    await until('a purge', () => host.destinationOf(mac(2)) === undefined);
    t.equal(host.snapshots, 1, 'one snapshot, and changes of it');
    const last = await kv.status();
    t.equal(host.snapshot?.revision, String(last.streamInfo.state.last_seq));
  });

  t.test('two writers', async (t) => {
    const [one, other] = [await fresh(t, server), await server.bucket(t, BUCKET)];
    const { host } = await startNats(t, server);
    const revision = await one.put(key(1), entry({ arp: '10.0.0.1' }));
    await other.update(key(1), entry({ ip: '10.88.88.71', arp: '10.0.0.1' }), revision);
    await t.rejects(one.update(key(1), entry({ ip: '10.88.88.72' }), revision), /wrong last sequence/);
    await until('the writer that came first', () => host.destinationOf(mac(1)) === '10.88.88.71:4789');
    // An address moves from one MAC to another, and the new owner is written first.
    await other.put(key(2), entry({ arp: '10.0.0.1' }));
    await until(
      'the later entry to have the address',
      () => host.snapshot?.addresses.get('10.0.0.1') === mac(2),
    );
    await until('a note about it', () => host.noted?.includes('10.0.0.1 is in the entries of'));
    await one.put(key(1), entry({ ip: '10.88.88.71' }));
    await until('the note to end', () => host.noted === undefined);
    await one.put(key(1), entry({ ip: '10.88.88.71', arp: '10.0.0.1' }));
    await until('the address to be back', () => host.snapshot?.addresses.get('10.0.0.1') === mac(1));
    await one.delete(key(1));
    await until(
      'the other entry to have it again',
      () => host.snapshot?.addresses.get('10.0.0.1') === mac(2),
    );
  });

  t.test('a poisoned record harms itself alone', async (t) => {
    const kv = await fresh(t, server);
    await kv.put(key(1), entry());
    await kv.put(key(2), '{"ip": "10.88.88.70", "port": "secret-4789"}');
    await kv.put(key(3), entry({ ip: '10.88.88.71' }));
    await kv.put('mac.not-a-mac', entry());
    await kv.put('mac.ff-ff-ff-ff-ff-ff', entry());
    const { host } = await startNats(t, server);
    t.equal(host.destinationOf(mac(1)), '10.88.88.70:4789');
    t.equal(host.destinationOf(mac(2)), undefined);
    t.equal(host.destinationOf(mac(3)), '10.88.88.71:4789');
    t.match(host.noted, /^3 records of the bucket varpd-23 refused, the others are in force: mac\.02-00/);
    t.match(host.noted, /mac\.02-00-00-00-00-02: port .*found a string, expected a whole number/);
    t.notMatch([host.noted, ...host.lines].join(), /secret-4789/, 'nothing of a record is quoted');
    await kv.put(key(3), Buffer.from([0xff, 0x00, 0x7b]));
    await until('a known MAC with a bad record', () => host.noted?.startsWith('4 records'));
    t.equal(host.destinationOf(mac(3)), '10.88.88.71:4789', 'its earlier entry is in force');
    for (const one of [key(2), key(3)]) await kv.put(one, entry({ ip: '10.88.88.72' }));
    await kv.delete('mac.not-a-mac');
    await kv.delete('mac.ff-ff-ff-ff-ff-ff');
    await until('the note to end', () => host.noted === undefined);
    t.equal(host.destinationOf(mac(2)), '10.88.88.72:4789');
    t.equal(host.degraded, undefined, 'the overlay was never degraded');
  });

  t.test('what happens while the server is away', async (t) => {
    const kv = await fresh(t, server);
    for (let index = 1; index <= 5; index++) await kv.put(key(index), entry({ arp: `10.0.0.${index}` }));
    const stateDir = stateDirectory(t);
    const scene = await startNats(t, server, { stateDir });
    const { host } = scene;
    await server.stop();
    await until('the overlay to be degraded', () => host.degraded !== undefined);
    t.match(host.degraded, /NATS .*; the overlay works on what it knows of the bucket varpd-23/);
    t.equal(host.destinationOf(mac(5)), '10.88.88.70:4789');
    t.match(await ask(scene, mac(5)), { kind: 'target' });
    await server.start();
    await live(scene);
    t.equal(host.snapshots, 1, 'after a restart of the server, nothing is read again');
    // The same client comes back later than the changes.
    await scene.stop();
    const other = await server.bucket(t, BUCKET);
    await other.put(key(1), entry({ ip: '10.88.88.71' }));
    await other.delete(key(2));
    await other.put(key(6), entry({ ip: '10.88.88.76' }));
    const second = await startNats(t, server, { stateDir });
    await until('the changes', () => second.host.destinationOf(mac(6)) === '10.88.88.76:4789');
    t.equal(second.host.destinationOf(mac(1)), '10.88.88.71:4789');
    t.equal(second.host.destinationOf(mac(2)), undefined);
    const moved = second.host.changes.flatMap(({ targets = [] }) => targets.map((each) => each.mac));
    t.strictSame(moved.sort(), [mac(1), mac(6)], 'only the changes were read');
    await second.stop();

    // Deleted, and the last trace purged: longer away than the history.
    await other.delete(key(3));
    await purgeTrace(await server.client(t), BUCKET, key(3));
    await other.put(key(4), entry({ ip: '10.88.88.74' }));
    const third = await startNats(t, server, { stateDir });
    await until('the change', () => third.host.destinationOf(mac(4)) === '10.88.88.74:4789');
    await until('the MAC without a trace to go', () => third.host.destinationOf(mac(3)) === undefined);
    await live(third);
    t.equal(third.host.destinationOf(mac(6)), '10.88.88.76:4789');
    await third.stop();

    // Another bucket of the same name, with revisions that begin again.
    await other.destroy();
    const again = await server.bucket(t, BUCKET);
    await again.put(key(7), entry({ ip: '10.88.88.77' }));
    const fourth = await startNats(t, server, { stateDir });
    await until('the new bucket', () => fourth.host.destinationOf(mac(7)) === '10.88.88.77:4789');
    await until('the old one to be gone', () => fourth.host.snapshot?.targets.size === 1);
  });

  t.test('a running client that is cut off for longer than the history', async (t) => {
    const kv = await fresh(t, server);
    for (let index = 1; index <= 5; index++) await kv.put(key(index), entry({ arp: `10.0.0.${index}` }));
    const line = await Line.to(t, server.port);
    const scene = await startNats(t, line);
    const { host } = scene;
    line.cut();
    await until('the overlay to be degraded', () => host.degraded !== undefined);
    await kv.delete(key(2));
    await kv.delete(key(3));
    await purgeTrace(await server.client(t), BUCKET, key(3));
    await kv.put(key(4), entry({ ip: '10.88.88.74' }));
    t.equal(host.destinationOf(mac(3)), '10.88.88.70:4789', 'nothing is heard');
    line.mend();
    await until('a change', () => host.destinationOf(mac(4)) === '10.88.88.74:4789');
    await until('a deletion', () => host.destinationOf(mac(2)) === undefined);
    await until('the MAC without a trace to go', () => host.destinationOf(mac(3)) === undefined);
    await until('health', () => host.degraded === undefined);
    t.same([...(host.snapshot?.targets.keys() ?? [])].sort(), [mac(1), mac(4), mac(5)]);
    t.equal(host.snapshots, 1, 'by changes alone');
  });

  t.test('a bucket that is deleted and made again while it is watched', async (t) => {
    const kv = await fresh(t, server);
    await kv.put(key(1), entry());
    await kv.put(key(2), entry());
    const scene = await startNats(t, server);
    await kv.destroy();
    const again = await server.bucket(t, BUCKET);
    await again.put(key(3), entry());
    await until('the new bucket', () => scene.host.destinationOf(mac(3)) !== undefined);
    await until('nothing of the old one', () => scene.host.snapshot?.targets.size === 1);
    await live(scene);
  });

  t.test('without a server', async (t) => {
    const kv = await fresh(t, server);
    await kv.put(key(1), entry({ arp: '10.0.0.1' }));
    const stateDir = stateDirectory(t);
    const first = await startNats(t, server, { stateDir });
    await first.stop();
    await server.stop();
    await t.rejects(startNats(t, server), { code: 'EAGAIN', message: /does not answer/ }, 'no state on disk');
    const second = await startNats(t, server, { stateDir });
    t.equal(second.host.destinationOf(mac(1)), '10.88.88.70:4789', 'the state on disk is in force');
    t.strictSame(second.host.peers, ['10.88.88.70']);
    t.equal(second.host.snapshot?.addresses.get('10.0.0.1'), mac(1));
    t.match(second.host.degraded, /does not answer; the overlay works on what it knows/);
    await second.stop();

    const [name] = readdirSync(stateDir);
    const file = path.join(stateDir, name);
    const whole = readFileSync(file, 'utf8');
    const broken: [string, string][] = [
      ['cut off', whole.slice(0, -40)],
      ['changed', whole.replace('10.88.88.70', '10.88.88.79')],
      ['empty', ''],
      ['no file of ours', 'hello\n'],
    ];
    for (const [what, text] of broken) {
      writeFileSync(file, text);
      await t.rejects(startNats(t, server, { stateDir }), { code: 'EAGAIN' }, `a state file that is ${what}`);
    }
    writeFileSync(file, whole);
    await t.rejects(
      startNats(t, server, { stateDir, bucket: 'other' }),
      { code: 'EAGAIN' },
      'the state is of another bucket',
    );
    await server.start();
    writeFileSync(file, 'hello\n');
    const third = await startNats(t, server, { stateDir });
    t.equal(third.host.destinationOf(mac(1)), '10.88.88.70:4789');
    t.match(
      third.host.lines.join(),
      /warn the state of the bucket varpd-23 on disk is not used: its checksum/,
    );
  });

  t.test('no bucket', async (t) => {
    await (await fresh(t, server)).destroy();
    await t.rejects(startNats(t, server), {
      code: 'ENOENT',
      message: /does not exist: dladm import-mapping -p create=on/,
    });
  });

  t.test('protection and flooding', async (t) => {
    const kv = await fresh(t, server);
    await kv.put(key(1), entry({ arp: '10.0.0.1', ndp: 'fe80::1' }));
    const scene = await startNats(t, server, { protect: 'on', flood: 'on' });
    const { host, instance } = scene;
    await instance.ports!([mac(1), mac(2)]);
    await until('the rules', () => host.allowed?.length === 2);
    t.strictSame(host.allowed, [
      { mac: mac(1), ips: ['10.0.0.1', 'fe80::1'] },
      { mac: mac(2), ips: [] },
    ]);
    await kv.put(key(2), entry({ ip: '10.88.88.69', arp: '10.0.0.2' }));
    await until('the new rule', () => host.allowed?.[1].ips[0] === '10.0.0.2');
    t.strictSame(await instance.placeOf!(mac(2), host.signal), { ip: '10.88.88.69', port: 4789 });
    t.match(await ask(scene, 0x0100_5e00_00fb), {
      kind: 'flood',
      to: [
        { ip: '10.88.88.70', port: 4789 },
        { ip: '10.88.88.69', port: 4789 },
      ],
    });
  });

  t.test('100,000 keys', async (t) => {
    await fresh(t, server);
    const client = await server.client(t);
    const records = function* (): Generator<[string, string]> {
      for (let index = 1; index <= 100_000; index++)
        yield [
          key(index),
          entry({
            ip: `10.88.${index % 200}.1`,
            arp: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
          }),
        ];
    };
    await putAll(client, BUCKET, records());
    const scene = await startNats(t, server, {});
    const { host } = scene;
    const isAnswered = () =>
      ask(scene, mac(100_000))
        .then(({ kind }) => kind === 'target')
        .catch(() => false);
    await waitUntil(isAnswered, { what: 'an answer, before or after all is read' });
    await until('the snapshot', () => host.snapshot !== undefined);
    t.equal(host.snapshot?.targets.size, 100_000);
    t.equal(host.snapshot?.addresses.size, 100_000);
    await scene.stop();
  });
});
