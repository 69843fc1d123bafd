// dladm doctor on real hosts that have a varpd: a healthy one has no fault, and each planted fault is found under its code.
import { chmodSync, existsSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import type { Code } from '../../src/cli/doctor/finding.js';
import { daemonUser } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { doctor, type Fault, hasFault, type Place, troubles } from '../helpers/doctor.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed } from '../helpers/netns.js';
import { exec, waitUntil } from '../helpers/process.js';

const MACS = { foo0: 'de:ad:be:ef:00:00', bar0: 'de:ad:be:ef:00:02', far: 'de:ad:be:ef:00:01' };

await t.test('a host with varpd', { skip: skipUnlessNetns(['nft', 'ethtool']) }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const [from, to] = [a.underlay.v4, b.underlay.v4];
  const file = path.join(bed.directory(), 'hosts.json');
  const entry = (ip: string, arp: string): object => ({ arp, ip, port: 4789 });
  const own = entry(from, '10.55.55.12');
  const far = entry(to, '10.55.55.3');
  const map = (content: unknown): void => {
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  };
  const good = { [MACS.bar0]: own, [MACS.far]: far };
  map(good);
  const daemon = (await Daemon.start(bed, a)).explain(t);
  await daemon.ok(directOverlay({ from, to }));
  await daemon.ok(`create-vnic -m ${MACS.foo0} -l overlay0 foo0`);
  await daemon.ok(
    `create-overlay -e vxlan -s files -v 43 -p vxlan/listen_ip=${from},files/config=${file} overlay1`,
  );
  await daemon.ok(`create-vnic -m ${MACS.bar0} -l overlay1 bar0`);
  const place: Place = { host: a, socket: daemon.socket, config: daemon.configFile };

  const healthy = async (t: Test): Promise<void> => {
    let report = await doctor(place);
    const isHealthy = async (): Promise<boolean> => {
      if (troubles(report).length === 0) return true;
      report = await doctor(place);
      return false;
    };
    await waitUntil(isHealthy, { what: 'a healthy host', stepMs: 200 }).catch(() => undefined);
    t.same(troubles(report), []);
    t.equal(report.code, 0);
  };

  await t.test('healthy: no line but ok and skip, and what is skipped is known', async (t) => {
    await healthy(t);
    const { findings, v } = await doctor(place);
    t.equal(v, 1);
    const skipped = findings.filter(({ status }) => status === 'skip').map(({ code }) => code);
    t.same(
      [...new Set(skipped)].filter((code) => code !== 'IPTABLES'),
      ['TRANSCEIVER', 'PEER-ANSWERS', 'PEER-CHECKSUMS'],
    );
    for (const name of ['overlay0', 'overlay1'])
      t.match(
        findings.find(({ code, about }) => code === 'ROUTE' && about === name)?.sentence,
        /all 1 destination$/,
        name,
      );
    const one = await doctor(place, 'overlay1');
    t.same([...new Set(one.findings.map(({ about }) => about))].sort(), ['overlay1', 'under0', null].sort());
  });

  /** Plants, looks, and mends. */
  const fault = (
    code: Code,
    expected: Fault,
    plant: () => unknown,
    mend: () => unknown = () => undefined,
    at: Partial<Place> = {},
  ): Promise<unknown> =>
    t.test(code, async (t) => {
      await plant();
      try {
        let report = await doctor({ ...place, ...at });
        // varpd follows links and files within moments.
        const isSeen = async (): Promise<boolean> => {
          if (report.findings.some((one) => one.code === code && one.status === (expected.status ?? 'fail')))
            return true;
          report = await doctor({ ...place, ...at });
          return false;
        };
        await waitUntil(isSeen, { what: code, stepMs: 200 }).catch(() => undefined);
        hasFault(t, report, code, expected);
      } finally {
        await mend();
      }
    });

  await fault('CONFIGURATION', { says: /varpd\.yaml:\d+:\d+: unknown key/ }, () => {
    daemon.writeConfig({ sockett: 1 });
  });
  daemon.writeConfig();

  await fault(
    'STATE-DIRECTORY',
    { says: /can be written by group or others \(mode 777\)/ },
    () => {
      chmodSync(daemon.stateDir, 0o777);
    },
    () => {
      chmodSync(daemon.stateDir, 0o700);
    },
  );
  const aside = path.join(daemon.stateDir, 'old0.bad-1');
  await fault(
    'STATE-SET-ASIDE',
    { status: 'warn', says: /old0\.bad-1 could not be used/ },
    () => {
      writeFileSync(aside, '{');
    },
    () => {
      rmSync(aside);
    },
  );
  const half = path.join(daemon.stateDir, '.overlay0.json.1-1.tmp');
  await fault(
    'LEFTOVER-FILE',
    { status: 'warn', says: /1 half-written file: \.overlay0/ },
    () => {
      writeFileSync(half, '{');
      utimesSync(half, 0, 0);
    },
    () => {
      rmSync(half);
    },
  );
  await fault(
    'LEFTOVER-TAP',
    { status: 'warn', says: /^1 persistent TAP of varpd that nothing uses, .*: left0$/ },
    () => a.ip(`tuntap add dev left0 mode tap user ${daemonUser().uid}`),
    () => a.ip('link del left0'),
  );
  await fault(
    'VNIC',
    { status: 'warn', says: /^foo0: .*down/, about: 'overlay0' },
    () => a.ip('link set foo0 down'),
    () => a.ip('link set foo0 up'),
  );
  await fault(
    'PORT-OFFLOADS',
    { status: 'warn', says: /^tx-tcp-segmentation of foo0 is switched off/, about: 'overlay0' },
    () => a.exec('ethtool -K foo0 tx-tcp-segmentation off'),
    () => a.exec('ethtool -K foo0 tx-tcp-segmentation on'),
  );
  await fault(
    'UDP-TRAINS',
    { status: 'warn', says: /tx-udp-segmentation/, about: 'under0' },
    () => a.exec('ethtool -K under0 tx-udp-segmentation off'),
    () => a.exec('ethtool -K under0 tx-udp-segmentation on'),
  );
  await fault(
    'LINK',
    { says: /no carrier/, about: 'under0' },
    () => b.ip('link set under0 down'),
    () => b.ip('link set under0 up'),
  );
  await fault(
    'OVERLAY',
    { status: 'warn', says: /DEGRADED: .*under0 has no carrier/, about: 'overlay0' },
    () => b.ip('link set under0 down'),
    () => b.ip('link set under0 up'),
  );
  await fault(
    'LISTEN-ADDRESS',
    { says: /10\.88\.88\.69 is not an address of this host/, about: 'overlay1' },
    () => a.ip(`addr del ${from}/24 dev under0`),
    () => a.ip(`addr add ${from}/24 dev under0`),
  );
  await fault(
    'ROUTE',
    { says: /no route to 10\.88\.88\.70$/, about: 'overlay0' },
    () => a.ip(`route add unreachable ${to}/32`),
    () => a.ip(`route del unreachable ${to}/32`),
  );
  await fault(
    'ROUTE-LOOP',
    { says: /the route to 10\.88\.88\.70 leads into foo0/, about: 'overlay0' },
    () => a.ip(`route add ${to}/32 dev foo0`),
    () => a.ip(`route del ${to}/32 dev foo0`),
  );
  await fault(
    'ROUTE-MTU',
    { says: /carries 1400 bytes, a packet of 1450 needs 1500/, about: 'overlay0' },
    () => a.ip('link set under0 mtu 1400'),
    () => a.ip('link set under0 mtu 1500'),
  );
  await fault(
    'RP-FILTER',
    {
      status: 'warn',
      says: /the filter of under0 is strict, and the route to .* leaves by other0/,
      about: 'overlay0',
    },
    async () => {
      await a.sysctl('net.ipv4.conf.under0.rp_filter', 1);
      await a.ip('link add other0 type veth peer name other1');
      await a.ip('link set other1 up');
      await a.ip('link set other0 up');
      await a.ip(`route add ${to}/32 dev other0`);
    },
    async () => {
      await a.ip('link del other0');
      await a.sysctl('net.ipv4.conf.under0.rp_filter', 0);
    },
  );
  const nft = (rules: string) => () => a.exec('nft -f -', { input: rules });
  const flush = (): Promise<string> => a.exec('nft flush ruleset');
  await fault(
    'NFTABLES',
    {
      says: /UDP from 10\.88\.88\.70 to port 4789 of 10\.88\.88\.69 is dropped: chain 'inet f i', rule 'udp dport 4789 drop'/,
      about: 'overlay0',
    },
    nft('table inet f {\n chain i {\n type filter hook input priority 0\n udp dport 4789 drop\n }\n}'),
    flush,
  );
  await fault(
    'NFTABLES',
    { says: /is dropped: chain 'ip f i', rule 'policy drop'/, about: 'overlay1' },
    nft(
      'table ip f {\n chain i {\n type filter hook input priority 0; policy drop\n ct state established,related accept\n tcp dport 22 accept\n }\n}',
    ),
    flush,
  );
  await fault(
    'NFTABLES',
    { says: /UDP from 10\.88\.88\.69 to port 4789 of 10\.88\.88\.70 is dropped/, about: 'overlay0' },
    nft(
      'table inet f {\n chain o {\n type filter hook output priority 0\n ip daddr 10.88.88.0/24 reject\n }\n}',
    ),
    flush,
  );
  const ofFile = { about: 'overlay1' } as const;
  await fault('MAPPING-FILE', { ...ofFile, says: /hosts\.json:1:\d+: / }, () => {
    map('{ "de:ad');
  });
  await fault('MAPPING-VNIC', { ...ofFile, says: /does not have bar0 \(de:ad:be:ef:00:02\)/ }, () => {
    map({ [MACS.foo0]: own, [MACS.far]: far });
  });
  await fault('MAPPING-PLACE', { ...ofFile, says: /has bar0 .* at 10\.88\.88\.70, and it is here/ }, () => {
    map({ [MACS.foo0]: own, [MACS.bar0]: entry(to, '10.55.55.13') });
  });
  await fault(
    'MAPPING-HOST',
    { ...ofFile, status: 'warn', says: /no entry of the mapping lives at 10\.88\.88\.69/ },
    () => {
      map({ [MACS.bar0]: far });
    },
  );
  map(good);

  await t.test('SPEED, DUPLEX: a link that has negotiated badly', async (t) => {
    await a.ip('tuntap add dev slow0 mode tap');
    await a.ip('link set slow0 up');
    await a.exec('ethtool -s slow0 speed 10 duplex half');
    await a.ip('route add 10.99.0.2/32 dev slow0');
    await daemon.ok(directOverlay({ from, to: '10.99.0.2', vnetid: 44, name: 'slow1' }));
    const report = await doctor(place);
    hasFault(t, report, 'SPEED', { status: 'warn', says: /10 Mbit/, about: 'slow0' });
    hasFault(t, report, 'DUPLEX', { status: 'warn', says: /half duplex/, about: 'slow0' });
    await daemon.ok('delete-overlay slow1');
    await a.ip('link del slow0');
  });

  await fault(
    'KERNEL-TUNNEL',
    { status: 'warn', says: /the kernel's own link vx0 is for UDP port 4789/, about: 'overlay0' },
    () => addKernelVxlan(a, { vnetid: 99, local: from, remote: to }),
    () => a.ip('link del vx0'),
  );
  await fault(
    'NAMESPACE',
    { says: /another network namespace/ },
    () => undefined,
    () => undefined,
    { host: b },
  );

  const shim = path.join(bed.directory(), 'shift-clock.so');
  await t.test('CLOCK', { skip: skipUnless({ programs: ['gcc'] }) }, async (t) => {
    await exec(['gcc', '-shared', '-fPIC', '-o', shim, fromRoot('test/helpers/shift-clock.c'), '-ldl']);
    for (const [shift, word] of [
      ['3600', 'forward'],
      ['-3600', 'back'],
    ]) {
      const report = await doctor({ ...place, env: { LD_PRELOAD: shim, SHIFT_SECONDS: shift } });
      hasFault(t, report, 'CLOCK', { status: 'warn', says: new RegExp(`set ${word} by (3599|360[01]) s`) });
    }
  });

  await t.test('OBSERVER: a user without rights sees less, and says so', async (t) => {
    chmodSync(daemon.socket, 0o666);
    const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
    const report = await doctor({ ...place, as: nobody });
    const skipped = report.findings.filter(({ status }) => status === 'skip').map(({ code }) => code);
    for (const code of ['OBSERVER', 'NAMESPACE', 'NFTABLES', 'STATE-SET-ASIDE'] as const)
      t.ok(skipped.includes(code), code);
    t.same(troubles(report), [], 'what it cannot see is no fault');
    chmodSync(daemon.socket, 0o660);
    const denied = await doctor({ ...place, as: nobody });
    t.match(denied.findings.find(({ code }) => code === 'VARPD')?.sentence, /permission denied/);
    t.same(troubles(denied), [], 'nor is a varpd that it may not ask');
  });

  await t.test('all is mended: healthy', healthy);

  await t.test('RECEIVE-QUEUE', async (t) => {
    daemon.signal('SIGSTOP');
    const flood = `import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(20000): s.sendto(bytes(1400), ('${from}', 4789))`;
    await b.exec(['python3', '-c', flood]);
    daemon.signal('SIGCONT');
    const lost = async (): Promise<boolean> =>
      (await daemon.overlays('overlay0'))[0].counters['rx_queue_full'] > 0;
    await waitUntil(lost, { what: 'the kernel to say what it dropped' });
    hasFault(t, await doctor(place), 'RECEIVE-QUEUE', {
      status: 'warn',
      says: /lost since/,
      about: 'overlay0',
    });
  });

  await t.test('VARPD, LEFTOVER-SOCKET: killed, and its overlays are known from their files', async (t) => {
    await daemon.kill();
    t.ok(existsSync(daemon.socket));
    const report = await doctor(place);
    hasFault(t, report, 'VARPD', { says: /no program listens there/ });
    hasFault(t, report, 'LEFTOVER-SOCKET', { status: 'warn', says: /no varpd answers on it/ });
    for (const name of ['overlay0', 'overlay1'])
      t.equal(
        report.findings.find(({ code, about }) => code === 'ROUTE' && about === name)?.status,
        'ok',
        name,
      );
    t.equal(report.findings.find(({ code }) => code === 'OVERLAY')?.status, 'skip');
  });

  await t.test('OVERLAY: one whose state file was set aside', async (t) => {
    writeFileSync(path.join(daemon.stateDir, 'overlay0.json'), '{');
    await daemon.start();
    const report = await doctor(place, 'overlay0');
    hasFault(t, report, 'OVERLAY', { says: /OFFLINE: .*set aside as overlay0\.bad-1/, about: 'overlay0' });
    hasFault(t, report, 'STATE-SET-ASIDE', { status: 'warn', says: /overlay0\.bad-1/ });
  });

  await t.test('VARPD: it hangs, and everything else is looked at', async (t) => {
    daemon.signal('SIGSTOP');
    const report = await doctor(place);
    daemon.signal('SIGCONT');
    hasFault(t, report, 'VARPD', { says: /did not answer daemon\.status within 3 s/ });
    t.match(report.findings.find(({ code }) => code === 'VARPD')?.advice, /kill -CONT PID/);
    t.equal(report.findings.find(({ code }) => code === 'LISTEN-ADDRESS')?.status, 'ok');
  });
});
