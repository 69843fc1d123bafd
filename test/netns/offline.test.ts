// What is stored and does not run is seen everywhere, with its reason, and can be deleted.
import { writeFileSync } from 'node:fs';
import path from 'node:path';

import t from 'tap';

import type { DaemonStatus } from '../../src/control/daemon-messages.js';
import type { LinkPropertyRow, OverlayInfo, VnicInfo } from '../../src/control/messages.js';
import { giveToDaemon } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { get, parseMetrics, valueOf } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed } from '../helpers/netns.js';

t.test('what is stored and cannot be started', { skip: skipUnlessNetns() }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const places = bed.directory();
  giveToDaemon(places);
  const metrics = path.join(places, 'metrics.sock');
  const daemon = (await Daemon.start(bed, a, { config: { metrics }, withoutRoot: true })).explain(t);
  const mapping = path.join(bed.directory(), 'hosts.json');
  writeFileSync(mapping, '{}');
  const second = '10.88.88.169';
  await a.ip(`addr add ${second}/32 dev under0`);
  const direct = (name: string, vnetid: number, from: string = a.underlay.v4): string =>
    directOverlay({ from, to: b.underlay.v4, name, vnetid });
  await daemon.ok(
    `create-overlay -e vxlan -s files -v 1 -p vxlan/listen_ip=${a.underlay.v4},files/config=${mapping} files0`,
  );
  await daemon.ok('create-vnic -l files0 -m 2:0:0:0:0:f1 -p protection=restricted far0');
  await daemon.ok(direct('works0', 2));
  await daemon.ok('create-vnic -l works0 -m 2:0:0:0:0:a1 -p allowed-ips=10.55.55.2 taken0');
  await daemon.ok('create-vnic -l works0 good0');
  await daemon.ok(direct('moved0', 3, second));
  await daemon.ok(direct('broken0', 4));
  await daemon.ok('create-vnic -l broken0 lost0');
  await daemon.stop();

  writeFileSync(mapping, '{ half a file');
  await a.ip('tuntap add dev taken0 mode tap');
  await a.ip(`addr del ${second}/32 dev under0`);
  writeFileSync(path.join(daemon.stateDir, 'broken0.json'), '{');
  await daemon.start();

  const reasons: Record<string, RegExp> = {
    files0: /hosts\.json:1:3/,
    moved0: /10\.88\.88\.169 is not an address of this host/,
    broken0: /^broken0\.json: .*; set aside as broken0\.bad-1: mend it and rename it/,
  };

  await t.test('show-overlay -f: a row each, in the order of creation', async (t) => {
    const rows = (await daemon.ok('show-overlay -f -p -o link,status,details')).trimEnd().split('\n');
    const cells = rows.map((row) => row.split(/(?<!\\):/).map((cell) => cell.replace(/\\(.)/g, '$1')));
    t.same(
      cells.map(([name, status]) => `${name} ${status}`),
      ['files0 OFFLINE', 'works0 ONLINE', 'moved0 OFFLINE', 'broken0 OFFLINE'],
    );
    for (const [name, reason] of Object.entries(reasons))
      t.match(cells.find(([link]) => link === name)?.[2], reason, name);
    t.match(await daemon.ok('show-overlay -f'), /^LINK +STATUS +DETAILS\nfiles0 +OFFLINE {2}\S/);
  });

  await t.test('status: on one screen, trouble first, and the exit status is 0', async (t) => {
    const screen = await daemon.ok('status');
    const { pid } = daemon;
    t.match(
      screen,
      new RegExp(`^varpd \\d\\S*: process ${pid}, user \\w+, up \\d+ s,\\s${daemon.configFile}\\n`),
    );
    const names = [...screen.matchAll(/^(\w+0) .* (OFFLINE|ONLINE)$/gm)].map(([, name]) => name);
    t.same(names, ['files0', 'moved0', 'broken0', 'works0']);
    t.match(
      screen,
      /^works0 +vxlan +2 +direct +10\.88\.88\.69:4789 +1 +2\/3 +ONLINE\n {4}taken0 is OFFLINE: /m,
    );
    const { varpd, overlays } = JSON.parse(await daemon.ok('status --json')) as {
      varpd: DaemonStatus;
      overlays: Record<string, unknown>[];
    };
    t.match(varpd, { pid, configuration: daemon.configFile, isSettled: true });
    t.ok(varpd.uptimeSeconds < 60);
    t.match(overlays[0], {
      name: 'files0',
      plugin: 'files',
      vnetid: 1,
      peers: null,
      ports: 2,
      portsRunning: 0,
    });
    t.match(overlays[2], {
      name: 'broken0',
      encap: null,
      listen: null,
      state: 'OFFLINE',
      reason: reasons['broken0'],
    });
    t.match(overlays[3], { name: 'works0', peers: 1, ports: 3, portsRunning: 2 });
  });

  await t.test('show-overlay: the properties that are stored; -t: why there are none', async (t) => {
    for (const name of ['files0', 'moved0']) {
      const { code, stdout, stderr } = await daemon.dladm('show-overlay', '-p', '-o', 'property,value', name);
      t.equal(code, 0, name);
      t.match(stdout, /^vxlan\/listen_ip:10\.88\.88\.\d+$/m);
      t.match(stderr, new RegExp(`^dladm: ${name} is OFFLINE: .`));
    }
    const table = await daemon.dladm('show-overlay', '-t', 'works0', 'files0');
    t.equal(table.code, 7);
    t.match(table.stdout, /^works0 /m);
    t.match(table.stderr, /^dladm: files0 is OFFLINE: .*hosts\.json/);
    const none = await daemon.dladm('show-overlay', '-f', 'none0');
    t.same([none.code, none.stdout], [4, ''], 'one that there is not is missing');
    t.match(none.stderr, /failed to find none0: object not found/);
  });

  await t.test('--json', async (t) => {
    const overlays = JSON.parse(await daemon.ok('show-overlay --json')) as OverlayInfo[];
    t.match(overlays, [
      { name: 'files0', mode: 'dynamic', health: { status: 'OFFLINE' }, underlay: null, counters: {} },
      { name: 'works0', health: { status: 'ONLINE' }, underlay: { state: 'up' } },
      { name: 'moved0', mode: 'point', health: { status: 'OFFLINE' } },
      { name: 'broken0', mode: null, health: { status: 'OFFLINE' }, properties: [] },
    ]);
    const vnics = JSON.parse(await daemon.ok('show-vnic --json')) as VnicInfo[];
    t.match(vnics, [
      { name: 'far0', over: 'files0', mac: '02:00:00:00:00:f1', state: /^OFFLINE: files0 is OFFLINE: / },
      {
        name: 'taken0',
        over: 'works0',
        mac: '02:00:00:00:00:a1',
        mtuBytes: null,
        state: /^OFFLINE: there is a network interface taken0 that is not varpd's$/,
      },
      { name: 'good0', over: 'works0', state: 'up' },
    ]);
  });

  await t.test('show-vnic, show-linkprop', async (t) => {
    const table = await daemon.ok('show-vnic');
    t.match(table, /^LINK .* VID +STATE\n/);
    t.match(table, /^taken0 +works0 .* OFFLINE: there is a network interface taken0/m);
    t.match(table, /^good0 .* up$/m);
    t.notMatch(await daemon.ok('show-vnic good0'), /STATE/);
    t.match(await daemon.ok('show-vnic -l files0'), /^far0 /m);
    const rows = JSON.parse(await daemon.ok('show-linkprop --json taken0')) as LinkPropertyRow[];
    t.match(
      rows.find(({ property }) => property === 'allowed-ips'),
      { value: ['10.55.55.2'], effective: [] },
      'what is stored; nothing is in force',
    );
    const linkprop = await daemon.ok('show-linkprop -c -o link,value -p protection');
    t.equal(linkprop, 'far0:restricted\ntaken0:--\ngood0:--\n');
  });

  await t.test('metrics', async (t) => {
    const samples = parseMetrics((await get(metrics)).body);
    for (const [name, state, count] of [
      ['overlays', 'running', 1],
      ['overlays', 'offline', 3],
      ['overlays', 'stopped', 3],
      ['vnics', 'running', 1],
      ['vnics', 'offline', 2],
    ] as const)
      t.equal(valueOf(samples, `varpd_${name}`, { state }), count, `${name} ${state}`);
  });

  await t.test('what is asked of it is refused with the reason', async (t) => {
    for (const line of ['create-vnic -l files0 new0', 'modify-overlay -f files0']) {
      const { code, stderr } = await daemon.dladm(...line.split(' '));
      t.equal(code, 7, line);
      t.match(stderr, /^dladm: files0 is OFFLINE: .*hosts\.json/m);
    }
    const { stderr } = await daemon.dladm('delete-overlay', 'broken0');
    t.match(stderr, /set aside as broken0\.bad-1: .*, or remove it/);
  });

  await t.test('it can be deleted', async (t) => {
    for (const line of [
      'delete-vnic taken0',
      'delete-vnic far0',
      'delete-overlay files0',
      'delete-overlay moved0',
    ])
      await daemon.ok(line);
    t.match(await daemon.ok('show-overlay -f -p -o link'), /^works0\nbroken0\n$/);
    t.equal(await daemon.ok('show-vnic -p -o link'), 'good0\n');
    t.match(await a.ip('-br link show dev taken0'), /taken0/, 'the link of another stays');
    await daemon.ok(direct('broken0', 4));
    t.match(
      await daemon.ok('show-overlay -f -p -o link,status'),
      /^works0:ONLINE\nbroken0:ONLINE\n$/,
      'one of the name of a file that was set aside takes its row',
    );
  });
});
