// varpd as an operator meets it: what it keeps and what it leaves behind, and what it refuses.

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

import t from 'tap';

import { ERROR_CODES, EXIT_OF_CODE, STATUS_WORDS } from '../../src/model/errors.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { DatagramSink, ping, reaches, transferTcp } from '../helpers/traffic.js';
import {
  skip,
  site,
  create,
  plumbPeer,
  varpd,
  devicesOf,
  boundPorts,
  remembered,
} from '../helpers/control-site.js';

/** What the exit status should be, by the status words at the end. */
function exitOf(stderr: string): number {
  if (stderr.includes('\nusage: ')) return EXIT.USAGE;
  const code = ERROR_CODES.find((one) => stderr.endsWith(`: ${STATUS_WORDS[one]}\n`));
  if (code !== undefined) return EXIT[EXIT_OF_CODE[code]];
  return / is not an overlay\n$/.test(stderr) ? EXIT.NOT_FOUND : EXIT.REFUSED;
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

    const load = a.spawn(['ping', '-q', '-i', '0.01', b.overlay.v4]);
    await sleep(200);
    const exit = await daemon[how]();
    t.match(exit, how === 'kill' ? { signal: 'SIGKILL' } : { code: 0, signal: null }, 'the end');
    t.notOk(existsSync(`/proc/${pid}`), 'the process is gone');
    t.same(await devicesOf(a), ['lo', UNDERLAY_DEVICE], 'so are its devices');
    t.same(await devicesOf(inside), ['lo'], 'wherever they were');
    if (how === 'stop') t.notOk(existsSync(daemon.socket), 'and its socket');
    const dead = await daemon.dladm('show-overlay');
    t.equal(dead.code, 3);
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
  t.same(readdirSync(daemon.directory).sort(), ['state', 'state-plugins', 'varpd.log', 'varpd.yaml']);
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
      t.equal(code, 7, `${name} is refused${flags.length > 0 ? '' : ', in the background too'}`);
      t.match(stderr, words, stderr.trim());
    }
  }
  t.ok(daemon.running, 'the first one goes on');
  t.equal((await daemon.overlays()).length, 1);
  t.notOk(existsSync(`${elsewhere}.sock`), 'nothing is left of the others');
});

t.test('several daemons on one host', { skip }, async (t) => {
  const { bed, a, b, daemon } = await site(t);
  const second = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await daemon.ok(create({ a, b }));
  const port = '-p vxlan/listen_port=4790';
  const taken = await second.dladm(...create({ a, b }, port).split(/\s+/));
  t.equal(taken.code, 5, 'one device has one owner');
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
    [`set-linkprop -p vxlan/listen_ip=1.2.3.4 overlay0`, /overlay0 is an overlay; .*: use set-overlayprop/],
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
    t.equal(code, exitOf(stderr), line);
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
    t.equal(busy.code, 7);
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
