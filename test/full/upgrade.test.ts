// Upgrade in place: a varpd of an older version runs, its program is replaced by the one of this tree, and it is restarted. What it
// knew and what was set on its links must be there afterwards, and no frame may be lost.
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { readPages } from '../../src/control/pages.js';
import { type Call, createClient } from '../../src/control/client.js';
import { Daemon } from '../helpers/daemon.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { buildOlderTree, skipUnlessBuildable, upgradeTree } from '../helpers/older-tree.js';
import { waitUntil } from '../helpers/process.js';
import { SYSTEMD, Systemd } from '../helpers/systemd.js';
import { reaches } from '../helpers/traffic.js';
import { SteadyPing } from '../helpers/zlan.js';

/** Versions that an upgrade in place starts from: the last before rooms and handles, and the last before one format of handovers. */
const VERSIONS = [
  ['efaf3df', 'efaf3df4d2fc7403c942ea4d49e0644550260bfd'],
  ['acb4314', 'acb43141524eb1c60e929ad2f9a6db0bfd34e156'],
] as const;

const PING_INTERVAL_S = 0.02;
/** A line of the log that warns, as a file and as systemd reads it. The mappings here do not have each link's MAC, which a varpd
 * that runs for some seconds says. */
const TROUBLE = /(?:Z (?:warn|error) |^<[0-4]>)(?!.*the mapping does not know)/m;

// ---------------------------------------------------------------- what is there

/** An overlay with a VNIC, and the kernel's VXLAN as its peer. */
interface Net {
  readonly overlay: string;
  readonly search: 'direct' | 'files';
  /** Of the underlay. */
  readonly family: 'v4' | 'v6';
  readonly number: number;
}

const NETS: readonly Net[] = (
  [
    ['direct', 'v4'],
    ['direct', 'v6'],
    ['files', 'v4'],
    ['files', 'v6'],
  ] as const
).map(([search, family], index) => ({ overlay: `${search}${family}`, search, family, number: index + 1 }));

const vnic = ({ number }: Net): string => `foo${number}`;
const vnicMac = ({ number }: Net): string => `02:60:00:00:00:0${number}`;
const peerMac = ({ number }: Net): string => `02:62:00:00:00:0${number}`;
const inner = ({ number }: Net, host: number): readonly [v4: string, v6: string] => [
  `10.60.${number}.${host}`,
  `fd60:${number}::${host}`,
];

/** A varpd that is upgraded. */
interface Subject {
  readonly call: Call;
  /** Of a file for varpd to read: what varpd calls it. */
  write(name: string, text: string): string;
  readonly log: string;
}

async function create(subject: Subject, net: Net, [a, b]: readonly Namespace[]): Promise<void> {
  const { overlay, search, family, number } = net;
  const [from, to] = [a.underlay[family], b.underlay[family]];
  // Overlays on one address and port have the same number of queues.
  const [port, queues] = search === 'direct' ? [4789, 1] : [4790, 2];
  const properties: [string, string][] = [
    ['vxlan/listen_ip', from],
    ['vxlan/listen_port', `${port}`],
    ['vxlan/source_ports', search === 'direct' ? '1' : '4'],
    ['queues', `${queues}`],
  ];
  if (search === 'direct') properties.push(['direct/dest_ip', to], ['direct/dest_port', `${port}`]);
  else {
    const row = (ip: string, host: number) => ({
      ip,
      port,
      arp: inner(net, host)[0],
      ndp: inner(net, host)[1],
    });
    const mapping = { [vnicMac(net)]: row(from, 1), [peerMac(net)]: row(to, 2) };
    properties.push(['files/config', subject.write(`${overlay}.json`, JSON.stringify(mapping))]);
  }
  const vnetid = 100 + number;
  await subject.call('overlay.create', {
    name: overlay,
    encap: 'vxlan',
    search,
    vnetid,
    temporary: false,
    properties,
  });
  await subject.call('vnic.create', { name: vnic(net), over: overlay, mac: vnicMac(net), temporary: false });
  await subject.call('vnic.create', { name: `bar${number}`, over: overlay, vid: 23, temporary: false });
  await subject.call('linkprop.set', {
    name: vnic(net),
    temporary: false,
    properties: [
      ['protection', ['mac-nospoof', 'ip-nospoof']],
      ['allowed-ips', [...inner(net, 1)]],
    ],
  });
  const device = `x${number}`;
  await addKernelVxlan(b, { device, vnetid, local: to, remote: from, port });
  await b.ip(`link set ${device} address ${peerMac(net)} up`);
  await plumb(a, vnic(net), inner(net, 1));
  await plumb(b, device, inner(net, 2));
  await a.ip(`link set ${overlay} up`);
  await a.ip(`addr add 10.61.${number}.1/24 dev ${overlay}`);
}

async function plumb(host: Namespace, device: string, [v4, v6]: readonly [string, string]): Promise<void> {
  await host.ip(`addr add ${v4}/24 dev ${device}`);
  await host.ip(`addr add ${v6}/64 dev ${device} nodad`);
  await host.ip(`link set ${device} up`);
}

/** What an upgrade must leave alone: of the links, and of varpd. What a later version has more of does not count. */
interface Picture {
  readonly links: unknown;
  /** Overlay, property: value. */
  readonly properties: ReadonlyMap<string, string | null>;
  readonly vnics: unknown;
  /** Link, property: values. */
  readonly linkProperties: ReadonlyMap<string, readonly string[]>;
  /** Overlay, MAC: destinations. */
  readonly targets: ReadonlyMap<string, readonly string[]>;
}

interface Link {
  readonly ifname: string;
  readonly ifindex: number;
  readonly address: string;
  readonly mtu: number;
  readonly addr_info: readonly { readonly local: string }[];
}

async function pictureOf({ call }: Subject, host: Namespace): Promise<Picture> {
  const isOurs = ({ ifname }: Link): boolean => /^(?:direct|files|foo|bar)/.test(ifname);
  const links = (JSON.parse(await host.ip('-j addr show')) as Link[]).filter(isOurs).map((link) => {
    const { ifname, ifindex, address, mtu, addr_info: addresses } = link;
    return { ifname, ifindex, address, mtu, addresses: addresses.map(({ local }) => local) };
  });
  const overlays = (await readPages(call, 'overlay.list', {})).flatMap((page) => page.overlays);
  const vnics = (await readPages(call, 'vnic.list', {})).flatMap((page) => page.vnics);
  const rows = (await readPages(call, 'linkprop.list', { persistent: true })).flatMap((page) => page.rows);
  const targets = new Map<string, readonly string[]>();
  for (const { name } of overlays)
    for (const { mac, state, destinations } of (await call('overlay.targets', { name })).rows)
      if (state === 'valid') targets.set(`${name} ${mac}`, destinations);
  return {
    links,
    properties: new Map(
      overlays.flatMap(({ name, health, properties }) => [
        [`${name} status`, health.status] as const,
        ...properties.map(({ property, value }) => [`${name} ${property}`, value] as const),
      ]),
    ),
    vnics: vnics.map(({ name, over, mac, macType, vid, state }) => ({
      name,
      over,
      mac,
      macType,
      vid,
      state,
    })),
    linkProperties: new Map(rows.map(({ link, property, value }) => [`${link} ${property}`, value])),
    targets,
  };
}

function check(t: Test, before: Picture, after: Picture): void {
  t.same(after.links, before.links, 'numbers, MACs, sizes and addresses of all links');
  t.same(after.vnics, before.vnics, 'VNICs');
  for (const what of ['properties', 'linkProperties', 'targets'] as const) {
    const wanted = [...before[what]];
    t.ok(wanted.length >= NETS.length, `${wanted.length} ${what} before`);
    const found: ReadonlyMap<string, unknown> = after[what];
    t.same(
      wanted.map(([name]) => [name, found.get(name)]),
      wanted,
      what,
    );
  }
}

/** Overlays, VNICs and properties as they were made; each peer answers over IPv4 and IPv6. */
async function build(t: Test, subject: Subject, hosts: readonly Namespace[]): Promise<Picture> {
  for (const net of NETS) await create(subject, net, hosts);
  for (const net of NETS)
    for (const peer of inner(net, 2)) t.ok(await reaches(hosts[0], peer), `${net.overlay}: ${peer} answers`);
  return pictureOf(subject, hosts[0]);
}

/** Restarts it under pings of every peer. */
async function restartUnderPings(
  t: Test,
  subject: Subject,
  host: Namespace,
  restart: () => Promise<void>,
): Promise<void> {
  const peers = NETS.flatMap((net) => inner(net, 2).map((peer) => [net.overlay, peer] as const));
  const flows: SteadyPing[] = [];
  for (const [, peer] of peers) flows.push(await SteadyPing.start(host, peer, PING_INTERVAL_S));
  const length = subject.log.length;
  await restart();
  await settled(subject);
  for (const [index, flow] of flows.entries()) {
    const { sent, lost } = await flow.stop();
    const [overlay, peer] = peers[index];
    t.equal(lost, 0, `${overlay}: ${peer}: none of ${sent} is lost`);
    t.ok(sent > 10);
  }
  t.notMatch(subject.log.slice(length), TROUBLE, 'no warning, no error');
}

function settled({ call }: Subject): Promise<void> {
  const isSettled = async (): Promise<boolean> =>
    (await call('daemon.status', {}).catch(() => undefined))?.isSettled === true;
  return waitUntil(isSettled, { what: 'varpd to know what is up' });
}

// ---------------------------------------------------------------- ways to upgrade

/** A varpd that this test starts. */
class ByHand implements Subject {
  constructor(readonly daemon: Daemon) {}

  get call(): Call {
    return this.daemon.call;
  }

  get log(): string {
    return this.daemon.log();
  }

  write(name: string, text: string): string {
    const file = path.join(this.daemon.directory, name);
    writeFileSync(file, text);
    return file;
  }
}

const SERVICE_LOG = '/run/varpd.log';
const LOG_UNIT = `[Service]\nStandardOutput=append:${SERVICE_LOG}\nStandardError=append:${SERVICE_LOG}\n`;

/** The service of a systemd. */
class AsService implements Subject {
  readonly call: Call;

  constructor(readonly systemd: Systemd) {
    this.call = createClient(systemd.inside('/run/varpd/varpd.sock'));
  }

  get log(): string {
    return readFileSync(this.systemd.inside(SERVICE_LOG), 'utf8');
  }

  write(name: string, text: string): string {
    writeFileSync(this.systemd.inside(`/etc/varpd/${name}`), text);
    return `/etc/varpd/${name}`;
  }
}

const mayRead = (): false | string =>
  (statSync(fromRoot('dist/src/daemon/main.js')).mode & 0o004) === 0 &&
  'needs a clone that every user can read';

/** Where the trees are built, once each. */
const yard = new Bed();
t.teardown(() => yard.cleanup());

for (const [version, commit] of VERSIONS) {
  const skip = skipUnlessNetns(['git', 'tar']) || skipUnlessBuildable(commit);

  let built: string | undefined;
  /** Two hosts, and a tree of that version, to be upgraded. */
  const begin = async (t: Test): Promise<{ bed: Bed; hosts: readonly Namespace[]; tree: string }> => {
    const bed = new Bed();
    t.teardown(() => bed.cleanup());
    const hosts = await bed.twoHosts();
    if (built === undefined) buildOlderTree(commit, (built = yard.directory()));
    const tree = bed.directory();
    cpSync(built, tree, { recursive: true });
    return { bed, hosts, tree };
  };

  await t.test(`${version}: dladm restart`, { skip }, async (t) => {
    const { bed, hosts, tree } = await begin(t);
    const daemon = (await Daemon.start(bed, hosts[0], { tree })).explain(t);
    const subject = new ByHand(daemon);
    const before = await build(t, subject, hosts);
    const { pid } = daemon;
    upgradeTree(tree);
    await restartUnderPings(t, subject, hosts[0], async () => {
      const { code, stdout, stderr } = await daemon.dladm('restart');
      t.same([code, stdout, stderr], [0, '', '']);
    });
    check(t, before, await pictureOf(subject, hosts[0]));
    t.ok(daemon.running);
    t.equal(daemon.pid, pid);
    await restartUnderPings(t, subject, hosts[0], async () => {
      await daemon.ok('restart');
    });
    check(t, before, await pictureOf(subject, hosts[0]));
  });

  await t.test(`${version}: stored files and links`, { skip }, async (t) => {
    const { bed, hosts, tree } = await begin(t);
    const daemon = (await Daemon.start(bed, hosts[0], { tree, config: { persistTaps: true } })).explain(t);
    const subject = new ByHand(daemon);
    const before = await build(t, subject, hosts);
    await daemon.stop();
    const { log } = subject;
    upgradeTree(tree);
    await daemon.start();
    await settled(subject);
    check(t, before, await pictureOf(subject, hosts[0]));
    t.notMatch(subject.log.slice(log.length), TROUBLE, 'no warning, no error');
    for (const net of NETS)
      for (const peer of inner(net, 2))
        t.ok(await reaches(hosts[0], peer), `${net.overlay}: ${peer} answers`);
  });

  const needsSystemd =
    skipUnlessNetns(['unshare', 'nsenter', 'systemctl', 'useradd']) ||
    skipUnless({ files: [SYSTEMD] }) ||
    mayRead();
  await t.test(`${version}: systemctl restart`, { skip: skip || needsSystemd }, async (t) => {
    const { hosts, tree } = await begin(t);
    const systemd = await Systemd.bootWhereItRuns(hosts[0], tree);
    if (typeof systemd === 'string') {
      await t.test('it runs', { skip: systemd }, () => undefined);
      return;
    }
    t.teardown(() => systemd.end());
    const dropIn = systemd.inside('/etc/systemd/system/varpd.service.d');
    mkdirSync(dropIn, { recursive: true });
    writeFileSync(path.join(dropIn, 'log.conf'), LOG_UNIT);
    await systemd.install();
    const subject = new AsService(systemd);
    t.teardown(() => {
      if (!t.passing() && existsSync(systemd.inside(SERVICE_LOG))) t.comment(subject.log);
    });
    const before = await build(t, subject, hosts);
    upgradeTree(tree);
    await restartUnderPings(t, subject, hosts[0], async () => {
      await systemd.exec('systemctl restart varpd');
    });
    check(t, before, await pictureOf(subject, hosts[0]));
  });
}
