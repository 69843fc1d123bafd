// varpd as an operator meets it: what it keeps and what it leaves behind, whom it obeys, what it refuses, and how it
// lives on when something is taken from it.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import { metricOf } from '../../src/daemon/observe/metrics.js';
import { type DropReason, DROPS, SOCKET_DROPS } from '../../src/model/drops.js';
import { Daemon, directOverlay, DLADM_MAIN, VARPD_MAIN } from '../helpers/daemon.js';
import { get, parseMetrics, type Sample, valueOf } from '../helpers/metrics.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { type Result, run, waitUntil } from '../helpers/process.js';
import { DatagramSink, ping, reaches, transferTcp } from '../helpers/traffic.js';

const skip = skipUnlessNetns();
/** What an idle daemon with one overlay may take (issue 2). */
const IDLE_LIMIT_KIB = 120 << 10;

interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  readonly daemon: Daemon;
}

/** Two hosts, and a daemon on the first. */
async function site(t: Test): Promise<Site> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a)).explain(t);
  return { bed, a, b, daemon };
}

/** create-overlay from a to b. */
const create = ({ a, b }: Pick<Site, 'a' | 'b'>, more = '', name = 'overlay0', vnetid = 42): string =>
  directOverlay({ from: a.underlay.v4, to: b.underlay.v4, vnetid, name }, more);

/** The peer of overlay0: the kernel's own vxlan. */
async function plumbPeer({ a, b }: Pick<Site, 'a' | 'b'>, vnetid = 42, port = 4789): Promise<string> {
  const ends = { local: b.underlay.v4, remote: a.underlay.v4 };
  return addKernelVxlan(b, { device: `vx${vnetid}`, vnetid, port, ...ends });
}

/** A daemon that is not the bed's: whatever it is told, and for as long as it likes. */
const varpd = (daemon: Daemon, args: readonly string[]): Promise<Result> =>
  daemon.host.run(daemon.startable([process.execPath, VARPD_MAIN, ...args]), { timeoutMs: 15_000 });

const devicesOf = async (host: Namespace): Promise<string[]> =>
  (JSON.parse(await host.ip('-j link show')) as { ifname: string }[]).map(({ ifname }) => ifname).sort();

const boundPorts = async (host: Namespace): Promise<string[]> =>
  (await host.exec('ss -Hulna'))
    .split('\n')
    .map((line) => line.split(/\s+/)[3] ?? '')
    .sort();

/** All that must be the same after a restart. */
async function remembered(daemon: Daemon, host: Namespace): Promise<unknown> {
  const overlays = (await daemon.overlays()).filter(({ temporary }) => !temporary);
  const vnics = (await daemon.vnics()).filter(({ temporary }) => !temporary);
  const macs = await Promise.all(overlays.map(({ name }) => host.macOf(name)));
  return {
    overlays: overlays.map(({ name, mode, properties, health }) => ({ name, mode, properties, health })),
    vnics: vnics.map(({ name, over, mac, vid, mtuBytes, state }) => ({
      name,
      over,
      mac,
      vid,
      mtuBytes,
      state,
    })),
    macs,
  };
}

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

for (const how of ['kill', 'stop'] as const) {
  const words = how === 'kill' ? 'SIGKILL' : 'SIGTERM';
  t.test(`what is there again after ${words} and a restart`, { skip }, async (t) => {
    const { bed, a, b, daemon } = await site(t);
    const inside = await bed.host();
    await plumbPeer({ a, b });
    await b.plumb('vx42');
    const properties =
      'mtu=1400,vxlan/source_ports=8,vxlan/udp_checksum=full,vxlan/vlan=drop,vxlan/dscp=copy';
    await daemon.ok(create({ a, b }, `-p ${properties}`));
    await daemon.ok(
      directOverlay({ from: a.underlay.v6, to: b.underlay.v6, vnetid: 0xff_ffff, name: 'six.over0' }),
    );
    await daemon.ok(create({ a, b }, '-t', 'temporary0', 7));
    await daemon.ok('create-vnic -l overlay0 -m 2:0:0:0:0:c1 foo0');
    await daemon.ok('create-vnic -l six.over0 -v 4094 bar_x.1');
    await daemon.ok('create-vnic -t -l overlay0 passing0');
    await a.ip(`link set foo0 netns ${inside.name}`);
    await a.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4));
    const before = await remembered(daemon, a);
    const pid = daemon.pid;

    const load = a.spawn(['ping', '-q', '-i', '0.002', b.overlay.v4]);
    await sleep(200);
    const exit = await daemon[how]();
    t.match(exit, how === 'kill' ? { signal: 'SIGKILL' } : { code: 0, signal: null }, 'the end');
    t.notOk(existsSync(`/proc/${pid}`), 'the process is gone');
    t.same(await devicesOf(a), ['lo', UNDERLAY_DEVICE], 'so are its devices');
    t.same(await devicesOf(inside), ['lo'], 'wherever they were');
    if (how === 'stop') t.notOk(existsSync(daemon.socket), 'and its socket');
    const dead = await daemon.dladm('show-overlay');
    t.equal(dead.code, 1);
    t.match(
      dead.stderr,
      /no (such socket: is varpd running\?|program listens there: start varpd)$/m,
      'dladm says what is the matter',
    );

    await daemon.start();
    t.same(await remembered(daemon, a), before, 'names, VNIs, MACs, properties and VNICs');
    t.same(
      (await daemon.overlays()).map(({ name }) => name).sort(),
      ['overlay0', 'six.over0'],
      'temporary ones are gone',
    );
    t.same((await daemon.vnics()).map(({ name }) => name).sort(), ['bar_x.1', 'foo0']);
    await a.plumb('overlay0');
    t.ok(await reaches(a, b.overlay.v4), 'traffic flows again');
    await inside.ip('link set lo up');
    await a.ip(`link set foo0 netns ${inside.name}`);
    await inside.plumb('foo0');
    t.equal((await ping(inside, b.overlay.v4)).received, 3, 'from the VNIC too');
    await load.stop('SIGINT');
  });
}

t.test('SIGTERM under load, twice', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  await daemon.ok(create({ a, b }));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const load = transferTcp(a, b, { bytes: 1 << 30, timeoutMs: 2_000 }).catch(() => undefined);
  await sleep(500);
  daemon.signal('SIGTERM');
  t.same(await daemon.stop(), { code: 0, signal: null }, 'it ends, and well');
  t.same(await devicesOf(a), ['lo', UNDERLAY_DEVICE]);
  t.same(readdirSync(daemon.directory).sort(), ['state', 'varpd.log', 'varpd.yaml']);
  t.same(await boundPorts(a), [''], 'no socket is bound');
  await load;
});

t.test('a second daemon', { skip }, async (t) => {
  const { bed, a, b, daemon } = await site(t);
  await daemon.ok(create({ a, b }));
  const config = (socket: string, stateDir: string): string => {
    const file = path.join(bed.directory(), 'varpd.yaml');
    writeFileSync(file, `socket: ${socket}\nstateDir: ${stateDir}\n`);
    return file;
  };
  const elsewhere = path.join(bed.directory(), 'other');
  for (const [name, file, words] of [
    ['on the same socket', config(daemon.socket, elsewhere), /another varpd serves .*varpd\.sock/],
    [
      'in the same state directory',
      config(`${elsewhere}.sock`, daemon.stateDir),
      new RegExp(`another varpd \\(process ${daemon.pid}\\) uses the state directory`),
    ],
  ] as const) {
    for (const flags of [['--foreground'], []]) {
      const { code, stderr } = await varpd(daemon, ['--config', file, ...flags]);
      t.equal(code, 1, `${name} is refused${flags.length > 0 ? '' : ', in the background too'}`);
      t.match(stderr, words, stderr.trim());
    }
  }
  t.ok(daemon.running, 'the first one goes on');
  t.equal((await daemon.overlays()).length, 1);
  t.notOk(existsSync(`${elsewhere}.sock`), 'nothing is left of the others');
});

t.test('several daemons on one host', { skip }, async (t) => {
  const { bed, a, b, daemon } = await site(t);
  const second = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(create({ a, b }));
  const port = '-p vxlan/listen_port=4790';
  const taken = await second.dladm(...create({ a, b }, port).split(/\s+/));
  t.equal(taken.code, 1, 'one device has one owner');
  t.match(taken.stderr, /overlay0/);
  await second.ok(create({ a, b }, port, 'other0', 43).replace('dest_port=4789', 'dest_port=4790'));
  t.same(
    (await daemon.overlays()).map(({ name }) => name),
    ['overlay0'],
    'each knows its own',
  );
  t.same(
    (await second.overlays()).map(({ name }) => name),
    ['other0'],
  );
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel of the first');
  await plumbPeer({ a, b }, 43, 4790);
  await a.ip('addr add 10.66.66.2/24 dev other0');
  await b.ip('addr add 10.66.66.3/24 dev vx43');
  await b.ip('link set vx43 up');
  t.ok(await reaches(a, '10.66.66.3'), 'the tunnel of the second');
  await daemon.stop();
  t.equal((await ping(a, '10.66.66.3')).received, 3, 'which does not need the first');
});

t.test('a daemon in the background', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await daemon.ok(create({ a, b }));
  await daemon.stop();
  const { code, stderr } = await varpd(daemon, ['--config', daemon.configFile]);
  t.equal(code, 0, `it returns when it is ready${stderr}`);
  const { pid, overlays } = await daemon.call('daemon.status', {});
  const isGone = (): boolean => !existsSync(`/proc/${pid}`);
  t.teardown(async () => {
    if (isGone()) return;
    process.kill(pid, 'SIGKILL');
    await waitUntil(isGone, { what: 'the daemon in the background to end' });
  });
  t.equal(overlays, 1, 'and everything is up');
  t.ok(await a.hasDevice('overlay0'));
  process.kill(pid, 'SIGTERM');
  await waitUntil(isGone, { what: 'the daemon to end' });
  t.notOk(existsSync(daemon.socket));
  t.match(readFileSync(path.join(daemon.stateDir, 'varpd.log'), 'utf8'), /SIGTERM/, 'it has written its log');
});

t.test('state files that cannot be believed', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await daemon.ok(create({ a, b }));
  await daemon.stop();
  const good = readFileSync(path.join(daemon.stateDir, 'overlay0.json'), 'utf8');
  const named = (name: string, more = {}): string =>
    JSON.stringify({ ...(JSON.parse(good) as object), name, ...more });
  const at = (name: string): string => path.join(daemon.stateDir, `${name}.json`);
  const bad: Readonly<Record<string, readonly [make: (file: string) => void, reason: RegExp]>> = {
    empty0: [
      (file) => {
        writeFileSync(file, '');
      },
      /empty/,
    ],
    half0: [
      (file) => {
        writeFileSync(file, good.slice(0, good.length / 2));
      },
      /JSON/,
    ],
    binary0: [
      (file) => {
        writeFileSync(file, Buffer.from([0xff, 0xfe, 0, 1]));
      },
      /JSON/,
    ],
    future0: [
      (file) => {
        writeFileSync(file, named('future0', { version: 2 }));
      },
      /another version than 1/,
    ],
    liar0: [
      (file) => {
        writeFileSync(file, named('overlay0'));
      },
      /about another overlay/,
    ],
    large0: [
      (file) => {
        writeFileSync(file, named('large0', { vnetid: 1 << 24 }));
      },
      /vnetid/,
    ],
    more0: [
      (file) => {
        writeFileSync(file, named('more0', { color: 'red' }));
      },
      /a key that is not known/,
    ],
    open0: [
      (file) => {
        writeFileSync(file, named('open0'));
        chmodSync(file, 0o666);
      },
      /writable/,
    ],
    foreign0: [
      (file) => {
        writeFileSync(file, named('foreign0'));
        chownSync(file, 65_534, 65_534);
      },
      /belongs to user 65534/,
    ],
    link0: [
      (file) => {
        symlinkSync(at('overlay0'), file);
      },
      /ELOOP|symbolic|link/,
    ],
    fifo0: [
      (file) => {
        execFileSync('mkfifo', [file]);
      },
      /regular file/,
    ],
    folder0: [
      (file) => {
        mkdirSync(file);
      },
      /regular file|directory/,
    ],
    huge0: [
      (file) => {
        writeFileSync(file, ' '.repeat((1 << 20) + 1));
      },
      /1048577 bytes/,
    ],
  };
  for (const [name, [make]] of Object.entries(bad)) make(at(name));
  await daemon.start();
  t.same(
    (await daemon.overlays()).map(({ name, health }) => [name, health.status]),
    [['overlay0', 'ONLINE']],
    'the good one runs',
  );
  const files = readdirSync(daemon.stateDir);
  for (const [name, [, reason]] of Object.entries(bad)) {
    const line =
      daemon
        .log()
        .split('\n')
        .find((text) => text.includes(`${name}.json`)) ?? '';
    t.match(line, reason, `${name}: ${line}`);
    t.ok(files.includes(`${name}.bad-1`) && !files.includes(`${name}.json`), `${name} is set aside`);
    const asked = await daemon.dladm('show-overlay', name);
    t.equal(asked.code, 0);
    t.match(asked.stderr, reason, 'whoever asks for it hears why');
  }
});

t.test('what cannot be created, and leaves nothing behind', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await daemon.ok(create({ a, b }));
  await daemon.ok('create-vnic -l overlay0 -m 2:0:0:0:0:c1 foo0');
  const sink = await DatagramSink.open(a, a.underlay.v4, 4790);
  await a.ip('tuntap add mode tap taken0');
  await a.ip('link add vx1 type vxlan id 1 dstport 4791');
  await a.ip('link set vx1 up');
  const listen = `-p vxlan/listen_ip=${a.underlay.v4}`;
  const dest = `-p direct/dest_ip=${b.underlay.v4} -p direct/dest_port=4789`;
  const overlay = 'create-overlay -e vxlan -s direct';
  const rows: readonly (readonly [line: string, ...words: RegExp[]])[] = [
    [
      `${overlay} -v 1 bad0`,
      /unset required property: vxlan\/listen_ip/,
      /unset required property: direct\/dest_ip/,
      /unset required property: direct\/dest_port/,
    ],
    [
      `${overlay} -v 1 -p vxlan/listen_ip=1.2.3 -p direct/dest_port=0 -p vxlan/colour=red -p search=x bad0`,
      /vxlan\/listen_ip: found '1\.2\.3'/,
      /direct\/dest_port: found '0'/,
      /vxlan\/colour: no such property, expected one of mtu, .*vxlan\/listen_ip/,
      /search: permission denied/,
      /unset required property: direct\/dest_ip/,
    ],
    [
      `${overlay} -v 1 -p vxlan/listen_ip=192.0.2.1 ${dest} bad0`,
      /192\.0\.2\.1 is not an address of this host/,
    ],
    [
      `${overlay} -v 1 -p vxlan/listen_ip=2001:db8::1 -p direct/dest_ip=2001:db8::2 -p direct/dest_port=4789 bad0`,
      /2001:db8::1 is not an address of this host/,
    ],
    [
      `${overlay} -v 1 ${listen} -p vxlan/listen_port=4791 ${dest} bad0`,
      /port 4791 of 10\.88\.88\.69 is in use by the kernel's own link vx1, /,
    ],
    [
      `${overlay} -v 1 ${listen} -p vxlan/listen_port=4790 ${dest} bad0`,
      /port 4790 of 10\.88\.88\.69 is in use by another program of user root; as root, 'ss -ulnp sport = :4790'/,
    ],
    [
      `${overlay} -v 1 -p vxlan/listen_ipp=1.2.3.4,listen_port=1 ${listen} ${dest} bad0`,
      /vxlan\/listen_ipp: no such property: did you mean vxlan\/listen_ip\?/,
      /listen_port: no such property: did you mean vxlan\/listen_port\?/,
    ],
    [
      `set-linkprop -p vxlan/listen_ip=1.2.3.4 overlay0`,
      /delete its VNICs \(foo0\), then overlay0, and create/,
    ],
    [`${overlay} -v 1 ${listen} ${dest} taken0`, /taken0/, /object already exists/],
    [`${overlay} -v 1 ${listen} ${dest} ${UNDERLAY_DEVICE}`, /under0/, /object already exists/],
    [`${overlay} -v 1 ${listen} ${dest} overlay0`, /VNIC overlay0 already/, /object already exists/],
    [`${overlay} -v 1 ${listen} ${dest} foo0`, /VNIC foo0 already/, /object already exists/],
    [
      `${overlay} -v 42 ${listen} ${dest} bad0`,
      /virtual network id 42 is in use on 10\.88\.88\.69:4789 by overlay0/,
    ],
    [`${overlay} -v 1 -p mtu=1451 ${listen} ${dest} bad0`, /mtu: found '1451', expected at most 1450/],
    [`${overlay} -v 1 -p mtu=575 ${listen} ${dest} bad0`, /mtu: found '575'/],
    [`${overlay} -v 1 ${listen} -p direct/dest_ip=${b.underlay.v6} -p direct/dest_port=4789 bad0`, /family/],
    [`${overlay} -v 1 ${listen} -p direct/dest_ip=${a.underlay.v4} -p direct/dest_port=4789 bad0`, /listen/],
    [
      `create-overlay -e vxlan -s nothing -v 1 ${listen} bad0`,
      /search plugin/,
      /found 'nothing', expected one of .*direct/,
    ],
    [
      `create-overlay -e nvgre -s direct -v 1 ${listen} ${dest} bad0`,
      /encapsulation plugin/,
      /found 'nvgre', expected one of vxlan, geneve/,
    ],
    [`${overlay} -v 16777216 ${listen} ${dest} bad0`, /virtual network id too large: 16777216/],
    [`${overlay} -v 1 ${listen} ${dest} bad`, /invalid link name 'bad'/],
    [`${overlay} -v 1 ${listen} ${dest} bad01`, /invalid link name 'bad01'/],
    [`${overlay} -v 1 ${listen} ${dest} averyverylongname0`, /link name too long 'averyverylongname0'/],
    ['create-vnic -l none0 bar0', /vnic creation over none0 failed: object not found/],
    ['create-vnic -l foo0 bar0', /foo0 is not an overlay/],
    ['create-vnic -l overlay0 foo0', /object already exists/],
    ['create-vnic -l overlay0 taken0', /object already exists/],
    ['create-vnic -l overlay0 -m 2:0:0:0:0:c1 bar0', /02:00:00:00:00:c1 is in use on overlay0/],
    ['create-vnic -l overlay0 -m 1:0:5e:0:0:1 bar0', /expected a unicast address/],
    ['create-vnic -l overlay0 -v 4095 bar0', /4095/],
    ['create-vnic -l overlay0 -v 0 bar0', /'0'/],
    ['delete-overlay overlay0', /failed to delete overlay0: link busy/, /foo0/],
    ['delete-overlay none0', /failed to delete none0: object not found/],
    ['delete-vnic overlay0', /overlay0 is an overlay: use delete-overlay/],
    ['delete-overlay foo0', /foo0 is a VNIC: use delete-vnic/],
    ['modify-overlay -f overlay0', /operation not supported/],
    ['show-overlay none0', /failed to find none0/],
    ['show-overlay foo0', /foo0 is not an overlay/],
  ];
  const state = async (expected?: number) => ({
    devices: await devicesOf(a),
    ports: await boundPorts(a),
    files: readdirSync(daemon.stateDir).sort(),
    descriptors: await daemon.descriptorsAtRest(expected),
    overlays: (await daemon.overlays()).map(({ name }) => name),
    vnics: (await daemon.vnics()).map(({ name }) => name),
  });
  const before = await state();
  for (const [line, ...words] of rows) {
    const { code, stdout, stderr } = await daemon.dladm(...line.split(/\s+/));
    t.equal(code, 1, line);
    t.equal(stdout, '');
    for (const text of words) t.match(stderr, text, `says ${text}`);
    for (const text of stderr
      .trimEnd()
      .split('\n')
      .filter((one) => !one.startsWith('usage: ')))
      t.match(text, /^(dladm: |\s)/, 'each line says who speaks');
  }
  t.same(await state(before.descriptors), before, 'nothing is left: no device, socket, file or descriptor');
  await sink.close();
});

t.test('deleting', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  const bare = { devices: await devicesOf(a), ports: await boundPorts(a) };
  await daemon.ok(create({ a, b }));
  await daemon.ok(create({ a, b }, '', 'twin0', 43));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('create-vnic -t -l overlay0 bar0');
  const files = (): string[] =>
    readdirSync(daemon.stateDir)
      .filter((name) => name.endsWith('.json'))
      .sort();
  t.same(files(), ['overlay0.json', 'twin0.json']);
  t.equal(statSync(path.join(daemon.stateDir, 'overlay0.json')).mode & 0o777, 0o600);
  t.equal(statSync(daemon.stateDir).mode & 0o777, 0o700);
  t.equal(statSync(daemon.socket).mode & 0o777, 0o660);

  for (const vnic of ['bar0', 'foo0']) {
    const busy = await daemon.dladm('delete-overlay', 'overlay0');
    t.equal(busy.code, 1);
    t.match(busy.stderr, new RegExp(`link busy`), 'an overlay with VNICs stays');
    t.match(busy.stderr, new RegExp(vnic), `${vnic} is named`);
    await daemon.ok(`delete-vnic ${vnic}`);
    t.notOk(await a.hasDevice(vnic));
  }
  // -t: gone now, back with up-overlay or the next start.
  await daemon.ok('delete-overlay -t twin0');
  t.notOk(await a.hasDevice('twin0'));
  t.same(files(), ['overlay0.json', 'twin0.json']);
  await daemon.ok('up-overlay twin0');
  t.ok(await a.hasDevice('twin0'), 'up-overlay brings it back');
  await daemon.ok('delete-overlay -t twin0');
  await daemon.restart();
  t.ok(await a.hasDevice('twin0'), 'so does a restart');
  for (const name of ['overlay0', 'twin0']) await daemon.ok(`delete-overlay ${name}`);
  t.same(files(), []);
  t.same({ devices: await devicesOf(a), ports: await boundPorts(a) }, bare, 'no device, no socket');
  await daemon.restart();
  t.same(await daemon.overlays(), [], 'nor do they come back');
});

/** Members of it may be told from others; every Debian has it. */
const GROUP = { name: 'games', gid: 60 };
const asNobody = (groups: string): readonly string[] => [
  'setpriv',
  '--reuid',
  '65534',
  '--regid',
  '65534',
  ...groups.split(' '),
];
const mayRead =
  skip === false && (await run([...asNobody('--clear-groups'), 'test', '-r', DLADM_MAIN])).code === 0;
const skipUsers = skip || (mayRead ? false : `needs ${DLADM_MAIN} to be readable by all users`);

t.test('who may do what', { skip: skipUsers }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  for (const { config, groups, may } of [
    { config: {}, groups: '--clear-groups', may: false },
    { config: {}, groups: `--groups ${GROUP.gid}`, may: false },
    { config: { group: GROUP.name }, groups: '--clear-groups', may: false },
    { config: { group: GROUP.name }, groups: `--groups ${GROUP.gid}`, may: true },
  ]) {
    const daemon = (await Daemon.start(bed, a, { config })).explain(t);
    chmodSync(daemon.directory, 0o755);
    const env = { VARPD_SOCKET: daemon.socket };
    const words = `${'group' in config ? 'a group may' : 'root alone may'}, ${groups}`;
    for (const line of [create({ a, b }), 'show-overlay', 'delete-overlay overlay0']) {
      const command = [...asNobody(groups), process.execPath, DLADM_MAIN, ...line.split(/\s+/)];
      const { code, stderr } = await a.run(command, { env });
      t.equal(code, may ? 0 : 1, `${words}: ${line.split(' ')[0]} ${may ? 'is done' : 'is refused'}`);
      if (!may) t.match(stderr, /permission denied/);
    }
    t.notOk(await a.hasDevice('overlay0'));
    await daemon.stop();
  }
});

t.test('an idle daemon with one overlay is small', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await daemon.ok(create({ a, b }));
  await a.plumb('overlay0');
  await sleep(1000);
  const kib = daemon.residentKib();
  t.ok(kib > 0 && kib < IDLE_LIMIT_KIB, `${Math.round(kib / 1024)} MiB`);
});

t.test('metrics', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  const daemon = new Daemon(bed, a).explain(t);
  const socket = path.join(daemon.directory, 'metrics.sock');
  daemon.writeConfig({ metrics: socket });
  await daemon.start();
  await daemon.ok(create({ a, b }, '-p link-state=follow'));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await a.plumb('overlay0');
  await a.ip('link set foo0 up');
  t.ok(await reaches(a, b.overlay.v4));
  t.equal((await ping(a, b.overlay.v4, { count: 10 })).received, 10);

  let last: readonly Sample[] = [];
  const read = async (): Promise<readonly Sample[]> => {
    const samples = parseMetrics((await get(socket)).body);
    const isCounter = ({ name }: Sample): boolean => /^varpd_.*_total$/.test(name);
    const less = last
      .filter(isCounter)
      .filter(({ name, labels, value }) => (valueOf(samples, name, labels) ?? Infinity) < value);
    t.same(less, [], 'no counter goes back');
    last = samples;
    return samples;
  };
  const of = (name: string, labels: Record<string, string> = {}): number | undefined =>
    valueOf(last, `varpd_${name}`, { overlay: 'overlay0', ...labels });
  /** What dladm shows, under the names that metrics have. */
  const shown = async (): Promise<Sample[]> => {
    const [{ counters }] = await daemon.overlays('overlay0');
    const [vnic] = await daemon.vnics();
    const dropLabels = (labels: Record<string, string>, reason: string): Record<string, string> => ({
      ...labels,
      reason,
      kind: DROPS[reason as DropReason].kind,
    });
    const samples = (
      prefix: string,
      labels: Record<string, string>,
      values: Record<string, number>,
    ): Sample[] =>
      Object.entries(values).map(([name, value]) =>
        name in DROPS
          ? { name: `varpd_${prefix}_drops_total`, labels: dropLabels(labels, name), value }
          : { name: `varpd_${prefix}_${metricOf(name)}_total`, labels, value },
      );
    return [
      ...samples('overlay', { overlay: 'overlay0' }, counters).filter(
        ({ labels }) => !(labels['reason'] in SOCKET_DROPS),
      ),
      ...samples('port', { overlay: 'overlay0', port: 'foo0' }, vnic.counters).filter(
        ({ value }) => value > 0,
      ),
    ];
  };
  const agree = async (): Promise<boolean> => {
    const before = await shown();
    await read();
    // A host says something of its own accord now and then.
    if (JSON.stringify(await shown()) !== JSON.stringify(before)) return false;
    return before.every(({ name, labels, value }) => valueOf(last, name, labels) === value);
  };
  await waitUntil(agree, { stepMs: 100, what: 'metrics and dladm to say the same' });
  t.ok((of('overlay_tx_frames_total') ?? 0) >= 10);
  t.ok((of('overlay_rx_bytes_total') ?? 0) >= 10 * 84);
  t.ok((of('port_rx_frames_total', { port: 'overlay0' }) ?? 0) >= 10, 'its own port');
  t.equal(of('overlay_online'), 1);
  t.equal(of('overlay_destinations'), 1);
  t.equal(valueOf(last, 'varpd_kernel_feature', { feature: 'tapChecksum' }), 1);
  const becomes = (isOn: boolean): Promise<void> =>
    waitUntil(async () => (await read(), of('overlay_online')) === Number(isOn), {
      what: `the overlay to be ${isOn ? 'online' : 'degraded'}`,
    });
  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  await becomes(false);
  t.equal(of('overlay_underlay_state', { state: 'down' }), 1);
  t.equal(of('overlay_underlay_losses_total'), 1);
  t.equal(of('port_carrier', { port: 'foo0' }), 0);
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  await becomes(true);
  t.equal(of('port_carrier', { port: 'foo0' }), 1);

  const junk = `require('dgram').createSocket('udp4').send('x', 4789, '${a.underlay.v4}', () => process.exit())`;
  await b.exec([process.execPath, '-e', junk]);
  const listen = `${a.underlay.v4}:4789`;
  const isCounted = async (): Promise<boolean> => {
    await read();
    return valueOf(last, 'varpd_socket_drops_total', { listen, reason: 'rx_truncated' }) === 1;
  };
  await waitUntil(isCounted, { what: 'a drop of no overlay' });

  await daemon.ok('delete-vnic foo0');
  await read();
  t.notOk(
    last.some(({ labels }) => labels['port'] === 'foo0'),
    'what is deleted has no metrics',
  );

  const address = '127.0.0.1:9560';
  const other = await Daemon.start(bed, a, { config: { metrics: address } });
  const ask = `fetch('http://${address}/metrics').then((answer) => answer.text()).then(console.log)`;
  const samples = parseMetrics(await a.exec([process.execPath, '-e', ask]));
  t.equal(valueOf(samples, 'varpd_overlays', { state: 'running' }), 0, 'over TCP');
  const twin = new Daemon(bed, a, { config: { metrics: address } });
  await t.rejects(twin.start(), /varpd\.yaml:3:10: metrics: another program uses 127\.0\.0\.1:9560/);
  daemon.writeConfig({ metrics: address });
  await daemon.ok('restart');
  await waitUntil(() => /another program uses .*; tried again/.test(daemon.log()), {
    what: 'the log',
  });
  t.ok(await reaches(a, b.overlay.v4), 'it goes on without');
  await other.stop();
  await daemon.stop();
});

// ---------------------------------------------------------------- what is taken from it

/** CPU seconds of two seconds in which nothing happens: one that spins takes two or more. */
async function idleCpuSeconds(daemon: Daemon): Promise<number> {
  const before = daemon.cpuSeconds();
  await sleep(2000);
  return daemon.cpuSeconds() - before;
}

t.test('devices that are removed', { skip }, async (t) => {
  const { bed, a, b, daemon } = await site(t);
  const inside = await bed.host();
  await daemon.ok(create({ a, b }));
  await daemon.ok(create({ a, b }, '', 'other0', 43));
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('create-vnic -l overlay0 bar0');
  for (const vnetid of [42, 43]) await plumbPeer({ a, b }, vnetid);
  await b.plumb('vx42');
  await b.ip('addr add 10.66.66.3/24 dev vx43');
  await b.ip('link set vx43 up');
  await a.ip('addr add 10.66.66.2/24 dev other0');
  await a.ip(`link set foo0 netns ${inside.name}`);
  await inside.plumb('foo0');
  t.ok(await reaches(a, '10.66.66.3'));
  t.ok(await reaches(inside, b.overlay.v4));
  const health = async (name: string): Promise<unknown> => (await daemon.overlays(name))[0].health;
  const isDegraded = async (): Promise<boolean> =>
    (await daemon.overlays('overlay0'))[0].health.status === 'DEGRADED';

  await a.ip('link delete overlay0');
  await waitUntil(isDegraded, { what: 'the overlay to be degraded' });
  t.match(await health('overlay0'), { status: 'DEGRADED', details: /overlay0.* removed/ }, 'in a sentence');
  t.match(
    await daemon.ok('show-overlay -f overlay0'),
    /overlay0 +DEGRADED +port overlay0: the device was removed/,
  );
  t.same(await health('other0'), { status: 'ONLINE', details: null }, 'others are not concerned');
  t.ok((await idleCpuSeconds(daemon)) < 1, 'nothing spins');
  t.equal((await ping(a, '10.66.66.3')).received, 3, 'the other overlay goes on');
  t.equal((await ping(inside, b.overlay.v4)).received, 3, 'so does a VNIC of this one');

  await inside.ip('link delete foo0');
  await a.ip('link delete bar0');
  const states = async (): Promise<unknown> => (await daemon.vnics()).map(({ name, state }) => [name, state]);
  await waitUntil(async () => (await daemon.vnics()).every(({ state }) => state !== 'up'), {
    what: 'the VNICs to be missed',
  });
  t.same(await states(), [
    ['foo0', 'the device was removed'],
    ['bar0', 'the device was removed'],
  ]);
  t.ok((await idleCpuSeconds(daemon)) < 1, 'nothing spins');

  await daemon.ok('up-overlay overlay0');
  t.same(await health('overlay0'), { status: 'ONLINE', details: null }, 'up-overlay mends it');
  t.same(await states(), [
    ['foo0', 'up'],
    ['bar0', 'up'],
  ]);
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4), 'and traffic flows');

  // A namespace takes its VNICs along when it goes.
  await a.ip(`link set foo0 netns ${inside.name}`);
  await run(['ip', 'netns', 'delete', inside.name]);
  await waitUntil(isDegraded, { what: 'the VNIC in the namespace to be missed' });
  t.match(await health('overlay0'), { details: /foo0/ });
  await daemon.ok('delete-vnic foo0');
  t.same(await health('overlay0'), { status: 'ONLINE', details: null }, 'what is deleted is no trouble');
  await a.ip('link delete bar0');
  await waitUntil(isDegraded, { what: 'the VNIC to be missed' });
  await daemon.restart('kill');
  t.same(await states(), [['bar0', 'up']], 'a restart mends too');
});

t.test('an underlay that goes and comes', { skip }, async (t) => {
  const { a, b, daemon } = await site(t);
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  await daemon.ok(create({ a, b }));
  await a.plumb('overlay0');
  t.ok(await reaches(a, b.overlay.v4));
  const away: readonly (readonly [what: string, go: string, come: readonly string[]])[] = [
    ['down', 'link set under0 down', ['link set under0 up']],
    [
      'without its address',
      `addr delete ${a.underlay.v4}/24 dev under0`,
      [`addr add ${a.underlay.v4}/24 dev under0`],
    ],
  ];
  for (const [what, go, come] of away) {
    await a.ip(go);
    const nothingPasses = async (): Promise<void> => {
      t.equal(
        (await ping(a, b.overlay.v4, { count: 2, waitMs: 200 })).received,
        0,
        `${what}: nothing passes`,
      );
    };
    const grown = await daemon.counted(nothingPasses, 'overlay0', { tx_unreachable: 1 });
    t.ok(grown['tx_unreachable'] >= 1, 'and is counted');
    t.ok((await idleCpuSeconds(daemon)) < 1, 'nothing spins');
    for (const command of come) await a.ip(command);
    t.ok(await reaches(a, b.overlay.v4), 'it passes again');
  }
  // A start without the address: the overlay waits for it, and says so.
  await a.ip(`addr delete ${a.underlay.v4}/24 dev under0`);
  await daemon.restart();
  t.same(await daemon.overlays(), []);
  const asked = await daemon.dladm('show-overlay', 'overlay0');
  t.equal(asked.code, 0);
  t.match(asked.stderr, /overlay0 is OFFLINE: .*10\.88\.88\.69 is not an address of this host/);
  t.equal((await daemon.dladm('up-overlay')).code, 1, 'too early');
  await a.ip(`addr add ${a.underlay.v4}/24 dev under0`);
  await daemon.ok('up-overlay');
  await a.plumb('overlay0');
  await b.ip('neigh flush dev vx42');
  t.ok(await reaches(a, b.overlay.v4), 'up-overlay, once the address is there');

  // A peer that is not there says so (ICMP); that is no trouble of the socket.
  await b.ip('link delete vx42');
  t.equal((await ping(a, b.overlay.v4, { count: 3, waitMs: 200 })).received, 0);
  await plumbPeer({ a, b });
  await b.plumb('vx42');
  await a.ip('neigh flush dev overlay0'); // the new one has another MAC
  t.ok(await reaches(a, b.overlay.v4), 'the peer is back');
  // A port that is down takes nothing; that costs only its frames.
  await a.ip('link set overlay0 down');
  const pingIt = () => ping(b, a.overlay.v4, { count: 2, waitMs: 200 });
  const grown = await daemon.counted(pingIt, 'overlay0', { port_down: 1 });
  t.ok(grown['port_down'] >= 1, 'a port that is down');
  await a.plumb('overlay0');
  t.ok(await reaches(b, a.overlay.v4), 'and up again');
});
