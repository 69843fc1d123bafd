// State that a later varpd has written, and this one does not know all of: an encapsulation, a property, a plugin. It is shown
// as OFFLINE with its reason, or goes on from what is known of it; nothing of it is lost, and a varpd that knows it brings it up.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import type { OverlayInfo, VnicInfo } from '../../src/control/messages.js';
import { giveToDaemon } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { get, parseMetrics, valueOf } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import type { Bed, Namespace } from '../helpers/netns.js';
import { newHosts } from '../helpers/site.js';
import { reaches } from '../helpers/traffic.js';
import { usual } from '../helpers/whole.js';

/** As the later version has written it. */
interface StateFile {
  encap: string;
  search: string;
  properties: [string, string][];
}

/** An overlay that is there at first, and what the later version makes of it. */
interface Later {
  readonly name: string;
  readonly change: (file: StateFile) => void;
  readonly reason: RegExp;
  /** Rows of `show-overlay -p -o property,value` that tell what is stored. */
  readonly shows: readonly string[];
  /** Goes on while its links are there: what it has known is enough (docs/restart.md). */
  readonly goesOn?: true;
}

const LATERS: readonly Later[] = [
  {
    name: 'encap0',
    change: (file) => {
      file.encap = 'gre';
      file.properties = file.properties.map(([name, value]) => [name.replace(/^geneve\//, 'gre/'), value]);
      file.properties.push(['gre/key_bits', '32']);
    },
    reason: /no encapsulation plugin: found 'gre', expected one of vxlan, geneve/,
    shows: ['encap:gre', 'search:direct', 'gre/listen_ip:10.88.88.69', 'gre/key_bits:32'],
  },
  {
    name: 'property0',
    change: (file) => {
      file.properties.push(['geneve/hop_limit', '7']);
    },
    reason: /failed to set property geneve\/hop_limit: no such property/,
    shows: ['encap:geneve', 'geneve/listen_ip:10.88.88.69', 'geneve/hop_limit:7'],
  },
  {
    name: 'plugin0',
    change: (file) => {
      file.search = 'oracle';
      file.properties = file.properties.filter(([name]) => !name.startsWith('direct/'));
      file.properties.push(['oracle/url', 'oracle.example']);
    },
    reason: /no search plugin: found 'oracle', expected one of /,
    shows: ['encap:geneve', 'search:oracle', 'oracle/url:oracle.example', 'geneve/listen_port:6081'],
    goesOn: true,
  },
];
const WORKS = 'works0';
const NAMES = [...LATERS.map(({ name }) => name), WORKS];
const vnicOf = (overlay: string): string => overlay.replace('0', 'vnic0');

/** How one varpd takes the place of another; whether the links outlive it. */
const WAYS: readonly {
  readonly name: string;
  readonly keepsLinks: boolean;
  readonly config?: Readonly<Record<string, unknown>>;
  /** `change` is done when the old varpd writes no more. */
  readonly restart: (daemon: Daemon, change: () => void) => Promise<void>;
}[] = [
  {
    name: 'dladm restart',
    keepsLinks: true,
    restart: async (daemon, change) => {
      change();
      // Not everything is well afterwards: its exit status says so.
      await daemon.dladm('restart');
    },
  },
  {
    name: 'SIGTERM and start, with persistTaps',
    keepsLinks: true,
    config: { persistTaps: true },
    restart: async (daemon, change) => {
      await daemon.stop();
      change();
      await daemon.start();
    },
  },
  {
    name: 'kill -9 and start',
    keepsLinks: false,
    restart: async (daemon, change) => {
      await daemon.kill();
      change();
      await daemon.start();
    },
  },
];

for (const way of usual(WAYS, ({ config }) => config === undefined))
  await t.test(`what a later version has stored: ${way.name}`, { skip: skipUnlessNetns() }, async (t) => {
    const { bed, a, b } = await newHosts(t);
    const metrics = metricsSocket(bed);
    const config = { metrics, ...way.config };
    const daemon = (await Daemon.start(bed, a, { config })).explain(t);
    const other = (await Daemon.start(bed, b)).explain(t);
    for (const [index, name] of NAMES.entries()) {
      for (const [one, from, to] of [
        [daemon, a, b],
        [other, b, a],
      ] as const) {
        const ends = { from: from.underlay.v4, to: to.underlay.v4, encap: 'geneve' } as const;
        await one.ok(directOverlay({ ...ends, name, vnetid: index + 1 }));
        await one.ok(`create-vnic -l ${name} -m 02:00:00:00:0${from.index}:0${index} ${vnicOf(name)}`);
      }
      await daemon.ok(`set-linkprop -p protection=mac-nospoof ${vnicOf(name)}`);
      await b.ip(`addr add 10.77.${index}.2/24 dev ${vnicOf(name)}`);
      await b.ip(`link set ${vnicOf(name)} up`);
    }
    await address(a);
    t.same(await reached(a), NAMES, 'all of them work');

    const files = new Map(NAMES.map((name) => [name, path.join(daemon.stateDir, `${name}.json`)]));
    const read = (): Record<string, string> =>
      Object.fromEntries([...files].map(([name, file]) => [name, readFileSync(file, 'utf8')]));
    const asBefore = read();
    /** Puts the later version's files there, and restarts. */
    const makeLater = async (): Promise<Record<string, string>> => {
      let written: Record<string, string> = {};
      await way.restart(daemon, () => {
        for (const { name, change } of LATERS) {
          const file = JSON.parse(asBefore[name]) as StateFile;
          change(file);
          writeFileSync(files.get(name)!, JSON.stringify(file));
        }
        written = read();
      });
      return written;
    };
    const indices = await ifindices(a);

    const later = await makeLater();
    await daemon.settled();
    await t.test('is shown, everywhere', (t) => shown(t, daemon, metrics, way.keepsLinks));
    await t.test('is refused, with the reason', (t) => refused(t, daemon, way.keepsLinks));
    if (!way.keepsLinks) await address(a);
    const goOn = way.keepsLinks ? LATERS.filter(({ goesOn }) => goesOn).map(({ name }) => name) : [];
    t.same(await reached(a, [...goOn, WORKS]), [...goOn, WORKS], 'the others work');
    t.same(
      [...(await ifindices(a)).keys()].sort(),
      (way.keepsLinks ? NAMES : [WORKS]).flatMap((name) => [name, vnicOf(name)]).sort(),
      'links that were there stay',
    );
    t.same(read(), later, 'no byte of its files is another');

    await way.restart(daemon, () => {
      t.same(read(), later, 'nor when varpd has ended');
      for (const [name, file] of files) writeFileSync(file, asBefore[name]);
    });
    await daemon.settled();
    t.notMatch(await daemon.ok('show-overlay -f -p -o status'), /OFFLINE|DEGRADED/, 'all are up again');
    t.notMatch(await daemon.ok('show-vnic --json'), /OFFLINE/, 'and their VNICs');
    t.same(await daemon.ok('show-linkprop -c -o value -p protection'), 'mac-nospoof\n'.repeat(4));
    if (way.keepsLinks) t.same(await ifindices(a), indices, 'by the same links');
    else await address(a);
    t.same(await reached(a), NAMES, 'and work');

    await makeLater();
    await daemon.settled();
    for (const { name } of LATERS) {
      const { code, stderr } = await daemon.dladm('delete-overlay', name);
      t.equal(code, 7);
      t.match(stderr, new RegExp(`${name} has VNICs over it: ${vnicOf(name)}`));
      await daemon.ok(`delete-vnic ${vnicOf(name)}`);
      await daemon.ok(`delete-overlay ${name}`);
      t.notOk(existsSync(files.get(name)!), `${name} is deleted`);
      for (const link of [name, vnicOf(name)]) t.notOk(await a.hasDevice(link), `${link} is gone`);
    }
    t.equal(await daemon.ok('show-overlay -f -p -o link,status'), `${WORKS}:ONLINE\n`);
    await daemon.ok(
      directOverlay({ from: a.underlay.v4, to: b.underlay.v4, encap: 'geneve', name: 'encap0', vnetid: 1 }),
    );
  });

/** What makes a file one of another form: it is set aside as it is, for the version that reads it. */
const FORMS: readonly (readonly [name: string, more: object, reason: RegExp])[] = [
  ['version0', { version: 2 }, /it has another version than 1, which this varpd reads/],
  ['key0', { description: 'of the shop' }, /the file: a key that is not known/],
  ['id0', { vnetid: 2 ** 24 }, /vnetid: /],
];

await t.test('files of another form, and a property of a VNIC', { skip: skipUnlessNetns() }, async (t) => {
  const { bed, a, b } = await newHosts(t);
  const daemon = (await Daemon.start(bed, a, { config: { persistTaps: true } })).explain(t);
  const names = [...FORMS.map(([name]) => name), WORKS];
  for (const [index, name] of names.entries()) {
    const ends = { from: a.underlay.v4, to: b.underlay.v4, encap: 'geneve', name, vnetid: index } as const;
    await daemon.ok(directOverlay(ends));
    await daemon.ok(`create-vnic -l ${name} ${vnicOf(name)}`);
  }
  await daemon.ok(`create-vnic -l ${WORKS} second0`);
  const links = [...names, ...names.map(vnicOf), 'second0'];
  const before = await ifindices(a, links);
  const fileOf = (name: string, ending = 'json'): string => path.join(daemon.stateDir, `${name}.${ending}`);
  const merge = (name: string, more: object): void => {
    const file = JSON.parse(readFileSync(fileOf(name), 'utf8')) as object;
    writeFileSync(fileOf(name), JSON.stringify({ ...file, ...more }));
  };
  await daemon.stop();
  const texts = FORMS.map(([name]) => readFileSync(fileOf(name), 'utf8'));
  for (const [name, more] of FORMS) merge(name, more);
  const written = FORMS.map(([name]) => readFileSync(fileOf(name), 'utf8'));
  const { vnics } = JSON.parse(readFileSync(fileOf(WORKS), 'utf8')) as { vnics: object[] };
  merge(WORKS, { vnics: [{ ...vnics[0], properties: [['bandwidth', ['10M']]] }, vnics[1]] });
  await daemon.start();

  const rows = (await daemon.ok('show-overlay -f -p -o link,status,details')).replaceAll('\\', '');
  for (const [index, [name, , reason]] of FORMS.entries()) {
    t.match(
      rows,
      new RegExp(`^${name}:OFFLINE:${name}\\.json: ${reason.source}.* set aside as ${name}\\.bad-1`, 'm'),
    );
    t.equal(readFileSync(fileOf(name, 'bad-1'), 'utf8'), written[index], `${name}: the file is as it was`);
  }
  const vnic = vnicOf(WORKS);
  t.match(rows, new RegExp(`^${WORKS}:ONLINE:`, 'm'), 'the others run');
  const unknown = 'failed to set property bandwidth: no such property';
  t.match(
    await daemon.ok('show-vnic --json'),
    new RegExp(`"OFFLINE: ${unknown}`),
    'a VNIC with the property does not',
  );
  t.match(await daemon.ok('show-vnic second0'), /^second0 /m, 'beside one that does');
  await daemon.ok(`set-linkprop -p protection=restricted ${vnic}`);
  await daemon.ok(`delete-vnic second0`);
  t.match(JSON.parse(readFileSync(fileOf(WORKS), 'utf8')), {
    vnics: [
      {
        name: vnic,
        properties: [
          ['bandwidth', ['10M']],
          ['protection', ['restricted']],
        ],
      },
    ],
  });

  // The version that reads them has nothing to do but to take them back.
  await daemon.stop();
  for (const [index, [name]] of FORMS.entries()) {
    renameSync(fileOf(name, 'bad-1'), fileOf(name));
    writeFileSync(fileOf(name), texts[index]);
  }
  merge(WORKS, { vnics: [{ ...vnics[0], properties: [['protection', ['restricted']]] }] });
  await daemon.start();
  t.equal(await daemon.ok('show-overlay -f -p -o status'), 'ONLINE\n'.repeat(names.length));
  t.equal((await daemon.vnics()).length, names.length);
  before.delete('second0');
  t.same(await ifindices(a, links), before, 'by the links that they had');
  await daemon.ok(`reset-linkprop ${vnic}`);
});

function metricsSocket(bed: Bed): string {
  const directory = bed.directory();
  giveToDaemon(directory);
  return path.join(directory, 'metrics.sock');
}

/** The VNICs of this host have their addresses. */
async function address(host: Namespace): Promise<void> {
  for (const [index, name] of NAMES.entries()) {
    if (!(await host.hasDevice(vnicOf(name)))) continue;
    await host.ip(`addr replace 10.77.${index}.1/24 dev ${vnicOf(name)}`);
    await host.ip(`link set ${vnicOf(name)} up`);
  }
}

/** Overlays whose other end answers. */
async function reached(host: Namespace, names: readonly string[] = NAMES): Promise<string[]> {
  const answers = await Promise.all(names.map((name) => reaches(host, `10.77.${NAMES.indexOf(name)}.2`)));
  return names.filter((_, index) => answers[index]);
}

/** Numbers of the links, by name. */
async function ifindices(
  host: Namespace,
  ours: readonly string[] = NAMES.flatMap((name) => [name, vnicOf(name)]),
): Promise<Map<string, number>> {
  const links = JSON.parse(await host.ip('-j link show')) as { ifname: string; ifindex: number }[];
  return new Map(
    links.filter(({ ifname }) => ours.includes(ifname)).map(({ ifname, ifindex }) => [ifname, ifindex]),
  );
}

async function shown(t: Test, daemon: Daemon, metrics: string, keepsLinks: boolean): Promise<void> {
  const rows = (await daemon.ok('show-overlay -f -p -o link,status,details')).trimEnd().split('\n');
  const cells = rows.map((row) => row.split(/(?<!\\):/).map((cell) => cell.replace(/\\(.)/g, '$1')));
  const overlays = JSON.parse(await daemon.ok('show-overlay --json')) as OverlayInfo[];
  const vnics = JSON.parse(await daemon.ok('show-vnic --json')) as VnicInfo[];
  const table = await daemon.ok('show-vnic');
  for (const { name, reason, shows, goesOn } of LATERS) {
    const isOffline = goesOn === undefined || !keepsLinks;
    const [, status, details] = cells.find(([link]) => link === name) ?? [];
    t.equal(status, isOffline ? 'OFFLINE' : 'DEGRADED', `${name}: show-overlay -f`);
    t.match(details, reason);
    t.match(
      overlays.find((overlay) => overlay.name === name),
      { health: { status, details: reason } },
      '--json',
    );
    const { code, stdout, stderr } = await daemon.dladm('show-overlay', '-p', '-o', 'property,value', name);
    t.equal(code, 0);
    for (const row of shows) t.ok(stdout.split('\n').includes(row), `show-overlay: ${row}`);
    const vnic = vnics.find((one) => one.name === vnicOf(name));
    if (isOffline) {
      t.match(stderr, new RegExp(`^dladm: ${name} is OFFLINE: ${reason.source}`));
      t.match(vnic?.state, new RegExp(`^OFFLINE: ${name} is OFFLINE: ${reason.source}`), 'show-vnic');
      t.match(table, new RegExp(`^${vnicOf(name)} .*OFFLINE: ${name} is OFFLINE`, 'm'));
      t.match(daemon.log(), new RegExp(`${name} could not be brought up: ${reason.source}`), 'the log');
    } else {
      t.equal(vnic?.state, 'up', 'show-vnic');
    }
  }
  const offline = LATERS.filter(({ goesOn }) => goesOn === undefined || !keepsLinks).length;
  const samples = parseMetrics((await get(metrics)).body);
  for (const what of ['overlays', 'vnics'])
    t.same(
      ['running', 'offline'].map((state) => valueOf(samples, `varpd_${what}`, { state })),
      [NAMES.length - offline, offline],
      `metrics: ${what}`,
    );
}

async function refused(t: Test, daemon: Daemon, keepsLinks: boolean): Promise<void> {
  for (const { name, reason, goesOn } of LATERS) {
    if (goesOn !== undefined && keepsLinks) continue;
    for (const line of [`up-overlay ${name}`, `create-vnic -l ${name} new0`, `modify-overlay -f ${name}`]) {
      const { code, stderr } = await daemon.dladm(...line.split(' '));
      t.equal(code, line.startsWith('up-overlay') ? 1 : 7, line);
      t.match(stderr, reason);
    }
  }
}
