// What others do to our interfaces and routes, on real ones: MAC, MTU, name, state and namespace of ports; and routes that lead
// back into the overlay that they should carry.
import { setTimeout as sleep } from 'node:timers/promises';

import t, { type Test } from 'tap';

import { Daemon, directOverlay } from '../helpers/daemon.js';
import { skipUnlessNetns } from '../helpers/need.js';
import { Bed, type Namespace, UNDERLAY_DEVICE } from '../helpers/netns.js';
import { waitUntil } from '../helpers/process.js';
import { healthBecomes, newSite, overlayOf } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { usual } from '../helpers/whole.js';

const skip = skipUnlessNetns();

/** Two hosts with a varpd each, and a VNIC each with the overlay addresses: foo0 on a, and on b. */
async function newPair(t: Test, create = '-m 2:0:0:0:0:a1', more = '', config = {}) {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemons: Daemon[] = [];
  for (const [host, peer] of [
    [a, b],
    [b, a],
  ] as const) {
    const daemon = (await Daemon.start(bed, host, { config, withoutRoot: true })).explain(t);
    await daemon.ok(directOverlay({ from: host.underlay.v4, to: peer.underlay.v4 }, more));
    await daemon.ok(`create-vnic -l overlay0 ${host === a ? create : ''} foo0`);
    await host.plumb('foo0');
    daemons.push(daemon);
  }
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  return { bed, a, b, daemon: daemons[0], other: daemons[1] };
}

const vnicOf = async (daemon: Daemon, name = 'foo0') =>
  (await daemon.vnics()).find((one) => one.name === name)!;

async function macBecomes(daemon: Daemon, mac: string, name = 'foo0'): Promise<void> {
  await waitUntil(async () => (await vnicOf(daemon, name)).mac === mac, { what: `${name} to have ${mac}` });
}

const [CONFIGURED, CHANGED, THIRD] = ['02:00:00:00:00:a1', '02:00:00:00:00:ee', '02:00:00:00:00:dd'];

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

for (const queues of usual([1, 2], (count) => count === 2)) {
  t.test(`a MAC that somebody changes, ${queues} queues`, { skip }, async (t) => {
    const { bed, a, b, daemon } = await newPair(t, `-m ${CONFIGURED}`, `-p queues=${queues}`);
    await daemon.ok('create-vnic -l overlay0 bar0');
    const guest = await bed.host();
    await a.ip(`link set bar0 netns ${guest.name}`);
    await guest.plumb('bar0');
    const works = async (why: string): Promise<void> => {
      for (const [from, to] of [
        [a, b],
        [guest, a],
      ] as const)
        for (const address of [to.overlay.v4, to.overlay.v6]) t.ok(await reaches(from, address), why);
      t.equal((await overlayOf(daemon)).health.status, 'ONLINE');
    };
    await works('all reach each other');
    await a.ip(`link set foo0 address ${CHANGED}`);
    await macBecomes(daemon, CHANGED);
    t.match(await vnicOf(daemon), { mac: CHANGED, configuredMac: CONFIGURED, state: 'up' });
    await b.ip('neigh flush all');
    await guest.ip('neigh flush all');
    await works('with the new one too, from the tunnel and from this host');
    t.match(await daemon.ok('show-vnic -p -o macaddress foo0'), /02\\?:00\\?:00\\?:00\\?:00\\?:ee/);
    t.match((await daemon.dladm('create-vnic', '-l', 'overlay0', '-m', CHANGED, 'baz0')).stderr, /is in use/);
    await a.ip(`link set overlay0 address ${THIRD}`);
    await waitUntil(() => daemon.log().includes(`port overlay0: its MAC is ${THIRD}`), { what: 'the log' });

    // In a container, of which the kernel tells nothing here.
    const before = await guest.macOf('bar0');
    await guest.ip('link set bar0 address 2:0:0:0:0:bb');
    await macBecomes(daemon, '02:00:00:00:00:bb', 'bar0');
    await works('of one in a container as well');
    await guest.ip(`link set bar0 address ${before}`);
    await macBecomes(daemon, before, 'bar0');

    // Another port's, and back as it was.
    await daemon.ok(`create-vnic -l overlay0 -m ${THIRD.replace('dd', 'cc')} baz0`);
    await a.ip('link set baz0 address 2:0:0:0:0:ee');
    await healthBecomes(
      t,
      daemon,
      /^port baz0: its interface has the MAC 02:00:00:00:00:ee, which is that of port foo0$/,
    );
    t.equal((await vnicOf(daemon, 'baz0')).state, 'has the MAC 02:00:00:00:00:ee');
    t.ok(await reaches(a, b.overlay.v4), 'whose frames it does not get');
    await a.ip(`link set foo0 address ${CONFIGURED}`);
    await macBecomes(daemon, CONFIGURED);
    await healthBecomes(t, daemon, 'ONLINE');
    t.equal((await vnicOf(daemon, 'baz0')).mac, CHANGED, 'once it is free it is followed');
    await works('as it was in the beginning');
  });
}

t.test('a MAC that link protection keeps', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newPair(t, `-m ${CONFIGURED} -p protection=mac-nospoof`);
  const guest = await bed.host();
  await a.ip(`link set foo0 netns ${guest.name}`);
  await guest.plumb('foo0');
  t.ok(await reaches(guest, b.overlay.v4));
  await guest.ip(`link set foo0 address ${CHANGED}`);
  const kept =
    /^port foo0: its interface has the MAC 02:00:00:00:00:ee, and link protection keeps it to 02:00:00:00:00:a1$/;
  await healthBecomes(t, daemon, kept);
  t.match(await vnicOf(daemon), { mac: CONFIGURED, state: `has the MAC ${CHANGED}` });
  const grown = await daemon.counted(async () => {
    t.equal(
      (await ping(guest, b.overlay.v4, { count: 2, waitMs: 100 })).received,
      0,
      'a guest is not rid of it',
    );
  });
  t.ok(grown['mac_spoofed'] > 0);
  await daemon.ok('reset-linkprop -p protection foo0');
  await healthBecomes(t, daemon, 'ONLINE');
  await macBecomes(daemon, CHANGED);
  t.ok(await reaches(guest, b.overlay.v4), 'without it, the MAC is followed');
  await daemon.ok('set-linkprop -p protection=dhcp-nospoof foo0');
  await healthBecomes(t, daemon, kept);
  await guest.ip(`link set foo0 address ${CONFIGURED}`);
  await healthBecomes(t, daemon, 'ONLINE');
  await macBecomes(daemon, CONFIGURED);
});

t.test('an interface that a container hands back', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newPair(t);
  const guest = await bed.host();
  await a.ip(`link set foo0 netns ${guest.name}`);
  await guest.ip('link set foo0 name dev5');
  await guest.plumb('dev5');
  t.ok(await reaches(guest, b.overlay.v4));
  await guest.ip('link set dev5 down');
  await guest.ip('link set dev5 up');
  t.match(await vnicOf(daemon), { state: 'up' }, 'a container may name it as it likes');
  await guest.ip(`link set dev5 down netns ${a.name}`);
  await healthBecomes(t, daemon, /^port foo0: its interface was renamed to dev5$/);
  t.equal((await vnicOf(daemon)).state, 'renamed to dev5');
  await a.ip('link set dev5 name foo0');
  await healthBecomes(t, daemon, /^port foo0: its interface was set down$/);
  await a.plumb('foo0');
  await healthBecomes(t, daemon, 'ONLINE');
  t.ok(await reaches(a, b.overlay.v4));
  // Gone and back while nobody looks, with another MAC; the messages are lost.
  daemon.signal('SIGSTOP');
  await a.ip(`link set foo0 netns ${guest.name}`);
  await guest.ip(`link set foo0 address ${CHANGED} name dev6 netns ${a.name}`);
  daemon.signal('SIGCONT');
  await healthBecomes(t, daemon, /renamed to dev6$/);
  await macBecomes(daemon, CHANGED);
});

t.test('the MTU of a port', { skip }, async (t) => {
  const { a, daemon } = await newPair(t);
  await a.ip('link set foo0 mtu 1300');
  await waitUntil(async () => (await vnicOf(daemon)).mtuBytes === 1300, { what: 'the MTU to be shown' });
  t.equal(
    (await overlayOf(daemon)).health.status,
    'ONLINE',
    'a smaller one is the choice of whoever sets it',
  );
  await a.ip('link set foo0 mtu 9000');
  await healthBecomes(
    t,
    daemon,
    /^port foo0: its interface has an MTU of 9000: packets above 1450 will be dropped$/,
  );
  t.match(await vnicOf(daemon), { mtuBytes: 9000, state: 'up' });
  await a.ip('link set foo0 mtu 1450');
  await healthBecomes(t, daemon, 'ONLINE');
});

t.test('what others may do to a port', { skip }, async (t) => {
  const { a, b, daemon } = await newPair(t);
  await a.ip('link add br0 type bridge');
  await a.ip('link set foo0 alias something');
  await a.ip('link set foo0 txqueuelen 77');
  await a.exec('tc qdisc replace dev foo0 root pfifo');
  await a.ip('link set overlay0 master br0');
  t.ok(await reaches(a, b.overlay.v4));
  await a.ip('link set foo0 down');
  await healthBecomes(t, daemon, /^port foo0: its interface was set down$/);
  await a.ip('link set foo0 up');
  await healthBecomes(t, daemon, 'ONLINE');
});

t.test('ports that are not as configured when varpd starts again', { skip }, async (t) => {
  const { bed, a, b, daemon } = await newPair(t, `-m ${CONFIGURED}`, '', { persistTaps: true });
  const guest = await bed.host();
  await daemon.ok('create-vnic -l overlay0 bar0');
  await a.ip(`link set bar0 netns ${guest.name}`);
  await guest.ip('link set bar0 address 2:0:0:0:0:bb');
  await guest.plumb('bar0');
  await a.ip(`link set foo0 address ${CHANGED} mtu 1300 down`);
  await healthBecomes(t, daemon, /^port foo0: its interface was set down$/);
  const isAsLeft = async (what: string): Promise<void> => {
    await healthBecomes(t, daemon, /^port foo0: its interface was set down$/);
    t.match(
      await vnicOf(daemon),
      { state: 'down', mac: CHANGED, configuredMac: CONFIGURED, mtuBytes: 1300 },
      what,
    );
    await a.plumb('foo0');
    await healthBecomes(t, daemon, 'ONLINE');
    await b.ip('neigh flush all');
    t.ok(await reaches(a, b.overlay.v4), 'and carries frames once it is up');
  };
  const pid = daemon.pid;
  const { startedAt } = await daemon.call('daemon.status', {});
  t.match(
    (await daemon.dladm('restart')).stderr,
    /port foo0: its interface was set down/,
    'who restarts it is told',
  );
  const isNew = async (): Promise<boolean> => {
    const status = await daemon.call('daemon.status', {}).catch(() => undefined);
    return status !== undefined && status.startedAt !== startedAt;
  };
  await waitUntil(isNew, { what: 'varpd to answer' });
  t.equal(daemon.pid, pid);
  await macBecomes(daemon, '02:00:00:00:00:bb', 'bar0');
  await guest.ip('neigh flush all');
  t.ok(await reaches(guest, b.overlay.v4), 'one in a container goes on');
  await isAsLeft('after a restart');
  await a.ip('link set foo0 down');
  await healthBecomes(t, daemon, /set down$/);
  await daemon.restart();
  await isAsLeft('after a stop and a start');
  await daemon.stop();
  await a.ip(`link set foo0 address ${THIRD}`);
  await daemon.start();
  await macBecomes(daemon, THIRD);
  await b.ip('neigh flush all');
  t.ok(await reaches(a, b.overlay.v4), 'changed meanwhile');
});

// ---------------------------------------------------------------- loops

/** Makes a device that leads into a port of the overlay; false where this kernel has no such device. */
type Through = (a: Namespace) => Promise<boolean>;

const upon =
  (...commands: readonly string[]): Through =>
  async (a) => {
    for (const [index, command] of commands.entries()) {
      const { code, stderr } = await a.run(['ip', ...command.split(' ')]);
      if (code !== 0 && index === 0 && stderr.includes('Unknown device type')) return false;
      if (code !== 0) throw new Error(`${command}: ${stderr}`);
    }
    return true;
  };

/** `family`: the usual one. */
const LOOPS: readonly { device: string; port: string; family: 'v4' | 'v6'; through: Through }[] = [
  { device: 'foo0', port: 'foo0', family: 'v4', through: upon('link set foo0 up') },
  {
    device: 'mv0',
    port: 'overlay0',
    family: 'v6',
    through: upon('link add link overlay0 name mv0 type macvlan'),
  },
  {
    device: 'vl0',
    port: 'overlay0',
    family: 'v4',
    through: upon('link add link overlay0 name vl0 type vlan id 5'),
  },
  {
    device: 'br0',
    port: 'overlay0',
    family: 'v6',
    through: upon('link add br0 type bridge', 'link del mv0', 'link set overlay0 master br0'),
  },
  {
    device: 've0',
    port: 'overlay0',
    family: 'v6',
    through: upon('link add ve0 type veth peer name ve1', 'link set ve1 master br0 up', 'link set br0 up'),
  },
];

for (const family of ['v4', 'v6'] as const) {
  t.test(`all traffic through the tunnel, IP${family}`, { skip }, async (t) => {
    const { a, b, daemon } = await newSite(t, family);
    await daemon.ok('create-vnic -l overlay0 foo0');
    await a.ip('addr flush dev overlay0 scope global');
    const [from, to] = [a.underlay[family], b.underlay[family]];
    const router = b.overlay[family];
    const [option, whole, nodad] = family === 'v6' ? ['-6 ', 128, 'nodad'] : ['', 32, ''];
    await a.ip(`addr del ${from}/${family === 'v6' ? 64 : 24} dev ${UNDERLAY_DEVICE}`);
    await a.ip(`addr add ${from}/${whole} dev ${UNDERLAY_DEVICE} ${nodad}`);
    const straight = `${option}route replace default dev ${UNDERLAY_DEVICE}`;
    await a.ip(straight);
    await healthBecomes(t, daemon, 'ONLINE');
    for (const { device, port, through } of usual(LOOPS, (loop) => loop.family === family)) {
      await t.test(`by ${device}`, async (t) => {
        if (!(await through(a))) {
          t.plan(0, 'this kernel has no device of that kind');
          return;
        }
        await a.plumb(device);
        // What has a tag is not for the other end.
        if (device === 'vl0') await a.ip(`neigh replace ${router} lladdr 02:00:00:00:00:99 dev vl0`);
        else t.ok(await reaches(a, router), 'the tunnel is up');
        const loops = new RegExp(`^the route to ${to} leads into ${port}, a port of this overlay$`);
        await a.ip(`${option}route replace default via ${router} dev ${device}`);
        await healthBecomes(t, daemon, loops);
        t.match(await overlayOf(daemon), { underlay: { state: 'down' } });
        // The datapath threads are told at the same time.
        const drops = async (): Promise<number> => (await overlayOf(daemon)).counters['tx_loop'] ?? 0;
        const before = await drops();
        await waitUntil(
          async () => {
            await ping(a, router, { count: 1, waitMs: 100 });
            return (await drops()) > before;
          },
          { what: 'a frame that is dropped as tx_loop' },
        );
        const grown = await daemon.counted(async () => {
          t.equal((await ping(a, router, { count: 2, waitMs: 100 })).received, 0, 'nothing passes');
        });
        t.ok(grown['tx_loop'] >= 2, 'it is counted');
        t.notOk(grown['tx_frames'], 'and nothing is wrapped');
        await a.ip(`${option}route add ${to}/${whole} dev ${UNDERLAY_DEVICE}`);
        await healthBecomes(t, daemon, 'ONLINE');
        if (device !== 'vl0') t.ok(await reaches(a, router), 'a route of its own for the tunnel mends it');
        await a.ip(`${option}route add default via ${router} dev ${device} table 77`);
        await a.ip(`${option}rule add to ${to} lookup 77 pref 10`);
        await healthBecomes(t, daemon, loops);
        await a.ip(`${option}rule del pref 10`);
        await healthBecomes(t, daemon, 'ONLINE');
        await a.ip(`${option}route flush table 77`);
        await a.ip(straight);
        await a.ip(`${option}route del ${to}/${whole}`);
        await a.ip(`addr flush dev ${device} scope global`);
      });
    }
  });
}

t.test('a bridge with the underlay and a port in it', { skip }, async (t) => {
  const { a, b, daemon } = await newSite(t, 'v4');
  await a.ip('link add br0 type bridge');
  await a.ip('link set br0 up');
  await a.ip('addr flush dev overlay0');
  await a.ip('link set overlay0 master br0');
  await a.ip(`addr del ${a.underlay.v4}/24 dev ${UNDERLAY_DEVICE}`);
  await a.ip(`link set ${UNDERLAY_DEVICE} master br0`);
  await a.ip(`addr add ${a.underlay.v4}/24 dev br0`);
  await a.ip(`addr add ${a.overlay.v4}/24 dev br0`);
  await healthBecomes(t, daemon, 'ONLINE');
  t.ok(await reaches(a, b.underlay.v4), 'one end of it is behind the underlay');
  t.ok(await reaches(a, b.overlay.v4), 'and the tunnel works over it');
  // For as long as it takes to look at the bridge again.
  await sleep(1500);
  t.equal((await overlayOf(daemon)).health.status, 'ONLINE');
});

t.test('one overlay over another, and both over each other', { skip }, async (t) => {
  const { a, b, daemon, other } = await newPair(t);
  for (const [host, peer, one] of [
    [a, b, daemon],
    [b, a, other],
  ] as const) {
    const place = { from: host.overlay.v4, to: peer.overlay.v4, name: 'upper0', vnetid: 43 };
    await one.ok(directOverlay(place));
    await one.ok('create-vnic -l upper0 bar0');
    await host.ip(`addr add 10.66.66.${host.index + 1}/24 dev bar0`);
    await host.ip('link set bar0 up');
  }
  t.ok(await reaches(a, '10.66.66.2'), 'an overlay over an overlay is no loop');
  const healthOf = async (name: string) => (await daemon.overlays(name))[0].health;
  t.equal((await healthOf('upper0')).status, 'ONLINE');
  // The tunnel below goes by the one above.
  await a.ip(`route add ${b.underlay.v4}/32 via 10.66.66.2 dev bar0`);
  await healthBecomes(
    t,
    daemon,
    /^the route to 10.88.88.70 leads into bar0, a port of upper0, which this overlay carries$/,
  );
  t.match(
    (await healthOf('upper0')).details,
    /leads into foo0, a port of overlay0, which this overlay carries$/,
  );
  const grown = await daemon.counted(async () => {
    t.equal((await ping(a, b.overlay.v4, { count: 2, waitMs: 100 })).received, 0);
  });
  t.ok(grown['tx_loop'] > 0);
  t.notOk(grown['tx_frames']);
  await a.ip(`route del ${b.underlay.v4}/32`);
  await healthBecomes(t, daemon, 'ONLINE');
  t.ok(await reaches(a, '10.66.66.2'), 'both are back by themselves');
  t.equal((await healthOf('upper0')).status, 'ONLINE');
});

t.test('a listen address that no route leads from', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const daemon = (await Daemon.start(bed, a, { withoutRoot: true })).explain(t);
  await daemon.ok(directOverlay({ from: '127.0.0.1', to: b.underlay.v4 }));
  await healthBecomes(t, daemon, /^no route from 127.0.0.1 to 10.88.88.70$/);
});
