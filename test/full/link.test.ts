// The link watch on real links: an underlay that fails in every way it can, interfaces of ports that are taken away, and
// keepalived, which fails over across an overlay because its ports show it what became of the cable.
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import t from 'tap';

import { Daemon } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { healthBecomes, newSite, overlayOf, type Site } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { filesOverlay, MappingFile, neighbourMac, SteadyPing } from '../helpers/zlan.js';

const skip = skipUnlessNetns();

const carrierOf = async (host: Namespace, device: string): Promise<boolean> => {
  const [link] = JSON.parse(await host.ip(`-j link show dev ${device}`)) as [{ flags: string[] }];
  return link.flags.includes('LOWER_UP');
};

async function carrierBecomes(host: Namespace, device: string, on: boolean): Promise<void> {
  await waitUntil(async () => (await carrierOf(host, device)) === on, {
    what: `${device} ${on ? 'with' : 'without'} carrier`,
  });
}

/** CPU seconds of a second in which nothing happens: one that spins takes one or more. */
async function idleCpuSeconds(daemon: Daemon): Promise<number> {
  const before = daemon.cpuSeconds();
  await sleep(1000);
  return daemon.cpuSeconds() - before;
}

// ---------------------------------------------------------------- the underlay

interface Fault {
  readonly what: string;
  /** Commands for `ip` on a, or on b. */
  readonly go: (site: Site) => Promise<unknown>;
  readonly come: (site: Site) => Promise<unknown>;
  readonly sentence: RegExp;
  /** What the kernel does with frames meanwhile: a link without carrier takes them, and loses them. */
  readonly counter?: string;
}

const prefix = { v4: '10.88.88.0/24', v6: 'fd88::/64' } as const;
const local = { v4: '10.88.88.69/24', v6: 'fd88::69/64' } as const;

const faultsOf = (family: 'v4' | 'v6'): readonly Fault[] => {
  const back = family === 'v6' ? `addr replace ${local.v6} dev ${UNDERLAY_DEVICE} nodad` : undefined;
  return [
    {
      what: 'the link is set down',
      go: ({ a }) => a.ip(`link set ${UNDERLAY_DEVICE} down`),
      // A link that goes down loses its IPv6 addresses.
      come: async ({ a }) => {
        await a.ip(`link set ${UNDERLAY_DEVICE} up`);
        if (back !== undefined) await a.ip(back);
      },
      sentence: /^link under0 is down$/,
      counter: 'tx_unreachable',
    },
    {
      what: 'the cable is drawn',
      go: ({ b }) => b.ip(`link set ${UNDERLAY_DEVICE} down`),
      come: async ({ b }) => {
        await b.ip(`link set ${UNDERLAY_DEVICE} up`);
        if (family === 'v6') await b.ip(`addr replace ${b.underlay.v6}/64 dev ${UNDERLAY_DEVICE} nodad`);
      },
      sentence: /^link under0 has no carrier$/,
    },
    {
      what: 'the address is removed',
      go: async ({ a }) => {
        // There is another one: the route stays.
        await a.ip(
          `addr add ${family === 'v4' ? '10.88.88.200/24' : 'fd88::200/64 nodad'} dev ${UNDERLAY_DEVICE}`,
        );
        if (family === 'v4') await a.sysctl(`net.ipv4.conf.${UNDERLAY_DEVICE}.promote_secondaries`, 1);
        await a.ip(`addr del ${local[family]} dev ${UNDERLAY_DEVICE}`);
      },
      come: ({ a }) =>
        a.ip(`addr add ${local[family]} dev ${UNDERLAY_DEVICE} ${family === 'v6' ? 'nodad' : ''}`),
      sentence: new RegExp(`^${local[family].replace(/\/.*/, '')} is not an address of this host$`),
      // IPv6 goes on sending from an address that it has lost.
      ...(family === 'v4' && { counter: 'tx_unreachable' }),
    },
    {
      what: 'the route is lost',
      go: ({ a }) => a.ip(`route del ${prefix[family]} dev ${UNDERLAY_DEVICE}`),
      come: ({ a }) => a.ip(`route add ${prefix[family]} dev ${UNDERLAY_DEVICE}`),
      sentence: new RegExp(`^no route to ${family === 'v4' ? '10.88.88.70' : 'fd88::70'}$`),
      counter: 'tx_unreachable',
    },
  ];
};

for (const family of ['v4', 'v6'] as const) {
  await t.test(`an underlay of IP${family} that goes and comes`, { skip }, async (t) => {
    const site = await newSite(t, family);
    const { a, b, daemon } = site;
    const times: number[] = [];
    for (const [index, { what, go, come, sentence, counter }] of faultsOf(family).entries()) {
      await t.test(what, async (t) => {
        const isLost = async (): Promise<void> => {
          await go(site);
          times.push(await healthBecomes(t, daemon, sentence));
          t.equal((await ping(a, b.overlay.v4, { count: 2, waitMs: 100 })).received, 0, 'nothing passes');
        };
        const expected = counter === undefined ? {} : { [counter]: 1 };
        const grown = await daemon.counted(isLost, 'overlay0', expected);
        if (counter !== undefined) t.ok(grown[counter] >= 1, `it is counted as ${counter}`);
        t.match(await overlayOf(daemon), { underlay: { state: 'down', losses: index + 1 } }, 'and shown');
        t.ok(await carrierOf(a, 'overlay0'), 'ports keep their carrier: link-state=up');
        if (index === 0) t.ok((await idleCpuSeconds(daemon)) < 0.5, 'nothing spins');
        await come(site);
        times.push(await healthBecomes(t, daemon, 'ONLINE'));
        t.ok(await reaches(a, b.overlay.v4), 'it passes again');
        t.match(await overlayOf(daemon), { underlay: { state: 'up' }, health: { details: null } });
      });
    }
    t.comment(`heard of after ms: ${times.map((ms) => ms.toFixed(1)).join(' ')}`);
    const log = daemon.log();
    t.match(log, /overlay0: degraded: link under0 has no carrier/, 'the log has it');
    t.match(log, /overlay0: online/);
    t.match(await daemon.ok('show-overlay -f overlay0'), /overlay0 +ONLINE/);
  });
}

await t.test('known traffic through an outage', { skip }, async (t) => {
  const { a, b, daemon } = await newSite(t, 'v4');
  const steady = await SteadyPing.start(a, b.overlay.v4);
  const before = daemon.residentKib();
  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  await sleep(2000);
  t.ok(daemon.residentKib() < before + 20_000, 'nothing piles up');
  const reached = steady.reached;
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  const startedMs = performance.now();
  await waitUntil(() => steady.reached > reached, { stepMs: 5, what: 'the flow to go on' });
  t.comment(`goes on ${(performance.now() - startedMs).toFixed(0)} ms after the link is up`);
  const { duplicates } = await steady.stop();
  t.equal(duplicates, 0, 'nothing is sent twice');
});

await t.test('messages that the kernel could not keep', { skip }, async (t) => {
  const { a, daemon } = await newSite(t, 'v4');
  const flood: string[] = [];
  for (let round = 0; round < 12; round++) {
    for (const verb of ['add', 'del'])
      for (let host = 1; host < 255; host++) flood.push(`route ${verb} 198.51.${round}.${host}/32 dev lo`);
  }
  const batch = path.join(daemon.directory, 'flood');
  daemon.signal('SIGSTOP');
  for (let round = 0; round < 4; round++) {
    writeFileSync(batch, `${flood.join('\n')}\n`);
    await a.exec(['ip', '-batch', batch]);
  }
  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  daemon.signal('SIGCONT');
  await healthBecomes(t, daemon, /link under0 is down/);
  t.match(daemon.log(), /the kernel has lost messages/, 'some were lost');
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  await healthBecomes(t, daemon, 'ONLINE');
});

await t.test('several destinations', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  const file = new MappingFile(bed);
  const entry = (ip: string) => ({ ip, port: 4789 });
  const hosts = { '2:0:0:0:0:1': entry(a.underlay.v4), '2:0:0:0:0:2': entry('10.88.88.70') };
  file.replace(hosts);
  await daemon.ok(filesOverlay(a, file));
  t.match(await overlayOf(daemon), { health: { status: 'ONLINE' }, underlay: { state: 'up' } });
  file.replace({ ...hosts, '2:0:0:0:0:3': entry('192.0.2.1') });
  await healthBecomes(t, daemon, /^no route to 192.0.2.1: 1 of 2 destinations cannot be reached$/);
  t.match(await overlayOf(daemon), { underlay: { state: 'partly' } }, 'a new host without a route');
  await a.ip(`route add 192.0.2.0/24 via ${a.underlay.v4.replace('69', '70')}`);
  await healthBecomes(t, daemon, 'ONLINE');
  await a.ip('route del 192.0.2.0/24');
  await healthBecomes(t, daemon, /^no route to 192.0.2.1/);
  writeFileSync(file.path, '{');
  await healthBecomes(t, daemon, /^no route to 192.0.2.1.*; .*hosts.json/);
  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  await healthBecomes(t, daemon, /^link under0 is down; .*hosts.json/);
  file.replace(hosts);
  await healthBecomes(t, daemon, /^link under0 is down$/);
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  await healthBecomes(t, daemon, 'ONLINE');
});

await t.test('a start before the address is there', { skip }, async (t) => {
  const { a, b, daemon } = await newSite(t, 'v4');
  await a.ip(`addr del ${local.v4} dev ${UNDERLAY_DEVICE}`);
  await daemon.restart();
  t.same(await daemon.overlays(), [], 'the overlay cannot run');
  await a.ip(`addr add ${local.v4} dev ${UNDERLAY_DEVICE}`);
  const runs = async (): Promise<boolean> => (await daemon.overlays()).length === 1;
  await waitUntil(runs, { what: 'the overlay to start by itself' });
  await a.plumb('overlay0');
  await b.ip('neigh flush dev vx0');
  t.ok(await reaches(a, b.overlay.v4));
});

// ---------------------------------------------------------------- ports

await t.test('link-state=follow', { skip }, async (t) => {
  const { bed, a, daemon } = await newSite(t, 'v4', '-p link-state=follow');
  const inside = await bed.host();
  await daemon.ok('create-vnic -l overlay0 foo0');
  await daemon.ok('create-vnic -l overlay0 moved0');
  await a.ip(`link set moved0 netns ${inside.name}`);
  await inside.plumb('moved0');
  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  await healthBecomes(t, daemon, /^link under0 is down$/);
  for (const device of ['overlay0', 'foo0']) await carrierBecomes(a, device, false);
  await carrierBecomes(inside, 'moved0', false);
  t.match(daemon.log(), /overlay0: its ports lose their carrier/);
  await daemon.ok('create-vnic -l overlay0 late0');
  t.notOk(await carrierOf(a, 'late0'), 'one that is made meanwhile has none either');
  t.match(await daemon.ok('show-overlay -p -o property,value overlay0'), /link-state:follow/);
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  for (const device of ['overlay0', 'foo0', 'late0']) await carrierBecomes(a, device, true);
  await carrierBecomes(inside, 'moved0', true);

  await a.ip(`link set ${UNDERLAY_DEVICE} down`);
  await carrierBecomes(a, 'overlay0', false);
  await daemon.restart();
  await healthBecomes(t, daemon, /^link under0 is down$/);
  t.notOk(await carrierOf(a, 'foo0'), 'a start without underlay makes them without carrier');
  await a.ip(`link set ${UNDERLAY_DEVICE} up`);
  await carrierBecomes(a, 'overlay0', true);
});

await t.test('interfaces that are tampered with', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newSite(t, 'v4');
  const inside = await bed.host();
  await daemon.ok('create-vnic -l overlay0 foo0');
  const state = async (): Promise<string> => (await daemon.vnics())[0].state;
  await a.ip('link set foo0 up');

  await a.ip('link set foo0 down');
  await healthBecomes(t, daemon, /^port foo0: its interface was set down$/);
  t.equal(await state(), 'down');
  t.ok((await idleCpuSeconds(daemon)) < 0.5, 'nothing spins');
  await a.ip('link set foo0 up');
  await healthBecomes(t, daemon, 'ONLINE');
  t.equal(await state(), 'up');

  await a.ip('link set foo0 name other0');
  await healthBecomes(t, daemon, /^port foo0: its interface was renamed to other0$/);
  t.equal(await state(), 'renamed to other0');
  await a.ip('link set other0 down');
  await a.ip('link set other0 name foo0');
  await healthBecomes(t, daemon, /was set down$/);
  await a.ip('link set foo0 up');
  await healthBecomes(t, daemon, 'ONLINE');

  await a.ip(`link set foo0 netns ${inside.name}`);
  await waitUntil(() => daemon.log().includes('port foo0: its interface has left'), { what: 'the log' });
  await inside.plumb('foo0');
  t.ok(await reaches(inside, b.overlay.v4), 'it works in another namespace');
  t.equal((await overlayOf(daemon)).health.status, 'ONLINE', 'which is no trouble');
  t.ok((await idleCpuSeconds(daemon)) < 0.5, 'nothing spins');
  await inside.ip(`link set foo0 netns ${a.name}`);
  // A move sets it down.
  await healthBecomes(t, daemon, /^port foo0: its interface was set down$/);

  await a.ip('link del foo0');
  await healthBecomes(t, daemon, /^port foo0: the device was removed$/);
  t.ok((await idleCpuSeconds(daemon)) < 0.5, 'nothing spins');
  await daemon.ok('up-overlay overlay0');
  await healthBecomes(t, daemon, 'ONLINE');
  await a.ip('link set foo0 down');
  await healthBecomes(t, daemon, /set down$/);
  await daemon.ok('delete-vnic foo0');
  await healthBecomes(t, daemon, 'ONLINE');
});

// ---------------------------------------------------------------- a consumer

const VIRTUAL_IP = '10.55.55.100';
/** A second: keepalived says the rest in its own units. */
const ADVERTISEMENT_S = 0.2;

interface Router {
  readonly host: Namespace;
  readonly device: string;
  readonly mac: string;
  /** Has the address now, and answers for it. */
  isMaster(): Promise<boolean>;
  readonly log: () => string;
}

/**
 * VRRP (RFC 5798) on a VNIC with this MAC, which the mapping places on this host. Whoever becomes master puts the
 * virtual address beside its own MAC in the mapping, as proxy ARP answers out of that.
 */
async function startRouter(
  host: Namespace,
  daemon: Daemon,
  { mac, priority, file, asMaster }: { mac: string; priority: number; file: MappingFile; asMaster: string },
  directory: string,
): Promise<Router> {
  const device = `vr${host.index}`;
  await daemon.ok(`create-vnic -m ${mac} -l overlay0 ${device}`);
  await host.ip(`addr add ${host.overlay.v4}/24 dev ${device}`);
  // keepalived runs no script that anybody but root may replace.
  chmodSync(directory, 0o700);
  const inDirectory = (name: string): string => path.join(directory, name);
  const [config, notify, mapping, logFile] = ['conf', 'notify', 'mapping', 'keepalived.log'].map(inDirectory);
  writeFileSync(mapping, asMaster);
  writeFileSync(
    notify,
    `#!/bin/sh\numask 022 # keepalived's lets nobody read, and varpd is not root\ncp ${mapping} ${file.path}.${device} && mv ${file.path}.${device} ${file.path}\n`,
    {
      mode: 0o700,
    },
  );
  writeFileSync(
    config,
    `global_defs {
  vrrp_version 3
  script_user root
  enable_script_security
}
vrrp_instance gateway {
  state BACKUP
  interface ${device}
  virtual_router_id 51
  priority ${priority}
  advert_int ${ADVERTISEMENT_S}
  virtual_ipaddress {
    ${VIRTUAL_IP}/24
  }
  notify_master ${notify}
}
`,
  );
  writeFileSync(logFile, '');
  const pids = ['-p', inDirectory('main.pid'), '-r', inDirectory('vrrp.pid')];
  host.spawn(['keepalived', '-P', '-n', '-l', '-D', '-f', config, ...pids], { logFile });
  return {
    host,
    device,
    mac,
    isMaster: async () => (await host.ip(`-o addr show dev ${device}`)).includes(`${VIRTUAL_IP}/24`),
    log: () => readFileSync(logFile, 'utf8'),
  };
}

const becomesMaster = (router: Router, is = true): Promise<void> =>
  waitUntil(async () => (await router.isMaster()) === is, {
    what: `${router.device} to ${is ? 'become' : 'cease to be'} master`,
  });

const skipKeepalived = skipUnlessNetns(['keepalived']);
await t.test('keepalived across an overlay', { skip: skipKeepalived }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const hosts = await bed.hostsOnSwitch(3, { v6: false });
  const hub = bed.hosts[3];
  const macs = hosts.map((_, index) => `02:00:00:00:00:0${index + 1}`);
  const mapping = (master?: number): string => {
    const entries = hosts.map(({ underlay, overlay }, index) => {
      const arp = index === master ? [overlay.v4, VIRTUAL_IP] : overlay.v4;
      return [macs[index], { ip: underlay.v4, port: 4789, arp }] as const;
    });
    return JSON.stringify(Object.fromEntries(entries));
  };
  const file = new MappingFile(bed);
  file.replace(mapping());
  const daemons = await Promise.all(
    hosts.map(async (host) => (await Daemon.start(bed, host, { withoutRoot: true })).explain(t)),
  );
  for (const [index, daemon] of daemons.entries())
    await daemon.ok(filesOverlay(hosts[index], file, { more: '-p files/flood=on -p link-state=follow' }));
  const client = { host: hosts[2], device: 'client0' };
  await daemons[2].ok(`create-vnic -m ${macs[2]} -l overlay0 ${client.device}`);
  await client.host.ip(`addr add ${client.host.overlay.v4}/24 dev ${client.device}`);
  const router = (index: number, priority: number): Promise<Router> => {
    const options = { mac: macs[index], priority, file, asMaster: mapping(index) };
    return startRouter(hosts[index], daemons[index], options, bed.directory());
  };
  const first = await router(0, 150);
  // Two that become master at once both write the mapping, and the last one stays.
  await becomesMaster(first);
  const second = await router(1, 100);
  t.teardown(() => {
    if (!t.passing()) for (const { log } of [first, second]) t.comment(log());
  });
  const serves = async ({ mac }: Router, why: string): Promise<void> => {
    const isServed = async (): Promise<boolean> =>
      (await ping(client.host, VIRTUAL_IP, { count: 1, waitMs: 200 })).received === 1 &&
      (await neighbourMac(client, VIRTUAL_IP)) === mac;
    await waitUntil(isServed, { what: `the client to be served by ${mac}` });
    t.pass(why);
  };

  await becomesMaster(second, false);
  await serves(first, 'the first is master, and serves the client');

  const startedMs = performance.now();
  await hub.ip('link set port0 down');
  await becomesMaster(second);
  t.comment(
    `the second was master ${(performance.now() - startedMs).toFixed(0)} ms after the link went down`,
  );
  await becomesMaster(first, false);
  t.match(first.log(), /gateway\) Entering FAULT STATE/, 'the first has seen its cable drawn');
  await serves(second, 'the second serves the client');
  t.comment(`and served the client after ${(performance.now() - startedMs).toFixed(0)} ms`);

  await hub.ip('link set port0 up');
  await becomesMaster(first);
  await becomesMaster(second, false);
  await serves(first, 'and the first again, once its link is back');
});
