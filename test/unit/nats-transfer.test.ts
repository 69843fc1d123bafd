// dladm import-mapping and export-mapping, against a real nats-server on the loopback address.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { dladm } from '../../src/cli/dladm.js';
import { NatsServer, skipWithoutNats } from '../helpers/nats-server.js';
import { entry, startNats } from '../helpers/nats-scene.js';

const MAPPING = {
  'de:ad:be:ef:00:00': {
    ip: '10.88.88.69',
    port: 4789,
    arp: '10.55.55.2',
    ndp: ['fe80::3', '2001:db8:0::3'],
  },
  'de:ad:be:ef:00:01': { ip: '10.88.88.70', port: 4789, arp: '10.55.55.3', 'dhcp-proxy': 'DE:AD:BE:EF:0:0' },
  'de:ad:be:ef:00:02': { port: 4789, ip: '10.88.88.71', owner: 'rack 7' },
};

async function run(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const status = await dladm(argv, {
    env: {},
    out: (text) => void (out += text),
    err: (text) => void (err += text),
  });
  return { status, out, err };
}

t.test('import-mapping and export-mapping', { skip: skipWithoutNats }, async (t) => {
  const server = await NatsServer.start(t);
  const url = `${server.url}/varpd-23`;
  const file = server.file('hosts.json', JSON.stringify(MAPPING));

  t.test('an import', async (t) => {
    const absent = await run('import-mapping', file, url);
    t.match(absent, {
      status: 4,
      out: '',
      err: /the bucket does not exist: dladm import-mapping -p create=on makes it/,
    });
    const dry = await run('import-mapping', '-n', '-p', 'create=on', file, url);
    t.match(dry, { status: 0, out: /\+3 -0 ~0 entries, 0 unchanged, 10 records would be written/ });
    t.match(await run('import-mapping', file, url), { status: 4 }, 'a dry run makes no bucket');
    const first = await run('import-mapping', '-p', 'create=on', file, url);
    t.match(first, { status: 0, err: '' });
    t.equal(
      first.out,
      '+ de:ad:be:ef:00:00 10.88.88.69:4789\n+ de:ad:be:ef:00:01 10.88.88.70:4789\n+ de:ad:be:ef:00:02 10.88.88.71:4789\n' +
        'bucket varpd-23: +3 -0 ~0 entries, 0 unchanged, 10 records written\n',
    );
    const kv = await server.bucket(t, 'varpd-23');
    const before = (await kv.status()).streamInfo.state.last_seq;
    t.equal(
      (await run('import-mapping', file, url)).out,
      'bucket varpd-23: +0 -0 ~0 entries, 3 unchanged, 0 records written\n',
    );
    t.equal((await kv.status()).streamInfo.state.last_seq, before, 'a repeated import writes nothing');
    t.equal((await kv.get('ip.2001-db8--3'))?.string(), '{"mac":"de:ad:be:ef:00:00"}');
    t.equal((await kv.get('vtep.10-88-88-71.4789'))?.string(), '{"ip":"10.88.88.71","port":4789}');
    for (const mode of ['snapshot', 'lookup'] as const) {
      const { instance, host, stop } = await startNats(t, server, { mode });
      t.equal(await instance.neighbor!('2001:db8::3' as never, host.signal), 0xdead_beef_0000, mode);
      t.equal(await instance.dhcpServer!(0xdead_beef_0001, host.signal), 0xdead_beef_0000);
      t.strictSame([...host.peers].sort(), ['10.88.88.69', '10.88.88.70', '10.88.88.71']);
      await stop();
    }
  });

  t.test('only what differs is written', async (t) => {
    const kv = await server.bucket(t, 'varpd-23');
    await kv.put('mac.de-ad-be-ef-00-09', '{"ip": 5}');
    await kv.put('other.key', 'of another program');
    // Written in another way, it is the same.
    await kv.put('mac.de-ad-be-ef-00-02', '{ "owner": "rack 7", "ip": "10.88.88.71", "port": 4789 }');
    const rest = { 'de:ad:be:ef:00:02': MAPPING['de:ad:be:ef:00:02'] };
    const moved = { ...MAPPING['de:ad:be:ef:00:01'], ip: '10.88.88.72', 'dhcp-proxy': 'de:ad:be:ef:00:02' };
    const next = server.file('next.json', JSON.stringify({ ...rest, 'de:ad:be:ef:00:01': moved }));
    const json = await run('import-mapping', '--json', next, url);
    t.equal(json.status, 0);
    t.match(JSON.parse(json.out), {
      v: 1,
      dryRun: false,
      added: 0,
      changed: 1,
      removed: 2,
      unchanged: 1,
      conflictCount: 0,
      differences: [
        { mac: 'de:ad:be:ef:00:00', before: '10.88.88.69:4789' },
        { mac: 'de:ad:be:ef:00:01', before: '10.88.88.70:4789', after: '10.88.88.72:4789' },
        { mac: 'de:ad:be:ef:00:09', before: 'an invalid record' },
      ],
    });
    t.equal((await kv.get('other.key'))?.string(), 'of another program');
    t.equal((await kv.get('ip.10-55-55-2'))?.operation, 'DEL');
    t.equal((await kv.get('vtep.10-88-88-69.4789'))?.operation, 'DEL');
    t.match(
      await run('import-mapping', file, url),
      { status: 0, out: /\+1 -0 ~1 entries, 1 unchanged/ },
      'and back',
    );
    t.match(await run('import-mapping', file, url), { status: 0, out: /3 unchanged, 0 records/ });
  });

  t.test('an export', async (t) => {
    const target = server.file('exported.json');
    t.match(await run('export-mapping', url, target), {
      status: 0,
      out: `${target}: 3 entries of the bucket varpd-23\n`,
    });
    const exported = JSON.parse(readFileSync(target, 'utf8')) as Record<string, unknown>;
    t.strictSame(exported, {
      ...MAPPING,
    });
    t.match(await run('check-mapping', target), { status: 0 });
    t.match(await run('import-mapping', target, url), { out: /3 unchanged, 0 records written/ });
    const printed = await run('export-mapping', url);
    t.equal(printed.out, readFileSync(target, 'utf8'));
    const kv = await server.bucket(t, 'varpd-23');
    await kv.put('mac.de-ad-be-ef-00-05', entry({ arp: '10.55.55.2', 'dhcp-proxy': '02:00:00:00:00:77' }));
    await kv.put('mac.de-ad-be-ef-00-06', '{"port": 1}');
    const bad = await run('export-mapping', url, target);
    t.match(bad, { status: 10, out: '' });
    t.match(bad.err, /mac\.de-ad-be-ef-00-06: ip at 1:1: found no member 'ip'|mac\.de-ad-be-ef-00-06: /);
    t.match(bad.err, /the address 10\.55\.55\.2 is also in the entry of de:ad:be:ef:00:00/);
    t.match(bad.err, /its dhcp-proxy 02:00:00:00:00:77 has no entry/);
    t.match(bad.err, /has 3 records that a mapping file cannot have; nothing was written/);
    t.equal(readFileSync(target, 'utf8'), printed.out, 'the file is as it was');
    for (const name of ['05', '06']) await kv.delete(`mac.de-ad-be-ef-00-${name}`);
  });

  t.test('a comma and a backslash in a value of -p, as create-overlay has them', async (t) => {
    const directory = server.file('a,b\\c');
    mkdirSync(directory);
    writeFileSync(`${directory}/password`, 'a secret', { mode: 0o600 });
    const escaped = `${directory}/absent`.replaceAll(/[\\,]/g, String.raw`\$&`);
    for (const argv of [
      ['import-mapping', '-p', `user=x,password=${escaped}`, file, url],
      ['export-mapping', '-p', `user=x,password=${escaped}`, url],
    ]) {
      const { status, err } = await run(...argv);
      t.equal(status, 4);
      t.match(err, `the file ${directory}/absent cannot be read: ENOENT`, 'the whole path, with both in it');
    }
    const present = `${directory}/password`.replaceAll(/[\\,]/g, String.raw`\$&`);
    t.match(await run('export-mapping', '-p', `user=x,password=${present}`, url), { status: 0 });
  });

  t.test('what is refused', async (t) => {
    const wrong = server.file('wrong.json', '{"de:ad:be:ef:00:00": {"ip": "10.0.0.1"}}');
    const refused: [string[], number, RegExp][] = [
      [['import-mapping', wrong, url], 10, /wrong\.json has 1 error/],
      [['import-mapping', '/nonexistent.json', url], 4, /is not there/],
      [['import-mapping', file, 'nats://127.0.0.1:1/varpd-23'], 7, /does not answer/],
      [['import-mapping', file, server.url], 7, /expected nats:\/\/HOST/],
      [['import-mapping', '-p', 'colour=red', file, url], 7, /unknown property colour/],
      [['import-mapping', '-p', 'create=on,replicas=9', file, url], 7, /replicas: expected/],
      [
        ['import-mapping', '-p', 'user=a,password=/nonexistent', file, url],
        4,
        /password: the file .* ENOENT/,
      ],
      [['import-mapping', '-p', 'colour', file, url], 7, /expected prop=value, got: colour/],
      [['import-mapping', '-p', 'user=a\\b', file, url], 7, /stray backslash in property list/],
      [['export-mapping', url, '/nonexistent/x.json'], 4, /ENOENT/],
    ];
    for (const [argv, status, err] of refused) {
      const result = await run(...argv);
      t.match(result, { status, err, out: '' }, argv.join(' '));
    }
  });
});

t.test('addresses of IPv6, of the server and of a VTEP', { skip: skipWithoutNats }, async (t) => {
  const server = await NatsServer.start(t, { address: '[::1]' });
  const url = `${server.url}/varpd-23`;
  const mapping = { 'de:ad:be:ef:00:01': { ip: '2001:db8::70', port: 4789, ndp: 'fe80::1' } };
  const file = server.file('hosts.json', JSON.stringify(mapping));
  t.match(await run('import-mapping', '-p', 'create=on', file, url), {
    status: 0,
    out: /^\+ de:ad:be:ef:00:01 +\[2001:db8::70\]:4789$/m,
  });
  t.match(await run('export-mapping', url), { status: 0, out: /"2001:db8::70"/ });
  await server.stop();
  const { status, err } = await run('export-mapping', url);
  t.match({ status, err }, { status: 7, err: `NATS at [::1]:${server.port} does not answer` });
});
