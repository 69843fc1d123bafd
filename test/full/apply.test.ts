// dladm export and apply: idempotent, under traffic, from a playbook, and with dladm or varpd killed in the middle.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';

import type { DeclaredOverlay } from '../../src/control/declared-messages.js';
import { Daemon, directOverlay, DLADM_MAIN } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { newHosts } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { waitUntil } from '../helpers/process.js';
import { startOverlay } from '../helpers/tunnels.js';
import { SteadyPing } from '../helpers/zlan.js';

const skip = skipUnlessNetns();

interface Document {
  version: number;
  overlays: (Omit<DeclaredOverlay, 'properties' | 'vnics'> & {
    properties: Record<string, string>;
    vnics: { name: string; mac?: string; vid?: number; properties?: Record<string, string[]> }[];
  })[];
}

async function site(t: Test) {
  const { bed, a, b } = await newHosts(t);
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }));
  await daemon.ok('create-vnic -l overlay0 -p protection=mac-nospoof net0');
  const file = path.join(daemon.directory, 'overlays.yaml');
  const exported = async (): Promise<Document> =>
    JSON.parse((await daemon.dladm('export', '--json')).stdout) as Document;
  const write = (document: Document): void => {
    writeFileSync(file, JSON.stringify(document));
  };
  return { bed, a, b, daemon, file, exported, write };
}

await t.test('another MAC and VLAN of a VNIC that runs', { skip }, async (t) => {
  const { bed, a, b, daemon, file, exported, write } = await site(t);
  const other = await startOverlay(t, bed, b, a);
  await a.plumb('net0');
  await b.plumb('overlay0');
  await a.ipBatch('addr add 10.78.0.1/24 dev overlay0', 'link set overlay0 up');
  await other.ok('create-vnic -l overlay0 -v 7 tagged0');
  await b.ipBatch(
    'addr add 10.78.0.2/24 dev overlay0',
    'addr add 10.79.0.2/24 dev tagged0',
    'link set tagged0 up',
  );
  t.ok(await reaches(a, b.overlay.v4));
  await a.ip('addr add 10.79.0.1/24 dev net0');
  const link = async (): Promise<{ ifindex: number; address: string; mtu: number }> =>
    (JSON.parse(await a.ip('-j link show net0')) as [{ ifindex: number; address: string; mtu: number }])[0];
  const before = await link();
  const flow = await SteadyPing.start(a, '10.78.0.2');
  const document = await exported();
  const [vnic] = document.overlays[0].vnics;

  vnic.mac = '02:00:00:00:00:07';
  write(document);
  t.match(await daemon.dladm('apply', '-f', file), {
    code: 0,
    stdout: `~ net0 mac ${before.address} -> 02:00:00:00:00:07\n`,
  });
  t.match(await link(), { ...before, address: '02:00:00:00:00:07' }, 'the same interface');
  await b.ip('neigh flush dev overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'its addresses are there, and its own MAC passes its protection');
  t.match(await daemon.vnics(), [
    { mac: '02:00:00:00:00:07', configuredMac: '02:00:00:00:00:07', state: 'up' },
  ]);

  vnic.vid = 7;
  write(document);
  t.match(await daemon.dladm('apply', '-f', file), { code: 0, stdout: '~ net0 vid 0 -> 7\n' });
  t.ok(await reaches(a, '10.79.0.2'), 'in VLAN 7');
  t.equal((await ping(a, b.overlay.v4, { from: 'net0', waitMs: 200 })).received, 0, 'and not outside of it');
  t.ok((await link()).mtu <= before.mtu, 'its frames get a tag');
  await daemon.ok('restart');
  t.ok(await reaches(a, '10.79.0.2'), 'a restart keeps it');
  t.match(await daemon.dladm('apply', '-f', file, '--exit-code'), { code: 0, stdout: '' });

  const elsewhere = await bed.host();
  await a.ip(`link set net0 netns ${elsewhere.name}`);
  vnic.mac = '02:00:00:00:00:08';
  write(document);
  const refused = await daemon.dladm('apply', '-f', file);
  t.match(refused, { code: 7, stderr: /net0: its interface is not in the network namespace of varpd/ });
  const { lost, sent } = await flow.stop();
  t.equal(lost, 0, `the other port has lost none of ${sent}`);
});

await t.test('export and apply', { skip }, async (t) => {
  const { bed, a, b, daemon, file, exported, write } = await site(t);
  await startOverlay(t, bed, b, a);
  await a.plumb('overlay0');
  await b.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  t.match(
    await daemon.dladm('export', 'overlay0', 'none0'),
    { code: 4, stdout: '', stderr: /none0/ },
    'a document that lacks one of the named overlays is not written',
  );
  const yaml = await daemon.dladm('export');
  t.equal(yaml.code, 0);
  writeFileSync(file, yaml.stdout);
  for (const more of [[], ['--dry-run'], ['--prune']])
    t.match(await daemon.dladm('apply', '-f', file, '--exit-code', ...more), {
      code: 0,
      stdout: '',
      stderr: '',
    });

  const flow = await SteadyPing.start(a, b.overlay.v4);
  const document = await exported();
  const [overlay] = document.overlays;
  overlay.properties['vxlan/dscp'] = 'copy';
  overlay.vnics = [{ name: 'other0', vid: 7 }];
  document.overlays.push({
    ...overlay,
    name: 'second0',
    vnetid: 43,
    vnics: [{ name: 'third0', properties: { protection: ['restricted'] } }],
  });
  write(document);
  const lines = '~ overlay0 vxlan/dscp -- -> copy\n+ other0\n- net0\n+ second0\n+ third0\n';
  const before = JSON.stringify(await exported());
  const tried = await daemon.dladm('apply', '-f', file, '--dry-run', '--prune', '--exit-code');
  t.match(tried, { code: 10, stdout: lines, stderr: '' });
  t.equal(JSON.stringify(await exported()), before, 'a dry run changes nothing');
  t.match(await daemon.dladm('apply', '-f', file, '--prune', '--exit-code'), {
    code: 10,
    stdout: lines,
    stderr: '',
  });
  t.match(await daemon.dladm('apply', '-f', file, '--prune', '--exit-code'), {
    code: 0,
    stdout: '',
    stderr: '',
  });
  t.same(
    (await daemon.vnics()).map(({ name, state }) => [name, state]),
    [
      ['other0', 'up'],
      ['third0', 'up'],
    ],
  );
  t.notOk(await a.hasDevice('net0'));

  document.overlays[0].properties['vxlan/dscp'] = 'zero';
  document.overlays[1].properties['mtu'] = '7';
  document.overlays[1].vnics[0].vid = 9;
  write(document);
  const refused = await daemon.dladm('apply', '-f', file);
  t.equal(refused.code, 7);
  t.match(refused.stderr, `${file}:1:`, 'the place of the overlay');
  t.match(refused.stderr, /found '7', expected a whole number from 576 to 8900/);
  t.match(refused.stderr, /nothing is changed/);
  t.equal((await exported()).overlays[0].properties['vxlan/dscp'], 'copy', 'the other overlay neither');
  t.match(await daemon.dladm('apply', '-f', path.join(daemon.directory, 'none')), {
    code: 4,
    stderr: /cannot read/,
  });
  t.match(await daemon.dladm('apply'), { code: 2 });

  const now = await exported();
  const [first, second] = now.overlays;
  write({ ...now, overlays: [first, { ...second, name: 'third0', vnics: [{ name: 'second0' }] }] });
  for (const args of [['--dry-run'], []])
    t.match(await daemon.dladm('apply', '-f', file, ...args), {
      code: 5,
      stdout: '',
      stderr: /in use|already/,
    });
  for (const args of [['--dry-run'], []])
    t.match(
      await daemon.dladm('apply', '-f', file, '--prune', ...args),
      { code: 0, stdout: '- third0\n- second0\n+ third0\n+ second0\n' },
      'names and a network that are free by then',
    );
  write(now);
  await daemon.ok(`apply --prune -f ${file}`);
  writeFileSync(file, 'version: 1\noverlays: []\n');
  t.match(await daemon.dladm('apply', '-f', file), { code: 0, stdout: '' }, 'without --prune all stays');
  const { lost } = await flow.stop();
  t.equal(lost, 0, 'a flow has not felt any of it');
  const { overlays } = await exported();
  const attachment = 'test:4711';
  await daemon.call('vnic.create', { name: 'c0', over: 'overlay0', temporary: false, attachment });
  t.match(
    await daemon.dladm('apply', '-f', file, '--prune'),
    { code: 7, stdout: '', stderr: /overlay0 has VNICs .*: c0 \(test:4711\); delete them first/ },
    'a VNIC of another program',
  );
  t.same((await exported()).overlays, overlays, 'no overlay is deleted');
  t.ok(await a.hasDevice('c0'));
  await daemon.ok('delete-vnic c0');
  t.match(await daemon.dladm('apply', '-f', file, '--prune'), {
    code: 0,
    stdout: /^- other0\n- overlay0\n- third0\n- second0\n$/,
  });
  t.same((await exported()).overlays, []);
  for (const name of ['overlay0', 'other0', 'second0', 'third0']) t.notOk(await a.hasDevice(name), name);
});

/** Applications that the log has a line about. */
const linesOf = (daemon: Daemon): number => daemon.log().split(': apply ').length - 1;

await t.test('killed in the middle', { skip }, async (t) => {
  const { a, daemon, file, exported, write } = await site(t);
  const old = await exported();
  const other = structuredClone(old);
  const [overlay] = other.overlays;
  overlay.properties['mtu'] = '1300';
  overlay.properties['vxlan/source_ports'] = '3';
  overlay.vnics = [{ name: 'net1' }, { name: 'net2' }, { name: 'net3' }];
  other.overlays.push({
    ...structuredClone(overlay),
    name: 'second0',
    vnetid: 43,
    vnics: [{ name: 'net4' }],
  });
  /** Without the MACs, which are random. */
  const shape = ({ overlays }: Document): string[] =>
    overlays.map(({ name, properties, vnics }) =>
      JSON.stringify([name, Object.entries(properties).sort(), vnics.map((vnic) => vnic.name)]),
    );
  const [oldFirst] = shape(old);
  const [newFirst, newSecond] = shape(other);
  const seen = new Set<string>();
  for (const victim of ['dladm', 'varpd'] as const)
    for (let round = 0; round < 6; round++) {
      write(other);
      const before = linesOf(daemon);
      const child = a.spawn([
        process.execPath,
        DLADM_MAIN,
        '--socket',
        daemon.socket,
        'apply',
        '--prune',
        '-f',
        file,
      ]);
      // At another moment in each round: when the dry run is over, when one overlay is applied, when both are; and a little later.
      const isBegun = (): boolean => linesOf(daemon) >= before + 2 + (round % 3);
      await waitUntil(() => isBegun() || child.ended, { stepMs: 1, what: 'varpd to be asked' });
      await sleep(round < 3 ? 0 : 8);
      if (victim === 'dladm') child.signal('SIGKILL');
      else {
        daemon.signal('SIGKILL');
        await daemon.ended();
        await daemon.start();
      }
      await child.exited;
      // A varpd that has lost its asker completes the change that is under way.
      let now: string[] = [];
      const isAtRest = async (): Promise<boolean> => {
        now = shape(await exported());
        const wanted = new Set(
          now.flatMap((text) => {
            const [name, , vnics] = JSON.parse(text) as [string, unknown, string[]];
            return [name, ...vnics];
          }),
        );
        const names = ['overlay0', 'second0', 'net0', 'net1', 'net2', 'net3', 'net4'];
        const there = await Promise.all(names.map((name) => a.hasDevice(name)));
        return names.every((name, index) => there[index] === wanted.has(name));
      };
      await waitUntil(isAtRest, {
        what: `the devices of what is stored, and no others (${victim} ${round})`,
      });
      const first = now.find((text) => text.startsWith('["overlay0"'));
      const second = now.find((text) => text.startsWith('["second0"'));
      t.ok(first === oldFirst || first === newFirst, `${victim} ${round}: overlay0 is old or new`, { first });
      t.ok(second === undefined || second === newSecond, `${victim} ${round}: second0 is not there, or new`, {
        second,
      });
      seen.add(`${first === oldFirst ? 'old' : 'new'} ${second === undefined ? 'old' : 'new'}`);
      for (const { health } of (await daemon.call('overlay.list', {})).overlays)
        t.equal(health.status, 'ONLINE');
      write(old);
      await daemon.ok(`apply --prune -f ${file}`);
      t.same(shape(await exported()), [oldFirst]);
    }
  t.ok(seen.size > 1, 'killed before the change, and after it or within');
  t.comment(`states found: ${[...seen].join(', ')}`);
});

await t.test('a playbook', { skip: skipUnlessNetns(['ansible-playbook']) }, async (t) => {
  const { a, daemon, exported } = await site(t);
  const text = readFileSync(new URL('../../../docs/declare.md', import.meta.url), 'utf8');
  const playbook = /```yaml\n(- hosts:[^]*?)```/.exec(text)?.[1];
  if (playbook === undefined) throw new Error('docs/declare.md has no playbook');
  const file = path.join(daemon.directory, 'playbook.yaml');
  const [overlays, dladm] = ['overlays.yaml', 'dladm'].map((name) => path.join(daemon.directory, name));
  writeFileSync(dladm, `#!/bin/sh\nexec ${process.execPath} ${DLADM_MAIN} --socket ${daemon.socket} "$@"\n`, {
    mode: 0o755,
  });
  writeFileSync(
    file,
    playbook.replaceAll('/etc/varpd/overlays.yaml', overlays).replaceAll('10.88.88.69', a.underlay.v4),
  );
  const play = async (): Promise<string> => {
    const env = [
      `PATH=${daemon.directory}:${process.env['PATH'] ?? ''}`,
      `HOME=${daemon.directory}`,
      'ANSIBLE_NOCOLOR=1',
      'LC_ALL=C.UTF-8',
    ];
    const result = await a.run(['env', ...env, 'ansible-playbook', '-i', 'localhost,', '-c', 'local', file], {
      timeoutMs: 300_000,
    });
    t.equal(result.code, 0, result.stdout + result.stderr);
    return result.stdout;
  };
  t.match(await play(), /changed=[1-9]\d* .*failed=0/);
  const after = JSON.stringify(await exported());
  t.ok((await exported()).overlays.some(({ vnics }) => vnics.length > 0));
  t.match(await play(), /changed=0 .*failed=0/, 'the second time nothing is changed');
  t.equal(JSON.stringify(await exported()), after);
});
