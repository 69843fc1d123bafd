// varpd-cni by the CNI specification: the commands, their errors, and what they leave behind.

import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

import { type Answer, cni, configuration, HOST_LOCAL, pathOf } from '../helpers/cni.js';
import type { Daemon } from '../helpers/daemon.js';
import { skipUnless, skipUnlessNetns } from '../helpers/need.js';
import type { Bed, Namespace } from '../helpers/netns.js';
import { ping } from '../helpers/traffic.js';
import { newBed, startOverlay } from '../helpers/tunnels.js';

const skip = skipUnlessNetns();
const skipIpam = skip || skipUnless({ files: [HOST_LOCAL] });

interface Site {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly daemon: Daemon;
  /** Two containers on one host. */
  readonly c: Namespace;
  readonly d: Namespace;
}

async function site(t: Test): Promise<Site> {
  const bed = newBed(t);
  const [a, b] = await bed.twoHosts();
  const [c, d] = [await bed.host(), await bed.host()];
  return { bed, a, c, d, daemon: await startOverlay(t, bed, a, b) };
}

const ok = (t: Test, answer: Answer, what: string): Answer => {
  t.equal(answer.code, 0, `${what}: ${answer.stdout}${answer.stderr}`);
  return answer;
};
/** An error as the specification has it. */
const refused = (t: Test, answer: Answer, code: number, text: RegExp): void => {
  t.equal(answer.code, 1, answer.stdout);
  t.match(answer.json, { code, msg: String });
  t.match(`${String(answer.json?.['msg'])}: ${String(answer.json?.['details'])}`, text);
};

await t.test('without varpd', { skip }, async (t) => {
  const bed = newBed(t);
  const host = await bed.host();
  const config = {
    cniVersion: '1.1.0',
    name: 'net0',
    type: 'varpd-cni',
    overlay: 'overlay0',
    socket: '/nowhere',
  };
  const version = await cni(host, 'VERSION', { cniVersion: '1.0.0' });
  t.strictSame(version.json, {
    cniVersion: '1.0.0',
    supportedVersions: ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
  refused(t, await cni(host, 'STATUS', config), 51, /varpd does not answer/);
  const other = await bed.host();
  refused(t, await cni(host, 'ADD', config, { netns: other }), 11, /varpd does not answer/);
  refused(t, await cni(host, 'DEL', config), 11, /varpd does not answer/);
  refused(t, await cni(host, 'ADD', config, { netns: '/run/netns/none' }), 3, /cannot be opened/);
  refused(t, await cni(host, 'ADD', config, { netns: host }), 4, /CNI_NETNS/);
  refused(t, await cni(host, 'ADD', config, { netns: '/dev/null' }), 100, /EINVAL/);
  refused(t, await cni(host, 'ADD', config), 4, /CNI_NETNS/);
  refused(
    t,
    await cni(host, 'ADD', config, { containerId: '-x', ifname: 'a/b' }),
    4,
    /CNI_CONTAINERID, CNI_IFNAME/,
  );
  refused(t, await cni(host, 'MAKE', config), 4, /CNI_COMMAND/);
  refused(t, await cni(host, 'ADD', '{'), 6, /decoded/);
  refused(t, await cni(host, 'ADD', { ...config, cniVersion: '0.2.0' }), 1, /incompatible/);
  refused(t, await cni(host, 'GC', { ...config, cniVersion: '1.0.0' }), 1, /incompatible/);
  refused(t, await cni(host, 'ADD', { ...config, overlay: 7 }), 7, /overlay/);
  refused(t, await cni(host, 'GC', config), 7, /valid-attachments/);
});

await t.test('a life of an attachment', { skip: skipIpam }, async (t) => {
  const { bed, a, c, d, daemon } = await site(t);
  const mac = '02:00:00:00:00:c1';
  const config = configuration(daemon, bed, { runtimeConfig: { mac }, mtu: 1400 }, '10.66.0.0/24');
  const added = ok(t, await cni(a, 'ADD', config, { netns: c }), 'ADD');
  const [vnic] = await daemon.vnics();
  t.match(vnic, { mac, state: 'up', temporary: false, attachment: 'cni:net0/one/eth0' });
  t.strictSame(added.json, {
    cniVersion: '1.0.0',
    interfaces: [{ name: 'eth0', mac, sandbox: pathOf(c) }],
    ips: [{ address: '10.66.0.2/24', gateway: '10.66.0.1', interface: 0 }],
    routes: [],
    dns: {},
    varpd: {
      overlay: 'overlay0',
      vnic: vnic.name,
      mapping: { [mac]: { ip: a.underlay.v4, port: 4789, arp: '10.66.0.2' } },
    },
  });
  t.equal(await c.macOf('eth0'), mac);
  t.equal(await c.mtuOf('eth0'), 1400);
  t.notOk(await a.hasDevice(vnic.name), 'nothing is left on the host');

  refused(t, await cni(a, 'ADD', config, { netns: c }), 100, /has an interface eth0 already/);
  const second = { ...config, runtimeConfig: {}, mtu: undefined };
  ok(t, await cni(a, 'ADD', second, { netns: d, containerId: 'two' }), 'ADD of another container');
  ok(
    t,
    await cni(a, 'ADD', second, { netns: d, containerId: 'two', ifname: 'net1' }),
    'and a second one of it',
  );
  t.equal((await ping(c, '10.66.0.3')).received, 3, 'the containers reach each other');

  const checked = { ...config, prevResult: added.json };
  const check = async (): Promise<Answer> => cni(a, 'CHECK', checked, { netns: c });
  t.equal(ok(t, await check(), 'CHECK').stdout, '');
  await daemon.restart();
  t.equal((await daemon.vnics()).length, 0, 'a TAP that ended with varpd is not made again on the host');
  refused(t, await check(), 101, /varpd has no VNIC of cni:net0\/one\/eth0.*no interface eth0/);
  for (let time = 0; time < 2; time++)
    ok(t, await cni(a, 'DEL', checked, { netns: c }), 'DEL of what is gone');

  ok(t, await cni(a, 'ADD', config, { netns: c }), 'ADD again');
  await c.ip('addr flush dev eth0');
  refused(t, await check(), 101, /no address 10\.66\.0/);
  ok(t, await cni(a, 'DEL', config), 'DEL without a namespace');
  t.notOk(await c.hasDevice('eth0'));
  t.strictSame(await daemon.vnics(), []);
});

await t.test('a failure in the middle leaves nothing', { skip: skipIpam }, async (t) => {
  const { bed, a, c, daemon } = await site(t);
  const config = configuration(daemon, bed, {}, '10.66.0.0/30');
  const { dataDir } = config['ipam'] as { dataDir: string };
  const leases = (): string[] => readdirSync(`${dataDir}/net0`).filter((name) => /^[0-9.]+$/.test(name));
  // The only address is taken.
  ok(t, await cni(a, 'ADD', config, { netns: c }), 'ADD');
  const [only] = await daemon.vnics();
  refused(
    t,
    await cni(a, 'ADD', config, { netns: c, ifname: 'net1' }),
    999,
    /host-local: .*no IP addresses/i,
  );
  t.strictSame(
    (await daemon.vnics()).map(({ name }) => name),
    [only.name],
  );
  t.strictSame(leases(), ['10.66.0.2']);
  t.notOk(await c.hasDevice('net1'));
  ok(t, await cni(a, 'DEL', config), 'DEL');
  t.strictSame(leases(), []);

  const routes = [{ dst: '10.9.0.0/16', gw: '192.0.2.1' }];
  const ipam = { ...(config['ipam'] as object), routes };
  const add = (more: object): Promise<Answer> => cni(a, 'ADD', { ...config, ...more }, { netns: c });
  refused(t, await add({ ipam }), 100, /ENETUNREACH/);
  refused(t, await add({ overlay: 'none0' }), 7, /none0/);
  refused(t, await add({ ipam: { type: 'none' } }), 4, /CNI_PATH has no plugin none/);
  refused(t, await add({ mtu: 9000 }), 7, /mtu 9000/);
  refused(t, await add({ runtimeConfig: { mac: '01:00:00:00:00:01' } }), 7, /unicast/);
  refused(t, await add({ runtimeConfig: { mac: 'c1' } }), 7, /no MAC/);
  t.strictSame(await daemon.vnics(), []);
  t.strictSame(leases(), []);
  t.notOk(await c.hasDevice('eth0'));

  // varpd-cni is killed while it waits for the IPAM plugin.
  const directory = bed.directory();
  const script = '#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] && kill -KILL $PPID\nexit 0\n';
  writeFileSync(path.join(directory, 'deadly'), script, { mode: 0o755 });
  const deadly = { ...config, ipam: { type: 'deadly' } };
  const attached = { netns: c, env: { CNI_PATH: directory } };
  for (const remove of ['DEL', 'GC']) {
    t.not((await cni(a, 'ADD', deadly, attached)).code, 0, 'killed');
    t.equal((await daemon.vnics()).length, 1);
    t.ok(await c.hasDevice('eth0'));
    const version = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] };
    ok(t, await cni(a, remove, { ...deadly, ...version }, attached), remove);
    t.strictSame(await daemon.vnics(), []);
    t.notOk(await c.hasDevice('eth0'));
  }
});

await t.test('GC keeps what is valid', { skip: skipIpam }, async (t) => {
  const { bed, a, c, d, daemon } = await site(t);
  const config = configuration(daemon, bed, { cniVersion: '1.0.0' }, '10.66.0.0/24');
  ok(t, await cni(a, 'ADD', config, { netns: c }), 'ADD');
  ok(t, await cni(a, 'ADD', config, { netns: d, containerId: 'two' }), 'ADD');
  ok(
    t,
    await cni(a, 'ADD', { ...config, name: 'net1' }, { netns: d, containerId: 'two', ifname: 'eth1' }),
    'ADD',
  );
  await daemon.ok('create-vnic -l overlay0 foo0');
  // The host-local of Debian 12 knows no GC, so it says so at the end.
  const valid = [{ containerID: 'two', ifname: 'eth0' }];
  const collected = await cni(a, 'GC', {
    ...config,
    cniVersion: '1.1.0',
    'cni.dev/valid-attachments': valid,
  });
  refused(t, collected, 1, /GC: (?:1 step|[0-9]+ steps) failed/);
  const left = (await daemon.vnics()).map(({ name, attachment }) => attachment ?? name);
  t.strictSame(left.sort(), ['cni:net0/two/eth0', 'cni:net1/two/eth1', 'foo0']);
  const plain = { ...config, ipam: undefined };
  ok(t, await cni(a, 'GC', { ...plain, cniVersion: '1.1.0', 'cni.dev/valid-attachments': [] }), 'GC');
  t.equal((await daemon.vnics()).length, 2, 'another network and an operator keep theirs');
  ok(t, await cni(a, 'STATUS', { ...plain, cniVersion: '1.1.0' }), 'STATUS');
  refused(
    t,
    await cni(a, 'STATUS', { ...plain, cniVersion: '1.1.0', overlay: 'none0' }),
    50,
    /no overlay none0/,
  );
});
