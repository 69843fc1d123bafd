// Containers on two hosts by docs/cni.md: the library of the CNI project executes varpd-cni, host-local, dhcp and tuning.
import { existsSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';

import { CNI_MAIN, HOST_LOCAL, pathOf, PLUGINS } from '../helpers/cni.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { textOf } from '../helpers/documents.js';
import { fromRoot, skipUnless, skipUnlessNetns } from '../helpers/need.js';
import type { Bed, Namespace } from '../helpers/netns.js';
import { exec, type Result, waitUntil } from '../helpers/process.js';
import { ping } from '../helpers/traffic.js';
import { newBed, VNETID } from '../helpers/tunnels.js';

const GO_PATH = '/usr/share/gocode';
const LIBRARY = `${GO_PATH}/src/github.com/containernetworking/cni/libcni/api.go`;
const skip = skipUnlessNetns(['dnsmasq']) || skipUnless({ programs: ['go'], files: [HOST_LOCAL, LIBRARY] });

type Json = Readonly<Record<string, unknown>>;
interface ConfList extends Json {
  readonly plugins: readonly (Json & { readonly ipam?: Json })[];
}

/** One engine for all tests: it takes Go half a minute to build one. */
let built: Promise<string> | undefined;
const buildEngine = (bed: Bed): Promise<string> =>
  (built ??= (async () => {
    const directory = bed.directory();
    const program = path.join(directory, 'cni-engine');
    const env = {
      GO111MODULE: 'off',
      GOPATH: GO_PATH,
      GOCACHE: path.join(directory, 'cache'),
      HOME: directory,
    };
    await exec(['go', 'build', '-o', program, fromRoot('test/helpers/cni-engine.go')], {
      env,
      timeoutMs: 240_000,
    });
    return program;
  })());

/** An engine on the host of a varpd. */
class Engine {
  readonly directory: string;
  readonly conflist: string;

  constructor(
    readonly daemon: Daemon,
    bed: Bed,
    readonly program: string,
    list: ConfList,
  ) {
    this.directory = bed.directory();
    symlinkSync(CNI_MAIN, path.join(this.directory, 'varpd-cni'));
    this.conflist = path.join(this.directory, '10-varpd.conflist');
    const dataDir = path.join(this.directory, 'networks');
    const plugins = list.plugins.map((plugin) =>
      plugin.ipam === undefined ? plugin : { ...plugin, ipam: { ...plugin.ipam, dataDir } },
    );
    writeFileSync(this.conflist, JSON.stringify({ ...list, plugins }));
  }

  run(command: string, container: Namespace, capabilities: Json = {}, ifname = 'eth0'): Promise<Result> {
    const env = {
      CNI_PATH: `${this.directory}:${PLUGINS}`,
      CNI_CACHE: path.join(this.directory, 'cache'),
      CAP_ARGS: JSON.stringify(capabilities),
      VARPD_SOCKET: this.daemon.socket,
      PATH: `${path.dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
    };
    const words = [this.program, command, this.conflist, container.name, pathOf(container), ifname];
    return this.daemon.host.run(words, { env, timeoutMs: 120_000 });
  }

  async ok(
    t: Test,
    command: string,
    container: Namespace,
    capabilities?: Json,
    ifname?: string,
  ): Promise<Json> {
    const result = await this.run(command, container, capabilities, ifname);
    t.equal(result.code, 0, `${command} ${container.name}: ${result.stderr}`);
    return result.stdout === '' ? {} : (JSON.parse(result.stdout) as Json);
  }
}

/** The configuration of the page, for the n-th host: each has a range of its own. */
function pageList(host: number): ConfList {
  const text = textOf('config/varpd.conflist');
  const own = text.replaceAll('10.55.1.', `10.55.${host}.`).replaceAll('fd55::1:', `fd55::${host}:`);
  return JSON.parse(own) as ConfList;
}

interface Site {
  readonly bed: Bed;
  readonly engines: readonly [Engine, Engine];
}

async function site(t: Test, listOf: (host: number) => ConfList = pageList): Promise<Site> {
  const bed = newBed(t);
  const hosts = await bed.twoHosts();
  const engines: Engine[] = [];
  for (const [index, host] of hosts.entries()) {
    const daemon = (await Daemon.start(bed, host, { withoutRoot: true })).explain(t);
    const peer = hosts[1 - index];
    await daemon.ok(directOverlay({ from: host.underlay.v4, to: peer.underlay.v4, vnetid: VNETID }));
    engines.push(new Engine(daemon, bed, await buildEngine(bed), listOf(index + 1)));
  }
  return { bed, engines: [engines[0], engines[1]] };
}

await t.test('the page has the configuration', (t) => {
  t.ok(textOf('docs/cni.md').includes(`\`\`\`json\n${textOf('config/varpd.conflist')}\`\`\``));
  t.end();
});

const builtIn = newBed(t);

await t.test('containers on two hosts', { skip }, async (t) => {
  await buildEngine(builtIn);
  const { bed, engines } = await site(t);
  const [first, second] = engines;
  const [c, d] = [await bed.host(), await bed.host()];
  const mac = '02:00:00:00:00:c1';
  const added = await first.ok(t, 'add', c, { mac, ips: ['10.55.1.77'] });
  t.match(added, {
    interfaces: [{ name: 'eth0', mac, sandbox: pathOf(c) }],
    ips: [
      { address: '10.55.1.77/16', interface: 0 },
      { address: 'fd55::1:2/64', interface: 0 },
    ],
  });
  await second.ok(t, 'add', d);
  t.equal(await c.exec('cat /proc/sys/net/core/somaxconn'), '1024\n', 'the plugin tuning came behind it');
  for (const address of ['10.55.2.2', 'fd55::2:2'])
    t.equal((await ping(c, address)).received, 3, `${address} is reached through the overlay`);
  for (const [engine, container, capabilities] of [
    [first, c, { mac, ips: ['10.55.1.77'] }],
    [second, d, {}],
  ] as const)
    await engine.ok(t, 'check', container, capabilities);

  await t.test('only the addresses of IPAM may be used', async (t) => {
    await c.ip('addr add 10.55.9.9/16 dev eth0');
    const refused = await c.run('ping -c 2 -W 1 -I 10.55.9.9 10.55.2.2');
    t.not(refused.code, 0);
    await c.ip('addr del 10.55.9.9/16 dev eth0');
  });

  await t.test('varpd is restarted', async (t) => {
    const { daemon } = first;
    const before = await daemon.vnics();
    await daemon.ok('restart');
    await daemon.settled();
    const after = await daemon.vnics();
    const plain = ({ name, mac, attachment, state }: (typeof before)[number]) => ({
      name,
      mac,
      attachment,
      state,
    });
    t.strictSame(after.map(plain), before.map(plain));
    t.equal(await c.macOf('eth0'), mac);
    await first.ok(t, 'check', c, { mac, ips: ['10.55.1.77'] });
    t.equal((await ping(c, '10.55.2.2')).received, 3, 'and frames go on');
    t.equal((await ping(d, 'fd55::1:2')).received, 3);
    t.equal(
      await daemon.ok('export'),
      (await daemon.ok('export')).replace(/^.*cni.*$/gm, ''),
      'not declared',
    );
    await c.ip('addr add 10.55.9.9/16 dev eth0');
    t.not((await c.run('ping -c 2 -W 1 -I 10.55.9.9 10.55.2.2')).code, 0, 'its protection is in force');
  });

  await first.ok(t, 'del', c);
  t.notOk(await c.hasDevice('eth0'));
  t.strictSame(await first.daemon.vnics(), []);
  await first.ok(t, 'del', c);
});

await t.test('many at once', { skip }, async (t) => {
  const { bed, engines } = await site(t);
  const [engine] = engines;
  const containers: Namespace[] = [];
  for (let count = 0; count < 12; count++) containers.push(await bed.host());
  const results = await Promise.all(containers.map((container) => engine.ok(t, 'add', container)));
  const addresses = results.map(({ ips }) => (ips as { address: string }[])[0].address);
  t.equal(new Set(addresses).size, containers.length, 'each has an address of its own');
  await engine.ok(t, 'add', containers[0], {}, 'net1');
  t.equal((await engine.daemon.vnics()).length, containers.length + 1, 'one container may have two');
  t.equal((await ping(containers[0], addresses[11].replace(/\/.*/, ''))).received, 3);
  await Promise.all(
    containers.map((container) => engine.ok(t, container === containers[1] ? 'check' : 'del', container)),
  );
  const left = (await engine.daemon.vnics()).map(({ attachment }) => attachment).sort();
  const network = (container: Namespace, ifname: string): string => `cni:net0/${container.name}/${ifname}`;
  t.strictSame(left, [network(containers[0], 'net1'), network(containers[1], 'eth0')].sort());
});

await t.test('addresses from a DHCP server', { skip }, async (t) => {
  const directory = newBed(t).directory();
  const file = path.join(directory, 'dhcp.sock');
  const ipam = { type: 'dhcp', daemonSocketPath: file };
  const list = {
    cniVersion: '1.0.0',
    name: 'net0',
    plugins: [{ type: 'varpd-cni', overlay: 'overlay0', ipam }],
  };
  const { bed, engines } = await site(t, () => list);
  const [first, second] = engines;
  const { host } = second.daemon;
  await host.ip('addr add 10.55.0.1/24 dev overlay0');
  host.spawn([
    ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--port=0', '--interface=overlay0'],
    ...['--dhcp-range=10.55.0.10,10.55.0.20,255.255.255.0,1h', '--dhcp-option=option:router,10.55.0.1'],
    ...[`--dhcp-leasefile=${path.join(directory, 'leases')}`, '--pid-file=', '--user=root', '--no-ping'],
  ]);
  const daemon = first.daemon.host.spawn([path.join(PLUGINS, 'dhcp'), 'daemon', '-socketpath', file]);
  await waitUntil(() => existsSync(file), { what: 'the DHCP client' });
  const c = await bed.host();
  const added = await first.ok(t, 'add', c);
  t.match(added, {
    ips: [{ address: /^10\.55\.0\.(?:1[0-9]|20)\/24$/, gateway: '10.55.0.1', interface: 0 }],
  });
  t.equal((await ping(c, '10.55.0.1')).received, 3);
  await first.ok(t, 'del', c);
  t.strictSame(await first.daemon.vnics(), []);
  await daemon.stop();
});
