// Whose TAPs are, and what others set on them: an ordinary user who may open /dev/net/tun, as under udev; and root.
import { chmodSync } from 'node:fs';
import path from 'node:path';

import t, { type Test } from 'tap';

import { daemonUser } from '../helpers/daemon-user.js';
import { Daemon, directOverlay } from '../helpers/daemon.js';
import { fromRoot, skipUnlessNetns } from '../helpers/need.js';
import { addKernelVxlan, Bed, type Namespace } from '../helpers/netns.js';
import { exec, waitUntil } from '../helpers/process.js';
import { healthBecomes } from '../helpers/site.js';
import { ping, reaches } from '../helpers/traffic.js';
import { usual } from '../helpers/whole.js';

const skip = skipUnlessNetns(['python3', 'mknod', 'ethtool']);
/** nobody, of no group of varpd's. */
const ORDINARY = ['65534'];
const PYTHON = ['python3', fromRoot('test/helpers/tap-user.py')];

interface Place {
  readonly bed: Bed;
  readonly a: Namespace;
  readonly b: Namespace;
  /** bar0 is in it. */
  readonly guest: Namespace;
  readonly daemon: Daemon;
  /** A device node as udev makes it: everybody may open it. */
  readonly node: string;
}

/** Host a with overlay0, foo0 and, in another namespace, bar0; the kernel's vxlan on b. */
async function newPlace(t: Test, queues: number, config = {}): Promise<Place> {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  const guest = await bed.host();
  const directory = bed.directory();
  chmodSync(directory, 0o755); // which everybody can reach
  const node = path.join(directory, 'tun');
  await exec(['mknod', '-m', '666', node, 'c', '10', '200']);
  chmodSync(node, 0o666);
  const daemon = (await Daemon.start(bed, a, { config })).explain(t);
  await daemon.ok(directOverlay({ from: a.underlay.v4, to: b.underlay.v4 }, `-p queues=${queues}`));
  for (const name of ['foo0', 'bar0']) await daemon.ok(`create-vnic -l overlay0 ${name}`);
  await a.ip(`link set bar0 netns ${guest.name}`);
  await a.plumb('foo0');
  await a.ip('link set overlay0 up');
  await guest.plumb('bar0');
  await b.plumb(await addKernelVxlan(b, { vnetid: 42, local: b.underlay.v4, remote: a.underlay.v4 }), {
    mtuBytes: 1400,
  });
  t.ok(await reaches(a, b.overlay.v4), 'the tunnel is up');
  t.ok(await reaches(guest, b.overlay.v4), 'in the container, too');
  return { bed, a, b, guest, daemon, node };
}

/** What ip(8) knows of a TAP. */
interface Shown {
  readonly user?: string;
  readonly group?: string;
  readonly numqueues?: number;
  readonly persist: boolean;
}

async function shown(host: Namespace, device: string): Promise<Shown> {
  const [link] = JSON.parse(await host.ip(`-d -j link show dev ${device}`)) as [
    { linkinfo: { info_data: Shown } },
  ];
  return link.linkinfo.info_data;
}

const { uid, gid } = skip === false ? daemonUser() : { uid: 0, gid: 0 };
const OWN = { user: 'varpd', group: 'varpd' };

/** tap-user.py, which says what came of each line. */
class TapUser {
  readonly #child: ReturnType<Namespace['spawn']>;
  #heard = 0;

  constructor(host: Namespace, place: string | number, device: string, how: string, as: string[] = []) {
    this.#child = host.spawn([...PYTHON, `${place}`, device, how, ...as], {}, 'pipe');
  }

  async next(): Promise<string> {
    const lines = (): string[] => this.#child.stdout.split('\n').slice(0, -1);
    await waitUntil(() => this.#child.ended || lines().length > this.#heard, { what: 'an answer' });
    return lines()[this.#heard++] ?? `ended: ${this.#child.stderr}`;
  }

  do(line: string): Promise<string> {
    this.#child.write(`${line}\n`);
    return this.next();
  }

  async end(): Promise<void> {
    this.#child.end();
    await this.#child.exited;
  }
}

/** How an attempt to attach ends. */
async function attempt(host: Namespace, node: string, device: string, how = 'multi'): Promise<string> {
  const user = new TapUser(host, node, device, how, ORDINARY);
  const answer = await user.next();
  await user.end();
  return answer;
}

// Each has hosts of its own, and waits for them most of the time.
t.jobs = 2;

t.test('an ordinary user who may open /dev/net/tun', { skip }, async (t) => {
  const place = await newPlace(t, 4, { persistTaps: true });
  const { a, b, guest, daemon, node } = place;
  const devices = [
    [a, 'overlay0'],
    [a, 'foo0'],
    [guest, 'bar0'],
  ] as const;
  const isOurs = async (numqueues: number, what: string): Promise<void> => {
    for (const [host, device] of devices) {
      t.equal(await attempt(host, node, device), 'EPERM', `${device}: ${what}`);
      t.match(await shown(host, device), { ...OWN, numqueues }, `${device}: whose it is, ${what}`);
    }
  };
  await isOurs(4, 'while varpd runs');
  t.equal((await ping(a, b.overlay.v4)).received, 3, 'nobody notices');
  t.equal((await daemon.overlays('overlay0'))[0].health.status, 'ONLINE');
  await daemon.ok('restart');
  await isOurs(4, 'after a restart');
  t.ok(await reaches(guest, b.overlay.v4));

  // Nobody has a descriptor of them.
  await daemon.kill();
  for (const device of ['overlay0', 'foo0']) {
    t.equal(await attempt(a, node, device), 'EPERM', `${device}: left behind`);
    t.match(await shown(a, device), OWN);
  }
  await daemon.start();
  t.ok(await reaches(a, b.overlay.v4), 'taken over');
  for (const device of ['overlay0', 'foo0']) {
    t.equal(await attempt(a, node, device), 'EPERM');
    t.match(await shown(a, device), { ...OWN, numqueues: 4, persist: true });
  }
});

t.test('a queue in time, before there is an owner', { skip }, async (t) => {
  const { a, b, daemon, node } = await newPlace(t, 2);
  const users = [0, 1].map(() => new TapUser(a, node, 'race0', 'race', ORDINARY));
  for (const user of users) t.equal(await user.next(), 'ready');
  const free = { vnetid: 77, name: 'race0' };
  let made = 0;
  for (let round = 0; round < 8; round++) {
    const words = directOverlay({ from: a.underlay.v4, to: b.underlay.v4, ...free }, '-p queues=2');
    const { code, stderr } = await daemon.dladm(...words.split(/\s+/));
    if (code !== 0) {
      t.match(stderr, /race0: another program attaches to the new TAP/, 'refused with the reason');
      continue;
    }
    made++;
    t.match(await shown(a, 'race0'), { ...OWN, numqueues: 2 }, 'whoever was faster has lost it');
    await daemon.ok('delete-overlay race0');
  }
  t.ok(made > 0, `${made} of 8 could be made`);
  const got: string[] = [];
  for (const user of users) {
    await user.end();
    got.push(await user.next());
  }
  t.comment(`${got.join(' and ')} times somebody was faster`);
});

const hasTso = async (host: Namespace, device = 'foo0'): Promise<boolean> =>
  (await host.exec(`ethtool -k ${device}`)).includes('tcp-segmentation-offload: on');

t.test('a varpd that starts before /dev/net/tun is there', { skip }, async (t) => {
  const bed = new Bed();
  t.teardown(() => bed.cleanup());
  const [a, b] = await bed.twoHosts();
  // For this varpd alone.
  const before = 'mount -t tmpfs -o mode=755 tmpfs /dev/net';
  const daemon = (await Daemon.start(bed, a, { before })).explain(t);
  const ends = { from: a.underlay.v4, to: b.underlay.v4 };
  const early = await daemon.dladm(...directOverlay(ends).split(/\s+/));
  t.match(early.stderr, 'there is no /dev/net/tun');
  await exec(['mknod', '-m', '666', daemon.inside('/dev/net/tun'), 'c', '10', '200']);
  await daemon.ok(directOverlay(ends, '-p link-state=follow'));
  await daemon.ok('create-vnic -l overlay0 foo0');
  t.ok(await hasTso(a), 'its TAPs have the offloads of this kernel');
  t.match(await daemon.ok('show-overlay -p -o offloads overlay0'), /^checksum,tso,/, 'and are said to');
});

for (const queues of usual([1, 2], (count) => count === 2))
  t.test(`what root sets, ${queues} queues`, { skip }, async (t) => {
    const { a, b, guest, daemon, node } = await newPlace(t, queues);
    const mended = async (host: Namespace, device: string): Promise<void> => {
      const root = new TapUser(a, daemon.pid, device, 'steal');
      t.equal(await root.next(), 'ready');
      const rows = [
        ['header 12', 'get-header', await root.do('get-header'), 'the virtio-net header was 12 bytes'],
        ['little 1', 'get-little', '0', 'the byte order of the virtio-net header was chosen'],
        ['sndbuf 1000', 'get-sndbuf', '2147483647', 'the send buffer was 1000 bytes'],
      ] as const;
      for (const [set, get, wanted, text] of rows) {
        t.equal(await root.do(set), '0');
        await waitUntil(async () => (await root.do(get)) === wanted, {
          what: `${device} to be rid of ${set}`,
        });
        await waitUntil(
          () => daemon.log().includes(`port ${device}: ${text}, changed by another program: reset`),
          {
            what: `the log of ${set}`,
          },
        );
        t.ok(await reaches(host, b.overlay.v4), `${device}: frames pass after ${set}`);
      }
      t.equal(await root.do('persist 1'), '0');
      await waitUntil(async () => !(await shown(host, device)).persist, { what: 'no persistence' });
      await root.end();
    };
    await mended(a, 'foo0');
    await mended(guest, 'bar0');
    t.equal((await daemon.overlays('overlay0'))[0].health.status, 'ONLINE');

    const told = async (host: Namespace, device: string): Promise<TapUser> => {
      const root = new TapUser(a, daemon.pid, device, 'steal');
      t.equal(await root.next(), 'ready');
      for (const [set, found] of [
        ['owner 65534', `its owner was 65534, its group ${gid}`],
        ['group 65534', `its owner was ${uid}, its group 65534`],
      ] as const) {
        t.equal(await root.do(set), '0');
        const line = `port ${device}: ${found}, changed by another program: reset`;
        await waitUntil(() => daemon.log().includes(line), { what: line });
        t.match(await shown(host, device), OWN);
      }

      // What tools of the operator set as well stays, and is told of.
      t.equal(await root.do('carrier 0'), '0');
      await healthBecomes(
        t,
        daemon,
        new RegExp(`^port ${device}: its interface has no carrier: another program switched it off`),
      );
      await host.ip(`link set ${device} carrier on`);
      await healthBecomes(t, daemon, 'ONLINE');
      await host.ip(`link set ${device} mtu 9000`);
      await healthBecomes(
        t,
        daemon,
        new RegExp(`^port ${device}: its interface has an MTU of 9000: packets above 1450 will be dropped`),
      );
      await host.ip(`link set ${device} mtu 1450`);
      await healthBecomes(t, daemon, 'ONLINE');
      return root;
    };
    await (await told(guest, 'bar0')).end();
    const root = await told(a, 'foo0');
    // Offloads cost speed alone: no trouble.
    const said = (line: string | RegExp): Promise<unknown> =>
      waitUntil(() => (typeof line === 'string' ? daemon.log().includes(line) : line.test(daemon.log())), {
        what: `${line}`,
      });
    t.equal(await root.do('offload 0'), '0');
    await said(
      /port foo0: its interface has no offload of tx, tso, tx-udp-segmentation(?:, tx-udp_tnl[a-z-]+)*, which costs speed/,
    );
    t.ok(await reaches(a, b.overlay.v4), 'it works all the same');
    // The advice of the log. ethtool finds the offloads not to be in force: varpd has to do it.
    const advice = /costs speed \((ethtool -K foo0 tx on [^)]+)\)/.exec(daemon.log())?.[1];
    await a.run(advice ?? '');
    await said('port foo0: its offloads were not in force, changed by another program: reset');
    t.ok(await hasTso(a), 'it is on again');
    await a.exec('ethtool -K foo0 tso off');
    await said('port foo0: its interface has no offload of tso, which costs speed (ethtool -K foo0 tso on)');
    t.notOk(await hasTso(a), "an operator's choice stays");
    t.equal((await daemon.overlays('overlay0'))[0].health.status, 'ONLINE');
    await a.exec('ethtool -K foo0 tso on');
    await root.end();

    for (const [host, device] of [
      [a, 'foo0'],
      [guest, 'bar0'],
    ] as const) {
      const other = new TapUser(host, node, device, 'multi');
      if (queues === 1) {
        t.equal(await other.next(), 'EINVAL', 'one with a single queue is nobody else’s');
        continue;
      }
      t.equal(await other.next(), 'ready');
      await healthBecomes(
        t,
        daemon,
        new RegExp(`^port ${device}: its interface has a queue of another program, .*grep -lw ${device}`),
      );
      t.equal(await other.do('txfilter 99'), '0');
      t.equal(await other.do('offload 0'), '0');
      await waitUntil(() => hasTso(host, device), { what: 'the offloads to be on again' });
      await other.end();
      await healthBecomes(t, daemon, 'ONLINE');
      t.ok(await reaches(host, b.overlay.v4), 'what it has set goes with it');
      t.equal((await ping(b, host.overlay.v4)).received, 3);
    }
  });

t.test('settings of links that nobody holds', { skip }, async (t) => {
  const { a, b, daemon, node } = await newPlace(t, 1, { persistTaps: true });
  await daemon.kill();
  const root = new TapUser(a, node, 'foo0', 'single');
  t.equal(await root.next(), 'ready');
  for (const line of ['header 20', 'little 1', 'sndbuf 1000', 'txfilter 99', 'group 65534'])
    t.equal(await root.do(line), '0');
  await root.end();
  t.match(await shown(a, 'foo0'), { user: 'varpd', group: 'nogroup', persist: true });
  await daemon.start();
  t.ok(await reaches(a, b.overlay.v4), 'are as varpd wants them after it has taken them over');
  t.equal((await ping(b, a.overlay.v4)).received, 3);
  t.match(await shown(a, 'foo0'), OWN);
});
