// Creations that may be repeated (--if-missing): by the registry, on the command line of dladm, and in the log.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { commandText } from '../../src/daemon/control/audit.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { type Answer, fakeDaemon, refuse, run, words } from '../helpers/fake-control.js';
import { asked, type Create, type Host, newHost, point, vnic } from '../helpers/registry-host.js';

type CreateVnic = ReturnType<typeof vnic>;

const CREATED = { isCreated: true };
const THERE = { isCreated: false };
const ifMissing = (more: Partial<Create> = {}): Create => point({ isIfMissing: true, ...more });
const vnicIfMissing = (more: Partial<CreateVnic> = {}): CreateVnic =>
  vnic('foo0', { isIfMissing: true, ...more });
const withProperty = (name: string, text: string): Partial<Create> => ({
  properties: [...point().properties, [name, text]],
});

/** Everything that a creation could have changed. */
const stateOf = ({ stateDir, datapath }: Host): unknown => [
  datapath.changes,
  readdirSync(stateDir).map((file) => [file, readFileSync(path.join(stateDir, file), 'utf8')]),
];

await t.test('an overlay', async (t) => {
  const host = await newHost(t);
  const { registry } = host;
  t.same(await registry.createOverlay(ifMissing(withProperty('mtu', '1400'))), CREATED);
  const before = stateOf(host);
  const same: Create[] = [
    ifMissing(withProperty('mtu', '1400')),
    ifMissing({ properties: [...ifMissing(withProperty('mtu', '1400')).properties].reverse() }),
    // What it has without being asked for may be asked for.
    ifMissing({ properties: [...point().properties, ['mtu', '1400'], ['vxlan/listen_port', '4789']] }),
    ifMissing({ properties: [...point().properties, ['mtu', '1400'], ['vnetid', '42']] }),
  ];
  for (const one of same) t.same(await registry.createOverlay(one), THERE);

  const others: [Partial<Create>, string[]][] = [
    [{}, ['mtu is 1400, and not 1450']],
    [withProperty('mtu', '1500'), ['mtu is 1400, and not 1500']],
    [
      { ...withProperty('mtu', '1400'), vnetid: 43, temporary: true },
      ['it is persistent, and not temporary', 'vnetid is 42, and not 43'],
    ],
    [
      {
        properties: [
          ['vxlan/listen_ip', '10.0.0.1'],
          ['vxlan/accept', 'any'],
          ['mtu', '1400'],
          ['direct/dest_ip', '10.0.0.3'],
          ['direct/dest_port', '4789'],
        ],
      },
      ['vxlan/accept is known, and not any', 'direct/dest_ip is 10.0.0.2, and not 10.0.0.3'],
    ],
    [{ search: 'test', properties: asked().properties }, ['search is direct, and not test']],
    [
      { encap: 'geneve', properties: [['geneve/listen_ip', '10.0.0.1'], ...point().properties.slice(1)] },
      ['encap is vxlan, and not geneve'],
    ],
  ];
  for (const [more, details] of others)
    await t.rejects(
      registry.createOverlay(ifMissing(more)),
      { code: 'EXISTS', message: 'overlay0 exists with other settings', details },
      details.join(),
    );
  await t.rejects(registry.createOverlay(ifMissing(withProperty('mtu', 'x'))), { code: 'INVALID' });
  await t.rejects(registry.createOverlay(ifMissing({ search: 'nothing' })), { code: 'NOT_FOUND' });
  await t.rejects(registry.createOverlay(point(withProperty('mtu', '1400'))), { code: 'EXISTS' });
  t.same(stateOf(host), before, 'nothing was changed by any of it');

  await registry.createVnic(vnic('foo0'));
  await t.rejects(
    registry.createOverlay(ifMissing({ name: 'foo0' })),
    { code: 'EXISTS', message: /an overlay or a VNIC foo0 already/ },
    'the name of a VNIC',
  );
  host.links.add('eth0');
  await t.rejects(registry.createOverlay(ifMissing({ name: 'eth0' })), { code: 'EXISTS' });
});

await t.test('an overlay that is temporary, or stored and does not run', async (t) => {
  const { registry } = await newHost(t);
  const temporary = ifMissing({ temporary: true });
  t.same(await registry.createOverlay(temporary), CREATED);
  t.same(await registry.createOverlay(temporary), THERE);
  await t.rejects(registry.createOverlay(ifMissing()), {
    code: 'EXISTS',
    details: ['it is temporary, and not persistent'],
  });
  const stored = asked({ name: 'stored0', vnetid: 7, isIfMissing: true });
  await registry.createOverlay(stored);
  await registry.deleteOverlay({ name: 'stored0', temporary: true });
  t.same(await registry.createOverlay(stored), THERE);
  await t.rejects(registry.createOverlay({ ...stored, vnetid: 8 }), {
    code: 'EXISTS',
    details: ['vnetid is 7, and not 8'],
  });
});

await t.test('twenty at once: one is created', async (t) => {
  const { registry } = await newHost(t);
  const made = await Promise.all(Array.from({ length: 20 }, () => registry.createOverlay(ifMissing())));
  t.equal(made.filter(({ isCreated }) => isCreated).length, 1);
});

await t.test('a VNIC', async (t) => {
  const host = await newHost(t);
  const { registry } = host;
  await registry.createOverlay(point());
  await registry.createOverlay(point({ name: 'other0', vnetid: 43 }));
  const mac = '02:00:00:00:00:01';
  const properties: CreateVnic['properties'] = [
    ['protection', ['ip-nospoof', 'mac-nospoof']],
    ['allowed-ips', ['10.0.0.5', '10.0.0.6']],
  ];
  const wanted = vnicIfMissing({ mac, vid: 7, properties });
  t.same(await registry.createVnic(wanted), CREATED);
  const before = stateOf(host);
  t.same(await registry.createVnic(wanted), THERE);
  t.same(await registry.createVnic({ ...wanted, mac: '2:0:0:0:0:1' }), THERE, 'in another spelling');
  t.same(await registry.createVnic(vnicIfMissing({ vid: 7, properties })), THERE, 'any MAC');
  const reversed = properties.map(([name, list]): [string, string[]] => [name, [...list].reverse()]);
  t.same(await registry.createVnic({ ...wanted, properties: reversed }), THERE, 'a list has no order');
  const others: [Partial<CreateVnic>, string][] = [
    [{ over: 'other0' }, 'over is overlay0, and not other0'],
    [{ mac: '02:00:00:00:00:02' }, `mac is ${mac}, and not 02:00:00:00:00:02`],
    [{ vid: 0 }, 'vid is 7, and not 0'],
    [{ temporary: true }, 'it is persistent, and not temporary'],
    [{ properties: [properties[0]] }, 'allowed-ips is 10.0.0.5,10.0.0.6, and not unset'],
    [
      { properties: [['protection', ['restricted']], properties[1]] },
      'protection is ip-nospoof,mac-nospoof, and not restricted',
    ],
  ];
  for (const [more, line] of others)
    await t.rejects(registry.createVnic({ ...wanted, ...more }), { code: 'EXISTS', details: [line] }, line);
  await t.rejects(registry.createVnic({ ...wanted, mac: 'x' }), { code: 'INVALID' });
  await t.rejects(registry.createVnic(vnicIfMissing({ ...wanted, name: 'other0' })), { code: 'EXISTS' });
  t.same(stateOf(host), before, 'nothing was changed by any of it');

  await registry.linkProperties.set({
    name: 'foo0',
    temporary: false,
    properties: [['protection', ['restricted']]],
  });
  await t.rejects(registry.createVnic(wanted), {
    code: 'EXISTS',
    details: ['protection is restricted, and not ip-nospoof,mac-nospoof'],
  });
  await registry.deleteVnic({ name: 'foo0', temporary: true });
  await t.rejects(registry.createVnic(wanted), { code: 'EXISTS' }, 'that of a stored one');
  t.same(
    await registry.createVnic({ ...wanted, properties: [['protection', ['restricted']], properties[1]] }),
    THERE,
  );
});

const OVERLAY = 'create-overlay --if-missing -e vxlan -s direct -v 23 o0';
const VNIC = 'create-vnic --if-missing -l o0 foo0';

await t.test('dladm', async (t) => {
  const offline = { name: 'o0', health: { status: 'OFFLINE', details: 'no address' } };
  const answers = (isCreated: boolean): Record<string, Answer> => ({
    'overlay.create': () => ({ isCreated }),
    'vnic.create': () => ({ isCreated }),
    'overlay.list': () => ({ overlays: [offline], missing: [], next: null }),
    'vnic.list': () => ({ vnics: [{ name: 'foo0', state: 'OFFLINE: gone' }], missing: [], next: null }),
  });
  const created = await fakeDaemon(answers(true));
  const there = await fakeDaemon(answers(false));
  const older = await fakeDaemon();
  for (const [line, name, why] of [
    [OVERLAY, 'o0', 'no address'],
    [VNIC, 'foo0', 'gone'],
  ] as const) {
    t.same(await run(created.socket, ...words(line)), { status: 0, out: '', err: '' });
    const warned = { status: 0, out: '', err: `dladm: ${name} is OFFLINE: ${why}\n` };
    t.same(await run(there.socket, ...words(line)), warned);
    const jsonOf = async (socket: string): Promise<unknown> =>
      JSON.parse((await run(socket, ...words(line), '--json')).out);
    t.same(await jsonOf(created.socket), { v: 1, name, created: true });
    t.same(await jsonOf(there.socket), { v: 1, name, created: false });
    t.same(await jsonOf(older.socket), { v: 1, name, created: true });
  }
  t.match(created.requests[0], { method: 'overlay.create', params: { isIfMissing: true } });
  t.notOk('isIfMissing' in (await askedFor('create-overlay -e vxlan -s direct -v 23 o0')));
  const { socket } = await fakeDaemon({
    'overlay.create': refuse('EXISTS', 'object already exists', 'o0 exists with other settings', [
      'mtu is 1400, and not 1500',
    ]),
  });
  t.same(await run(socket, ...words(OVERLAY)), {
    status: EXIT.EXISTS,
    out: '',
    err:
      'dladm: mtu is 1400, and not 1500\ndladm: o0 exists with other settings\n' +
      'dladm: overlay creation failed: object already exists\n',
  });

  async function askedFor(line: string): Promise<Record<string, unknown>> {
    const { socket, requests } = await fakeDaemon();
    await run(socket, ...words(line));
    return requests[0].params;
  }
});

await t.test('the log has the command as it was typed', (t) => {
  t.match(commandText('overlay.create', ifMissing()), /^create-overlay --if-missing -e vxlan /);
  t.equal(commandText('vnic.create', vnicIfMissing()), 'create-vnic --if-missing -l overlay0 foo0');
  t.end();
});
